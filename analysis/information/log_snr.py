"""Noise levels at which an integral over log-SNR is evaluated, their weights, and what lies outside them.

    levels = grid_levels(-9, 6, 31)               # trapezoid rule
    levels = logistic_levels(100)                 # importance-sampled: more levels where the integrand is
    levels.weights @ integrand                    # the integral over the covered range
    extrapolate(levels, integrand)                # what is left out on either side, as far as can be said

log-SNR is -2 ln sigma in the variance-exploding convention.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

END_LEVELS = 3  # levels whose slope says how the integrand goes on outside


@displayed
@checked
@dataclass(frozen=True, eq=False)
class LogSNRLevels:
    """Levels and weights of a rule of integration.

    Attributes
    ----------
    log_snr : array, shape (levels,)
        Rising.
    weights : array, shape (levels,)
        In units of log-SNR; they sum to high - low, for random levels in expectation.
    low, high : float
        The covered range.
    rule : str
        How they were chosen.
    """

    log_snr: Floats
    weights: Floats
    low: float
    high: float
    rule: str

    @property
    def sigmas(self) -> list[float]:
        """Noise levels, falling, in units of the data."""
        return [float(sigma) for sigma in np.exp(-self.log_snr / 2)]


@dataclass(frozen=True)
class Tail:
    """What an integral leaves out on one side.

    Attributes
    ----------
    end : str
        "low" or "high" log-SNR.
    log_snr, integrand : float
        Where the covered range ends, and the value of the fitted exponential there.
    slope : float
        d ln(integrand) / d log-SNR of the last levels.
    tail : float
        Its integral outside; NaN where the integrand does not fall towards that side.
    basis : str
        What the number rests on.
    """

    end: str
    log_snr: float
    integrand: float
    slope: float
    tail: float
    basis: str


@checked
def grid_levels(low: float = -9.0, high: float = 6.0, count: int = 31) -> LogSNRLevels:
    """Evenly spaced levels with the weights of the trapezoid rule.

    Parameters
    ----------
    low, high : float
        Ends, in log-SNR.
    count : int
        Number of levels.

    Returns
    -------
    LogSNRLevels
        Levels and their weights.

    Raises
    ------
    InputError
        For fewer than two levels or an empty range.
    """
    if count < 2 or not -np.inf < low < high < np.inf:
        raise InputError("low, high, count", found=f"{low}, {high}, {count}", expected="low < high and count >= 2")
    return trapezoid_levels(np.exp(-np.linspace(low, high, count) / 2))


def trapezoid_levels(sigmas: Sequence[float] | Floats) -> LogSNRLevels:
    """Given noise levels, falling, with the weights of the trapezoid rule in log-SNR.

    Raises
    ------
    InputError
        For fewer than two levels, or levels that do not fall.
    """
    log_snr = -2 * np.log(np.asarray(sigmas, np.float64))
    steps = np.diff(log_snr)
    if len(log_snr) < 2 or not (steps > 0).all():
        found = f"{[round(float(s), 4) for s in list(sigmas)[:5]]}"
        raise InputError("sigmas", found=found, expected="at least two noise levels, falling, to integrate over")
    weights = np.zeros(len(log_snr))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return LogSNRLevels(log_snr, weights, float(log_snr[0]), float(log_snr[-1]), "trapezoid rule")


@checked
def logistic_levels(
    count: int = 100, *, location: float = 1.0, scale: float = 2.0, clip: float = 3.0, seed: int | None = None
) -> LogSNRLevels:
    """Levels distributed as a logistic law cut off at location +- clip * scale, with importance weights.

    This is the choice of Kong et al. (ICLR 2024, arXiv 2310.07972; their code draws at random). The density is
    normalised on the covered range, so that random levels estimate the integral over it without bias. Their weights
    are not made to sum to its width: rare levels with large weights, where the integrand is small, would spoil it.

    Parameters
    ----------
    count : int
        Number of levels, at least two.
    location, scale, clip : float
        Of the law, in log-SNR; clip in units of scale.
    seed : int, optional
        Draw the levels at random, as published. By default they are the middles of `count` intervals of equal
        probability, weighted by the widths of these: random levels add an error that is common to all images, which
        no interval over images shows.

    Returns
    -------
    LogSNRLevels
        Levels and their weights.

    Raises
    ------
    InputError
        For fewer than two levels, or a scale or clip that is not positive.
    """
    if count < 2 or not 0 < scale < np.inf or not 0 < clip < np.inf:
        raise InputError(
            "count, scale, clip", found=f"{count}, {scale}, {clip}", expected="count >= 2, the others positive"
        )
    first = float(scipy.special.expit(-clip))  # share below the cut
    whole = float(np.tanh(clip / 2))  # share between the cuts

    def place(uniform: Floats) -> Floats:
        return np.asarray(location + scale * scipy.special.logit(first + whole * uniform), np.float64)

    if seed is None:
        log_snr = place((np.arange(count) + 0.5) / count)
        weights = np.diff(place(np.arange(count + 1) / count))
    else:
        log_snr = place(np.sort(np.random.default_rng(seed).random(count)))
        share = scipy.special.expit((log_snr - location) / scale)
        weights = scale * whole / (share * (1 - share)) / count
    low, high = location - clip * scale, location + clip * scale
    how = "middles of" if seed is None else "draws from"
    rule = f"{count} {how} a logistic law ({location:g}, {scale:g}) cut off at {clip:g} scales"
    return LogSNRLevels(log_snr, weights, low, high, rule)


def extrapolate(levels: LogSNRLevels, integrand: ArrayLike) -> tuple[Tail, Tail]:
    """Continue an integrand outside the levels by the exponential through its last three levels on either side.

    At low log-SNR the integrands of information rise as the SNR itself (slope 1), so this is exact far out. At high
    log-SNR it is an estimate: a discrete condition that the image decides makes the integrand fall faster.

    Parameters
    ----------
    levels : LogSNRLevels
        At least three levels, or nothing is said.
    integrand : array, shape (levels,)
        Per unit of log-SNR.

    Returns
    -------
    tuple of Tail
        Low end, high end. The tail is NaN where an integrand is not positive at all of the last levels, or does not
        fall outwards.
    """
    values = np.asarray(integrand, np.float64)
    if values.shape != levels.log_snr.shape:
        raise InputError("integrand", found=f"shape {values.shape}", expected=f"{levels.log_snr.shape}, one a level")
    return _tail("low", levels, values), _tail("high", levels, values)


def _tail(end: str, levels: LogSNRLevels, values: Floats) -> Tail:
    last = slice(0, END_LEVELS) if end == "low" else slice(-END_LEVELS, None)
    place = levels.low if end == "low" else levels.high
    at, found = levels.log_snr[last], values[last]
    if len(at) < END_LEVELS or not (found > 0).all():
        value = float(found[0 if end == "low" else -1])
        basis = "not known: the integrand is not positive at the last levels"
        return Tail(end, place, value, float("nan"), float("nan"), basis)
    slope, offset = np.polyfit(at - place, np.log(found), 1)
    value, outwards = float(np.exp(offset)), float(slope if end == "low" else -slope)
    if outwards <= 0:
        return Tail(end, place, value, float(slope), float("nan"), "not known: the integrand does not fall outwards")
    basis = f"extrapolated: exponential through the last {END_LEVELS} levels"
    return Tail(end, place, value, float(slope), value / outwards, basis)
