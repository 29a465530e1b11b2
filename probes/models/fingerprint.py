"""What tells one model, rule or argument from another: a digest of what it is made of, the same in every process.

    fingerprint(model, argument="model")        # networks by their weights, functions by code and what they refer to

Two things of one class with other weights, numbers or functions inside have other digests, however deep they lie:
in attributes, in the closure of a function, in its global names, in a partial. What an installed package defines is
known by its name, everything else by its code. Of a library's modules plain attributes and settings count beside their
state, their mode and their hooks, but no tensors that they keep in attributes, which are caches.
"""

import copyreg
import dis
import functools
import hashlib
import io
import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.models.tensor_parts import tensor_bytes, tensor_parts

MOST = 200_000  # things inside one thing
_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    slice,
    torch.dtype,
    torch.device,
    torch.Size,
    PurePath,
)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
_NO_SETTINGS = frozenset(  # where a module comes from and how it is run, and what `config` holds too
    {"config", "_internal_dict", "name_or_path", "_name_or_path", "_is_hf_initialized", "_compiled_call_impl"}
)
_OF_EVERY_CLASS = ("__dict__", "__weakref__", "__doc__", "_abc_impl")
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")  # the last two in bodies of classes


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
        64 hexadecimal digits. Of tensors, weights among them, every byte counts: about 1 s for 1 GB. Functions are
        compared by their bytecode, which differs between versions of Python.

    Raises
    ------
    InputError
        For something of which nothing can be read, such as a generator or a lazy parameter, and for more than `MOST`
        things inside.
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
            ((pd.Series, pd.Index), self._column),
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
            ((types.GetSetDescriptorType, types.MemberDescriptorType), lambda one: self.say(one.__name__)),
            (io.BytesIO, lambda file: self.say(file.getvalue())),
            (_LOCKS, lambda _: None),
            (weakref.ref, lambda reference: self.add(reference())),
        ]

    def _network(self, network: nn.Module) -> None:
        self.say(str(network))
        for module in network.modules():  # before what refers to them: hooks, functions put in a module's place
            self._seen.setdefault(id(module), len(self._seen))
            self._kept.append(module)
        for name, value in network.state_dict().items():
            self.say(name)
            if isinstance(value, Tensor):
                self._tensor(value)
            else:
                self.add(value)
        for module in network.modules():
            self.say(module.training)
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                self._sequence([hook for hook in hooks.values() if not _is_ours(hook)])
            if not _installed(type(module)):  # a library's modules keep caches in attributes, and in such buffers
                self.add(type(module))
                self._mapping({name: module._buffers[name] for name in module._non_persistent_buffers_set})
                self._mapping({k: v for k, v in vars(module).items() if k not in _MODULE_ATTRIBUTES})
            elif "_orig_mod" not in module._modules:  # a compiled module is the one inside it
                self._settings(module)

    def _settings(self, module: nn.Module) -> None:
        """Of a library's module what it was made with."""
        self._mapping(config_of(module))
        if isinstance(module, torch.jit.ScriptModule):
            code, constants = module.code_with_constants if hasattr(module, "forward") else ("", None)
            self.say(code)
            self.add(getattr(constants, "const_mapping", None))
        for name, value in sorted(vars(module).items()):
            if name in _MODULE_ATTRIBUTES or name in _NO_SETTINGS or isinstance(value, Tensor | np.ndarray):
                continue
            if _is_plain(value) or not (_installed(type(value)) or isinstance(value, Mapping)):
                self.say(name)
                self.add(value)
            elif not isinstance(value, Mapping | list | tuple | set | frozenset):  # its processor, for instance
                self.say(name, type(value).__module__, type(value).__qualname__)
                self._mapping({k: v for k, v in getattr(value, "__dict__", {}).items() if _is_plain(v)})

    def _tensor(self, tensor: Tensor) -> None:
        try:
            parts = tensor_parts(tensor)
            whole = memoryview(b"") if parts is not None or tensor.is_meta else tensor_bytes(tensor)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            found = f"a {type(tensor).__name__} that cannot be read ({str(error).splitlines()[0]})"
            raise self.refused(found, "tensors of values") from None
        if parts is None:
            self.say(tensor.dtype, tuple(tensor.shape), whole)
        else:
            self._sequence(parts)

    def _array(self, array: "np.ndarray[Any, Any]") -> None:
        self.say(array.dtype, array.shape)
        if isinstance(array, np.ma.MaskedArray):
            self.add(np.ma.getmaskarray(array))
        if array.dtype.hasobject:
            self._sequence(array.ravel().tolist())
        else:
            self.say(np.ascontiguousarray(array).tobytes())

    def _table(self, table: pd.DataFrame) -> None:
        self._sequence(
            [list(table), table.index.to_numpy(), *(table.iloc[:, k].to_numpy() for k in range(table.shape[1]))]
        )

    def _column(self, column: "pd.Series[Any] | pd.Index[Any]") -> None:
        self._sequence([column.name, column.to_numpy(), getattr(column, "index", None)])

    def _mapping(self, mapping: Mapping[Any, Any]) -> None:
        self.say(len(mapping))
        # keys without a value of their own stay in their order: their texts hold addresses
        for key in sorted(mapping, key=lambda key: (type(key).__name__, str(key) if _is_plain_value(key) else "")):
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
        named = {
            step.argval
            for code in _codes(function.__code__)
            for step in dis.get_instructions(code)
            if step.opname in _GLOBAL
        }
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
                self._mapping({k: v for k, v in vars(owner).items() if k not in _OF_EVERY_CLASS})

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
        elif (parts := _reduced(thing)) is not None:
            self._sequence(parts)
        elif callable(thing) and (name := getattr(thing, "__qualname__", getattr(thing, "__name__", None))) is not None:
            self.say(getattr(thing, "__module__", ""), name)
        elif _installed(type(thing)):
            found = f"a {type(thing).__qualname__}, of which nothing can be read"
            raise self.refused(found, "a function, a network, or an object that holds them, to keep in a folder")


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


def _reduced(thing: Any) -> list[Any] | None:
    """What pickle would keep of an object that shows nothing, as those of compiled extensions; None without that."""
    reduce = copyreg.dispatch_table.get(type(thing))
    try:
        parts: Any = reduce(thing) if reduce else thing.__reduce_ex__(2)
    except Exception:  # whatever the extension raises
        return None
    if isinstance(parts, str):
        return [parts]
    return [*parts[:3], *(list(items) for items in parts[3:5] if items is not None)]


def _is_plain_value(thing: Any) -> bool:
    """Whether the text of a thing is its value."""
    return isinstance(thing, _PLAIN) or (isinstance(thing, tuple) and all(_is_plain_value(one) for one in thing))


def _is_plain(thing: Any) -> bool:
    """Numbers, texts, functions, and nests of these."""
    if isinstance(thing, Mapping):
        return all(_is_plain(part) for pair in thing.items() for part in pair)
    if isinstance(thing, list | tuple | set | frozenset):
        return all(_is_plain(one) for one in thing)
    return isinstance(thing, (*_PLAIN, *_FUNCTIONS, np.generic, type))


def _is_ours(hook: Any) -> bool:
    """Whether this package watches a module for the time of a block; what it changes there, arms and rules say."""
    while isinstance(hook, functools.partial):
        hook = hook.func
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).partition(".")[0] == "scorescope"


def config_of(network: Any) -> dict[str, Any]:
    """The settings that diffusers and transformers keep of a network; nothing of others. Names with _ say whence."""
    config = getattr(network, "config", None)
    if not isinstance(config, Mapping):
        to_dict = getattr(config, "to_dict", None)
        config = to_dict() if callable(to_dict) else {}
    return {k: v for k, v in config.items() if not str(k).startswith("_") and not str(k).endswith("_version")}


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and those of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


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
