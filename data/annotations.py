"""What an annotation accepts, and how a sentence calls it: for the check at the door.

kind_of(Sequence[int] | None)      # accepts range(4) and None; "a sequence of whole numbers or None"
"""

import collections.abc
import inspect
import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor


class Kind(NamedTuple):
    """What a parameter accepts.

    Attributes
    ----------
    words : str
        One of it, for an error: "a whole number".
    many : str
        Several of it: "whole numbers".
    accepts : callable
        Whether a value is of the kind.
    """

    words: str
    many: str
    accepts: Callable[[Any], bool]


def kind_of(annotation: Any) -> Kind | None:
    """The kind that an annotation names; None where it names nothing that can be told from a value."""
    if annotation is None or annotation is NoneType:
        return Kind("None", "None", lambda value: value is None)
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType):
        return _one_of(parts)
    if origin is Literal:
        words = " or ".join(map(str, parts)) if len(parts) < 3 else f"one of {', '.join(map(str, parts))}"
        return Kind(words, words, lambda value: isinstance(value, str | int) and value in parts)
    if origin in _KNOWN:
        return _KNOWN[origin]
    if origin is collections.abc.Callable:
        return Kind("a function", "functions", callable)
    if not inspect.isclass(origin) or origin in (Any, object):
        return None
    if getattr(origin, "_is_protocol", False):
        return _protocol(origin)
    if issubclass(origin, Mapping):
        return _mapping(*parts)
    if issubclass(origin, collections.abc.Iterable) and parts:
        return _items(origin, parts)
    article = "an" if origin.__name__[0] in "AEIOU" else "a"
    return Kind(f"{article} {origin.__name__}", f"{origin.__name__} objects", lambda value: isinstance(value, origin))


def _one_of(parts: Sequence[Any]) -> Kind | None:
    """Any of several kinds."""
    if set(get_args(ArrayLike)) <= set(parts):
        parts = [_Array, *(part for part in parts if part not in get_args(ArrayLike))]
    kinds = [kind_of(part) for part in parts]
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        return None
    words, many = ([kind.words for kind in known], [kind.many for kind in known])
    one, several = (" or ".join(dict.fromkeys(texts)) for texts in (words, many))
    return Kind(one, several, lambda value: any(kind.accepts(value) for kind in known))


def _protocol(protocol: type) -> Kind:
    """What has the members of a protocol; a class is not one of its own objects."""
    bases = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in bases for name in vars(base) if not name.startswith("_") or name == "__call__"}
    about = (inspect.getdoc(protocol) or "").split("\n")[0].rstrip(".")
    words = f"a {protocol.__name__} ({about[:1].lower()}{about[1:]})"
    has_all = lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names)  # noqa: E731
    return Kind(words, f"{protocol.__name__}s", has_all)


def _mapping(key: Any = Any, value: Any = Any) -> Kind:
    keys, values = kind_of(key), kind_of(value)
    words = f"a mapping of {keys.many if keys else 'names'} to {values.many if values else 'anything'}"
    return Kind(
        words, words.replace("a mapping", "mappings"),
        lambda given: _is_mapping(given) and _all_are(keys, given) and _all_are(values, _values_of(given)),
    )  # fmt: skip


def _is_mapping(given: Any) -> bool:
    """A table of columns by name is as good."""
    return isinstance(given, Mapping | pd.DataFrame)


def _values_of(given: Any) -> list[Any]:
    return [given[key] for key in given]


def _items(origin: type, parts: Sequence[Any]) -> Kind:
    """A sequence or what else is gone through; a tuple of so many where the annotation counts them."""
    counted = origin is tuple and parts[-1] is not Ellipsis
    if counted:
        kinds = [kind_of(part) for part in parts]
        words = "a tuple (" + ", ".join(kind.words if kind else "anything" for kind in kinds) + ")"
        return Kind(words, words.replace("a tuple", "tuples"), lambda given: _are(kinds, given))
    item = kind_of(parts[0])
    sized = issubclass(origin, collections.abc.Collection)
    words = f"a sequence of {item.many}" if item else "a sequence"
    accepts = lambda given: _is_many(given, sized) and _hold(item, given)  # noqa: E731
    return Kind(words, words.replace("a sequence", "sequences"), accepts)


def _is_many(given: Any, sized: bool) -> bool:
    kind = collections.abc.Collection if sized else collections.abc.Iterable
    scalar = isinstance(given, Tensor | np.ndarray) and given.ndim == 0
    return isinstance(given, kind) and not scalar and not isinstance(given, str | bytes | Mapping | pd.DataFrame)


def _hold(kind: Kind | None, given: Any) -> bool:
    """Whether what a list or tuple holds is of a kind; other collections are not gone through."""
    return not isinstance(given, list | tuple) or _all_are(kind, given)


def _are(kinds: Sequence[Kind | None], given: Any) -> bool:
    if not _is_many(given, True) or len(given) != len(kinds):
        return False
    return not isinstance(given, list | tuple) or all(
        kind is None or kind.accepts(item) for kind, item in zip(kinds, given, strict=True)
    )


def _all_are(kind: Kind | None, items: Any) -> bool:
    return kind is None or all(map(kind.accepts, items))


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) or _is_scalar(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) or (_is_scalar(value) and hasattr(value, "__index__"))


def _is_scalar(value: object) -> bool:
    return isinstance(value, Tensor | np.ndarray) and value.ndim == 0


def _is_array(value: object) -> bool:
    """What numpy makes an array of: no single value, no text."""
    return hasattr(value, "__array__") or _is_many(value, True)


class _Array:
    """Stands for `ArrayLike`, which is a union of what numpy understands."""


_KNOWN = {
    bool: Kind("True or False", "of True or False", lambda value: isinstance(value, numbers.Integral | np.bool_)),
    int: Kind("a whole number", "whole numbers", _is_whole),
    float: Kind("a number", "numbers", _is_number),
    str: Kind("a str", "str", lambda value: isinstance(value, str)),
    Path: Kind("a path", "paths", lambda value: isinstance(value, str | os.PathLike)),
    Tensor: Kind("a torch tensor", "torch tensors", lambda value: isinstance(value, Tensor)),
    np.ndarray: Kind("a numpy array", "numpy arrays", lambda value: hasattr(value, "__array__")),
    _Array: Kind("an array", "arrays", _is_array),
    pd.DataFrame: Kind("a pandas DataFrame", "DataFrames", lambda value: isinstance(value, pd.DataFrame)),
    torch.device: Kind("a torch device", "torch devices", lambda value: isinstance(value, torch.device)),
}
