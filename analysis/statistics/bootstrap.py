"""The bootstrap: how often each unit (a sample, a seed, an image) is drawn, percentile intervals, and ratios of sums.

    low, high = percentile_interval(draw_units(n, resamples=1000, seed=0) @ values / n)
    found = ratios(errors, totals, unit)
    found.of_sums, found.mean                     # two different numbers

The ratio of sums of two squared norms is dominated by samples with large norms, the mean of ratios by samples with
small ones; they differ by 5 to 10 % on real data, and published tables use both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.errors import InputError

TAILS = (0.025, 0.975)
"""Ends of a 95 % interval, as quantiles of the draws."""


LEAST_SEEDS = 8
"""Fewest seeds for which an interval is given."""


def draw_units(count: int, *, resamples: int, seed: int) -> Floats:
    """How often each of `count` units is drawn in each bootstrap sample, shape (resamples, count)."""
    if count < 1 or resamples < 1:
        raise InputError("samples, resamples", found=f"{count}, {resamples}", expected="at least one of each")
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws.astype(np.float64)


def sample_and_draws(count: int, *, resamples: int, seed: int) -> Floats:
    """The same below the sample itself, in which each unit is once: shape (1 + resamples, count)."""
    return np.concatenate([np.ones((1, count)), draw_units(count, resamples=resamples, seed=seed)])


def percentile_interval(draws: Floats) -> tuple[Floats, Floats]:
    """95 % percentile interval over the first axis."""
    low, high = np.quantile(draws, TAILS, axis=0)
    return low, high


@displayed
@dataclass(frozen=True, eq=False)
class SeedDraws:
    """Weights of `count` seeds: the sample itself first, then its bootstrap draws.

    Attributes
    ----------
    weights : array, shape (1 + resamples, count)
        Each row sums to 1; the first is uniform.
    """

    weights: Floats

    @classmethod
    def of(cls, count: int, *, resamples: int = 1000, seed: int = 0) -> "SeedDraws":
        """Draw."""
        return cls(sample_and_draws(count, resamples=resamples, seed=seed) / count)

    def means(self, values: Floats) -> Floats:
        """Means over the first axis (seeds): shape (1 + resamples, ...)."""
        flat = self.weights @ values.reshape(len(values), -1)
        return flat.reshape(len(self.weights), *values.shape[1:])


def interval(statistics: Floats) -> tuple[Floats, Floats, Floats]:
    """Value, low and high of statistics whose first row is the sample's and whose others are the draws'.

    Where too many draws are undefined the interval is missing, see `known_ends`. It always holds the value: draws of a
    biased statistic, as a ratio of few units, can lie wholly to one side of it.
    """
    value, (low, high) = statistics[0], known_ends(statistics[1:])
    return value, np.where(value < low, value, low), np.where(value > high, value, high)


def seed_interval(statistics: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """The same of so many seeds; the ends are missing below `LEAST_SEEDS`."""
    value, low, high = interval(statistics)
    known = count >= LEAST_SEEDS
    return value, np.where(known, low, np.nan), np.where(known, high, np.nan)


def known_ends(draws: Floats) -> Floats:
    """Ends of 95 % intervals over the first axis, shape (2, ...).

    NaN where more draws are undefined than lie beyond an end: the ends would be those of the other draws alone.
    """
    ends = np.full((2, *draws.shape[1:]), np.nan)
    if not len(draws):
        return ends
    known = np.isnan(draws).mean(0) <= TAILS[0]
    if known.any():
        ends[:, known] = np.nanquantile(draws[:, known], TAILS, axis=0)
    return ends


def check_seeds(seeds: Sequence[int], least: int) -> list[int]:
    """The seeds as numbers.

    Raises
    ------
    InputError
        If there are fewer than `least`, or one is there twice.
    """
    found = [int(seed) for seed in seeds]
    if len(found) < least or len(set(found)) < len(found):
        text = f"{len(found)}, {len(set(found))} of them different"
        raise InputError("seeds", found=text, expected=f"at least {least}, all different: intervals are over seeds")
    return found


@displayed
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
