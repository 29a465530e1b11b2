"""Kernel distances between feature sets: KID with an interval, KID as published, CMMD.

    kid(fake, real)                          # unbiased, all pairs, jackknife interval
    kid_subsets(fake, real)                  # mean and spread over 100 subsets of 1000, as papers print it
    cmmd(clip_fake, clip_real)

Kernel sums run in float64 over blocks of rows, so that no n x n matrix is held.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.classes import class_codes, within_class_variance
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import check_features, check_same_dimension

Kernel = Callable[[Floats, Floats], Floats]
BLOCK = 1024  # rows of a kernel matrix that are held at once


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy.

    Attributes
    ----------
    value : float
        The estimate; unbiased ones can fall below 0.
    standard_error : float
        Of the value.
    low, high : float
        95 % interval.
    n1, n2 : int
        Images on each side.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n1: int
    n2: int


@dataclass(frozen=True)
class SubsetDistance:
    """KID as papers print it: mean and standard deviation over subsets, which is no error of the mean."""

    mean: float
    std: float
    subsets: int
    size: int


@checked
def kid(
    fake: ArrayLike,
    real: ArrayLike,
    *,
    fake_classes: ArrayLike | None = None,
    real_classes: ArrayLike | None = None,
) -> KernelDistance:
    """Kernel Inception Distance over all pairs (Binkowski et al. 2018, arXiv 1801.01401, eq. 4).

    Parameters
    ----------
    fake, real : array, shape (n, d)
        Features; n >= 3.
    fake_classes, real_classes : array, shape (n,), optional
        Class of each image of a set that was drawn with a fixed number a class, two or more. Among its pairs those of
        one class are too few, which makes the plain estimate too small; here each pair has the weight of its classes.

    Returns
    -------
    KernelDistance
        MMD^2 with kernel (x . y / d + 1)^3, not multiplied by 1000. The interval is that of the exact leave-one-out
        jackknife on each side, from row sums; with classes of its first order, within them.

    Notes
    -----
    Simulated (d = 12, sets that differ) the interval covers 90 to 94 % of 150 and of 400 images a side. Where it misses
    it lies below the truth: a small value comes with a small error.
    """
    x, y = _checked(fake, real, 3)
    if fake_classes is not None or real_classes is not None:
        return _kid_by_class(x, y, fake_classes, real_classes)
    m, n = len(x), len(y)
    rows_x, rows_y = _row_sums(x, x, polynomial) - _diagonal(x), _row_sums(y, y, polynomial) - _diagonal(y)
    cross_x, cross_y = _cross_sums(x, y, polynomial)
    total_x, total_y, total = rows_x.sum(), rows_y.sum(), cross_x.sum()
    xx, yy, xy = total_x / (m * (m - 1)), total_y / (n * (n - 1)), total / (m * n)
    value = float(xx + yy - 2 * xy)
    without_x = (total_x - 2 * rows_x) / ((m - 1) * (m - 2)) + yy - 2 * (total - cross_x) / ((m - 1) * n)
    without_y = xx + (total_y - 2 * rows_y) / ((n - 1) * (n - 2)) - 2 * (total - cross_y) / (m * (n - 1))
    error = math.sqrt((m - 1) * without_x.var() + (n - 1) * without_y.var())
    half = float(scipy.stats.norm.ppf(0.975)) * error
    return KernelDistance(value, error, value - half, value + half, m, n)


def _kid_by_class(
    x: Floats, y: Floats, fake_classes: ArrayLike | None, real_classes: ArrayLike | None
) -> KernelDistance:
    """KID of sets of which at least one was drawn by class."""
    cross_x, cross_y = _cross_sums(x, y, polynomial)
    own_x, own_y = _own_means("fake_classes", x, fake_classes), _own_means("real_classes", y, real_classes)
    value = float(own_x.mean() + own_y.mean() - 2 * cross_x.mean() / len(y))
    variance = 4 * within_class_variance("fake_classes", own_x - cross_x / len(y), fake_classes)
    variance += 4 * within_class_variance("real_classes", own_y - cross_y / len(x), real_classes)
    error = math.sqrt(variance)
    half = float(scipy.stats.norm.ppf(0.975)) * error
    return KernelDistance(value, error, value - half, value + half, len(x), len(y))


def _own_means(argument: str, x: Floats, classes: ArrayLike | None) -> Floats:
    """Mean kernel of each row with the others of its set, each class having its share in it without the row itself."""
    sums, n = _row_sums(x, x, polynomial) - _diagonal(x), len(x)
    if classes is None:
        return sums / (n - 1)
    codes, counts = class_codes(argument, classes, n, at_least=2)
    same = np.empty(n)
    for code in range(len(counts)):
        rows = x[codes == code]
        same[codes == code] = _row_sums(rows, rows, polynomial) - _diagonal(rows)
    found: Floats = (sums + same / (counts[codes] - 1)) / n  # n_c / (n_c - 1) of the pairs of the class
    return found


@checked
def kid_subsets(
    fake: ArrayLike, real: ArrayLike, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> SubsetDistance:
    """KID of random subsets, drawn without replacement: the published setting.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        Features.
    subsets, size : int
        How many, of how many images on each side.
    seed : int
        Seed of the subsets.

    Returns
    -------
    SubsetDistance
        Not multiplied by 1000.

    Raises
    ------
    InputError
        If a set has fewer than `size` images: a smaller size is another estimate, and has to be asked for.
    """
    x, y = _checked(fake, real, 2)
    if min(len(x), len(y)) < size or size < 2 or subsets < 1:
        found = f"{len(x)} and {len(y)} images, {subsets} subsets of {size}"
        raise InputError("subsets, size", found=found, expected="at least `size` images on each side")
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        a = x[generator.choice(len(x), size, replace=False)]
        b = y[generator.choice(len(y), size, replace=False)]
        own = (polynomial(a, a).sum() - _diagonal(a).sum()) + (polynomial(b, b).sum() - _diagonal(b).sum())
        values.append(own / (size * (size - 1)) - 2 * polynomial(a, b).mean())
    return SubsetDistance(float(np.mean(values)), float(np.std(values)), subsets, size)


@checked
def cmmd(fake: ArrayLike, real: ArrayLike, *, sigma: float = 10.0) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024, arXiv 2401.09603), times 1000.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        CLIP image embeddings; scaled to unit norm here.
    sigma : float
        Width of the kernel exp(-|x - y|^2 / (2 sigma^2)).

    Returns
    -------
    float
        1000 times the biased (V-statistic) MMD^2, as published.
    """
    x, y = (rows / _norms(rows) for rows in _checked(fake, real, 2))

    def gaussian(a: Floats, b: Floats) -> Floats:
        kernel: Floats = np.exp((a @ b.T - 1) / sigma**2)  # unit norms: |a - b|^2 = 2 - 2 a . b
        return kernel

    means = [_row_sums(a, b, gaussian).sum() / (len(a) * len(b)) for a, b in ((x, x), (y, y), (x, y))]
    return float(1000 * (means[0] + means[1] - 2 * means[2]))


def polynomial(a: Floats, b: Floats) -> Floats:
    """(a . b / d + 1)^3 for all pairs of rows."""
    kernel = a @ b.T / a.shape[1] + 1
    cubed: Floats = kernel * kernel * kernel
    return cubed


def _checked(fake: ArrayLike, real: ArrayLike, at_least: int) -> tuple[Floats, Floats]:
    x, y = check_features("fake", fake, at_least=at_least), check_features("real", real, at_least=at_least)
    check_same_dimension("real", x.shape[1], y.shape[1])
    return x, y


def _diagonal(rows: Floats) -> Floats:
    values: Floats = (np.einsum("ij,ij->i", rows, rows) / rows.shape[1] + 1) ** 3
    return values


def _row_sums(x: Floats, y: Floats, kernel: Kernel) -> Floats:
    return np.concatenate([kernel(x[k : k + BLOCK], y).sum(axis=1) for k in range(0, len(x), BLOCK)])


def _cross_sums(x: Floats, y: Floats, kernel: Kernel) -> tuple[Floats, Floats]:
    rows, columns = [], np.zeros(len(y))
    for k in range(0, len(x), BLOCK):
        block = kernel(x[k : k + BLOCK], y)
        rows.append(block.sum(axis=1))
        columns += block.sum(axis=0)
    return np.concatenate(rows), columns


def _norms(rows: Floats) -> Floats:
    norms: Floats = np.linalg.norm(rows, axis=1, keepdims=True)
    if not norms.all():
        raise InputError("features", found="rows of zeros", expected="embeddings that have a direction")
    return norms
