"""What tells one model, rule or argument from another: a digest of what it is made of, the same in every process.

    fingerprint(model, argument="model")        # networks by their weights, functions by code and what they refer to

Two things of one class with other weights, numbers or functions inside have other digests, however deep they lie:
in attributes, in the closure of a function, in its global names, in a partial. What an installed package defines is
known by its name, everything else by its code.
"""

import functools
import hashlib
import logging
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError

MOST = 200_000  # things inside one thing
_PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, torch.dtype, torch.device, torch.Size)
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))


def fingerprint(thing: Any, *, argument: str) -> str:
    """A digest of what a thing is made of.

    Parameters
    ----------
    thing : object
        A model, rule, condition, or any nest of mappings, sequences, tensors, arrays, tables, functions and objects.
    argument : str
        Its name in errors.

    Returns
    -------
    str
        64 hexadecimal digits. Of tensors, weights among them, every byte counts: about 1 s for 2 GB. Functions are
        compared by their bytecode, which differs between versions of Python.

    Raises
    ------
    InputError
        For something callable of which nothing can be read, such as a function of a compiled extension that belongs
        to no module, and for more than `MOST` things inside.
    """
    walk = _Walk(argument)
    try:
        walk.add(thing)
    except RecursionError:
        raise walk.refused("a structure nested too deep", "a flatter one") from None
    return walk.digest.hexdigest()


class _Walk:
    """One pass through everything that a thing is made of."""

    def __init__(self, argument: str) -> None:
        self.argument, self.digest, self._seen, self._kept = argument, hashlib.sha256(), dict[int, int](), list[Any]()

    def refused(self, found: str, expected: str) -> InputError:
        return InputError(self.argument, found=found, expected=expected)

    def say(self, *words: object) -> None:
        """Add words; lengths keep neighbours apart."""
        for word in words:
            data = word if isinstance(word, bytes | memoryview) else str(word).encode()
            self.digest.update(f"{len(data)}:".encode())
            self.digest.update(data)

    def add(self, thing: Any) -> None:
        if isinstance(thing, _PLAIN):
            self.say(type(thing).__name__, repr(thing))
            return
        if id(thing) in self._seen:
            self.say("seen", self._seen[id(thing)])
            return
        self._seen[id(thing)] = len(self._seen)
        self._kept.append(thing)  # an id is free again when its thing is gone
        if len(self._seen) > MOST:
            raise self.refused(f"more than {MOST} things inside", "a smaller one, or no folder")
        self._add_new(thing)

    def _add_new(self, thing: Any) -> None:
        self.say(type(thing).__module__, type(thing).__qualname__)
        for kinds, add in self._ways():
            if isinstance(thing, kinds):
                add(thing)
                return
        if callable(getattr(thing, "tobytes", None)):  # pictures
            self.say(getattr(thing, "size", ""), getattr(thing, "mode", ""), thing.tobytes())
            return
        self._object(thing)

    def _ways(self) -> list[tuple[Any, Callable[[Any], None]]]:
        return [
            (nn.Module, self._network),
            (Tensor, self._tensor),
            (np.ndarray, self._array),
            (pd.DataFrame, self._table),
            (Mapping, self._mapping),
            ((list, tuple), self._sequence),
            ((set, frozenset), self._set),
            (functools.partial, lambda p: self._sequence([p.func, p.args, p.keywords])),
            (types.FunctionType, self._function),
            (types.MethodType, lambda m: self._sequence([m.__func__, m.__self__])),
            (types.CodeType, self._code),
            (types.CellType, self._cell),
            (types.BuiltinFunctionType, self._builtin),
            (types.ModuleType, lambda module: self.say(module.__name__)),
            (type, self._class),
            (logging.Logger, lambda logger: self.say(logger.name)),
            ((property, staticmethod, classmethod), self._descriptor),
        ]

    def _network(self, network: nn.Module) -> None:
        self.say(str(network))
        for name, value in network.state_dict().items():
            self.say(name, tuple(value.shape) if isinstance(value, Tensor) else repr(value))
            if isinstance(value, Tensor):
                self._tensor(value)
        for module in network.modules():
            if not _installed(type(module)):  # a library's modules keep caches in attributes, and in such buffers
                self.add(type(module))
                self._mapping({name: module._buffers[name] for name in module._non_persistent_buffers_set})
                self._mapping({k: v for k, v in vars(module).items() if k not in _MODULE_ATTRIBUTES})

    def _tensor(self, tensor: Tensor) -> None:
        self.say(tensor.dtype, tuple(tensor.shape), b"" if tensor.is_meta else tensor_bytes(tensor))

    def _array(self, array: "np.ndarray[Any, Any]") -> None:
        self.say(array.dtype, array.shape)
        if array.dtype.hasobject:
            self._sequence(array.ravel().tolist())
        else:
            self.say(np.ascontiguousarray(array).tobytes())

    def _table(self, table: pd.DataFrame) -> None:
        self._sequence(
            [list(table), table.index.to_numpy(), *(table.iloc[:, k].to_numpy() for k in range(table.shape[1]))]
        )

    def _mapping(self, mapping: Mapping[Any, Any]) -> None:
        self.say(len(mapping))
        for key in sorted(mapping, key=lambda key: (type(key).__name__, str(key))):
            self.add(key)
            self.add(mapping[key])

    def _sequence(self, sequence: Any) -> None:
        self.say(len(sequence))
        for one in sequence:
            self.add(one)

    def _set(self, things: Any) -> None:
        # their order differs between processes; of objects without a value only how many there are is known
        plain = sorted((type(one).__name__, repr(one)) for one in things if isinstance(one, _PLAIN))
        self.say(len(things), *(word for one in plain for word in one))
        for one in sorted((one for one in things if isinstance(one, tuple | frozenset)), key=repr):
            self.add(one)

    def _function(self, function: types.FunctionType) -> None:
        self.say(function.__module__, function.__qualname__)
        if _installed(function) and "<" not in function.__qualname__:
            return
        self._sequence([function.__code__, function.__defaults__, function.__kwdefaults__, function.__closure__])
        named = {name for code in _codes(function.__code__) for name in code.co_names}
        self._mapping({name: function.__globals__[name] for name in named if name in function.__globals__})

    def _code(self, code: types.CodeType) -> None:
        self.say(code.co_code)
        self._sequence([code.co_names, code.co_varnames, code.co_freevars, code.co_consts])

    def _cell(self, cell: types.CellType) -> None:
        try:
            self.add(cell.cell_contents)
        except ValueError:
            self.say("empty")

    def _builtin(self, function: types.BuiltinFunctionType) -> None:
        owner = function.__self__
        self.say(function.__module__, function.__qualname__)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self.add(owner)

    def _class(self, kind: type) -> None:
        self.say(kind.__module__, kind.__qualname__)
        for owner in kind.__mro__:
            if not _installed(owner):
                self._mapping({k: v for k, v in vars(owner).items() if k not in ("__dict__", "__weakref__", "__doc__")})

    def _descriptor(self, thing: Any) -> None:
        functions = (thing.fget, thing.fset) if isinstance(thing, property) else (thing.__func__,)
        self._sequence(functions)

    def _object(self, thing: Any) -> None:
        self.add(type(thing))
        if isinstance(inner := getattr(type(thing), "same_as", None), property):  # gives what that one gives
            self.add(inner.fget(thing) if inner.fget else None)
            return
        held = dict(_held(thing))
        if held:
            self._mapping(held)
        elif callable(thing) and _installed(type(thing)) and not hasattr(thing, "__dict__"):
            if (name := getattr(thing, "__qualname__", getattr(thing, "__name__", None))) is None:
                found = f"a {type(thing).__qualname__}, of which nothing can be read"
                raise self.refused(found, "a function, a network, or an object that holds them, to keep in a folder")
            self.say(getattr(thing, "__module__", ""), name)


def _held(thing: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds: fields, attributes, slots, and the function that a decorator wraps."""
    if is_dataclass(thing):
        yield from ((item.name, getattr(thing, item.name)) for item in fields(thing))
    yield from getattr(thing, "__dict__", {}).items()
    for owner in type(thing).__mro__:
        slots = vars(owner).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield name, getattr(thing, name)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and those of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """All bytes of a tensor, on the host and in order."""
    here = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return here.flatten().view(torch.uint8).numpy().data


def _installed(thing: Any) -> bool:
    """Whether a class or function belongs to Python, to an installed package, or to this one."""
    name = getattr(thing, "__module__", None) or "builtins"
    return _is_installed(name)


@functools.cache
def _is_installed(name: str) -> bool:
    root = name.partition(".")[0]
    if root in sys.builtin_module_names or root in sys.stdlib_module_names - {"__main__"} or root == "scorescope":
        return root != "__main__"
    path = getattr(sys.modules.get(name), "__file__", None)
    return path is not None and not {"site-packages", "dist-packages"}.isdisjoint(Path(path).parts)
