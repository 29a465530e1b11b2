"""One scheduler step under a rule: which prediction is which branch, and the rule's prediction in their space.

What a pipeline hands to its scheduler is converted to denoised space with the scheduler's own level,
D = skip * state + out * prediction, and the rule's answer back. This module knows nothing of hooks and pipelines.
"""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance import CFGPP, UNCOND, BranchRule, GuidanceState, Rule, describe
from scorescope.probes.guidance.wrappers import Wrapper
from scorescope.probes.recording.branches import align, cut, without_variance
from scorescope.probes.recording.level import Level
from scorescope.probes.recording.measure import Packed, measure, unread
from scorescope.probes.recording.proof import Proved, Verdict, prove, settle
from scorescope.probes.recording.taps import Call

# Flow and zero-SNR models start at a state without data, where x / alpha is infinite. Rules then see it as if it
# held this share of data: what it changes in float64 is of the same relative size.
LEAST_ALPHA = 1e-8


@dataclass(frozen=True)
class Separated:
    """The branches of one step, in the space and convention of the scheduler's input, float64.

    Attributes
    ----------
    cond, uncond : Tensor, shape (rows, *shape)
        Predictions; `uncond` None where the pipeline made one prediction.
    state : Tensor, shape (rows, *shape)
        The scheduler's state.
    doubled : bool
        The scheduler receives the guided prediction twice, one after the other along the batch (DiT).
    """

    cond: Tensor
    uncond: Tensor | None
    state: Tensor
    doubled: bool


@dataclass
class Separator:
    """Tells the branches of each step apart, with what earlier steps of the run have proved.

    Attributes
    ----------
    names : sequence of str
        The user's names for the branches, in the order of the calls; the pipeline's own labels come first.
    """

    names: Sequence[str] = ()
    _proved: list[Proved] = field(default_factory=list)

    def separate(self, calls: Sequence[Call], prediction: Tensor, state: Tensor, level: Level, place: int) -> Separated:
        """The branches of this step.

        Parameters
        ----------
        calls : sequence of Call
            The denoiser calls that fed it.
        prediction, state : Tensor
            What `scheduler.step` received.
        level : Level
            Its level.
        place : int
            How many steps these calls have fed already.

        Raises
        ------
        InputError
            Where they cannot be told apart, with the reason.
        """
        target = without_variance(prediction, state)
        if target is None or not state.is_floating_point():
            raise _apart("a prediction that has not the shape of the state")
        aligned = align(calls, prediction, state, place)
        packed = Packed()
        described = measure(packed, aligned, target, state, level)
        for part in described:
            if not any(part["labels"]) and len(part["labels"]) == len(self.names):
                part["labels"] = list(self.names)
        numbers = packed.read(packed.vector(torch.device("cpu")))
        event = {"rows": len(state), "size": state[0].numel(), "missing": ""}
        proved = prove(event | unread({"follows": []}, numbers, described, level))
        self._proved.append(proved)
        settle(self._proved)
        if proved.hypothesis is None:
            raise _apart(proved.verdicts[0].reason)
        index = next(place for place, part in enumerate(described) if part is proved.hypothesis)
        chosen = cut(aligned, target, state)[index]
        dtype = working_dtype(state)
        found = [_scaled(proved.verdicts, branch.to(dtype), chosen.state.to(dtype)) for branch in chosen.branches]
        cond, uncond = _places(proved.verdicts)
        return Separated(
            found[cond], None if uncond is None else found[uncond], chosen.state, chosen.layout.order == "doubled"
        )


def working_dtype(like: Tensor) -> torch.dtype:
    """float64, or float32 on devices that have no other."""
    return torch.float32 if like.device.type in ("mps", "npu") else torch.float64


def _places(verdicts: Sequence[Verdict]) -> tuple[int, int | None]:
    """Places of cond and uncond; uncond None where there was one prediction."""
    if all(verdict.rule == "none" for verdict in verdicts):
        return 0, None
    if any(verdict.rule == "multi-branch" for verdict in verdicts):
        raise _apart("a pipeline that combines more than two branches")
    found = {(verdict.cond, verdict.uncond) for verdict in verdicts}
    cond, uncond = found.pop() if len(found) == 1 else (None, None)
    if cond is None or uncond is None:
        raise _apart(next((v.reason for v in verdicts if v.reason), "samples of one step whose branches differ"))
    return cond, uncond


def _scaled(verdicts: Sequence[Verdict], branch: Tensor, state: Tensor) -> Tensor:
    """A branch as the scheduler would have received it: some pipelines flip the sign, or mix in the state."""
    mixed = [v.fit is not None and v.fit.exact and v.rule in ("mixed cfg", "none") for v in verdicts]
    totals, mixes = [], []
    for verdict, use in zip(verdicts, mixed, strict=True):
        total = verdict.fit.total if verdict.fit is not None else 1.0
        totals.append(total if use and verdict.rule == "mixed cfg" else math.copysign(1.0, total))
        mixes.append(verdict.fit.mix if use and verdict.fit is not None else 0.0)
    column = (-1, *(1,) * (branch.ndim - 1))
    if any(mixes):
        branch = branch * branch.new_tensor(totals).reshape(column) + state * branch.new_tensor(mixes).reshape(column)
    elif any(total != 1 for total in totals):
        branch = branch * branch.new_tensor(totals).reshape(column)
    return branch


def _apart(found: str) -> InputError:
    expected = "branches that can be told apart: plain guidance with a weight above 1, or their names in branches="
    return InputError("pipe", found=found, expected=expected)


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
    rule: Rule, cond: Tensor, uncond: Tensor | None, x: Tensor, level: Level, state: GuidanceState
) -> tuple[Tensor, Tensor]:
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

    Raises
    ------
    InputError
        Where the rule needs a branch that is not there, D is not determined, or the rule's answer is not finite.
    """
    skip, out = _one(level.skip, "skip"), _one(level.out, "out")
    if level.note or not math.isfinite(skip) or not math.isfinite(out) or out == 0:
        found = level.note or f"D = {skip:.3g} x + {out:.3g} prediction"
        raise InputError("level", found=found, expected="a level at which the prediction determines D, and D it")
    needed = rule.branches(state)
    if UNCOND in needed and uncond is None:
        found = f"one prediction in step {state.step}, where {describe(rule)} needs two"
        expected = "guidance switched on in the pipeline (guidance_scale above 1), so that both are computed"
        raise InputError("pipe", found=found, expected=expected)
    dtype = working_dtype(x)
    x = x.to(dtype)
    denoised_cond = skip * x + out * cond.to(dtype)
    denoised_uncond = skip * x + out * uncond.to(dtype) if uncond is not None and UNCOND in needed else None
    guided = rule(denoised_cond, denoised_uncond, state)
    if not torch.isfinite(guided).all():
        found = f"a prediction of {describe(rule)} that is not finite, in step {state.step} at sigma {state.sigma:.4g}"
        raise InputError("rule", found=found, expected="a rule that is defined at this state")
    return (guided - skip * x) / out, guided


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
        For rules that need branches which pipelines do not compute, and for step-size-dependent rules on schedulers
        whose steps are not first-order.
    """
    if not isinstance(rule, Rule):
        raise InputError("rule", found=f"a {type(rule).__name__}", expected="a guidance rule, such as CFG or APG")
    for inner in rules_inside(rule):
        if isinstance(inner, BranchRule) and not isinstance(inner, Wrapper):
            found = f"{type(inner).__name__}, which computes a branch of its own"
            expected = "a rule of the pipeline's cond and uncond predictions; with sample() every rule can be used"
            raise InputError("rule", found=found, expected=expected)
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
