"""bank"""

from scorescope.probes.bank.compare import Arm, compare_arms
from scorescope.probes.bank.comparison import Comparison
from scorescope.probes.bank.points import Bank, Point, log_snr_grid

__all__ = [
    "Arm",
    "Bank",
    "Comparison",
    "Point",
    "compare_arms",
    "log_snr_grid",
]
