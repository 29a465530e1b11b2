"""What a model has to be for everything else here: the `Denoiser` protocol.

    def my_denoiser(x, sigma, condition):          # x = x0 + sigma * n
        return model(x, sigma, condition)          # an estimate of x0, shaped like x

Nothing is inherited and nothing is registered. `evaluate` calls a denoiser and checks what came back.
"""

import math
import time
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Condition = Any
"""Whatever the denoiser understands: labels, embeddings, a dict; None is the unconditional branch."""


@runtime_checkable
class Denoiser(Protocol):
    """A callable D(x, sigma, condition) -> estimate of x0, in the variance-exploding convention."""

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        """Estimate x0.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            x0 + sigma * n with standard normal n; any data shape.
        sigma : Tensor, shape (batch,)
            Noise level of each sample, same unit as x; positive.
        condition : optional
            What the denoiser is conditioned on; None is the unconditional branch.

        Returns
        -------
        Tensor, shape and dtype of x
            Prediction in `denoised` space.
        """
        ...


def check_prediction(prediction: object, x: Tensor, *, branch: str) -> None:
    """Check the type, shape and dtype of what a denoiser returned for x.

    Values are not looked at: on an accelerator that would wait for the device.

    Raises
    ------
    InputError
        Naming the branch, what came back and what was expected.
    """
    if not isinstance(prediction, Tensor):
        found = f"a {type(prediction).__name__}"
        raise InputError(f"denoiser ({branch})", found=found, expected="a Tensor shaped like x")
    if prediction.shape != x.shape or prediction.dtype != x.dtype:
        raise InputError(
            f"denoiser ({branch})",
            found=f"a prediction of shape {tuple(prediction.shape)} and dtype {prediction.dtype}",
            expected=f"shape {tuple(x.shape)} and dtype {x.dtype}, like x",
        )


def evaluate(denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, *, branch: str) -> Tensor:
    """Call a denoiser once, with `check_prediction` on what comes back."""
    prediction = denoiser(x, sigma, condition)
    check_prediction(prediction, x, branch=branch)
    return prediction


@checked
def sigma_range(denoiser: object, *, low: float = 0.0, high: float = math.inf) -> tuple[float, float]:
    """Least and largest noise level at which a denoiser can be asked, of those between low and high.

    Parameters
    ----------
    denoiser : Denoiser
        One that does not know every level says so by an attribute `sigma_range`, (least, largest).

    Raises
    ------
    InputError
        Where none is left.
    """
    least, largest = getattr(denoiser, "sigma_range", (0.0, math.inf))
    if not max(low, least) < min(high, largest):
        found = f"levels from {least:.4g} to {largest:.4g}"
        raise InputError("denoiser.sigma_range", found=found, expected=f"levels between {low:.4g} and {high:.4g}")
    return max(low, least), min(high, largest)


@torch.no_grad()
def seconds_a_call(denoiser: Denoiser, x: Tensor, condition: Condition) -> float:
    """Wall time of one call on a batch, at a noise level that the denoiser knows: of the second of two calls."""
    least, largest = sigma_range(denoiser)
    levels = torch.full((len(x),), min(max(1.0, least), largest), dtype=x.dtype, device=x.device)
    for _ in range(2):  # the first one may set things up
        started = time.perf_counter()
        float(denoiser(x, levels, condition).sum())  # waits for an accelerator
        seconds = time.perf_counter() - started
    return seconds


def working_dtype(like: Tensor) -> torch.dtype:
    """float64, or float32 on devices that have no other."""
    return torch.float32 if like.device.type in ("mps", "npu") else torch.float64
