"""How many samples a gradient may take at once within a memory budget, found from what one of them keeps.

    rows_within(budget, lambda rows: step.value(*step.context(slice(0, rows))))

What autograd keeps for the backward pass is counted, not guessed: the storages it saves for one and for two rows.
Their difference belongs to a row, and leaves out the weights, which all rows share.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scorescope.data.errors import InputError

TRANSIENT = 2.0
"""Peak over what is saved: gradients and temporaries that live beside it. Measured in the benchmarks."""


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """Bytes of the distinct storages that autograd saves in a forward pass."""
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(held.values())


def rows_within(budget: int, run: Callable[[int], Tensor]) -> int:
    """Rows whose gradient fits the budget.

    Parameters
    ----------
    budget : int
        Bytes beyond what the model and the data take already.
    run : callable
        Number of rows, 1 or 2, to a result with a graph over that many rows.

    Raises
    ------
    InputError
        If one row is more than the budget.
    """
    row = int(TRANSIENT * max(1, saved_bytes(lambda: run(2)) - saved_bytes(lambda: run(1))))
    if row > budget:
        raise InputError("memory", found=f"{budget} bytes", expected=f"at least {row}, what one sample takes")
    return budget // row
