"""Arrays as this room has them: on the host, of three types."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]


def host_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """An array of numbers or names; a tensor is brought from its device first, which numpy refuses to do."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
