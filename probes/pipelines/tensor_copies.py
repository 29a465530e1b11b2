"""Private copies of tensors, in memory that is used again.

    copies = Copies()
    mine = copies.of(theirs)

Fresh memory is handed out by the system page by page, at several times the cost of the copy itself. Here the memory
of a copy goes back when the last tensor on it is gone, and the next copy of that size takes it.
"""

import contextlib
import mmap
import weakref
from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SMALLEST = 2**16  # bytes; what is smaller costs nothing to allocate


class Copies:
    """Makes copies. What it holds is at most what was in use at one time since `forget`."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)

    def of(self, tensor: Tensor) -> Tensor:
        """A copy with the same values, type and device, which nobody else writes to.

        Accelerators keep their memory themselves; there it is a clone.
        """
        if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.nbytes < _SMALLEST:
            return tensor.detach().clone()
        free = self._free[tensor.nbytes]
        memory = free.pop() if free else _memory(tensor.nbytes)
        lease = np.frombuffer(memory, np.uint8)
        copy = torch.from_numpy(lease).view(tensor.dtype).view(tensor.shape)
        weakref.finalize(lease, free.append, memory).atexit = False
        _fill(copy, tensor.detach())
        return copy

    def forget(self) -> None:
        """Let go of memory that is not in use; sizes may be others from here on."""
        self._free = defaultdict(list)


def _memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a hint
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _fill(copy: Tensor, tensor: Tensor) -> None:
    if tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
        # in this thread alone: shared among threads it would wait for one that writes
        np.copyto(_bytes(copy), _bytes(tensor))
    else:
        copy.copy_(tensor)


def same_bits(a: Tensor, b: Tensor) -> list[bool]:
    """Whether each sample of two tensors on the host is the same, bit for bit."""
    return [bool(np.array_equal(_words(one), _words(other))) for one, other in zip(a, b, strict=True)]


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    flat: NDArray[np.uint8] = tensor.reshape(-1).contiguous().view(torch.uint8).numpy()
    return flat


def _words(tensor: Tensor) -> NDArray[np.generic]:
    flat = _bytes(tensor)
    return flat.view(np.uint64) if flat.nbytes % 8 == 0 else flat
