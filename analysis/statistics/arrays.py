"""Arrays as this room has them: on the host, of three types."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.data.doors import require_returned
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
OF_NUMPY = (torch.float16, torch.float32, torch.float64)
ROUNDED = 2.0**-8  # by which probabilities in bfloat16 may miss the sum of 1


def host_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """An array of numbers or names; a tensor is brought from its device first, which numpy refuses to do.

    Floating point types that numpy does not have, as bfloat16, become float32.
    """
    if not isinstance(values, Tensor):
        return np.asarray(values)
    here = values.detach().cpu()
    return (here.float() if here.is_floating_point() and here.dtype not in OF_NUMPY else here).numpy()


def finite_numbers(argument: str, values: Tensor, count: int | None = None) -> Floats:
    """A tensor as an array of one axis, `count` long where that is known; `InputError` for other or missing values."""
    require_returned(argument, values, Tensor)
    numbers = values.detach().double().cpu().numpy()
    if numbers.ndim != 1 or count not in (None, len(numbers)) or not np.isfinite(numbers).all():
        found = f"shape {numbers.shape}, {int((~np.isfinite(numbers)).sum())} not finite"
        expected = "one finite number a seed" if count is None else f"({count},) finite numbers"
        raise InputError(argument, found=found, expected=expected)
    return numbers


def scores_of(scores: Callable[[Tensor], Mapping[str, Tensor]], images: Tensor) -> dict[str, Floats]:
    """What a judge says of images, by name: one finite number an image."""
    found = scores(images)
    require_returned("scores", found, Mapping[Any, Tensor])
    return {str(name): finite_numbers(f"scores[{name!r}]", value, len(images)) for name, value in found.items()}


def are_shares(rows: NDArray[Any]) -> bool:
    """Whether no number is negative and each row (n, classes) sums to 1, but for rounding."""
    return bool((rows >= 0).all() and (np.abs(rows.astype(np.float64).sum(-1) - 1) <= ROUNDED).all())


def require_logarithms(argument: str, rows: NDArray[Any]) -> None:
    """Refuse probabilities that are meant as logits or log-probabilities, rows (n, classes).

    Log-probabilities are negative, and logits do not sum to 1 in every row.
    """
    if are_shares(rows):
        expected = "logits or log-probabilities: their logarithms"
        raise InputError(argument, found="probabilities (from 0 to 1, each row sums to 1)", expected=expected)
