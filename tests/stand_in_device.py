"""A device played by the host: tensors on it mix with no others, and whatever would wait for the device is counted.

    with StandIn() as device:
        pipe.to(device.name)
        pipe(**arguments)
    device.waits                       # Counter({"_local_scalar_dense": 1})

A tensor there holds its values in a tensor here that no operation sees by itself. So an operation between the two
kinds is the error that a real device would raise, and reading values is an operation of its own. The name is that of
a device that this build of torch lacks and does not try to start.
"""

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = torch.device("lazy", 0)
_HERE = torch.device("cpu")
_aten = torch.ops.aten
# operations whose result, or its shape, has to be known here
_WAITS = {
    _aten._local_scalar_dense, _aten.is_nonzero, _aten.equal, _aten.nonzero, _aten.masked_select, _aten.bincount,
    _aten._unique2, _aten.unique_dim, _aten.unique_consecutive, _aten.repeat_interleave,
}  # fmt: skip
_MIXES = {_aten.copy_, _aten._to_copy, _aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}


class Away(Tensor):
    """A tensor on the stand-in device."""

    @staticmethod
    def __new__(cls, held: Tensor) -> "Away":
        return Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, requires_grad=held.requires_grad, device=NAME,
        )  # fmt: skip

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Away({self.held})"

    def tolist(self) -> Any:
        """Values, read here."""
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        """Refused, as of any device but the host."""
        raise TypeError(f"can't convert {NAME} device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def untyped_storage(self) -> Any:
        """Where the values lie: for asking whether two tensors share them."""
        return self.held.untyped_storage()

    def data_ptr(self) -> int:
        """The same."""
        return self.held.data_ptr()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, None)


class StandIn(TorchDispatchMode):
    """While entered, tensors can be made on the device, and waits are counted.

    Attributes
    ----------
    waits : Counter
        Operations of this thread that would wait for the device, with who called for them.
    """

    name = NAME

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> "StandIn":
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # so that `torch.tensor(..., device=)` copies where this is seen
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lifted)
        super().__exit__(*error)

    def ours(self) -> int:
        """Waits that our own code called for."""
        return sum(count for name, count in self.waits.items() if not name.endswith((" diffusers", " tests")))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.waits)


def _run(func: Any, args: Any, kwargs: dict[str, Any], waits: Counter[str] | None) -> Any:
    given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    away = [one for one in given if isinstance(one, Away)]
    target = kwargs.get("device")
    to_here = func.overloadpacket is _aten._to_copy and target is not None and torch.device(target).type == "cpu"
    to_here |= func.overloadpacket is _aten.copy_ and not isinstance(args[0], Away)
    packet = func.overloadpacket
    if away and packet not in _MIXES and any(one.ndim for one in given if not isinstance(one, Away)):
        kinds = [f"{one.device} {tuple(one.shape)}" for one in given]
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {', '.join(kinds)}")
    masked = packet in _MIXES and any(
        one.dtype == torch.bool for one in tree_leaves(args[1:2]) if isinstance(one, Away)
    )
    if away and waits is not None and (packet in _WAITS or to_here or (masked and packet is not _aten.copy_)):
        waits[f"{packet.__name__} {_caller()}"] += 1
    makes_away = target is not None and torch.device(target).type == NAME.type
    if makes_away or (target is not None and away):
        kwargs = kwargs | {"device": _HERE}
    held = tree_map(lambda one: one.held if isinstance(one, Away) else one, (args, kwargs))
    out = func(*held[0], **held[1])
    if to_here or not (makes_away or away):
        return out if not (to_here and packet is _aten.copy_) else args[0]
    wrapped = tree_map(lambda one: Away(one) if isinstance(one, Tensor) else one, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if away else wrapped


_ROOT = Path(__file__).parents[1]
_OURS = tuple(f"{_ROOT}/{room}/" for room in ("data", "probes", "analysis", "reports"))


def _caller() -> str:
    """The innermost file of ours or of diffusers that is being run, with its line where it is ours."""
    for frame, line in traceback.walk_stack(None):
        file = frame.f_code.co_filename
        if "/diffusers/" in file:
            return "diffusers"
        if (file := str(Path(file).resolve())).startswith(_OURS):
            return f"{Path(file).relative_to(_ROOT)}:{line}"
    return "tests"
