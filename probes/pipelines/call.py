"""One call of a denoiser: what came out of it, what it was given, and how to make it again."""

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.errors import InputError

_STATES = ("sample", "hidden_states", "latents", "x")
TIME_ARGUMENTS = ("timestep", "timesteps", "t", "time", "sigma", "timestep_ratio", "noise_level")
_NO_CONDITIONS = (*TIME_ARGUMENTS, "timestep_cond", "guidance")


@displayed
@dataclass
class Call:
    """One call of a denoiser module.

    Attributes
    ----------
    module : str
        Name of the module.
    outputs : list of Tensor
        Every tensor in what it returned, copied, in order; empty where nobody listens for them.
    label : str
        What the pipeline itself called this branch; empty where it said nothing.
    embedded : bool
        The guidance scale was an input of the network (a guidance-distilled model).
    sites : dict of list of Tensor
        Activations captured inside this call.
    inputs : dict
        The tensors and numbers that it was called with, by name; not copied. See `inputs_of`.
    visible : bool
        It was called with nothing else that may tell branches apart.
    place : int
        Which of the calls since the last step, from 0.
    repeated : bool
        It was made by us, to repeat one of the pipeline's (see `repeating`).
    network : nn.Module
        What was called; None for a prediction that is no output of a network.
    args, kwargs
        With what; held, not copied, and only where somebody makes calls again.
    context : str
        The cache context that it was made in; empty for none.
    pick : callable
        From all tensors in what the network returns to those in `outputs`.
    """

    module: str
    outputs: list[Tensor]
    label: str = ""
    embedded: bool = False
    sites: dict[str, list[Tensor]] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    visible: bool = False
    place: int = 0
    repeated: bool = False
    network: Any = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    context: str = ""
    pick: Callable[[list[Tensor]], list[Tensor]] = list

    def __post_init__(self) -> None:
        self._versions = {name: _version(value) for name, value in self.inputs.items()}

    def unedited(self) -> list[str]:
        """Names of the inputs that still are what it was called with: nobody has written into them since."""
        return [name for name, version in self._versions.items() if version == _version(self.inputs[name])]

    @property
    def rows(self) -> int:
        """Rows of the call: those of the state that it was given; 0 where that is no tensor."""
        return len(self.state) if isinstance(self.state, Tensor) and self.state.ndim else 0

    @property
    def state(self) -> Any:
        """The argument that is the state."""
        return self.named().get(self.state_argument)

    @property
    def state_argument(self) -> str:
        """The name of the state: a customary one, else the first."""
        return state_name(self.named())

    @property
    def time_argument(self) -> str:
        """The name of the argument that is the time; empty where there is none."""
        named = self.named()
        return next((name for name in TIME_ARGUMENTS if named.get(name) is not None), "")

    def named(self) -> dict[str, Any]:
        """Its arguments by name, those without one first."""
        return dict(zip(_parameters(self.network).parameters, self.args, strict=False)) | dict(self.kwargs)

    def conditions(self) -> dict[str, Tensor]:
        """The tensors among its arguments that have a row for each of the call's, but for state and time."""
        named = named_tensors((), self.named())
        state, size = self.state_argument, self.rows
        return {
            name: value
            for name, value in named.items()
            if name != state and name not in _NO_CONDITIONS and "residual" not in name and len(value) == size
        }

    @torch.no_grad()
    def again(
        self, *, network: Any = None, argument: str = "network", changes: Mapping[str, Tensor] | None = None,
        rows: slice | None = None, alone: bool = False,
    ) -> "Call":  # fmt: skip
        """The same call once more.

        Parameters
        ----------
        network : callable, optional
            What to call in place of its network.
        argument : str
            What errors call that.
        changes : mapping of str to Tensor, optional
            Conditions in place of its own, by the names of `conditions`, in these rows.
        rows : slice, optional
            None is all of them.
        alone : bool
            Call with these rows only.

        Raises
        ------
        InputError
            For a network that does not take its arguments.
        """
        network = self.network if network is None else network
        args, kwargs = self.args, dict(self.kwargs)
        if network is not self.network:
            _check_takes(network, args, kwargs, argument)
        for name, value in (changes or {}).items():
            outer, *inner = name.split(".", 1)
            if outer in kwargs:
                kwargs = _replaced(kwargs, (outer, *inner), value, rows)
            else:
                args = _replaced(args, (list(self.named()).index(outer), *inner), value, rows)
        if alone and rows is not None:
            args, kwargs = _cut(args, rows, self.rows), _cut(kwargs, rows, self.rows)
        context = getattr(network, "cache_context", None) if self.context else None
        with repeating(network), nullcontext() if context is None else context(self.context):
            outputs = self.pick(leaves(network(*args, **kwargs)))
        return Call(self.module, [leaf.detach() for leaf in outputs], self.label)


def state_name(names: Collection[str]) -> str:
    """Which of the arguments of a denoiser is the state: one of a customary name, else the first."""
    return next((name for name in _STATES if name in names), next(iter(names), ""))


def leaves(output: Any) -> list[Tensor]:
    """All tensors in an output: tensors, lists, tuples, mappings and dataclasses, nested as they come."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [leaf for value in output.values() for leaf in leaves(value)]
    if isinstance(output, list | tuple):
        return [leaf for value in output for leaf in leaves(value)]
    if is_dataclass(output) and not isinstance(output, type):
        return [leaf for part in fields(output) for leaf in leaves(getattr(output, part.name))]
    return []


def is_compiled(module: torch.nn.Module) -> bool:
    """True for a module compiled as a whole: `torch.compile(module)` or `module.compile()`."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


_REPEATED = "_scorescope_repeated"


@contextmanager
def repeating(network: Any) -> Iterator[None]:
    """Calls of `network` made inside repeat one of the pipeline's: recordings do not take them for branches."""
    if not isinstance(network, torch.nn.Module):
        yield
        return
    network.__dict__[_REPEATED] = True
    try:
        yield
    finally:
        network.__dict__.pop(_REPEATED, None)


def is_repeated(module: torch.nn.Module) -> bool:
    """True during a call that `repeating` announced."""
    return _REPEATED in module.__dict__


def embeds_guidance(arguments: Mapping[str, Any]) -> bool:
    """True where a denoiser was called with an embedded guidance scale."""
    return any(arguments.get(name) is not None for name in ("guidance", "timestep_cond"))


def named_tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the arguments of a call, and in mappings among them."""
    named = {str(place): value for place, value in enumerate(args)} | dict(kwargs)
    nested = {
        f"{name}.{key}": inner
        for name, value in named.items()
        if isinstance(value, Mapping)
        for key, inner in value.items()
    }
    return {name: value for name, value in (named | nested).items() if isinstance(value, Tensor) and value.ndim}


def inputs_of(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The tensors and numbers that a module is called with, by name; and whether there is nothing else.

    Those without a name have that of the parameter, and those in mappings and sequences the names on their way,
    joined by a dot. Numbers in sequences are not looked at.
    """
    parameters = _positional(type(module).forward)
    found: dict[str, Any] = {}
    places = [parameters[place] if place < len(parameters) else str(place) for place in range(len(args))]
    visible = [_gather(found, name, value) for name, value in (*zip(places, args, strict=True), *kwargs.items())]
    return found, all(visible)


def _gather(found: dict[str, Any], name: str, value: Any) -> bool:
    if isinstance(value, Tensor | bool | int | float):
        found[name] = value
        return True
    if isinstance(value, Mapping):
        return all([_gather(found, f"{name}.{key}", inner) for key, inner in value.items()])
    if isinstance(value, list | tuple):
        inner = [(place, one) for place, one in enumerate(value) if isinstance(one, Tensor | Mapping | list | tuple)]
        return all([len(inner) == len(value), *(_gather(found, f"{name}.{place}", one) for place, one in inner)])
    return value is None or isinstance(value, str | torch.dtype)


@functools.cache
def _positional(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters that a module's method takes without a name."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(one.name for one in parameters if one.kind in kinds)[1:]


def _version(value: Any) -> int:
    """How often a tensor was written into; tensors of inference mode do not count that."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def time_of(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """What a denoiser is given as its timestep, or None."""
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
    except TypeError:
        return None
    return next((bound[name] for name in TIME_ARGUMENTS if bound.get(name) is not None), None)


def _parameters(network: Any) -> inspect.Signature:
    return inspect.signature(network.forward if isinstance(network, nn.Module) else network)


def _check_takes(network: Any, args: Sequence[Any], kwargs: Mapping[str, Any], argument: str) -> None:
    try:
        _parameters(network).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        expected = "a network that is called with the same arguments as the pipeline's"
        raise InputError(argument, found=f"{type(network).__name__} ({error})", expected=expected) from None


def _replaced(whole: Any, path: Sequence[Any], value: Tensor, rows: slice | None) -> Any:
    """A copy of nested mappings and tuples with the rows of one tensor replaced."""
    if not path:
        changed = whole.clone()
        changed[slice(None) if rows is None else rows] = value.to(whole)
        return changed
    inner = _replaced(whole[path[0]], path[1:], value, rows)
    if isinstance(whole, Mapping):
        return {**whole, path[0]: inner}
    return (*whole[: path[0]], inner, *whole[path[0] + 1 :])


def _cut(value: Any, rows: slice, size: int) -> Any:
    """The rows of every tensor that has so many."""
    if isinstance(value, Tensor):
        return value[rows] if value.ndim and len(value) == size else value
    if isinstance(value, dict):
        return {key: _cut(one, rows, size) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_cut(one, rows, size) for one in value)
    return value
