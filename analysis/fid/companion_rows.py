"""Rows of the companion table: how one is made, and those against stored statistics of real images.

    reference_rows(fake_features, read_moments("reference.npz"))

Statistics are enough for a distance, its scatter over generated images, and FID_infinity. What needs the real images
one by one (KID, neighbours, the distance without the bias of both sides) is missing, and says so.
"""

import math
from typing import Any, TypeGuard

import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.extrapolation import fid_infinity
from scorescope.analysis.fid.floors import null_floor
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.frechet_error import LEVEL, side_error
from scorescope.analysis.fid.split_floors import RealFloor, other_real_floor
from scorescope.analysis.statistics.arrays import Floats
from scorescope.probes.features.moments import Moments

WITHOUT_BIAS = "FD without bias"
INFINITY_FROM = 4  # rows a feature from which FD = a + b/n is fitted
Row = dict[str, Any]


def row(metric: str, value: float, note: str, **others: float | str) -> Row:
    """One row; what is not given is missing."""
    ends = dict.fromkeys(("low", "high", "scatter_low", "scatter_high", "floor"), math.nan)
    return {"metric": metric, "value": value, **ends, "floor_kind": "", "note": note, **others}


def infinity_row(x: Floats, real: Moments | Floats, classes: ArrayLike | None) -> Row:
    """FID_infinity, for enough generated images; with classes of a set that was drawn by class."""
    found = fid_infinity(x, real, classes=classes)
    how = "without regard to class" if classes is None else "by class, as the set"
    note = f"15 sizes, subsets drawn {how}; interval over generated images, the real set and its bias being given"
    return row("FID_infinity", found.value, note, low=found.low, high=found.high)


def reference_rows(
    x: Floats, real: Moments, spare: Floats | None = None, classes: ArrayLike | None = None
) -> list[Row]:
    """The rows of FD and FID_infinity against moments.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Features of the generated set.
    real : Moments
        The real set's.
    spare : ndarray, shape (k, d), optional
        Features of other real images, for the floor.
    classes : array, shape (n,), optional
        Of generated images that were drawn by class.
    """
    n, d = x.shape
    found = frechet_distance(x, real)
    floor = other_real_floor(spare, real, n) if enough(spare, n) else reference_floor(real, n)
    beside: dict[str, float | str] = {"floor": floor.value, "floor_kind": floor.kind}
    note = f"route {found.route}, rank {found.rank}; biased"
    if n > d:
        half = float(scipy.stats.norm.ppf((1 + LEVEL) / 2)) * side_error(x, real, classes)
        beside |= {"scatter_low": max(found.value - half, 0.0), "scatter_high": found.value + half}
        note += "; scatter by influences, over generated images alone" + ", drawn by class" * (classes is not None)
    why = "it takes the real images themselves; FID_infinity is without the bias of the generated ones"
    rows = [row("FD", found.value, note, **beside), row(WITHOUT_BIAS, math.nan, why)]
    return [*rows, infinity_row(x, real, classes)] if n > INFINITY_FROM * d else rows


def enough(spare: Floats | None, size: int) -> TypeGuard[Floats]:
    """Whether there are as many other real images as generated ones."""
    return spare is not None and len(spare) >= size


def reference_floor(real: Moments, size: int) -> RealFloor:
    """What `size` real images would score against moments, were their features Gaussian; none where nothing tells."""
    if real.n is None:
        return RealFloor(math.nan, "no floor: the reference does not say of how many images it is")
    if min(real.n, size) <= real.dimension:
        return RealFloor(math.nan, f"no floor: {min(real.n, size)} images of {real.dimension} features")
    value = null_floor(real.covariance, size, real.n)
    return RealFloor(value, "Gaussian, from the reference's moments: too low for other features")
