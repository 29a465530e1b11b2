"""Labels, groups and pairs as arrays, wherever they are kept."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


def host_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    """An array of numbers or names; a tensor is brought from its device first, which numpy refuses to do."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
