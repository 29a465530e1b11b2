"""How many threads something is computed with: sums over other numbers of them differ in their last digits.

with threads(1):
    build(out)
"""

import contextlib
from collections.abc import Iterator

import scipy.linalg  # noqa: F401  a library's threads can be limited only once it is loaded
import threadpoolctl
import torch


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch and for what numpy and scipy multiply with, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpoolctl.threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
