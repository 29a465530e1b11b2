"""Which class has the lowest loss, with classes dropped as soon as a paired test says that they are not it.

    plan = plan_looks(levels=25, draws=4, looks=6, seed=0)
    alive = eliminate(values, alive, total=100, error=0.01, looks=6)

The points of an image (level, draw) are a finite population; its winner is the class with the lowest mean over all of
them. A look adds a sample of points; a class is dropped if its paired difference to the leader so far is positive by
Student's t with the correction for a finite population. At each look the error is shared among live classes and looks
(Bonferroni), so that an image loses its winner with at most the stated probability, as far as the mean of the sample
is close to normal. Each look spreads over all levels, which makes the test conservative.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
FEWEST = 4  # points a look


def plan_looks(levels: int, draws: int, looks: int, *, seed: int) -> list[NDArray[np.int64]]:
    """Points of each look, as numbers level * draws + draw: every look takes one at random of each few neighbours.

    There are fewer looks than asked for where they would have less than four points each.

    Raises
    ------
    InputError
        For less than one look, or fewer than four points: too few for a paired test.
    """
    total = levels * draws
    if looks < 1 or total < FEWEST:
        found = f"{looks} looks at {total} points"
        raise InputError("looks, bank", found=found, expected=f"at least 1 look and {FEWEST} points, or error=None")
    looks = max(1, min(looks, total // FEWEST))
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(looks)]
    for start in range(0, total, looks):
        members = range(start, min(start + looks, total))
        for member, look in zip(members, rng.permutation(looks), strict=False):
            parts[look].append(member)
    return [np.array(part, np.int64) for part in parts]


def eliminate(values: Floats, alive: NDArray[np.bool_], *, total: int, error: float, looks: int) -> NDArray[np.bool_]:
    """Which classes live on after a look.

    Parameters
    ----------
    values : array, shape (classes, images, points)
        Weighted losses at the points so far; NaN for classes that were dropped before.
    alive : array of bool, shape (classes, images)
        Classes that have not been dropped.
    total : int
        Points of the whole population.
    error : float
        Probability of losing the winner of an image, over all looks.
    looks : int
        Number of looks in all.
    """
    points = values.shape[2]
    leader = np.where(alive, values.mean(2), np.inf).argmin(0)
    apart = values - values[leader, np.arange(values.shape[1])]
    rivals = np.maximum(alive.sum(0) - 1, 1)
    quantile = stats.t.isf(error / (looks * rivals), points - 1)
    spread = apart.std(2, ddof=1) * np.sqrt((1 - points / total) / points)
    with np.errstate(invalid="ignore"):  # dropped classes are NaN and stay dropped
        worse = apart.mean(2) > quantile * spread
    worse[leader, np.arange(values.shape[1])] = False
    kept: NDArray[np.bool_] = np.logical_and(alive, ~worse)
    return kept
