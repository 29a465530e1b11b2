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

from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
TAILS = (0.025, 0.975)


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


def draw_units(count: int, *, resamples: int, seed: int) -> Floats:
    """How often each of `count` units is drawn in each bootstrap sample, shape (resamples, count)."""
    if count < 1 or resamples < 1:
        raise InputError("samples, resamples", found=f"{count}, {resamples}", expected="at least one of each")
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws.astype(np.float64)


def per_unit(values: Floats, unit: NDArray[np.integer[Any]]) -> Floats:
    """Sums of values (rows, samples) over the samples of each unit, shape (rows, units)."""
    units = int(unit.max()) + 1
    return np.stack([np.bincount(unit, row, minlength=units) for row in values])


def interval(draws: Floats) -> tuple[Floats, Floats]:
    """95 % percentile interval over the first axis."""
    low, high = np.quantile(draws, TAILS, axis=0)
    return low, high


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
    low, high = interval((draws @ top.T) / (draws @ bottom.T))
    mean_low, mean_high = interval((draws @ each.T) / (draws @ counts)[:, None])
    return Ratios(
        numerator.sum(1) / denominator.sum(1), low, high, (numerator / denominator).mean(1), mean_low, mean_high
    )
