"""Inner products of the vectors that a step is judged by, in float64, without a copy of them in float64."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

_DEVICE_ELEMENTS = 2**23
_HOST_COLUMNS = 6144  # with six vectors 300 kB of float64, which stay in the cache
_HOST_PRODUCTS = 2**18  # a product of matrices up to this size runs in the thread that asks for it
_NUMPY_TYPES = (torch.float32, torch.float64)


def gram(rows: Sequence[Tensor]) -> Tensor:
    """Inner products of (a, b - a, c - a, ..., g - a, x, 1) per sample.

    Parameters
    ----------
    rows : sequence of Tensor, shape (batch, size)
        Branches a, b, c, ..., the prediction g and the state x. The last vector is one of ones.

    Returns
    -------
    Tensor, shape (batch, m, m), float64
        On the device of the rows, accumulated over blocks of columns; differences are taken before anything is
        squared.
    """
    if rows[0].device.type != "cpu":
        return _on_device(rows)
    batch = len(rows[0])
    with np.errstate(all="ignore"):  # what is not finite is named so by the proof
        return torch.from_numpy(np.stack([_on_host([row[n] for row in rows]) for n in range(batch)]))


def _on_device(rows: Sequence[Tensor]) -> Tensor:
    batch, size = rows[0].shape
    width = min(size, max(1, _DEVICE_ELEMENTS // batch))
    buffer = rows[0].new_empty((batch, len(rows) + 1, width), dtype=torch.float64)
    buffer[:, -1] = 1
    total = rows[0].new_zeros((batch, len(rows) + 1, len(rows) + 1), dtype=torch.float64)
    for start in range(0, size, width):
        block = buffer[:, :, : min(width, size - start)]
        for place, row in enumerate(rows):
            block[:, place].copy_(row[:, start : start + width])
        block[:, 1 : len(rows) - 1] -= block[:, :1]
        total += block @ block.mT
    return total


def _on_host(vectors: Sequence[Tensor]) -> Array:
    """One sample, in this thread alone.

    Beside a writer, or anyone else who keeps a core busy, hundreds of small parallel sections would each wait for
    that core: many times the work itself.
    """
    count, size = len(vectors) + 1, len(vectors[0])
    width = min(size, _HOST_COLUMNS, _HOST_PRODUCTS // count**2)
    buffer = np.ones((count, max(1, width)))
    total = np.zeros((count, count))
    readable = [vector.detach().numpy() if vector.dtype in _NUMPY_TYPES else vector for vector in vectors]
    for start in range(0, size, max(1, width)):
        block = buffer[:, : min(width, size - start)]
        for place, vector in enumerate(readable):
            part = vector[start : start + width]
            block[place] = part.double().numpy() if isinstance(part, Tensor) else part
        block[1 : count - 2] -= block[0]
        # rows and columns of different matrices: a symmetric product would be shared among threads
        total[1:] += block[1:] @ block.T
        total[0, 0] += block[0] @ block[0]
    total[0, 1:] = total[1:, 0]
    return total
