"""What a denoiser was called with for one sample, and calls of many such samples at other states and times.

one = SampleCall.of(call, rows)                # the rows of one sample, of one branch
made = call_together([one, other], states, times)
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import Call, leaves, repeating


@displayed
@dataclass(frozen=True, eq=False)
class OneRow:
    """The row of one sample, shape (1, *shape), of an argument that has one for each."""

    value: Tensor


@displayed
@dataclass(frozen=True, eq=False)
class SampleCall:
    """What a network was called with for one sample.

    Attributes
    ----------
    network : nn.Module
        What was called.
    module, context : str
        See `Call`.
    state, time : str
        Names of the arguments that are state and time.
    given_state, given_time : Tensor or number
        What they were; the state of this sample alone.
    arguments : mapping
        All others by name; a tensor with a row for each of the call's is a `OneRow`.
    """

    network: nn.Module
    module: str
    context: str
    state: str
    time: str
    given_state: Tensor
    given_time: Any
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, call: Call, rows: slice | None) -> "SampleCall":
        """The part of a call that is of one sample.

        Parameters
        ----------
        call : Call
            With what it was given.
        rows : slice or None
            One row; None for a call of one sample.

        Raises
        ------
        InputError
            Where the state is no tensor.
        """
        named, state, time = call.named(), call.state_argument, call.time_argument
        if not isinstance(call.state, Tensor):
            found = f"a network whose state is a {type(call.state).__name__}"
            raise InputError("pipe", found=found, expected="one that is given the states of a batch in one tensor")
        others = {name: _one(value, rows, call.rows) for name, value in named.items() if name not in (state, time)}
        given = call.state if rows is None else call.state[rows]
        return cls(call.network, call.module, call.context, state, time, given.clone(), named.get(time), others)

    def goes_with(self, other: "SampleCall") -> bool:
        """Whether both can be rows of one call: what has no rows is the same, and the rest has the same shapes."""
        same = (self.network is other.network, self.context == other.context, self.state == other.state)
        return all(same) and _alike(self.arguments, other.arguments, values=False)

    def differs_in(self, other: "SampleCall") -> list[str]:
        """Names of the arguments, beside state and time, in which the other is not the same."""
        ours, theirs = self.arguments, other.arguments
        both = [name for name in ours if name in theirs and _alike(ours[name], theirs[name], values=True)]
        return [name for name in dict.fromkeys([*ours, *theirs]) if name not in both]

    @property
    def is_conditional(self) -> bool:
        """Whether a tensor with a row a sample was given beside state and time."""
        return any(isinstance(one, OneRow) for one in _flat(self.arguments))

    def times(self, values: Tensor, *, as_given: bool) -> Any:
        """Times of a batch, shape (batch,), as the argument that the network takes.

        Parameters
        ----------
        values : Tensor, shape (batch,)
            Times; all the same where they are `as_given`.
        as_given : bool
            One time for all samples has the form that it had; else every sample has its own.
        """
        if not isinstance(self.given_time, Tensor):
            return type(self.given_time)(values[0]) if as_given else values
        shape = self.given_time.shape
        if as_given and (not shape or (len(shape) == 1 and len(shape) != len(values))):
            return values[0].reshape((1,) * len(shape))
        return values.reshape(-1, *(1,) * (len(shape) - 1)).expand(-1, *shape[1:]) if shape else values


def call_together(calls: Sequence[SampleCall], states: Tensor, times: Any) -> Call:
    """One call of a network, of samples that go with each other.

    Parameters
    ----------
    calls : sequence of SampleCall
        One a sample.
    states : Tensor, shape (batch, *shape)
        Shaped as the network takes them.
    times : Tensor or number
        From `SampleCall.times`.

    Returns
    -------
    Call
        With its outputs, through which gradients flow.
    """
    first = calls[0]
    arguments = _joined([one.arguments for one in calls]) | {first.state: states, first.time: times}
    context = getattr(first.network, "cache_context", None) if first.context else None
    with repeating(first.network), nullcontext() if context is None else context(first.context):
        return Call(first.module, leaves(first.network(**arguments)), network=first.network)


def _one(value: Any, rows: slice | None, size: int) -> Any:
    """A tree of arguments with the row of one sample where there is one for each."""
    if isinstance(value, Tensor):
        if not value.ndim or len(value) != size:
            return value
        return OneRow((value if rows is None else value[rows]).detach().clone())
    if isinstance(value, Mapping):
        return {key: _one(inner, rows, size) for key, inner in value.items()}
    if _is_list(value):
        return type(value)(_one(inner, rows, size) for inner in value)
    return value


def _joined(values: Sequence[Any]) -> Any:
    """The trees of several samples as one."""
    first = values[0]
    if isinstance(first, OneRow):
        return torch.cat([one.value for one in values])
    if isinstance(first, Mapping):
        return {key: _joined([value[key] for value in values]) for key in first}
    if _is_list(first):
        return type(first)(_joined(inner) for inner in zip(*values, strict=True))
    return first


def _alike(a: Any, b: Any, *, values: bool) -> bool:
    """Whether two trees are the same; of the rows of samples the values count only if asked for."""
    if type(a) is not type(b):
        return False
    if isinstance(a, OneRow):
        return a.value.shape == b.value.shape and a.value.dtype == b.value.dtype and (
            not values or torch.equal(a.value, b.value)
        )  # fmt: skip
    if isinstance(a, Tensor):
        return a is b or torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_alike(a[key], b[key], values=values) for key in a)
    if _is_list(a):
        return len(a) == len(b) and all(_alike(one, other, values=values) for one, other in zip(a, b, strict=True))
    return a is b or bool(a == b)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [one for inner in value.values() for one in _flat(inner)]
    return [one for inner in value for one in _flat(inner)] if _is_list(value) else [value]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and not hasattr(value, "_fields")
