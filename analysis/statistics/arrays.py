"""Arrays as this room has them: on the host, of three types."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


def host_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """An array of numbers or names; a tensor is brought from its device first, which numpy refuses to do."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def finite_numbers(argument: str, values: Tensor, count: int | None = None) -> Floats:
    """A tensor as an array of one axis, `count` long where that is known; `InputError` for other or missing values."""
    numbers = values.detach().double().cpu().numpy()
    if numbers.ndim != 1 or count not in (None, len(numbers)) or not np.isfinite(numbers).all():
        found = f"shape {numbers.shape}, {int((~np.isfinite(numbers)).sum())} not finite"
        expected = "one finite number a seed" if count is None else f"({count},) finite numbers"
        raise InputError(argument, found=found, expected=expected)
    return numbers
