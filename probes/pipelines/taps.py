"""The two taps: a hook on each denoiser module, and a wrapper on the scheduler's `step`.

Both are removed by handle. What other people have hooked or wrapped stays, in whatever order things leave.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError

_PREDICTION = ("model_output", "noise_pred", "model_pred", "prediction", "pred", "output", "eps", "velocity")
_STATE = ("sample", "latents", "latent", "x", "x_t", "xt", "sample_hat", "state")
_TIME = ("timestep", "timesteps", "t", "sigma", "sigma_hat", "time")


@dataclass
class Call:
    """One call of a denoiser module.

    Attributes
    ----------
    module : str
        Name of the module.
    outputs : list of Tensor
        Every tensor in what it returned, copied, in order.
    label : str
        What the pipeline itself called this branch; empty where it said nothing.
    embedded : bool
        The guidance scale was an input of the network (a guidance-distilled model).
    sites : dict of list of Tensor
        Activations captured inside this call.
    inputs : dict of Tensor
        What it was called with, as far as that is tensors with a name or place of their own; not copied.
    place : int
        Which of the calls since the last step, from 0.
    """

    module: str
    outputs: list[Tensor]
    label: str = ""
    embedded: bool = False
    sites: dict[str, list[Tensor]] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    place: int = 0


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


def remove_instance_attribute(owner: Any, name: str, value: Any, before: Any) -> None:
    """Put `before` back where `owner.name` is still our `value`; None deletes the instance attribute."""
    if owner.__dict__.get(name) is not value:
        return
    if before is None:
        del owner.__dict__[name]
    else:
        owner.__dict__[name] = before


class StepTap:
    """Stands in for one scheduler's bound `step`.

    A deep copy of a scheduler has a tap of its own, bound to the copy. Copying only its `__dict__`, to restore it
    later, keeps this tap, so that both keep working on the state that they should. So does `copy.copy`, which gives
    a scheduler whose `step` is that of the original. After its session has ended a tap passes every call through.
    """

    def __init__(
        self, owner: Any, below: Callable[..., Any], replaced: Any, listener: "Listener", root: Any = None
    ) -> None:
        functools.update_wrapper(self, below)
        self.owner, self.below, self.replaced, self.listener = owner, below, replaced, listener
        self.root = owner if root is None else root  # the scheduler that this one was copied from
        self.signature = inspect.signature(below)
        self.returns_x0 = may_return_x0(below)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Step, and tell the listener."""
        return self.listener.on_step(self, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StepTap":
        owner = memo.get(id(self.owner))
        if owner is None:
            return self
        below, replaced = self.below, self.replaced
        if isinstance(below, StepTap):
            below = replaced = below.__deepcopy__(memo)
        elif isinstance(below, types.MethodType) and below.__self__ is self.owner:
            below = types.MethodType(below.__func__, owner)
        copy = StepTap(owner, below, replaced, self.listener, self.root)
        self.listener.on_copy(self, copy)
        return copy

    def remove(self) -> None:
        """Leave: restore what was there, or unlink from below wrappers of other recordings."""
        top = self.owner.__dict__.get("step")
        if top is self:
            remove_instance_attribute(self.owner, "step", self, self.replaced)
            return
        while isinstance(top, StepTap):
            if top.below is self:
                top.below, top.replaced = self.below, self.replaced
                return
            top = top.below


class Listener:
    """What a tap reports to (a recording session)."""

    def on_step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A step was asked for; has to call `tap.below` and return what it returns."""
        raise NotImplementedError

    def on_copy(self, tap: StepTap, copy: StepTap) -> None:
        """A tapped scheduler was copied."""
        raise NotImplementedError


def tap_step(scheduler: Any, listener: Listener) -> StepTap:
    """Put a tap on `scheduler.step`."""
    tap = StepTap(scheduler, scheduler.step, scheduler.__dict__.get("step"), listener)
    scheduler.__dict__["step"] = tap
    return tap


@dataclass(frozen=True)
class StepArguments:
    """The arguments of one `step`, by meaning."""

    prediction: Tensor
    timestep: Any
    state: Tensor
    extra: dict[str, Any]


def step_arguments(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any], known: set[int]
) -> StepArguments:
    """Tell prediction, timestep and state apart, whatever their order and names.

    Parameters
    ----------
    signature : Signature
        Of the scheduler's own `step`.
    args, kwargs
        Of this call.
    known : set of int
        Memory addresses of earlier states and denoiser inputs: settles names that say nothing.

    Raises
    ------
    InputError
        Where it cannot be told which argument is which.
    """
    found = _by_name(signature, args, kwargs)
    prediction, state, time = (_first(found, names) for names in (_PREDICTION, _STATE, _TIME))
    tensors = {
        name: value
        for name, value in found.items()
        if isinstance(value, Tensor) and value.ndim > 1 and name not in (prediction, state, time)
    }
    if state is None:
        state = next((name for name, value in tensors.items() if value.data_ptr() in known), None)
        tensors.pop(state or "", None)
    if prediction is None and tensors:
        prediction = next(iter(tensors))
        tensors.pop(prediction)
    if state is None and tensors:
        state = next(iter(tensors))
    if time is None:
        time = next((n for n, v in found.items() if isinstance(v, int | float) or _is_scalar(v)), None)
    if prediction is None or state is None or not isinstance(found[prediction], Tensor):
        raise InputError(
            "scheduler.step",
            found=f"arguments {', '.join(found)}",
            expected="a prediction and a state among them, for instance step(model_output, timestep, sample)",
        )
    rest = {name: value for name, value in found.items() if name not in (prediction, state, time)}
    return StepArguments(found[prediction], None if time is None else found[time], found[state], rest)


def _by_name(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs).arguments
    named: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named |= {f"{name}{place}": part for place, part in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = value
    return named


def _first(found: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if found.get(name) is not None), None)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim <= 1


_ESTIMATE = ("pred_original_sample", "denoised")


def may_return_x0(step: Callable[..., Any]) -> bool:
    """False where the output class that `step` is annotated with has something else in its second place (TCD)."""
    try:
        annotation = typing.get_type_hints(inspect.unwrap(step)).get("return")
    except (NameError, TypeError, AttributeError):  # names that are known to type checkers only, no function
        return True
    kinds = [kind for kind in (annotation, *typing.get_args(annotation)) if isinstance(kind, type)]
    named = [[part.name for part in fields(kind)] for kind in kinds if is_dataclass(kind)]
    return not named or any(name in _ESTIMATE for names in named for name in names[1:2])


def step_results(result: Any, like: Tensor, *, second: bool = True) -> tuple[Tensor | None, Tensor | None]:
    """The new state and, where the scheduler returns one, its own estimate of x0.

    Parameters
    ----------
    result
        What `step` returned.
    like : Tensor, shape (batch, *shape)
        The state before the step; an estimate has its shape.
    second : bool
        Take what stands after the state in a tuple for the estimate; see `may_return_x0`.
    """
    if isinstance(result, Tensor):
        return result, None
    named = {name: getattr(result, name, None) for name in ("prev_sample", *_ESTIMATE)}
    if isinstance(named["prev_sample"], Tensor):
        estimate = next((named[name] for name in _ESTIMATE if named[name] is not None), None)
        return named["prev_sample"], estimate if _shaped(estimate, like) else None
    found = leaves(result)
    state = found[0] if found else None
    estimate = found[1] if second and len(found) > 1 else None
    return state, estimate if _shaped(estimate, like) else None


def _shaped(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape and value.is_floating_point()
