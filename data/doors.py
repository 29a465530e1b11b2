"""The check at the door of public functions: what is passed against the types that the signature names.

    @checked
    def sample(denoiser: Denoiser, *, seeds: Sequence[int], rule: Rule | None = None) -> Run: ...

    sample(denoiser, seeds=4)       # InputError: seeds: found 4 (int); expected a sequence of whole numbers

The signature is the one place that says what is accepted; mypy holds callers to it, this check everybody else. It is
as wide as use is: numbers of numpy are numbers, a list is a tuple, an array is a sequence. What a value means, its
range or its shape, is left to the function.
"""

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.data.annotations import Kind, kind_of
from scorescope.data.errors import InputError

Made = TypeVar("Made", bound=Callable[..., Any])


def checked(made: Made) -> Made:
    """Check the arguments of a function, or those that a class is made from, each time; the signature stays.

    Raises
    ------
    InputError
        When called, where an argument is of no type that its parameter names.
    """
    if isinstance(made, type):
        made.__init__ = checked(made.__init__)  # type: ignore[misc]
        return made

    @functools.wraps(made)
    def at_the_door(*args: Any, **kwargs: Any) -> Any:
        door = _door(made)
        for name, value in door.named(args, kwargs):
            kind = door.kinds.get(name)
            if kind is not None and not kind.accepts(value):
                raise InputError(name, found=describe_value(value), expected=kind.words)
        return made(*args, **kwargs)

    return at_the_door  # type: ignore[return-value]


def require_some(argument: str, items: Sized) -> None:
    """Refuse a collection that holds nothing."""
    if not len(items):
        raise InputError(argument, found="nothing in it", expected="at least one")


def require_members(argument: str, value: object, *names: str, expected: str) -> None:
    """Refuse an object of somebody else's class that does not have what is needed of it."""
    if isinstance(value, type) or not all(hasattr(value, name) for name in names):
        raise InputError(argument, found=describe_value(value), expected=expected)


def require_returned(argument: str, value: object, annotation: Any) -> None:
    """Refuse what a function of somebody else's returned, where it is of no type that the annotation names."""
    kind = kind_of(annotation)
    if kind is not None and not kind.accepts(value):
        raise InputError(argument, found=f"{describe_value(value)} in return", expected=kind.words)


def describe_value(value: object) -> str:
    """What was found, in a few words: a short value itself, the shape of a long one."""
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, Tensor | np.ndarray):
        kind = "a torch tensor" if isinstance(value, Tensor) else "a numpy array"
        return f"{kind} of shape {tuple(value.shape)}"
    if isinstance(value, pd.DataFrame):
        return f"a DataFrame of {len(value)} rows"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | bytes | int | float | complex | list | tuple | dict | set | range):
        return f"{_short(value)} ({type(value).__name__})"
    return f"an object of type {type(value).__name__}"


class _Door(NamedTuple):
    name: str
    places: tuple[str, ...]  # parameters that may be given by place
    rest: str  # the parameter that takes more of them, if there is one
    kinds: dict[str, Kind]  # of parameters that are not anything at all

    def named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        yield from zip(self.places, args, strict=False)
        yield from kwargs.items()
        if len(args) > len(self.places):
            yield from self._more(args[len(self.places) :])

    def _more(self, args: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        if not self.rest:
            fitting = [name for name, kind in self.kinds.items() if name not in self.places and kind.accepts(args[0])]
            such = f", as {' or '.join(f'{name}=' for name in fitting)}" if 0 < len(fitting) < 4 else ""
            raise InputError(self.name, found=f"{describe_value(args[0])} by place", expected=f"it by name{such}")
        yield from ((self.rest, value) for value in args)


@functools.cache
def _door(function: Callable[..., Any]) -> _Door:
    """What a function accepts; read when it is first called, when every name in its annotations is known."""
    parameters = inspect.signature(function).parameters.values()
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = tuple(one.name for one in parameters if one.kind in by_place)
    rest = next((one.name for one in parameters if one.kind is inspect.Parameter.VAR_POSITIONAL), "")
    kinds = {name: kind_of(hint) for name, hint in _hints(function).items()}
    told = {name: kind for name, kind in kinds.items() if kind is not None}
    return _Door(function.__qualname__.removesuffix(".__init__"), places, rest, told)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    whole = inspect.unwrap(function)
    hints = inspect.get_annotations(whole, eval_str=True)
    return {name: hint for name, hint in hints.items() if name != "return"}


def _short(value: object) -> str:
    shortened = reprlib.Repr()
    shortened.maxstring = shortened.maxother = 60
    return shortened.repr(value)
