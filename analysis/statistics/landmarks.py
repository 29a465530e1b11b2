"""Noise levels at which a curve rises through a threshold or falls below it, in every bootstrap draw.

Curves are (draw, point), finite, over log-SNR from the start of sampling to its end. A rise that never comes is at plus
infinity, a curve that was never high fell at minus infinity.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def first_rise(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve first reaches the threshold."""
    return np.asarray([_rise(log_snr, curve, _first(curve >= threshold), threshold) for curve in curves])


def last_rise(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve reaches the threshold for good."""
    found = []
    for curve in curves:
        below = np.flatnonzero(~(curve >= threshold))
        found.append(_rise(log_snr, curve, int(below[-1]) + 1 if len(below) else 0, threshold))
    return np.asarray(found)


def last_fall(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve is last at the threshold or above it: the last point, where it never falls."""
    return -first_rise(-log_snr[::-1], curves[:, ::-1], threshold)


def _first(reached: NDArray[np.bool_]) -> int:
    return int(np.argmax(reached)) if reached.any() else len(reached)


def _rise(log_snr: Floats, curve: Floats, index: int, threshold: float) -> float:
    """The place between the points `index - 1` and `index` where the line through them meets the threshold."""
    if index == len(curve):
        return float("inf")
    if index == 0 or not np.isfinite(curve[index - 1]):
        return float(log_snr[index])
    share = (threshold - curve[index - 1]) / (curve[index] - curve[index - 1])
    return float(log_snr[index - 1] + share * (log_snr[index] - log_snr[index - 1]))
