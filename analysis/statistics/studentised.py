"""Studentised bootstrap intervals of ratios of sums and of means, which hold for skewed values and few units.

    found = studentised(errors, totals, draw_units(n, resamples=1000, seed=0))
    found.value, found.low, found.high

Each draw's deviation is counted in its own standard error (bootstrap-t; Efron & Tibshirani 1993, section 12.5), so
that where a draw misses the large values it is known to be uncertain, too. From 16 units on they cover 0.93 to 0.96
for sums of squares along two modes or more; percentile intervals, 0.89 to 0.91 at 16 and 0.85 at 8.
"""

from dataclasses import dataclass

import numpy as np

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import TAILS
from scorescope.data.display import displayed

LEAST_UNITS = 16
"""Fewest units for which an interval is given: with 8 it covers 0.90 to 0.94."""


@displayed
@dataclass(frozen=True, eq=False)
class Studentised:
    """Ratios with intervals, all of shape (rows,).

    Attributes
    ----------
    value, low, high : array
        Sum of numerators over sum of denominators, and its 95 % interval, missing below `LEAST_UNITS` units.
    """

    value: Floats
    low: Floats
    high: Floats


def studentised(
    numerator: Floats, denominator: Floats, draws: Floats, *, tails: tuple[float, float] = TAILS
) -> Studentised:
    """Ratio of sums of each row with its studentised interval.

    Parameters
    ----------
    numerator, denominator : array, shape (rows, units)
        Sums over the samples of each unit. A mean over samples has their numbers as denominators.
    draws : array, shape (resamples, units)
        How often each unit is drawn, from `draw_units`.
    tails : (float, float)
        Ends, as quantiles of the draws.

    Returns
    -------
    Studentised
        Without width where the ratio is the same in every unit.
    """
    value = numerator.sum(1) / denominator.sum(1)
    if draws.shape[1] < LEAST_UNITS:
        return Studentised(value, np.full(len(value), np.nan), np.full(len(value), np.nan))
    # counted from the ratio itself, so that nothing cancels where all units have nearly the same
    apart = numerator - value[:, None] * denominator
    error = _error(apart, denominator, np.zeros_like(value), np.ones((1, draws.shape[1])))[0]
    moved = (draws @ apart.T) / (draws @ denominator.T)
    own = _error(apart, denominator, moved, draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        counted = moved / own
    # a draw without scatter of its own lies as far out as its side goes
    counted = np.where(own > 0, counted, np.sign(moved) * np.finfo(np.float64).max)
    low, high = np.quantile(counted, tails, axis=0, method="inverted_cdf")
    with np.errstate(over="ignore"):
        return Studentised(value, value - high * error, value - low * error)


def _error(numerator: Floats, denominator: Floats, ratio: Floats, draws: Floats) -> Floats:
    """Standard error of each draw's ratio, shape (resamples, rows), by linearising it."""
    units = draws.shape[1]
    squares = draws @ (numerator**2).T - 2 * ratio * (draws @ (numerator * denominator).T)
    squares = np.maximum(squares + ratio**2 * (draws @ (denominator**2).T), 0.0)
    error: Floats = np.sqrt(squares * units / max(units - 1, 1)) / (draws @ denominator.T)
    return error
