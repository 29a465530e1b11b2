"""The arguments and results of a scheduler's `step`, told apart by meaning, whatever their order and names."""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import leaves

_PREDICTION = ("model_output", "noise_pred", "model_pred", "prediction", "pred", "output", "eps", "velocity")
_STATE = ("sample", "latents", "latent", "x", "x_t", "xt", "sample_hat", "state")
_TIME = ("timestep", "timesteps", "t", "sigma", "sigma_hat", "time")


@displayed
@dataclass(frozen=True)
class StepArguments:
    """The arguments of one `step`, by meaning."""

    prediction: Tensor
    timestep: Any
    state: Tensor
    extra: dict[str, Any]


def signature_of(owner: Any, step: Callable[..., Any]) -> inspect.Signature:
    """The signature that names the arguments of `owner.step`.

    Where somebody wrapped it as `step(*args, **kwargs)`, the first one of the scheduler's classes that has names.
    """
    own = inspect.signature(step)
    classes = [vars(kind)["step"] for kind in type(owner).__mro__ if "step" in vars(kind)]
    unbound = [inspect.signature(step) for step in classes if inspect.isfunction(step)]
    bound = [one.replace(parameters=list(one.parameters.values())[1:]) for one in unbound]
    named = [one for one in (own, *bound) if all(_any_of(one.parameters, names) for names in (_PREDICTION, _STATE))]
    return named[0] if named else own


def _any_of(names: Iterable[str], known: tuple[str, ...]) -> bool:
    return any(name in known for name in names)


def step_arguments(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any], known: Sequence[Tensor] = ()
) -> StepArguments:
    """Tell prediction, timestep and state apart, whatever their order and names.

    Parameters
    ----------
    signature : Signature
        Of the scheduler's own `step`; see `signature_of`.
    args, kwargs
        Of this call.
    known : sequence of Tensor
        Earlier states and denoiser inputs that are still there. Where names say nothing, an argument that is one of
        them is the state; else the order is that of diffusers: prediction, timestep, state.

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
        state = next((name for name, value in tensors.items() if any(value is one for one in known)), None)
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
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:  # that of a class, whose wrapper takes others
        return {str(place): value for place, value in enumerate(args)} | kwargs
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
