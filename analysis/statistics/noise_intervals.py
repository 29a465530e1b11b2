"""Intervals of noise levels in which something acts: low < sigma <= high."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from scorescope.data.errors import InputError
from scorescope.probes.models.noise import edm_sigmas

EVERYWHERE = ((0.0, math.inf),)


def delays(sigmas: Sequence[float], count: int) -> list[tuple[float, float]]:
    """Intervals that begin later and later and reach to the end, for a delay scan."""
    starts = _spaced(sigmas, count + 1)[:-1]
    return [(0.0, start) for start in starts]


def windows(sigmas: Sequence[float], count: int) -> list[tuple[float, float]]:
    """Adjoining intervals of about as many noise levels each."""
    edges = [*_spaced(sigmas, count + 1)[:-1], 0.0]
    return [(low, high) for high, low in itertools.pairwise(edges)]


def _spaced(sigmas: Sequence[float], count: int) -> list[float]:
    levels = [float(sigma) for sigma in sigmas if sigma > 0]
    if not 2 <= count <= len(levels) + 1:
        raise InputError("count", found=f"{count - 1}", expected=f"from 1 to the {len(levels)} noise levels")
    places = np.linspace(0, len(levels), count).round().astype(int)
    return [levels[min(place, len(levels) - 1)] for place in places]


def spans_of(intervals: Sequence[tuple[float, float]], sigmas: Sequence[float] | None) -> list[tuple[float, float]]:
    """Intervals cut at the first noise level of a sampler; None is the grid that `sample` uses.

    Raises
    ------
    InputError
        For an interval without a noise level.
    """
    grid = [float(sigma) for sigma in (edm_sigmas() if sigmas is None else sigmas) if sigma > 0]
    for low, high in intervals:
        if not any(low < sigma <= high for sigma in grid):
            expected = f"one with a noise level in it; from {min(grid):.4g} to {max(grid):.4g}"
            raise InputError("intervals", found=f"({low}, {high})", expected=expected)
    return [(float(low), float(min(high, max(grid)))) for low, high in intervals]
