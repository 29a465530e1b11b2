"""FID_infinity: a Frechet distance extrapolated to infinitely many generated images.

fid_infinity(fake_features, real)
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.classes import class_codes
from scorescope.analysis.fid.frechet import FeatureSet, as_moments, frechet_distance
from scorescope.analysis.fid.frechet_error import side_error
from scorescope.analysis.statistics.arrays import Integers
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features


@displayed
@dataclass(frozen=True)
class Extrapolated:
    """FID_infinity: the distance extrapolated to infinitely many generated images.

    Attributes
    ----------
    value : float
        Intercept of the regression of FD on 1/n.
    slope : float
        Bias for each 1/n.
    low, high : float
        95 % interval of the distance of the generated population to this real set, whose own bias stays: draws of the
        images (influences) and the scatter of the subsets about the line.
    fit_low, fit_high : float
        95 % t interval of the intercept for these images: scatter about the line alone, no interval of the above.
    table : DataFrame
        Columns n and value: what was fitted.
    """

    value: float
    slope: float
    low: float
    high: float
    fit_low: float
    fit_high: float
    table: pd.DataFrame


@checked
def fid_infinity(
    fake: ArrayLike, real: FeatureSet, *, classes: ArrayLike | None = None, points: int = 15,
    smallest: int | None = None, seed: int = 0,
) -> Extrapolated:  # fmt: skip
    """Regress FD on 1/n over random subsets of the generated set (Chong & Forsyth 2020, arXiv 1911.07023).

    Parameters
    ----------
    fake : array, shape (n, d)
        The generated set.
    real : Moments, or array of shape (m, d)
        The real set, whole in every fit: its own bias stays.
    classes : array, shape (n,), optional
        Class of each generated image of a set that was drawn with a fixed number a class (`suspiciously_even`).
        Subsets then have its shares of the classes, to one image, as other sizes of such a set would. By default they
        are drawn without regard to class: of a set with fixed numbers the values then scatter with the numbers of
        the classes, and the intercept is too low by the bias which that scatter would have in a set of all images.
    points : int
        Sizes, equally spaced from `smallest` to n.
    smallest : int, optional
        By default min(5000, n / 2), as the law FD = a + b/n holds from n of several d only.
    seed : int
        Seed of the subsets.

    Returns
    -------
    Extrapolated
        The intercept with its interval, and what was fitted.

    Raises
    ------
    InputError
        If the smallest subset has no more rows than features: there the distance is not linear in 1/n. For fewer than
        three different sizes, and classes of other images, of single ones or NaN.
    """
    x, other = check_features("fake", fake), as_moments("real", real)
    smallest = min(5000, len(x) // 2) if smallest is None else smallest
    if not x.shape[1] < smallest < len(x) or points < 3:
        found = f"subsets from {smallest} of {len(x)} images, d = {x.shape[1]}, {points} points"
        raise InputError("smallest", found=found, expected="d < smallest < n, and at least 3 points")
    sizes = np.unique(np.linspace(smallest, len(x), points).astype(int))
    if len(sizes) < 3 or seed < 0:
        found = f"{len(sizes)} different sizes from {smallest} to {len(x)}, seed {seed}"
        raise InputError("smallest, seed", found=found, expected="at least 3 different sizes, and a seed of 0 or more")
    codes = None if classes is None else class_codes("classes", classes, len(x), at_least=2)
    generator = np.random.default_rng(seed)
    values = []
    for size in sizes:
        rows = generator.choice(len(x), size, replace=False) if codes is None else _by_class(generator, size, *codes)
        values.append(frechet_distance(Moments.of(x[rows]), other).raw)
    fit = scipy.stats.linregress(1 / sizes, values)
    about_line = float(scipy.stats.t.ppf(0.975, len(sizes) - 2) * fit.intercept_stderr)
    half = math.hypot(about_line, float(scipy.stats.norm.ppf(0.975)) * side_error(x, other, classes))
    table = pd.DataFrame({"n": sizes, "value": np.asarray(values)})
    value, slope = float(fit.intercept), float(fit.slope)
    return Extrapolated(value, slope, value - half, value + half, value - about_line, value + about_line, table)


def _by_class(generator: np.random.Generator, size: int, codes: Integers, counts: Integers) -> Integers:
    """Random rows with the shares of the classes: each class is spread evenly from 0 to 1, and the lowest are taken."""
    order = np.lexsort((generator.random(len(codes)), codes))
    rank = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (rank + generator.random(len(counts))[codes[order]]) / counts[codes[order]]
    return order[np.argsort(place)[:size]]
