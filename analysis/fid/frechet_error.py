"""How far a Frechet distance can be trusted: intervals, and the value without the bias of finite samples.

    found = frechet_interval(fake_features, real_features)
    found.debiased, found.low, found.high                    # the distance of the populations
    found.scatter_low, found.scatter_high                    # what such sets would measure

Two things make a measured distance differ from that of the populations. It scatters, and it is too large, by about
the floor (`split_floors`). Resampling with replacement would add that bias a second time, so there is no bootstrap
here. Sets drawn with a fixed number a class scatter less and are less biased than independent draws: say so by their
classes.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.classes import class_parts, random_parts, within_class_variance
from scorescope.analysis.fid.frechet import raw_distance
from scorescope.analysis.fid.optimal_transport import FirstOrderWarning, influence, transport
from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features, check_same_dimension

LEVEL = 0.95


@dataclass(frozen=True)
class FrechetInterval:
    """A distance, how it scatters, and the distance of the populations with its 95 % interval.

    Attributes
    ----------
    value : float
        The distance as measured.
    debiased : float
        Without the bias of order 1/n (jackknife); NaN with method `influence`. Can fall below 0.
    standard_error : float
        Of both.
    low, high : float
        95 % interval of the populations' distance, around `debiased`; NaN with method `influence`, whose interval
        around the measured value covers the populations' distance in 71 to 87 % of cases where sets differ a little.
    scatter_low, scatter_high : float
        95 % interval of the distance that sets of these sizes measure, bias and all: around `value`, not below 0.
    method : str
        `influence` or `jackknife`.
    """

    value: float
    debiased: float
    standard_error: float
    low: float
    high: float
    scatter_low: float
    scatter_high: float
    method: str


@checked
def frechet_interval(
    fake: ArrayLike,
    real: ArrayLike,
    *,
    method: Literal["jackknife", "influence"] = "jackknife",
    groups: int = 20,
    fake_classes: ArrayLike | None = None,
    real_classes: ArrayLike | None = None,
) -> FrechetInterval:
    """Distance of the populations with its 95 % interval, and the scatter of the measured one, from the features.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        The two sets, each more than d rows.
    method : str
        `jackknife`: each of `groups` random parts of each set is left out in turn, which also removes the bias.
        `influence`: the infinitesimal jackknife, se^2 = mean(IF1^2)/n1 + mean(IF2^2)/n2, of the scatter alone.
    groups : int
        Parts of each set, for the jackknife. Each costs one distance.
    fake_classes, real_classes : array, shape (n,), optional
        Class of each image of a set that was drawn with a fixed number a class (`classes.suspiciously_even`). Parts
        are then left out of every class alike, in as many groups as the smallest class has images at the most.

    Returns
    -------
    FrechetInterval

    Raises
    ------
    InputError
        For n <= d on a side: there the distance has no expansion in 1/n.

    Notes
    -----
    Simulated, the jackknife's interval covers 93 to 99 % from 2 rows a feature where the sets differ (see
    `tests/benchmarks/RESULTS.md`). Near a distance of zero the first-order terms vanish, and it covers up to 100 %.
    """
    x1, x2 = check_features("fake", fake), check_features("real", real)
    check_same_dimension("real", x1.shape[1], x2.shape[1])
    if method == "influence":
        return _by_influence(x1, x2, fake_classes, real_classes)
    if method != "jackknife":
        raise InputError("method", found=repr(method), expected="'influence' or 'jackknife'")
    smallest = min(len(x1), len(x2))
    if smallest * (groups - 1) <= x1.shape[1] * groups or not 3 <= groups <= smallest // 2:
        found = f"{smallest} images of {x1.shape[1]} features in {groups} groups"
        raise InputError(
            "fake, real",
            found=found,
            expected="groups >= 3 of two or more, and more images than features without any one of them",
        )
    sides = [
        random_parts(len(rows), groups) if classes is None else class_parts(name, classes, len(rows), groups)
        for name, rows, classes in (("fake_classes", x1, fake_classes), ("real_classes", x2, real_classes))
    ]
    for name, rows, parts in (("fake_classes", x1, sides[0]), ("real_classes", x2, sides[1])):
        if (left := len(rows) - max(len(part) for part in parts)) <= rows.shape[1]:
            found = f"{left} images of {rows.shape[1]} features without one of {len(parts)} groups"
            raise InputError(name, found=found, expected="more images than features: more images a class")
    return _by_jackknife((x1, x2), sides)


def _by_influence(
    x1: Floats, x2: Floats, fake_classes: ArrayLike | None, real_classes: ArrayLike | None
) -> FrechetInterval:
    plan = transport(x1, x2)
    sides: tuple[tuple[Floats, str, ArrayLike | None], ...] = (
        (x1, "fake", fake_classes),
        (x2, "real", real_classes),
    )
    variance = sum(
        within_class_variance(f"{side}_classes", influence(plan, rows, side=side), classes)
        for rows, side, classes in sides
    )
    value = max(raw_distance(plan.fake, plan.real), 0.0)
    error = math.sqrt(variance)
    return FrechetInterval(value, math.nan, error, math.nan, math.nan, *_scatter(value, error), "influence")


def side_error(fake: Floats, real: Moments | Floats, classes: ArrayLike | None = None) -> float:
    """Standard error of a distance over draws of the generated set alone, of each class its number, by influences."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # an error needs less than the ranks of single images
        values = influence(transport(fake, real), fake)
    return math.sqrt(within_class_variance("classes", values, classes))


def _scatter(value: float, error: float) -> tuple[float, float]:
    half = float(scipy.stats.norm.ppf((1 + LEVEL) / 2)) * error
    return max(value - half, 0.0), value + half


def _by_jackknife(sets: tuple[Floats, Floats], parts: list[list[Integers]]) -> FrechetInterval:
    whole1, whole2 = (Moments.of(rows) for rows in sets)
    value = raw_distance(whole1, whole2)
    bias, variance = 0.0, 0.0
    distances: tuple[Callable[[Moments], float], ...] = (
        lambda m: raw_distance(m, whole2),
        lambda m: raw_distance(whole1, m),
    )
    for rows, whole, groups, distance in zip(sets, (whole1, whole2), parts, distances, strict=True):
        left = np.array([distance(_without(whole, rows[group])) for group in groups])
        size = np.mean([len(group) for group in groups])
        kept = (len(rows) - size) / size
        bias += float(kept * (left.mean() - value))
        variance += float(kept * left.var())
    error = math.sqrt(variance)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, min(len(groups) for groups in parts) - 1) * error
    debiased, measured = value - bias, max(value, 0.0)
    scatter = _scatter(measured, error)
    return FrechetInterval(measured, debiased, error, debiased - half, debiased + half, *scatter, "jackknife")


def _without(whole: Moments, rows: Floats) -> Moments:
    """Moments of a set after taking some of its rows out."""
    assert whole.n is not None  # they are moments of features
    centred, n = rows - whole.mean, whole.n - len(rows)
    shift = -centred.sum(axis=0) / n
    scatter = (whole.n - 1) * whole.covariance - centred.T @ centred - n * np.outer(shift, shift)
    return Moments(whole.mean + shift, scatter / (n - 1), n)
