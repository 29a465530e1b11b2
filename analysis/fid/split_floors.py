"""Floors of a Frechet distance, measured: what parts of one real set have between them.

split_floor(real)                           # halves, as they are
real_floor(real, n1, n2).value              # what real images would score at these sizes
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scorescope.analysis.fid.classes import class_parts, random_parts
from scorescope.analysis.fid.floors import fourth_moment_floor
from scorescope.analysis.fid.frechet import distance_value, raw_distance
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features

HALVES_FROM = 4  # rows a feature from which halves of the real set give its floor: they then have 2 d


@dataclass(frozen=True)
class RealFloor:
    """The distance that real images would score at given sizes.

    Attributes
    ----------
    value : float
        Expected distance; NaN where the real set is too small to tell.
    kind : str
        `halves`, `halves by class`, `parts of the real set`, `fourth moments` or `other real images`; where there is
        no value, why.
    """

    value: float
    kind: str


@checked
def split_floor(
    real: ArrayLike,
    *,
    sizes: tuple[int, int] | None = None,
    repeats: int = 10,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Distance between disjoint random parts of the real set: what an ideal generator would score.

    Parameters
    ----------
    real : array, shape (n, d)
        The real set.
    sizes : (int, int), optional
        Rows of the two parts; by default halves. Use the sizes of the comparison that the floor stands beside; where
        they do not fit, `real_floor` scales that of the halves.
    repeats : int
        Random splits.
    seed : int
        Seed of the splits.

    Returns
    -------
    mean, low, high : float
        Mean over the splits, and their smallest and largest value.
    """
    rows = check_features("real", real, at_least=4)
    n1, n2 = sizes or (len(rows) // 2, len(rows) - len(rows) // 2)
    if n1 + n2 > len(rows) or min(n1, n2) < 2:
        raise InputError(
            "sizes", found=f"{(n1, n2)} of {len(rows)} rows", expected="two parts that fit, 2 rows or more"
        )
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        order = generator.permutation(len(rows))
        values.append(distance_value(rows[order[:n1]], rows[order[n1 : n1 + n2]]))
    return float(np.mean(values)), min(values), max(values)


@checked
def real_floor(
    real: ArrayLike,
    n1: int,
    n2: int,
    *,
    real_classes: ArrayLike | None = None,
    by_class: tuple[bool, bool] = (False, False),
    repeats: int = 10,
) -> RealFloor:
    """Distance that real images would score at sizes n1 and n2.

    Parameters
    ----------
    real : array, shape (n, d)
        The real set, of any size.
    n1, n2 : int
        Sizes of the comparison that the floor stands beside.
    real_classes : array, shape (n,), optional
        Class of each real image, for sides that were drawn by class.
    by_class : (bool, bool)
        Whether side 1 and side 2 were drawn with a fixed number a class.
    repeats : int
        Random splits.

    Returns
    -------
    RealFloor
        From 4 rows a feature the mean distance of random halves, scaled by 1/n: each half of h rows has its part b / h
        in it, which is b / n1 and b / n2 at the sizes asked for. A side drawn by class gets the b of halves of every
        class. Below, `fourth_moment_floor`; none for n <= d. For n1 <= d, up to a quarter of the real set, random parts
        of that size are measured against the rest: there a distance does not fall as 1/n.

    Notes
    -----
    Simulated (d = 12 and 24; 4, 10, 30 rows a feature), floor over the mean distance of independent sets: 0.95 to 1.05
    for Gaussian, rectified and pooled features; 0.83 to 0.96 with a scale an image; 0.76 to 1.00 for sparse features.
    One real set's floor scatters about that by 4 to 7 % (d = 24), by 18 to 33 % in the last two.
    """
    rows = check_features("real", real, at_least=4)
    n, d = rows.shape
    if n <= d:
        return RealFloor(math.nan, f"no floor: {n} real images of {d} features")
    if any(by_class) and real_classes is None:
        return RealFloor(math.nan, "no floor: a set drawn by class needs the classes of the real images")
    if n1 <= d and n1 <= n // 4 and not any(by_class):  # no law in 1/n there: measured, against the rest
        return RealFloor(split_floor(rows, sizes=(n1, n - n1), repeats=repeats)[0], "parts of the real set")
    if n < HALVES_FROM * d:
        if any(by_class):
            return RealFloor(math.nan, f"no floor by class below {HALVES_FROM} real images a feature")
        return RealFloor(fourth_moment_floor(rows, n1, n2), "fourth moments")
    found = {drawn: _halves(rows, real_classes if drawn else None, repeats) for drawn in set(by_class)}
    total = sum(found[drawn] / size for size, drawn in zip((n1, n2), by_class, strict=True))
    return RealFloor(float(total), "halves by class" if any(by_class) else "halves")


def other_real_floor(spare: Floats, real: Moments | Floats, size: int, *, repeats: int = 4) -> RealFloor:
    """Distance that other real images score: measured, at the size of the generated set, with nothing split or scaled.

    Parameters
    ----------
    spare : ndarray, shape (k, d)
        Other real images, at least `size`.
    real : Moments, or ndarray of shape (m, d)
        The real set.
    size : int
        Number of generated images.
    repeats : int
        Random draws of so many of the other real images, none twice.

    Returns
    -------
    RealFloor
        The mean over the draws.
    """
    generator = np.random.default_rng(0)
    draws = (spare[generator.permutation(len(spare))[:size]] for _ in range(repeats if size < len(spare) else 1))
    if isinstance(real, Moments):
        values = [max(raw_distance(Moments.of(rows), real), 0.0) for rows in draws]
    else:
        values = [distance_value(rows, real) for rows in draws]
    return RealFloor(float(np.mean(values)), "other real images")


def _halves(rows: Floats, classes: ArrayLike | None, repeats: int) -> float:
    """What a side adds to the mean distance of random halves, times its size."""
    values = []
    for seed in range(repeats):
        if classes is None:
            first, second = random_parts(len(rows), 2, seed=seed)
        else:
            first, second = class_parts("real_classes", classes, len(rows), 2, seed=seed)
        values.append(distance_value(rows[first], rows[second]))
    return float(np.mean(values)) / (1 / len(first) + 1 / len(second))
