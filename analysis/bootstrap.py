"""Bootstrap over seeds: draws once, statistics of weighted means, percentile intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorescope.analysis.summaries import LEVEL
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]


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
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples) / count
        return cls(np.concatenate([np.full((1, count), 1 / count), drawn]))

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
    low, high = np.nanquantile(statistics[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
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
