"""How far a Frechet distance can be trusted: intervals, and the value without the bias of finite samples.

    frechet_interval(fake_features, real_features)                       # from influences, one pass
    frechet_interval(fake_features, real_features, method="jackknife")   # groups left out; also removes the bias

Two things make a measured distance differ from that of the populations. It scatters, by the interval given here, and
it is too large, by about the null floor. Resampling with replacement would add that bias a second time, so there is
no bootstrap here.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from scorescope.analysis.fid.frechet import frechet_distance, trace_of_root
from scorescope.analysis.fid.optimal_transport import influence, transport
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features, check_same_dimension

LEVEL = 0.95


@dataclass(frozen=True)
class FrechetInterval:
    """A distance with its 95 % interval.

    Attributes
    ----------
    value : float
        The distance as measured.
    debiased : float
        Without the bias of order 1/n (jackknife); NaN with method `influence`. Can fall below 0.
    standard_error : float
        Of both.
    low, high : float
        95 % interval: around `debiased` where there is one, else around `value`, which then says how the measured
        distance scatters at these sample sizes.
    method : str
        `influence` or `jackknife`.
    """

    value: float
    debiased: float
    standard_error: float
    low: float
    high: float
    method: str


@checked
def frechet_interval(
    fake: ArrayLike, real: ArrayLike, *, method: Literal["influence", "jackknife"] = "influence", groups: int = 20
) -> FrechetInterval:
    """95 % interval of a distance, from the features.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        The two sets, each more than d rows.
    method : str
        `influence`: the infinitesimal jackknife, se^2 = mean(IF1^2)/n1 + mean(IF2^2)/n2. `jackknife`: each of
        `groups` random parts of each set is left out in turn; also gives the value without its bias.
    groups : int
        Parts of each set, for the jackknife. Each costs one distance.

    Returns
    -------
    FrechetInterval

    Raises
    ------
    InputError
        For n <= d on a side: there the distance has no expansion in 1/n.

    Notes
    -----
    Near a distance of zero the first-order terms vanish and either interval is too short at its lower end; compare
    with the floor there.
    """
    x1, x2 = check_features("fake", fake), check_features("real", real)
    check_same_dimension("real", x1.shape[1], x2.shape[1])
    if method == "influence":
        return _by_influence(x1, x2)
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
    return _by_jackknife(x1, x2, groups)


@checked
def split_floor(
    real: ArrayLike, *, sizes: tuple[int, int] | None = None, repeats: int = 10, seed: int = 0
) -> tuple[float, float, float]:
    """Distance between disjoint random parts of the real set: what an ideal generator would score.

    Parameters
    ----------
    real : array, shape (n, d)
        The real set.
    sizes : (int, int), optional
        Rows of the two parts; by default halves. Use the sizes of the comparison that the floor stands beside.
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
        values.append(frechet_distance(rows[order[:n1]], rows[order[n1 : n1 + n2]]).value)
    return float(np.mean(values)), min(values), max(values)


def _by_influence(x1: Floats, x2: Floats) -> FrechetInterval:
    plan = transport(x1, x2)
    variance = sum(
        float(np.square(influence(plan, rows, side=side)).mean()) / len(rows)
        for rows, side in ((x1, "fake"), (x2, "real"))
    )
    value = frechet_distance(plan.fake, plan.real).value
    error = math.sqrt(variance)
    half = stats.norm.ppf((1 + LEVEL) / 2) * error
    return FrechetInterval(value, math.nan, error, max(value - half, 0.0), value + half, "influence")


def _by_jackknife(x1: Floats, x2: Floats, groups: int) -> FrechetInterval:
    whole1, whole2 = Moments.of(x1), Moments.of(x2)
    value = _raw(whole1, whole2)
    bias, variance = 0.0, 0.0
    for rows, distance in ((x1, lambda m: _raw(m, whole2)), (x2, lambda m: _raw(whole1, m))):
        part_bias, part_variance = _jackknife(rows, distance, value, groups)
        bias, variance = bias + part_bias, variance + part_variance
    error = math.sqrt(variance)
    half = stats.t.ppf((1 + LEVEL) / 2, groups - 1) * error
    debiased = value - bias
    return FrechetInterval(max(value, 0.0), debiased, error, debiased - half, debiased + half, "jackknife")


def _jackknife(rows: Floats, distance: Callable[[Moments], float], value: float, groups: int) -> tuple[float, float]:
    """Bias and variance that one side contributes, by leaving out each group in turn."""
    parts = np.array_split(np.random.default_rng(0).permutation(len(rows)), groups)
    moments = [Moments.of(rows[np.sort(part)]) for part in parts]
    before = list(itertools.accumulate(moments[:-1], Moments.merge))
    after = list(itertools.accumulate(moments[:0:-1], Moments.merge))[::-1]
    without = [after[0], *(a.merge(b) for a, b in zip(before[:-1], after[1:], strict=True)), before[-1]]
    left = np.array([distance(others) for others in without])
    bias = (groups - 1) * (left.mean() - value)
    variance = (groups - 1) / groups * np.square(left - left.mean()).sum()
    return float(bias), float(variance)


def _raw(m1: Moments, m2: Moments) -> float:
    gap = m1.mean - m2.mean
    traces = float(np.trace(m1.covariance) + np.trace(m2.covariance))
    return float(gap @ gap) + traces - 2 * trace_of_root(m1, m2)[0]
