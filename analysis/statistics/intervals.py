"""95 % intervals that have a formula: of means, of shares, and of differences of shares.

    skewed_mean_interval(values)         # of a mean, corrected for the skewness of what is averaged
    skewed_ratio_interval(a, b)          # of a ratio of sums, by what each unit adds to it
    quantile_interval(values)            # exact, of the median or another quantile
    share_interval(right)                # exact, of zeros and ones
    paired_share_interval(a - b)         # score interval of a difference over the same units
    wilson(count, n), share_gap(count1, n1, count2, n2), mean_interval(values)

A bootstrap over samples that all say the same gives an interval of no width: certainty from eight samples. Those of
shares do not.
"""

import math
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.errors import InputError

LEVEL = 0.95
Number = TypeVar("Number", float, Floats)


def _z() -> float:
    """The quantile of the normal law that goes with the level, of both sides."""
    return float(scipy.special.ndtri((1 + LEVEL) / 2))


def is_binary(values: ArrayLike) -> bool:
    """Whether every finite value is 0 or 1, and there is one."""
    known = _known(values)
    return len(known) > 0 and bool(np.isin(known, (0.0, 1.0)).all())


def share_interval(values: ArrayLike) -> tuple[float, float]:
    """Exact 95 % interval of the share of ones (Clopper & Pearson 1934).

    Parameters
    ----------
    values : array, shape (n,)
        Zeros and ones; others that are not finite are left out.
    """
    known = _known(values)
    if not is_binary(known):
        raise InputError("values", found="none, or others than 0 and 1", expected="zeros and ones")
    found = scipy.stats.binomtest(int(known.sum()), len(known)).proportion_ci(LEVEL, method="exact")
    return float(found.low), float(found.high)


def paired_share_interval(differences: ArrayLike) -> tuple[float, float]:
    """95 % score interval of the difference of two shares over the same units (Tango 1998, Stat. Med. 17, 891).

    The difference is tested at every value with the variance that it would itself have, so that the interval has a
    width where no unit differs: z^2 / (n + z^2) to either side.

    Parameters
    ----------
    differences : array, shape (n,)
        Of zeros and ones: -1, 0 or 1; values that are not finite are left out.
    """
    known = _known(differences)
    if len(known) == 0 or not np.isin(known, (-1.0, 0.0, 1.0)).all():
        raise InputError("differences", found="none, or others than -1, 0 and 1", expected="differences of 0 and 1")
    gained, lost, n = int((known > 0).sum()), int((known < 0).sum()), len(known)
    return -_upper(lost, gained, n), _upper(gained, lost, n)


def pairs_needed(margin: float) -> int:
    """Fewest pairs at which `paired_share_interval` can lie within the margin: as many as it takes if none differs.

    Parameters
    ----------
    margin : float
        Between 0 and 1.
    """
    if not 0 < margin < 1:
        raise InputError("margin", found=str(margin), expected="a number between 0 and 1")
    return math.ceil(_z() ** 2 * (1 / margin - 1))


def _upper(gained: int, lost: int, n: int) -> float:
    """The largest difference that the score test does not reject."""
    estimate = (gained - lost) / n
    if gained == n:
        return 1.0
    z = _z()
    # z itself is reached before 1: there the variance vanishes and the statistic grows without bound
    return float(scipy.optimize.brentq(lambda d: _score(d, gained, lost, n) + z, estimate + 1e-12, 1 - 1e-12))


def _score(difference: float, gained: int, lost: int, n: int) -> float:
    """Tango's statistic: the estimate less the difference over its standard error at the restricted maximum."""
    a, b, c = 2 * n, (2 * n - gained + lost) * difference - gained - lost, -lost * difference * (1 - difference)
    restricted = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # of the share that only the second has
    variance = n * max(2 * restricted + difference * (1 - difference), 1e-300)
    return (gained - lost - n * difference) / math.sqrt(variance)


def _known(values: ArrayLike) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]


def mean_interval(values: Floats) -> tuple[float, float, float]:
    """Mean with its 95 % t interval; the interval is missing below two values, all of it without any."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else np.nan), np.nan, np.nan
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = float(values.mean())
    return mean, mean - float(half), mean + float(half)


def skewed_mean_interval(values: Floats) -> tuple[Floats, Floats]:
    """95 % interval of the mean over the first axis, corrected for skewness (Hall 1992, J. R. Stat. Soc. B 54, 221).

    Student's t interval and the percentile bootstrap cover 80 to 90 % where 8 to 16 skewed values are averaged. Here
    a cubic makes the t statistic all but symmetric before its quantiles are used. Simulated on normal, exponential,
    chi-square (one degree of freedom) and log-normal values (spread 0.5), it covers 92 to 95 % from 8 values up, and
    from 32 up on log-normal values of spread 1; where a rare few values make the mean no interval holds.

    Parameters
    ----------
    values : array, shape (n, ...)
        Independent values. Below two there is no interval: NaN.

    Returns
    -------
    low, high : array, shape (...)
    """
    n = len(values)
    if n < 2:
        missing = np.full(values.shape[1:], np.nan)
        return missing, missing
    mean, std, skewness = moments_of(values)
    t = scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1)
    low, high = (std * _unskewed(sign * t, skewness, n) for sign in (1, -1))
    return mean - low, mean - high


def skewed_ratio_interval(numerator: Floats, denominator: Floats) -> tuple[Floats, Floats]:
    """95 % interval of the ratio of sums over the first axis: that of the mean of what each unit adds to the ratio.

    Simulated on sums of squares, recoveries and paired effects it covers 92 to 96 % from 8 units up, where percentiles
    of a bootstrap cover 80 to 88 %.

    Parameters
    ----------
    numerator, denominator : array, shape (n, ...)
        Of independent units.

    Returns
    -------
    low, high : array, shape (...)
        NaN below two units.
    """
    value = numerator.sum(0) / denominator.sum(0)
    low, high = skewed_mean_interval((numerator - value * denominator) / denominator.mean(0))
    return value + low, value + high


def bounded_mean_interval(values: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """95 % interval of the mean over the first axis of a quantity between `low` and `high`.

    That of `skewed_mean_interval`, cut at the bounds; of values that all agree that of `agreeing_interval`.
    """
    below, above = skewed_mean_interval(values)
    if len(values) < 2:
        return below, above
    alike = (values == values[0]).all(0)
    least, most = agreeing_interval(values[0], len(values), low=low, high=high)
    return np.where(alike, least, np.clip(below, low, high)), np.where(alike, most, np.clip(above, low, high))


def quantile_interval(
    values: Floats, level: float = 0.5, *, low: float = np.nan, high: float = np.nan
) -> tuple[Floats, Floats]:
    """Exact 95 % interval of a quantile over the first axis, between two values in their order, of any law.

    Parameters
    ----------
    values : array, shape (n, ...)
        Independent.
    level : float
        Of the quantile; by default the median.
    low, high : float
        Range of the values: the ends where too few values lie beyond, of medians of fewer than six; by default missing.

    Returns
    -------
    low, high : array, shape (...)
    """
    edge, tail = np.ones((1, *values.shape[1:])), (1 - LEVEL) / 2
    below = np.concatenate([low * edge, np.sort(values, axis=0), high * edge])
    # the k-th value lies below the quantile if k of n or more values do
    first, last = (int(scipy.stats.binom.ppf(end, len(values), level)) for end in (tail, 1 - tail))
    return below[first], below[last + 1]


def agreeing_interval(value: Number, n: int, *, low: float = 0.0, high: float = 1.0) -> tuple[Number, Number]:
    """95 % interval of the mean of a bounded quantity of which `n` samples all have the same value.

    A further sample has another value with a probability of at most 1 - 0.05 ** (1 / n) (Clopper & Pearson 1934, of no
    case among n, one-sided), and the mean moves by no more than if that one were at an end of the range.

    Parameters
    ----------
    value : float or array
        Of every sample.
    n : int
        How many there are.
    low, high : float
        Range of the quantity.

    Returns
    -------
    low, high
        Of the kind of `value`.
    """
    other = 1 - (1 - LEVEL) ** (1 / n)
    return value - (value - low) * other, value + (high - value) * other


def skewed_t(values: Floats) -> Floats:
    """Hall's t statistic of the hypothesis that the mean over the first axis is 0: see `skewed_mean_interval`."""
    n = len(values)
    mean, std, g = moments_of(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = mean / std
        found: Floats = np.sqrt(n) * (ratio + g * ratio**2 / 3 + g**2 * ratio**3 / 27 + g / (6 * n))
    return found


def moments_of(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and skewness over the first axis; the skewness of equal values is 0."""
    mean, std = values.mean(0), values.std(0, ddof=1)
    plain = values.std(0)
    return mean, std, (((values - mean) / np.where(plain > 0, plain, 1.0)) ** 3).mean(0)


def _unskewed(t: float, skewness: Floats, n: int) -> Floats:
    """(mean - truth) / std at which the cubic statistic is t."""
    known = np.abs(skewness) > 1e-6  # below, the cubic is the line that it tends to
    g = np.where(known, skewness, 1.0)
    root = (np.cbrt(1 + g * (t / np.sqrt(n) - g / (6 * n))) - 1) * 3 / g
    found: Floats = np.where(known, root, t / np.sqrt(n))
    return found


def share_gap(count1: ArrayLike, n1: int, count2: ArrayLike, n2: int) -> tuple[Floats, Floats, Floats]:
    """Difference of two shares with Newcombe's 95 % interval (1998, method 10, from two Wilson intervals)."""
    p1, low1, high1 = wilson(count1, n1)
    p2, low2, high2 = wilson(count2, n2)
    gap = p1 - p2
    down, up = np.hypot(p1 - low1, high2 - p2), np.hypot(high1 - p1, p2 - low2)
    return gap, gap - down, gap + up


def wilson(count: ArrayLike, n: int) -> tuple[Floats, Floats, Floats]:
    """Share count / n with its 95 % Wilson interval.

    Averaged over shares it covers 95 %; near 0 and 1 as little as 84 % (a share of 0.18 / n), where `share_interval`
    covers at least 95 %.
    """
    p = np.asarray(count, np.float64) / n
    z = _z()
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # at a share of 0 or 1 the end is the share itself, but for rounding
    return p, np.clip(np.minimum(centre - half, p), 0, 1), np.clip(np.maximum(centre + half, p), 0, 1)


def with_width(share: Floats, low: Floats, high: Floats, n: int) -> tuple[Floats, Floats]:
    """Ends of intervals of shares of n; Wilson's where those given have no width, as all n say the same."""
    lower, upper = wilson(share * n, n)[1:]
    flat = low == high
    return np.where(flat, np.minimum(lower, share), low), np.where(flat, np.maximum(upper, share), high)
