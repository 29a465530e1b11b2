"""A run with some steps changed: left out, repeating an earlier prediction, without guidance, by another denoiser.

    solver = ChangedSteps(Heun(), {3: Repeated(), 7: Unguided()})
    sample(denoiser, seeds=range(64), condition=labels, rule=CFG(4.0), solver=solver)     # all else is the same

All calls of a step are changed. Steps keep their numbers and the noise of their seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance import CFG
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.models.noise import SampleNoise
from scorescope.probes.sampling.guided_denoiser import GuidedDenoiser
from scorescope.probes.sampling.solvers import Evaluate, Solver


@displayed
@dataclass(frozen=True)
class LeftOut:
    """The step's noise level is taken out of the grid: the step before it goes on to the level after it.

    A solver that adds noise then draws one time less, so later steps have the noise of those before them.
    """


@displayed
@checked
@dataclass(frozen=True)
class Repeated:
    """The prediction of the same call of the step before is used again, as caching does; nothing is called.

    Attributes
    ----------
    space : {"denoised", "eps"}
        Whether D stays as it was, or the noise (x - D) / sigma.
    """

    space: Literal["denoised", "eps"] = "denoised"


@displayed
@dataclass(frozen=True)
class Unguided:
    """The conditional prediction alone, without the rule."""


@displayed
@checked
@dataclass(frozen=True)
class Replaced:
    """Another denoiser in place of the run's, for all branches: a smaller one, or a rounded one.

    Attributes
    ----------
    denoiser : Denoiser
        It takes the same arguments.
    """

    denoiser: Denoiser


@displayed
@checked
@dataclass(frozen=True)
class Nudged:
    """A small random vector is added to the prediction, the same for every call of it.

    Attributes
    ----------
    size : float
        Its root mean square over that of the prediction.
    seed : int
        Of the vector; sample k has that of seed + k in each batch.
    """

    size: float = 0.01
    seed: int = 0


Change = LeftOut | Repeated | Unguided | Replaced | Nudged
"""What may be done to a step."""

NEEDS_EARLIER = (LeftOut, Repeated)
"""Changes that the first step cannot have: there is none before it."""


@displayed
@checked
@dataclass(frozen=True)
class ChangedSteps:
    """A solver some of whose steps are changed.

    Attributes
    ----------
    solver : Solver
        The solver.
    changes : mapping of int to LeftOut, Repeated, Unguided, Replaced or Nudged
        What is done, by step from 0.
    """

    solver: Solver
    changes: Mapping[int, Change]

    @property
    def needs_reference(self) -> bool:
        """As the solver's."""
        return bool(getattr(self.solver, "needs_reference", False))

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`; `evaluate` is what `sample` gives a solver.

        Raises
        ------
        InputError
            For steps that the grid has not, a first step that would need one before it, and another `evaluate`.
        """
        steps = range(len(sigmas) - 1)
        if stray := [step for step in self.changes if step not in steps]:
            raise InputError("changes", found=f"step {stray[0]}", expected=f"steps from 0 to {len(steps) - 1}")
        if isinstance(self.changes.get(0), NEEDS_EARLIER):
            found = f"step 0 {type(self.changes[0]).__name__}"
            raise InputError("changes", found=found, expected="a later step: there is none before it")
        if not isinstance(evaluate, GuidedDenoiser):
            raise InputError("solver", found=f"a run by {type(evaluate).__name__}", expected="one by `sample`")
        out = {step for step, change in self.changes.items() if isinstance(change, LeftOut)}
        kept = [place for place in range(len(sigmas)) if place not in out]
        return self.solver.run(_Changed(evaluate, self.changes, kept), x, [sigmas[place] for place in kept], noise)


class _Changed:
    """What the solver asks in place of the run's own predictions."""

    def __init__(self, inner: GuidedDenoiser, changes: Mapping[int, Change], kept: Sequence[int]) -> None:
        self._inner, self._changes, self._kept = inner, changes, kept
        self._last: dict[int, tuple[Tensor, Tensor]] = {}  # by call, D and (x - D) / sigma

    @property
    def reference(self) -> Tensor | None:
        return self._inner.reference

    def __call__(self, x: Tensor, *, sigma: float, sigma_next: float, step: int, call: int) -> Tensor:
        step = self._kept[step]
        change = self._changes.get(step)
        if isinstance(change, Repeated):
            found = self._again(change, x, sigma, call)
        else:
            found = self._asked(change, x, sigma=sigma, sigma_next=sigma_next, step=step, call=call)
        self._last[call] = found, (x - found) / sigma
        return found

    def _again(self, change: Repeated, x: Tensor, sigma: float, call: int) -> Tensor:
        if call not in self._last:
            expected = "a solver whose steps all make as many calls"
            raise InputError("solver", found=f"no call {call} in an earlier step", expected=expected)
        denoised, eps = self._last[call]
        return denoised if change.space == "denoised" else x - sigma * eps

    def _asked(self, change: Change | None, x: Tensor, **place: Any) -> Tensor:
        inner = self._inner
        denoiser, rule = inner.denoiser, inner.rule
        try:
            if isinstance(change, Replaced):
                inner.denoiser = change.denoiser
            elif isinstance(change, Unguided):
                inner.rule = CFG(1.0)
            found = inner(x, **place)
        finally:
            inner.denoiser, inner.rule = denoiser, rule
        return found + _nudge(change, found) if isinstance(change, Nudged) else found


def _nudge(change: Nudged, prediction: Tensor) -> Tensor:
    shape, dtype = tuple(prediction.shape[1:]), prediction.dtype
    seeds = range(change.seed, change.seed + len(prediction))
    drawn = SampleNoise(seeds, shape, prediction.device, dtype).draw()
    size = prediction.flatten(1).square().mean(1, dtype=torch.float64).sqrt().to(dtype)
    return change.size * size.reshape(-1, *(1,) * len(shape)) * drawn
