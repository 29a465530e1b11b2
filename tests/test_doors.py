"""Every public function and class, called with a wrong type for each parameter, answers with one sentence of ours.

What is given for the other parameters is made by the table below, by the name or by the type of a parameter: it is of
the right type and no more, because the check at the door comes first.
"""

import collections.abc
import inspect
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from scorescope.data import InputError
from tests.house import read_house

# what is called by nobody from outside, or takes anything
NOT_CALLED = {
    "Call": "made by the engine at every call of a denoiser",
    "Condition": "what a user's condition has to be, no class of ours",
    "GuidanceState": "made by the sampler at every step",
    "Listener": "a base class without parameters",
    "StepEvent": "made by the engine at every step",
    "main": "the command line",
}
WRONG = (None, "text", 3, object(), [object()])


def public():
    """Every public function and class by its full name, once."""
    found = {}
    for wing in read_house().in_order():
        module = __import__(f"scorescope.{wing.name}", fromlist=["_"])
        for name in module.__all__:
            made = getattr(module, name)
            is_type = inspect.isclass(made) and not getattr(made, "_is_protocol", False)
            if inspect.isfunction(made) or (is_type and not issubclass(made, Exception)):
                found.setdefault(made, f"{wing.name}.{name}")
    return {name: made for made, name in found.items() if name.rpartition(".")[2] not in NOT_CALLED}


PUBLIC = public()


def parameters(made):
    """Parameters of a callable, each with its annotation as an object."""
    whole = made.__init__ if inspect.isclass(made) else made
    annotations = inspect.get_annotations(inspect.unwrap(whole), eval_str=True)
    shown = inspect.signature(made).parameters.values()
    return {one.name: one.replace(annotation=annotations.get(one.name, Any)) for one in shown}


def parts(annotation):
    """The members of a union; `ArrayLike` stays whole."""
    members = (
        typing.get_args(annotation) if typing.get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    )
    arrays = set(typing.get_args(ArrayLike))
    if arrays <= set(members):
        members = (ArrayLike, *(member for member in members if member not in arrays))
    return members


def takes_anything(annotation):
    return any(part in (Any, object) or isinstance(part, typing.TypeVar) for part in parts(annotation))


def is_wrong(value, annotation):
    """Whether a value is of no type that an annotation names; in words of its own, not in those of the check."""
    members = [typing.get_origin(part) or part for part in parts(annotation)]
    if value is None:
        return None not in members and type(None) not in members
    if isinstance(value, str):
        return not {str, Path, Literal} & set(members)
    if isinstance(value, int):
        return not {int, float, bool, Literal} & set(members)
    if isinstance(value, list):
        untyped = {tuple, list, collections.abc.Sequence, collections.abc.Iterable} & set(parts(annotation))
        loose = [part for part in parts(annotation) if part is ArrayLike or typing.get_args(part)[:1] == (Any,)]
        return not untyped and not loose
    return True


class Weak(nn.Module):
    shape, branches, weight = (1, 8, 8), staticmethod(lambda state: ("cond",)), 1.0

    def forward(self, *args: Any) -> Any:
        return args[0]

    step = run = forward
    name, calls = "mine", 1


def make(annotation):
    """Something of the type that an annotation names."""
    part = parts(annotation)[0]
    origin, args = typing.get_origin(part) or part, typing.get_args(part)
    known = {
        str: "text", int: 1, float: 1.0, bool: False, Path: Path("nowhere"), Tensor: torch.zeros(2, 1, 8, 8),
        np.ndarray: np.zeros(3), pd.DataFrame: pd.DataFrame(), Figure: None, ArrayLike: np.zeros((3, 2)),
        torch.dtype: torch.float32, torch.device: torch.device("cpu"),
    }  # fmt: skip
    if part in known or origin in known:
        return Figure() if origin is Figure else known.get(part, known.get(origin))
    if takes_anything(part) or part is type(None):
        return None
    if origin is Literal:
        return args[0]
    if origin is collections.abc.Callable or getattr(origin, "_is_protocol", False):
        return Weak()
    if origin is tuple:
        return tuple(make(arg) for arg in args if arg is not Ellipsis)
    if issubclass(origin, collections.abc.Mapping):
        return {make(args[0]): make(args[1])} if args else {}
    if issubclass(origin, collections.abc.Iterable) and args:
        return [make(args[0])]
    return str if origin is type else origin.__new__(origin)


CASES = [
    (name, parameter, value)
    for name, made in PUBLIC.items()
    for parameter, one in parameters(made).items()
    for value in WRONG
    if one.kind is not inspect.Parameter.VAR_KEYWORD
    and is_wrong(value, one.annotation)
    and not takes_anything(one.annotation)
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_wrong_type_is_answered_by_the_name_of_its_parameter(name):
    made, given = PUBLIC[name], parameters(PUBLIC[name])
    needed = {one: make(about.annotation) for one, about in given.items() if about.default is about.empty}
    fixed = {one: value for one, value in needed.items() if given[one].kind not in (2, 4)}
    for parameter, value in [(parameter, value) for of, parameter, value in CASES if of == name]:
        by_place = given[parameter].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        args = [*fixed.values(), value] if by_place else []
        with pytest.raises(InputError) as error:
            made(*args, **({} if by_place else fixed | {parameter: value}))
        assert error.value.argument == parameter and error.value.found and error.value.expected, str(error.value)
