"""A denoiser call that can be made again: with other rows, other conditions, or on another network."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.inputs import named_tensors
from scorescope.probes.pipelines.taps import Call, leaves, repeating

_STATES = ("sample", "hidden_states", "latents", "x")
TIME_ARGUMENTS = ("timestep", "timesteps", "t", "time", "sigma", "timestep_ratio", "noise_level")
_NO_CONDITIONS = (*TIME_ARGUMENTS, "timestep_cond", "guidance")


@dataclass
class MadeCall(Call):
    """A call of a denoiser that can be made again.

    Attributes
    ----------
    network : nn.Module
        What was called.
    args, kwargs
        With what; held, not copied.
    context : str
        The cache context that it was made in; empty for none.
    pick : callable
        From all tensors in what the network returns to those in `outputs`.
    """

    network: Any = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    context: str = ""
    pick: Callable[[list[Tensor]], list[Tensor]] = list

    @property
    def rows(self) -> int:
        """Rows of the call: those of the state that it was given; 0 where that is no tensor."""
        state = self._named().get(self._state)
        return len(state) if isinstance(state, Tensor) and state.ndim else 0

    @property
    def _state(self) -> str:
        """The argument that is the state: by its name, else the first."""
        named = self._named()
        return next((name for name in _STATES if name in named), next(iter(named), ""))

    def _named(self) -> dict[str, Any]:
        """Its arguments by name, those without one first."""
        return dict(zip(_parameters(self.network).parameters, self.args, strict=False)) | dict(self.kwargs)

    def conditions(self) -> dict[str, Tensor]:
        """The tensors among its arguments that have a row for each of the call's, but for state and time."""
        named = named_tensors((), self._named())
        state, size = self._state, self.rows
        return {
            name: value
            for name, value in named.items()
            if name != state and name not in _NO_CONDITIONS and "residual" not in name and len(value) == size
        }

    @torch.no_grad()
    def again(
        self, *, network: Any = None, argument: str = "network", changes: Mapping[str, Tensor] | None = None,
        rows: slice | None = None, alone: bool = False,
    ) -> Call:  # fmt: skip
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
                args = _replaced(args, (list(self._named()).index(outer), *inner), value, rows)
        if alone and rows is not None:
            args, kwargs = _cut(args, rows, self.rows), _cut(kwargs, rows, self.rows)
        context = getattr(network, "cache_context", None) if self.context else None
        with repeating(network), nullcontext() if context is None else context(self.context):
            outputs = self.pick(leaves(network(*args, **kwargs)))
        return Call(self.module, [leaf.detach() for leaf in outputs], self.label)


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
