"""Ratios of two squared norms over many samples, the two ways people report them, with bootstrap intervals.

    found = ratios(errors, totals, unit)
    found.of_sums, found.mean                     # two different numbers

The ratio of sums is dominated by samples with large norms, the mean of ratios by samples with small ones; they
differ by 5 to 10 % on real data, and published tables use both. This module knows nothing of denoisers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units, percentile_interval


@dataclass(frozen=True)
class Ratios:
    """Ratios of each row, all of shape (rows,).

    Attributes
    ----------
    of_sums, of_sums_low, of_sums_high : array
        Sum of numerators over sum of denominators, and its 95 % interval.
    mean, mean_low, mean_high : array
        Mean over samples of numerator over denominator, and its 95 % interval.
    """

    of_sums: Floats
    of_sums_low: Floats
    of_sums_high: Floats
    mean: Floats
    mean_low: Floats
    mean_high: Floats


def per_unit(values: Floats, unit: NDArray[np.integer[Any]]) -> Floats:
    """Sums of values (rows, samples) over the samples of each unit, shape (rows, units)."""
    units = int(unit.max()) + 1
    return np.stack([np.bincount(unit, row, minlength=units) for row in values])


def ratios(
    numerator: Floats, denominator: Floats, unit: NDArray[np.integer[Any]], *, resamples: int = 1000, seed: int = 0
) -> Ratios:
    """Both ratios of each row with percentile-bootstrap intervals.

    Parameters
    ----------
    numerator, denominator : array, shape (rows, samples)
        Squared norms; rows are noise levels, say.
    unit : array of int, shape (samples,)
        What the bootstrap draws: samples that share it stay together.
    resamples, seed : int
        Bootstrap draws and their seed. The same draws serve every row.
    """
    draws = draw_units(int(unit.max()) + 1, resamples=resamples, seed=seed)
    top, bottom = per_unit(numerator, unit), per_unit(denominator, unit)
    each, counts = per_unit(numerator / denominator, unit), np.bincount(unit).astype(np.float64)
    low, high = percentile_interval((draws @ top.T) / (draws @ bottom.T))
    mean_low, mean_high = percentile_interval((draws @ each.T) / (draws @ counts)[:, None])
    return Ratios(
        numerator.sum(1) / denominator.sum(1), low, high, (numerator / denominator).mean(1), mean_low, mean_high
    )
