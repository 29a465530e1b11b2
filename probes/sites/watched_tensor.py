"""A tensor that notes whether anything is computed from it, for as long as that is asked.

watched = watch(tensor)
watched + 1                      # an ordinary tensor
watched.read                     # True; looking at its shape, or at `plain(watched)`, is no reading
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_ABOUT = ("shape", "dtype", "device", "ndim", "layout", "requires_grad", "is_cuda", "is_leaf", "grad_fn", "is_meta")
_METHODS = ("size", "dim", "numel", "stride", "is_floating_point", "is_contiguous", "element_size", "__len__")
_NO_READING = {getattr(Tensor, name).__get__ for name in _ABOUT} | {getattr(Tensor, name) for name in _METHODS}


class Watched(Tensor):
    """What `watch` makes.

    Attributes
    ----------
    read : bool
        Whether anything was computed from it.
    stands_for : Watched or None
        An earlier one whose place it took; that counts as read with it.
    """

    read: bool
    stands_for: "Watched | None"

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Called by torch: compute with ordinary tensors."""
        given = (args, dict(kwargs or {}))
        if func not in _NO_READING:
            _note(given)
        args, kwargs = _without(given)
        return func(*args, **kwargs)


def watch(tensor: Tensor, *, instead_of: Tensor | None = None) -> Watched:
    """A tensor of the same values, in the same memory, that is watched; it may take the place of another such."""
    watched = plain(tensor).as_subclass(Watched)
    watched.read = False
    watched.stands_for = instead_of if isinstance(instead_of, Watched) else None
    return watched


def plain(tensor: Tensor) -> Tensor:
    """The ordinary tensor; looking at it so is no reading."""
    if not isinstance(tensor, Watched):
        return tensor
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _note(value: Any) -> None:
    while isinstance(value, Watched):
        value.read, value = True, value.stands_for
    if isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            _note(one)


def _without(value: Any) -> Any:
    if isinstance(value, Tensor):
        return plain(value)
    if type(value) in (list, tuple):
        return type(value)(_without(one) for one in value)
    return {key: _without(one) for key, one in value.items()} if type(value) is dict else value
