"""One scheduler step under a rule: the state it is called with, and its prediction in the space of the branches.

What a pipeline hands to its scheduler is converted to denoised space with the scheduler's own level,
D = skip * state + out * prediction, and the rule's answer back. This module knows nothing of hooks and pipelines.
"""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import UNCOND, GuidanceState, Rule, describe
from scorescope.probes.guidance.linear import CFGPP
from scorescope.probes.models.denoiser import working_dtype
from scorescope.probes.pipelines.level import Level

# Flow and zero-SNR models start at a state without data, where x / alpha is infinite. Rules then see it as if it
# held this share of data: what it changes in float64 is of the same relative size.
LEAST_ALPHA = 1e-8


def step_state(
    x: Tensor, level: Level, *, step: int = 0, call: int = 0, memory: MutableMapping[str, Any] | None = None
) -> GuidanceState:
    """What a rule is called with at a scheduler's state.

    Parameters
    ----------
    x : Tensor, shape (batch, *shape)
        The scheduler's state, in its own convention.
    level : Level
        Its level; one for the whole batch.
    step, call : int
        Scheduler step, and denoiser call within it.
    memory : dict, optional
        What rules remember in this run.

    Raises
    ------
    InputError
        Where the level is unknown, or differs between samples or tokens.
    """
    sigma, after, alpha = (_one(getattr(level, name), name) for name in ("sigma", "sigma_next", "alpha"))
    if level.note or math.isnan(alpha) or math.isnan(sigma):
        raise InputError("level", found=level.note or "no noise level", expected="a scheduler whose level is known")
    if alpha < LEAST_ALPHA:
        sigma, alpha = (sigma * alpha if alpha else 1.0) / LEAST_ALPHA, LEAST_ALPHA
    x = x.to(working_dtype(x)) / alpha
    return GuidanceState(x, sigma, after, step, call, {} if memory is None else memory)


def _one(value: float | Tensor, name: str) -> float:
    """A level as one number."""
    if not isinstance(value, Tensor):
        return float(value)
    values = value.unique()
    if len(values) != 1:
        raise InputError("level", found=f"{name} that differs inside a batch", expected="one noise level a step")
    return float(values)


def predict(
    rule: Rule, cond: Tensor, uncond: Tensor | None, x: Tensor, level: Level, state: GuidanceState,
    own: Mapping[str, Tensor] | None = None, *, flags: "FiniteFlags | None" = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The rule's prediction in the space of the branches, and in denoised space.

    Parameters
    ----------
    rule : Rule
        Guidance rule.
    cond, uncond : Tensor, shape (batch, *shape)
        Predictions in the scheduler's space; uncond None where there is none.
    x : Tensor, shape (batch, *shape)
        The scheduler's state.
    level : Level
        Its level.
    state : GuidanceState
        From `step_state`.
    own : mapping of str to Tensor, optional
        Branches that the rule computed itself, in denoised space.
    flags : FiniteFlags, optional
        Where it is noted whether the answer is finite; by default that is checked at once, which waits for the device.

    Raises
    ------
    InputError
        Where the rule needs a branch that is not there, D is not determined, or the rule's answer is not finite.
    """
    own = own or {}
    state.others.update({branch: value for branch, value in own.items() if branch != UNCOND})
    denoised_cond, denoised_uncond = to_denoised_space(cond, x, level), own.get(UNCOND)
    if UNCOND in rule.branches(state) and denoised_uncond is None:
        if uncond is None:
            found = f"one prediction in step {state.step}, where {describe(rule)} needs two"
            expected = "guidance switched on in the pipeline (guidance_scale above 1), so that both are computed"
            raise InputError("pipe", found=found, expected=expected)
        denoised_uncond = to_denoised_space(uncond, x, level)
    guided = rule(denoised_cond, denoised_uncond, state)
    noted = FiniteFlags() if flags is None else flags
    noted.add(rule, guided, state)
    if flags is None:
        noted.check()
    skip, out = _slope(level)
    return (guided - skip * x.to(guided.dtype)) / out, guided


class FiniteFlags:
    """Whether a rule's predictions were finite, read from an accelerator when `check` asks and not at every step."""

    def __init__(self) -> None:
        self._noted: list[tuple[str, Tensor]] = []

    def add(self, rule: Rule, guided: Tensor, state: GuidanceState) -> None:
        """Note a prediction; on the CPU, where nothing waits, one that is not finite is refused at once."""
        where = f"{describe(rule)} that is not finite, in step {state.step} at sigma {state.sigma:.4g}"
        self._noted.append((where, torch.isfinite(guided).all()))
        if not _asynchronous(guided):
            self.check()

    def check(self) -> None:
        """Read what was noted since the last time; `InputError` names the first step that was not finite."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        for (where, _), finite in zip(noted, torch.stack([flag for _, flag in noted]).tolist(), strict=True):
            if not finite:
                expected = "a rule that is defined at this state"
                raise InputError("rule", found=f"a prediction of {where}", expected=expected)


def _asynchronous(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu"


def to_denoised_space(prediction: Tensor, x: Tensor, level: Level) -> Tensor:
    """D = skip x + out prediction, float64.

    Raises
    ------
    InputError
        Where D is not determined.
    """
    skip, out = _slope(level)
    dtype = working_dtype(x)
    return skip * x.to(dtype) + out * prediction.to(dtype)


def _slope(level: Level) -> tuple[float, float]:
    skip, out = _one(level.skip, "skip"), _one(level.out, "out")
    if level.note or not math.isfinite(skip) or not math.isfinite(out) or out == 0:
        found = level.note or f"D = {skip:.3g} x + {out:.3g} prediction"
        raise InputError("level", found=found, expected="a level at which the prediction determines D, and D it")
    return skip, out


def rules_inside(rule: Rule) -> list[Rule]:
    """A rule and those that it wraps, from the outside in."""
    found: list[Rule] = [rule]
    while isinstance(inner := getattr(found[-1], "rule", None), Rule):
        found.append(inner)
    return found


def depends_on_step_size(rule: Rule) -> bool:
    """Whether the rule's weight is that of a first-order step of a given length."""
    return any(isinstance(inner, CFGPP) for inner in rules_inside(rule))


def check_rule(rule: Rule, schedulers: Sequence[Any]) -> None:
    """Refuse, before anything runs, a rule that a pipeline cannot express.

    Raises
    ------
    InputError
        For what is no rule, and for step-size-dependent rules on schedulers whose steps are not first-order.
    """
    if not isinstance(rule, Rule):
        raise InputError("rule", found=f"a {type(rule).__name__}", expected="a guidance rule, such as CFG or APG")
    for scheduler in schedulers if depends_on_step_size(rule) else ():
        order = max(int(getattr(scheduler, "order", 1)), int(getattr(scheduler.config, "solver_order", 1)))
        if order > 1:
            raise not_first_order(rule, scheduler, f"of order {order}")


def check_first_order(
    rule: Rule, scheduler: Any, guided: Tensor, state: GuidanceState, after: Tensor, dtype: torch.dtype
) -> None:
    """Refuse a step that was not D + (sigma' / sigma) (x - D), up to the scale of the scheduler's state."""
    expected = (guided + state.sigma_next / state.sigma * (state.x - guided)).flatten(1)
    found = after[: len(guided)].to(expected.dtype).flatten(1)
    scale = (found * expected).sum(1, keepdim=True) / expected.square().sum(1, keepdim=True)
    error = (found - scale * expected).norm(dim=1) / found.norm(dim=1)
    if not bool((error <= max(1e-4, 16 * torch.finfo(dtype).eps)).all()):
        raise not_first_order(rule, scheduler, f"in step {state.step}, by {float(error.max()):.2g} of the state")


def not_first_order(rule: Rule, scheduler: Any, how: str) -> InputError:
    """The error for step-size-dependent rules."""
    found = f"{describe(rule)} with {type(scheduler).__name__}, whose step is not a first-order one ({how})"
    expected = "DDIM with eta 0, Euler or FlowMatchEuler: only there is CFG++ a weight of CFG"
    return InputError("rule", found=found, expected=expected)
