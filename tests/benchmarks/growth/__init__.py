"""Cases of growth, by instrument; see `bench_growth`.

Their cost formulas are those of docstrings where these state one, and what the computation needs otherwise.
"""

from tests.benchmarks.growth import directions, fid, gaussian, guidance, inside, recording, trajectories
from tests.benchmarks.growth.case import Case

WINGS = (recording, guidance, fid, gaussian, directions, trajectories, inside)
CASES: tuple[Case, ...] = tuple(case for wing in WINGS for case in wing.CASES)

__all__ = ["CASES", "Case"]
