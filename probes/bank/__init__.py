"""Fixed noisy points (x0, sigma, noise) on a log-SNR grid, and denoisers or conditions compared on them.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 25), draws=2)
    found = compare_arms(bank, [Arm("uncond", denoiser), Arm("cond", denoiser, labels)])
    found.difference("uncond", "cond")             # (images, levels)

The noise of a point follows from (seed, image, level, draw) alone.
"""

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
