"""A pipeline's denoiser at one step, as a guidance rule calls a denoiser: the call that made `cond` is made again.

Before the first such call of a run the same call is repeated undisturbed, to prove that it gives `cond` again: first
with the rows of `cond` alone, where it held other branches too, and if that gives something else, whole. This module
puts no hook on anything.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import GuidanceState
from scorescope.probes.guidance.scheduler_step import to_denoised_space
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.separator import Separated

Proved = MutableMapping[Any, bool]
"""For each layout of calls and network, whether the rows of `cond` alone give `cond` again."""


class PipelineDenoiser:
    """The pipeline's denoiser in one step, as a rule calls it: (x, sigma, condition) to D, at that state only.

    Parameters
    ----------
    found : Separated
        The branches of the step, and the calls that hold them.
    level : Level
        Level of the scheduler's state.
    state : GuidanceState
        What the rule is called with.
    proved : mutable mapping
        What earlier steps of the run have proved.
    """

    def __init__(self, found: Separated, level: Level, state: GuidanceState, proved: Proved) -> None:
        self.evaluations = 0
        self.state, self._found, self._level, self._proved = state, found, level, proved

    @property
    def root(self) -> Any:
        """The network that made `cond`."""
        return self._made[0].network

    @cached_property
    def _made(self) -> list[Call]:
        """The calls that hold `cond`."""
        calls = [self._found.calls[place] for place in self._found.cond_calls]
        made = [call for call in calls if call.network is not None]
        if len(made) < len(calls):
            found = f"a cond prediction of the {calls[0].module} that is no output of its network"
            raise InputError("pipe", found=found, expected="a pipeline whose network makes the cond branch itself")
        return made

    @cached_property
    def condition(self) -> Any:
        """What the network was given beside state and time, one row a sample; the tensor itself where there is one."""
        named = self._made[0].conditions() if len(self._made) == 1 else {}
        rows = self._found.cond_rows
        found = {name: value if rows is None else value[rows] for name, value in named.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def around(self, network: Any, *, argument: str = "network") -> "_Around":
        """See `NetworkDenoiser.around`."""
        return _Around(self, network, argument)

    def samples(self, rows: int) -> Tensor:
        """See `NetworkDenoiser.samples`.

        Raises
        ------
        InputError
            Where the rows are not those of the call.
        """
        count = len(self._found.state)
        blocks = 1 if self._alone() else self._found.blocks
        if blocks is None or rows != blocks * count:
            found = f"{rows} rows for {count} samples in {blocks or 'several'} branches"
            raise InputError("site", found=found, expected="a module that puts out a row a sample")
        index = torch.arange(count)
        return index.repeat_interleave(blocks) if self._found.layout.order == "interleaved" else index.repeat(blocks)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        """D, float64, with another condition where one is given; `prove` comes first.

        Raises
        ------
        InputError
            For another state than the pipeline's, no condition, and conditions that do not fit.
        """
        return self.predict(self.root, "network", x, condition)

    def predict(self, network: Any, argument: str, x: Tensor, condition: Any) -> Tensor:
        """D of a network that is called as the pipeline's was."""
        if x is not self.state.x:
            raise InputError("rule", found="a branch at another state", expected="one at the state of the step")
        changes = {} if condition is self.condition else self._changes(condition)
        prediction = self._repeat(network, argument, changes, alone=self._alone())
        return to_denoised_space(prediction, self._found.state, self._level)

    def prove(self) -> None:
        """Prove, once a run for each layout of calls, that the undisturbed call gives `cond` again.

        Raises
        ------
        InputError
            Where it gives something else.
        """
        if self._key not in self._proved:
            self._proved[self._key] = self._gives_cond_alone()

    @property
    def _key(self) -> Any:
        return self._found.layout, self._found.place, id(self.root)

    def _alone(self) -> bool:
        """Whether the rows of `cond` alone are given to the network."""
        return self._proved[self._key]

    def _gives_cond_alone(self) -> bool:
        if self._found.cond_rows is not None:
            try:
                if self._same(self._repeat(self.root, "network", {}, alone=True)):
                    return True
            except (RuntimeError, ValueError, TypeError, IndexError, InputError):
                pass  # its arguments cannot be cut
        if not self._same(self._repeat(self.root, "network", {}, alone=False)):
            found = "a network that gives something else when it is called again with the same arguments"
            expected = "one without caching, dropout or other changes from call to call"
            raise InputError("pipe", found=found, expected=expected)
        return False

    def _same(self, again: Tensor) -> bool:
        """Up to the rounding of other kernels for another batch."""
        cond = self._found.cond
        epsilon = max(torch.finfo(self._made[0].outputs[0].dtype).eps, torch.finfo(torch.float32).eps)
        return bool((again - cond).norm() <= max(3e-4, 4 * epsilon) * cond.norm())

    def _repeat(self, network: Any, argument: str, changes: Mapping[str, Tensor], *, alone: bool) -> Tensor:
        """The cond branch of the repeated calls, in the space of the scheduler."""
        rows = self._found.cond_rows
        how: dict[str, Any] = {"network": network, "argument": argument, "changes": changes, "rows": rows}
        again = [call.again(**how, alone=alone) for call in self._made]
        self.evaluations += 1 if alone else self._found.blocks or sum(self._found.layout.parts)
        found = self._found.cond_of(again, alone=alone)
        if found is None:
            shapes = [tuple(leaf.shape) for leaf in again[0].outputs]
            expected = f"what the pipeline's network puts out: {[tuple(o.shape) for o in self._made[0].outputs]}"
            raise InputError(argument, found=f"outputs of shape {shapes}", expected=expected)
        return found

    def _changes(self, condition: Any) -> dict[str, Tensor]:
        """Conditions in place of the pipeline's, by argument."""
        given = self._made[0].conditions()
        if not given:
            found = f"a call of {self._made[0].module} without one row of conditions a sample"
            raise InputError("condition", found=found, expected="a network that is called with conditions")
        if len(given) == 1 and isinstance(condition, Tensor):
            condition = {next(iter(given)): condition}
        if not isinstance(condition, Mapping):
            found = "none" if condition is None else f"a {type(condition).__name__}"
            raise InputError("condition", found=found, expected=f"tensors by name, among {', '.join(given)}")
        for name, value in condition.items():
            _check(name, value, given, len(self._found.state))
        return dict(condition)


@dataclass(frozen=True)
class _Around:
    """Another network in place of the pipeline's."""

    inner: PipelineDenoiser
    network: Any
    argument: str

    def __call__(self, x: Tensor, sigma: Tensor, condition: Any) -> Tensor:
        return self.inner.predict(self.network, self.argument, x, condition)


def _check(name: str, value: Any, given: Mapping[str, Tensor], rows: int) -> None:
    """Refuse a drawn condition that could not stand for the pipeline's."""
    if name not in given:
        raise InputError("condition", found=repr(name), expected=f"one of {', '.join(given)}")
    shape, floating = (rows, *given[name].shape[1:]), given[name].is_floating_point()
    if not isinstance(value, Tensor) or value.shape != shape or value.is_floating_point() != floating:
        found = f"{tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise InputError(f"condition[{name!r}]", found=found, expected=f"{shape}, {given[name].dtype}")
