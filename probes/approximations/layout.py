"""Between a caller's tensors and flat rows: shapes, dtypes and noise levels, checked once at the door."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor

from scorescope.data.errors import InputError

_Law = TypeVar("_Law")
_Kept = TypeVar("_Kept")


def working(statistics: Tensor) -> Tensor:
    """Statistics in float32 at least: in half precision sigma^2 is infinite from 256 on, and D would be the mean."""
    return statistics.float() if statistics.dtype in (torch.float16, torch.bfloat16) else statistics


def outside_inference(make: Callable[[_Law], _Kept]) -> Callable[[_Law], _Kept]:
    """For what a law keeps: made under a caller's `torch.inference_mode`, it could not enter a gradient afterwards."""

    @wraps(make)
    def made(law: _Law) -> _Kept:
        with torch.inference_mode(False):
            return make(law)

    return made


def flatten(x: Tensor, shape: Sequence[int], *, like: Tensor, argument: str = "x") -> Tensor:
    """(batch, *shape) as rows (batch, d) in the dtype and on the device of `like`."""
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != tuple(shape) or len(x) == 0:
        raise InputError(
            argument, found=f"shape {tuple(x.shape)}", expected=f"(batch >= 1, {', '.join(map(str, shape))})"
        )
    return x.reshape(len(x), -1).to(device=like.device, dtype=like.dtype)


def restore(rows: Tensor, x: Tensor) -> Tensor:
    """Rows (batch, d) in the shape, dtype and device of `x`."""
    return rows.reshape(x.shape).to(device=x.device, dtype=x.dtype)


def variances(
    sigma: Tensor | float, batch: int, *, like: Tensor, argument: str = "sigma", zero: bool = False
) -> Tensor:
    """sigma^2 as a column (batch, 1).

    Parameters
    ----------
    sigma : Tensor of shape (batch,) or (), or float
        Noise level, same unit as the data.
    batch : int
        Number of rows.
    like : Tensor
        Gives dtype and device.
    argument : str
        Name used in the error.
    zero : bool
        Whether 0 is allowed.

    Raises
    ------
    InputError
        If a level is negative, not finite, or 0 where that has no meaning. Levels on an accelerator are not
        looked at: that would wait for the device.
    """
    levels = torch.as_tensor(sigma, dtype=like.dtype)
    if levels.ndim > 1 or (levels.ndim == 1 and len(levels) not in (1, batch)):
        raise InputError(
            argument, found=f"shape {tuple(levels.shape)}", expected=f"one level, or one for each of {batch}"
        )
    if levels.device.type == "cpu":
        low, high = (float(v) for v in levels.aminmax())
        if not (low > 0 or (zero and low == 0)) or not high < float("inf"):
            bound = "finite noise levels >= 0" if zero else "finite noise levels > 0"
            raise InputError(argument, found=f"levels from {low:g} to {high:g}", expected=bound)
    return levels.to(like.device).reshape(-1, 1).expand(batch, 1).square()
