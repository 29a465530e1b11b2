"""A noise level, and what a prediction made there means."""

import math
from dataclasses import dataclass

from torch import Tensor

from scorescope.data.doors import checked

Number = float | Tensor


@checked
@dataclass(frozen=True)
class Level:
    """Noise level of one state and the meaning of the prediction made there.

    Attributes
    ----------
    sigma, sigma_next : float or Tensor
        Variance-exploding noise levels s / alpha, in units of the data: of this state, and of the one that the call
        of `step` is to return, also where that is a stage or a repeated step. A Tensor has shape (batch,), or
        broadcasts against the state where the level differs inside a sample.
    alpha : float or Tensor
        Weight of the data in the state; x / alpha is the state in the variance-exploding convention.
    skip, out : float or Tensor
        D = skip * state + out * prediction.
    space : str
        Prediction space of the scheduler's input.
    note : str
        Why the level or D is undefined; empty where both are known.
    """

    sigma: Number = math.nan
    sigma_next: Number = math.nan
    alpha: Number = math.nan
    skip: Number = math.nan
    out: Number = math.nan
    space: str = "unknown"
    note: str = ""

    @classmethod
    @checked
    def of(cls, alpha: Number, s: Number, space: str, *, sigma_next: Number = math.nan, note: str = "") -> "Level":
        """The level of a state alpha * x0 + s * n with a prediction in `space` (Salimans & Ho 2022 for v)."""
        skip, out = _coefficients(alpha, s, space)
        if not note and isinstance(alpha, float) and alpha == 0 and space == "eps":
            note = "an eps prediction does not determine D where the state holds no data (alpha 0)"
        return cls(divide(s, alpha), sigma_next, alpha, skip, out, space, note)


def _coefficients(alpha: Number, s: Number, space: str) -> tuple[Number, Number]:
    if space == "denoised":
        return 0.0, 1.0
    if space == "eps":
        return divide(1.0, alpha), divide(-s, alpha)
    if space == "flow":
        return divide(1.0, alpha + s), divide(-s, alpha + s)
    if space == "v":
        total = alpha**2 + s**2
        return divide(alpha, total), divide(-s, total**0.5)
    return math.nan, math.nan


def divide(a: Number, b: Number) -> Number:
    """a / b, infinite or NaN where b is the number 0."""
    if isinstance(b, float) and b == 0:
        return math.inf if not isinstance(a, Tensor) and a > 0 else math.nan
    return a / b
