"""Conversions between prediction spaces, in both directions.

A noisy state is x = alpha * x0 + s * n. `NoiseLevel` holds (alpha, s); what a network predicts is one of

    denoised   x0 itself
    eps        n
    v          (alpha * n - s * x0) / sqrt(alpha^2 + s^2)
    flow       n - x0
    edm        F in  D = c_skip * x + c_out * F  (Karras et al. 2022, arXiv 2206.00364, table 1)
    score      (alpha * x0 - x) / s^2

    level = NoiseLevel.vp(sigma)
    denoised = to_denoised(eps, x, level, space="eps")
    flow = from_denoised(denoised, x, level, space="flow")
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Space = Literal["denoised", "eps", "v", "flow", "edm", "score"]
"""What a network predicts."""

SPACES: tuple[str, ...] = get_args(Space)
"""The names of all prediction spaces."""


@displayed
@checked
@dataclass(frozen=True)
class NoiseLevel:
    """How much data and how much noise a state holds: x = alpha * x0 + s * n.

    Attributes
    ----------
    alpha, s : Tensor
        Broadcast against x. Shape (batch,) is taken as one level a sample.
    """

    alpha: Tensor
    s: Tensor

    @classmethod
    @checked
    def ve(cls, sigma: Tensor) -> "NoiseLevel":
        """Variance exploding: alpha = 1, s = sigma."""
        _check_range("sigma", sigma)
        return cls(torch.ones_like(sigma), sigma)

    @classmethod
    @checked
    def vp(cls, sigma: Tensor) -> "NoiseLevel":
        """Variance preserving: alpha = 1 / sqrt(1 + sigma^2), s = sigma * alpha; sigma is s / alpha."""
        _check_range("sigma", sigma)
        alpha = (1 + sigma**2).rsqrt()
        return cls(alpha, sigma * alpha)

    @classmethod
    @checked
    def flow(cls, time: Tensor) -> "NoiseLevel":
        """Linear flow: alpha = 1 - time, s = time, with time in [0, 1]; time = sigma / (1 + sigma)."""
        _check_range("time", time, 1.0)
        return cls(1 - time, time)

    @property
    def sigma(self) -> Tensor:
        """Variance-exploding noise level s / alpha; infinite where alpha is 0."""
        return self.s / self.alpha

    def to_ve(self, x: Tensor) -> Tensor:
        """The same state in the variance-exploding convention, x / alpha."""
        return x / self._like(x).alpha

    def from_ve(self, x: Tensor) -> Tensor:
        """A variance-exploding state in this convention, alpha * x."""
        return x * self._like(x).alpha

    def _like(self, x: Tensor) -> "NoiseLevel":
        return NoiseLevel(*(_spread(value, x) for value in (self.alpha, self.s)))


@checked
def to_denoised(
    prediction: Tensor, x: Tensor, level: NoiseLevel, *, space: Space, sigma_data: float | None = None
) -> Tensor:
    """Turn a prediction of any space into the denoised prediction D.

    Parameters
    ----------
    prediction : Tensor, shape (batch, *shape)
        What the network said, in `space`.
    x : Tensor, shape (batch, *shape)
        The state that it was asked about, in the convention of `level`.
    level : NoiseLevel
        (alpha, s) of that state.
    space : str
        One of `SPACES`.
    sigma_data : float, optional
        Standard deviation of the data, for `edm`.

    Returns
    -------
    Tensor, shape (batch, *shape)
        D, in units of the data. Not finite where `space` does not determine it: eps and score at alpha = 0.

    Raises
    ------
    InputError
        For an unknown space, `edm` without sigma_data, or shapes that differ.
    """
    _check(prediction, x, space, sigma_data)
    level = level._like(x)
    alpha, s = level.alpha, level.s
    if space == "denoised":
        return prediction
    if space == "eps":
        return (x - s * prediction) / alpha
    if space == "v":
        total = (alpha**2 + s**2).sqrt()
        return (alpha * x / total - s * prediction) / total
    if space == "flow":
        return (x - s * prediction) / (alpha + s)
    if space == "score":
        return (x + s**2 * prediction) / alpha
    skip, c_out = _edm(alpha, s, sigma_data)
    return skip * x + c_out * prediction


@checked
def from_denoised(
    denoised: Tensor, x: Tensor, level: NoiseLevel, *, space: Space, sigma_data: float | None = None
) -> Tensor:
    """Turn the denoised prediction D into what a network of another space would have said.

    Parameters, units and errors are those of `to_denoised`; the result is not finite at s = 0 except
    for `denoised`.
    """
    _check(denoised, x, space, sigma_data)
    level = level._like(x)
    alpha, s = level.alpha, level.s
    if space == "denoised":
        return denoised
    if space == "score":
        return (alpha * denoised - x) / s**2
    if space == "edm":
        skip, c_out = _edm(alpha, s, sigma_data)
        return (denoised - skip * x) / c_out
    eps = (x - alpha * denoised) / s
    if space == "eps":
        return eps
    if space == "flow":
        return eps - denoised
    return (alpha * eps - s * denoised) / (alpha**2 + s**2).sqrt()


def state_share(space: str, sigma: float | Tensor, sigma_data: float | None = None) -> float | Tensor:
    """s of D = s x + (what the network put out), variance-exploding convention, for a network that predicts `space`.

    The rest is what a network rounds: its own output, not D.
    """
    if space == "edm":
        if sigma_data is None:
            raise InputError("sigma_data", found="None", expected="the data's standard deviation, for the space edm")
        return sigma_data**2 / (sigma**2 + sigma_data**2)
    if space in ("v", "flow"):
        return 1 / (1 + (sigma**2 if space == "v" else sigma))
    return 0.0 if space == "denoised" else 1.0  # eps and score


def _edm(alpha: Tensor, s: Tensor, sigma_data: float | None) -> tuple[Tensor, Tensor]:
    """c_skip / alpha and c_out, finite at alpha = 0 too."""
    assert sigma_data is not None  # _check has seen to it
    total = s**2 + (alpha * sigma_data) ** 2
    return alpha * sigma_data**2 / total, s * sigma_data / total.sqrt()


def _spread(value: Tensor, x: Tensor) -> Tensor:
    """Give per-sample values the trailing axes of x."""
    if value.ndim == 1 and len(value) in (1, len(x)):
        return value.reshape(-1, *(1,) * (x.ndim - 1))
    if value.ndim == 1:
        found = f"{len(value)} values for {len(x)} samples"
        raise InputError("level", found=found, expected="one, one a sample, or a shape that broadcasts against x")
    return value


def _check_range(name: str, level: Tensor, most: float = math.inf) -> None:
    """A noise level is not negative; it may be NaN, where it is not known."""
    if bool(((level < 0) | (level > most)).any()):
        words = "0 or more" if most == math.inf else f"between 0 and {most:g}"
        raise InputError(name, found=f"from {level.min():g} to {level.max():g}", expected=words)


def _check(prediction: Tensor, x: Tensor, space: str, sigma_data: float | None) -> None:
    if space not in SPACES:
        raise InputError("space", found=repr(space), expected=f"one of {', '.join(SPACES)}")
    if prediction.shape != x.shape:
        raise InputError(
            "prediction", found=f"shape {tuple(prediction.shape)}", expected=f"{tuple(x.shape)}, the shape of x"
        )
    if space == "edm" and sigma_data is None:
        raise InputError("sigma_data", found="None", expected="the standard deviation of the data, for space 'edm'")
