"""Which of the tensors that a module puts out is meant: by default that of the image, found from the module itself.

    call = ModuleCall(block, args, kwargs, output)           # a forward hook's
    call.output_of("blocks.0")                               # output 1 of 2, hidden_states
    call.output_of("blocks.0", wanted=0)                     # output 0 of 2, encoder_hidden_states

Blocks that carry text beside the image return both, some the text first (SD3, Flux), some the image (CogVideoX). Two
things tell them apart: the names in the block's own return statement, and that a block keeps the number of tokens.
"""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import leaves
from scorescope.probes.sites.watched_tensor import plain

Outputs = int | Mapping[str, int] | None
"""Which output is asked for: one of all sites, by site, or that of the image."""

_IMAGE = ("hidden_states", "sample", "x")
"""What blocks call the image, or the video; text is `encoder_hidden_states`, `context`, ..."""


@checked
@dataclass(frozen=True)
class Output:
    """One of the tensors that a module puts out.

    Attributes
    ----------
    place : int
        Which of them, from 0, in the order in which they come; what is None has no place.
    count : int
        How many there are.
    name : str
        What the module's own code calls it; empty where that is not known.
    """

    place: int
    count: int
    name: str = ""

    def __str__(self) -> str:
        called = f", {self.name}" if self.name else ""
        return f"output {self.place} of {self.count}{called}" if self.count > 1 else "its only output"


@displayed
@dataclass(frozen=True, eq=False)
class ModuleCall:
    """A call of an inner module that has just returned."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any

    def output_of(self, site: str, wanted: int | None = None) -> Output:
        """The output that is meant.

        Parameters
        ----------
        site : str
            What errors call the module.
        wanted : int, optional
            Which one; by default the only one, else that of the image.

        Raises
        ------
        InputError
            For a module that puts out no tensor, or fewer; and where nothing tells which one is the image's, naming
            the shapes.
        """
        tensors = leaves(self.output)
        if not tensors:
            raise InputError("site", found=f"{site!r}, which puts out no tensor", expected="a module with a tensor")
        if len(tensors) == 1 and not wanted:
            return Output(0, 1)
        wanted = self._image() if wanted is None else wanted
        if wanted is None:
            found = f"{site!r} ({type(self.module).__name__}), which puts out {_shapes(tensors)}"
            raise InputError("output", found=found, expected="output=, for nothing tells which of them is the image's")
        if wanted >= len(tensors):
            found = f"{site!r}, output {wanted}, of {_shapes(tensors)}"
            raise InputError("output", found=found, expected="a module that puts out so many tensors")
        _, name = self._parts().get(wanted, (None, ""))
        return Output(wanted, len(tensors), name)

    def tensor_of(self, output: Output) -> Tensor:
        """That tensor, an ordinary one where it is watched."""
        return plain(leaves(self.output)[output.place])

    def passed_on(self) -> Any:
        """What the module would put out if it did nothing: each tensor as the module was given it.

        Raises
        ------
        InputError
            For a module that puts out what it was not given: another shape, or several tensors of other names.
        """
        given = _tensors_given(self.module, self.args, self.kwargs)
        if isinstance(self.output, Tensor):
            image = _image_given(self.module, self.args, self.kwargs)
            found = [image] if image is not None else [one for one in given.values() if one.shape == self.output.shape]
            if len(found) == 1 and found[0].shape == self.output.shape:
                return found[0]
            raise self._changes_what_it_was_given()
        parts, names = _named_parts(self.output)
        names = names or self._returned_names(len(parts))
        passed = [None if part is None else given.get(name) for part, name in itertools.zip_longest(parts, names)]
        if not isinstance(self.output, tuple) or any(map(_differ, parts, passed)):
            raise self._changes_what_it_was_given()
        return tuple(passed)

    def _changes_what_it_was_given(self) -> InputError:
        shapes = _shapes(leaves(self.output))
        expected = "a module that puts out the tensors that it was given, by the same names and of the same shapes"
        return InputError("sites", found=f"a {type(self.module).__name__}, which puts out {shapes}", expected=expected)

    def _image(self) -> int | None:
        """The place of the image among several tensors; None where the evidence is missing or contradicts itself.

        Tensors of an inner tuple (the residuals of a UNet's block) are not asked: one of them may have the shape of
        what went in, where what goes on has been resampled.
        """
        given = _image_given(self.module, self.args, self.kwargs)
        parts = self._parts()
        alike = [place for place, (one, _) in parts.items() if given is not None and one.shape == given.shape]
        named = [place for place, (_, name) in parts.items() if name in _IMAGE]
        if len(named) == 1:
            return named[0] if not alike or named[0] in alike else None
        return alike[0] if len(alike) == 1 and not named else None

    def _parts(self) -> dict[int, tuple[Tensor, str]]:
        """The outermost tensors and their names, by place; names by the output itself, or by the return statements.

        Where there are several return statements of so many parts, a name is one that all of them agree on.
        """
        parts, names = _named_parts(self.output)
        names = names if any(names) else self._returned_names(len(parts))
        found, place = {}, 0
        for part, name in itertools.zip_longest(parts, names, fillvalue=""):
            if isinstance(part, Tensor):
                found[place] = part, name
            place += len(leaves(part))
        return found

    def _returned_names(self, count: int) -> list[str]:
        """What the return statements of so many parts call them; "" where they do not agree."""
        fitting = [returned for returned in _returned(self.module) if len(returned) == count]
        return [same.pop() if len(same := set(alike)) == 1 else "" for alike in zip(*fitting, strict=True)]


@displayed
@dataclass
class OutputsRead:
    """Which output each site was read from: the same in all calls.

    Attributes
    ----------
    wanted : int, mapping of str to int, or None
        Those that were asked for: one of all sites, or by site.
    found : dict of str to Output
        By site, once it was called.
    """

    wanted: Outputs = None
    found: dict[str, Output] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for one in self.wanted.values() if isinstance(self.wanted, Mapping) else [self.wanted]:
            checked_output(one)

    def take(self, site: str, call: ModuleCall) -> Tensor:
        """What the site has put out; `InputError` as in `ModuleCall.output_of`, and for another one than before."""
        wanted = self.wanted.get(site) if isinstance(self.wanted, Mapping) else self.wanted
        output = call.output_of(site, wanted)
        check_same(site, self.found.setdefault(site, output), output)
        return call.tensor_of(output)


def check_same(site: str, earlier: Output, now: Output, *, before: str = "before") -> None:
    """Raise `InputError` unless both are the same output of a site; `before` says where it was the earlier one."""
    if (earlier.place, earlier.name) != (now.place, now.name):
        raise InputError("output", found=f"{now}, at {site!r}", expected=f"{earlier}, as {before}")


def checked_output(output: int | None) -> int | None:
    """An output as it is asked for; `InputError` unless it is a number from 0, or None."""
    if output is not None and (isinstance(output, bool) or not isinstance(output, Integral) or output < 0):
        expected = "None (that of the image), or a number from 0"
        raise InputError("output", found=repr(output), expected=expected)
    return None if output is None else int(output)


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{place}: {tuple(one.shape)}" for place, one in enumerate(tensors))


def _image_given(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What the module was given as the image."""
    given = _tensors_given(module, args, kwargs)
    return next((given[name] for name in _IMAGE if name in given), None)


def _tensors_given(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that the module was given, by the names of its parameters."""
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in bound.items() if isinstance(value, Tensor)}


def _differ(part: Any, passed: Any) -> bool:
    """Whether a tensor could not stand in the place of a part."""
    return part is not passed and not (isinstance(part, Tensor) and passed is not None and part.shape == passed.shape)


def _named_parts(output: Any) -> tuple[list[Any], list[str]]:
    """The parts of an output, and their names where it is a mapping or a data class."""
    if isinstance(output, Mapping):
        return list(output.values()), [str(name) for name in output]
    if is_dataclass(output) and not isinstance(output, type):
        names = [part.name for part in fields(output)]
        return [getattr(output, name) for name in names], names
    return (list(output), []) if isinstance(output, list | tuple) else ([output], [])


def _returned(module: nn.Module) -> list[list[str]]:
    """For each return statement of a module's forward, the names of what it returns, "" for what has none.

    A module that returns what a part of it does (an attention's processor) is read there.
    """
    found: list[list[str]] = []
    for value in _return_values(module.forward):
        if isinstance(value, ast.Tuple):
            found.append([part.id if isinstance(part, ast.Name) else "" for part in value.elts])
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            inner = getattr(module, value.func.attr, None) if ast.unparse(value.func.value) == "self" else None
            if isinstance(inner, nn.Module):
                found += _returned(inner)
            elif inner is not None and not inspect.isroutine(inner) and callable(inner):
                values = _return_values(type(inner).__call__)
                tuples = [one for one in values if isinstance(one, ast.Tuple)]
                found += [[part.id if isinstance(part, ast.Name) else "" for part in one.elts] for one in tuples]
    return found


def _return_values(function: Callable[..., Any]) -> tuple[ast.expr, ...]:
    below = inspect.unwrap(function)
    return _parsed(getattr(below, "__func__", below))


@functools.lru_cache(maxsize=1024)
def _parsed(function: Callable[..., Any]) -> tuple[ast.expr, ...]:
    """What a function's own return statements return; empty where its source is not there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return ()
    inner = [part for part in ast.walk(tree) if isinstance(part, ast.FunctionDef | ast.Lambda)][1:]
    nested = {part for one in inner for part in ast.walk(one)}
    returns = (part for part in ast.walk(tree) if isinstance(part, ast.Return) and part not in nested)
    return tuple(part.value for part in returns if part.value is not None)
