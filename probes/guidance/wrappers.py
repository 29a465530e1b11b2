"""Rules around rules: when another rule acts, with which weight, and what is done to its result.

Interval(APG(4.0), low=0.28, high=5.42)
Rescaled(CFG(7.5), phi=0.7, space="v")
"""

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.denoiser import Condition, Denoiser
from scorescope.probes.guidance.base import COND, BranchRule, GuidanceState, RowRule, Rule, per_sample
from scorescope.probes.spaces import Space, from_denoised, to_denoised


@dataclass(frozen=True)
class Wrapper:
    """Hands everything on to `rule`; the rules of this module change one thing each."""

    rule: Rule

    @property
    def weight(self) -> float:
        """Weight of the inner rule."""
        return self.rule.weight

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Those of the inner rule."""
        return self.inner(state).branches(state)

    def rows(self, state: GuidanceState) -> Tensor:
        """Those of the inner rule."""
        rule = self.inner(state)
        if isinstance(rule, RowRule):
            return rule.rows(state)
        return torch.ones(len(state.x), dtype=torch.bool, device=state.x.device)

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """That of the inner rule."""
        rule = self.inner(state)
        return rule.predict(branch, denoiser, x, sigma, condition, state) if isinstance(rule, BranchRule) else None

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction."""
        return self.inner(state)(cond, uncond, state)

    def inner(self, state: GuidanceState) -> Rule:
        """The rule that acts at this state."""
        return self.rule


@dataclass(frozen=True)
class Interval(Wrapper):
    """Guidance in a limited interval of noise levels, low < sigma <= high (Kynkaanniemi et al. 2024, 2404.07724).

    Outside it the conditional prediction stands, and the unconditional branch is not computed.

    Attributes
    ----------
    rule : Rule
        What acts inside.
    low, high : float
        Noise levels, variance exploding, in units of the data; half-open as in the paper.
    """

    low: float = 0.0
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 <= low < high")

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Outside the interval only `cond`."""
        return self.rule.branches(state) if self._inside(state) else (COND,)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule inside, `cond` outside."""
        return self.rule(cond, uncond, state) if self._inside(state) else cond

    def _inside(self, state: GuidanceState) -> bool:
        return self.low < state.sigma <= self.high


@dataclass(frozen=True)
class StepInterval(Interval):
    """Guidance in an interval of steps, `first` to `last` inclusive: the form of the paper's published code.

    All calls of a step belong to it: the correction of the last guided step is guided although its noise level lies
    below the interval, and that of the step before the first is not.

    Attributes
    ----------
    rule : Rule
        What acts inside.
    first, last : int
        Step indices, from 0.
    """

    first: int = 0
    last: int = 10**9

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise InputError("first, last", found=f"{self.first}, {self.last}", expected="0 <= first <= last")

    def _inside(self, state: GuidanceState) -> bool:
        return self.first <= state.step <= self.last


@dataclass(frozen=True)
class LinearWeight:
    """A weight that goes linearly in ln sigma from `at_low` to `at_high`, constant outside."""

    at_low: float
    at_high: float
    low: float = 0.002
    high: float = 80.0

    def __call__(self, sigma: float) -> float:
        """The weight at a noise level."""
        return self.at_low + (self.at_high - self.at_low) * self.fraction(sigma)

    def fraction(self, sigma: float) -> float:
        """Where ln sigma lies between the ends, in [0, 1]."""
        ends = torch.tensor([self.low, self.high, min(max(sigma, self.low), self.high)], dtype=torch.float64).log()
        return float((ends[2] - ends[0]) / (ends[1] - ends[0]))


@dataclass(frozen=True)
class CosineWeight(LinearWeight):
    """The same with a half cosine in place of the line."""

    def __call__(self, sigma: float) -> float:
        """The weight at a noise level."""
        turn = 0.5 - 0.5 * torch.cos(torch.tensor(torch.pi * self.fraction(sigma), dtype=torch.float64)).item()
        return self.at_low + (self.at_high - self.at_low) * turn


@dataclass(frozen=True)
class Scheduled(Wrapper):
    """A rule whose weight is a function of the noise level.

    Attributes
    ----------
    rule : Rule
        A rule with a field `weight`; its own value is the one that is reported.
    schedule : callable
        sigma to weight: `LinearWeight`, `CosineWeight` or any function.
    """

    schedule: Callable[[float], float] = LinearWeight(1.0, 1.0)

    def __post_init__(self) -> None:
        if not is_dataclass(self.rule) or "weight" not in self.rule.__dataclass_fields__:
            raise InputError("rule", found=type(self.rule).__name__, expected="a rule with a field weight")

    def inner(self, state: GuidanceState) -> Rule:
        """The rule with the weight of this noise level."""
        rule: Any = self.rule
        scheduled: Rule = replace(rule, weight=float(self.schedule(state.sigma)))
        return scheduled


@dataclass(frozen=True)
class Rescaled(Wrapper):
    """CFG rescale (Lin et al. 2024, arXiv 2305.08891, eq. 14-16): part of the way back to the std of `cond`.

    out = phi g std(c) / std(g) + (1 - phi) g, std per sample over all its axes, in a named space: the ratio depends
    on it, and the paper's 0.7 was derived for v.

    Attributes
    ----------
    rule : Rule
        What is rescaled.
    phi : float
        0 leaves it, 1 equalises the standard deviations.
    space : str
        Space of the standard deviations.
    """

    phi: float = 0.7
    space: Space = "v"

    def __post_init__(self) -> None:
        if not 0 <= self.phi <= 1:
            raise InputError("phi", found=str(self.phi), expected="a number in [0, 1]")
        if self.space not in ("denoised", "eps", "v", "flow"):
            raise InputError("space", found=repr(self.space), expected="denoised, eps, v or flow")

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction, rescaled."""
        guided = self.rule(cond, uncond, state)
        target = _std(from_denoised(cond, state.x, state.level, space=self.space))
        raw = from_denoised(guided, state.x, state.level, space=self.space)
        std = _std(raw)
        factor = 1 + self.phi * (torch.where(std > 0, target / std, 1.0) - 1)
        return to_denoised(raw * per_sample(factor, raw), state.x, state.level, space=self.space)


@dataclass(frozen=True)
class DynamicThreshold(Wrapper):
    """Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487): clip to a percentile, divide by it.

    For data in [-limit, limit]; on latents, which have no range, it means nothing.

    Attributes
    ----------
    rule : Rule
        Whose prediction is thresholded.
    quantile : float
        Of the absolute values of a sample; 0.995 in the paper.
    limit : float
        Half the range of the data; a sample whose quantile is smaller is clipped to it and not divided.
    """

    quantile: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1:
            raise InputError("quantile", found=str(self.quantile), expected="a number in (0, 1]")
        if not 0 < self.limit < float("inf"):
            raise InputError("limit", found=str(self.limit), expected="half the range of the data, positive")

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction, within [-limit, limit]."""
        guided = self.rule(cond, uncond, state)
        sizes = guided.flatten(1).abs()
        rank = max(0, -(-int(self.quantile * sizes.shape[1] * 10**6) // 10**6) - 1)  # ceil(q N) - 1
        bound = sizes.kthvalue(rank + 1, dim=1).values.clamp(min=self.limit)
        bound = per_sample(bound, guided)
        return guided.clamp(-bound, bound).mul_(self.limit / bound)


def _std(t: Tensor) -> Tensor:
    return t.flatten(1).std(dim=1)
