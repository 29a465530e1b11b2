"""The bootstrap: how often each unit (a sample, a seed, an image) is drawn, and percentile intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.errors import InputError

TAILS = (0.025, 0.975)
"""Ends of a 95 % interval, as quantiles of the draws."""


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

    Without finite draws the interval is missing.
    """
    if not np.isfinite(statistics[1:]).any():
        missing = np.full(statistics.shape[1:], np.nan)
        return statistics[0], missing, missing
    low, high = np.nanquantile(statistics[1:], TAILS, axis=0)
    return statistics[0], low, high


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
