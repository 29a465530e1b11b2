"""Exact and score intervals of shares, and of paired differences of shares, where the bootstrap has none.

A bootstrap over samples that all say the same gives an interval of no width: certainty from eight samples. These do
not.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
LEVEL = 0.95
_Z = float(stats.norm.ppf((1 + LEVEL) / 2))


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
    found = stats.binomtest(int(known.sum()), len(known)).proportion_ci(LEVEL, method="exact")
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
    return math.ceil(_Z**2 * (1 / margin - 1))


def _upper(gained: int, lost: int, n: int) -> float:
    """The largest difference that the score test does not reject."""
    estimate = (gained - lost) / n
    if gained == n:
        return 1.0
    # z itself is reached before 1: there the variance vanishes and the statistic grows without bound
    return float(optimize.brentq(lambda d: _score(d, gained, lost, n) + _Z, estimate + 1e-12, 1 - 1e-12))


def _score(difference: float, gained: int, lost: int, n: int) -> float:
    """Tango's statistic: the estimate less the difference over its standard error at the restricted maximum."""
    a, b, c = 2 * n, (2 * n - gained + lost) * difference - gained - lost, -lost * difference * (1 - difference)
    restricted = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # of the share that only the second has
    variance = n * max(2 * restricted + difference * (1 - difference), 1e-300)
    return (gained - lost - n * difference) / math.sqrt(variance)


def _known(values: ArrayLike) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]
