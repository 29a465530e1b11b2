"""Rules around rules: when another rule acts, and with which weight.

Interval(APG(4.0), low=0.28, high=5.42)
Scheduled(CFG(4.0), CosineWeight(4.0, 1.0))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import (
    COND,
    BranchRule,
    GuidanceState,
    Products,
    RowRule,
    Rule,
    describe,
    require_finite,
)
from scorescope.probes.guidance.combination import Combination, combination_of, factors
from scorescope.probes.models.denoiser import Condition, Denoiser


@displayed
@dataclass(frozen=True)
class Wrapper:
    """Hands everything on to `rule`; the rules of this module change one thing each."""

    rule: Rule

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule) or isinstance(self.rule, type):
            raise InputError("rule", found=repr(self.rule), expected="a guidance rule, such as CFG(4.0)")

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

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """That of the inner rule."""
        return combination_of(self.inner(state), products, state)

    def inner(self, state: GuidanceState) -> Rule:
        """The rule that acts at this state."""
        return self.rule


@displayed
@dataclass(frozen=True)
class Window(Wrapper):
    """The inner rule where `inside` says so; elsewhere `cond` stands and no other branch is computed."""

    def inside(self, state: GuidanceState) -> bool:
        """Whether the inner rule acts at this state."""
        raise NotImplementedError

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Outside only `cond`."""
        return self.rule.branches(state) if self.inside(state) else (COND,)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule inside, `cond` outside."""
        return self.rule(cond, uncond, state) if self.inside(state) else cond

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """That of the inner rule inside, none of the update outside."""
        return combination_of(self.rule, products, state) if self.inside(state) else factors(state)


@displayed
@checked
@dataclass(frozen=True)
class Interval(Window):
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
        super().__post_init__()
        if not 0 <= self.low < self.high:
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 <= low < high")

    def inside(self, state: GuidanceState) -> bool:
        """low < sigma <= high."""
        return self.low < state.sigma <= self.high


@displayed
@checked
@dataclass(frozen=True)
class StepInterval(Window):
    """Guidance in an interval of steps, `first` to `last` inclusive: the form of that paper's published code.

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
        super().__post_init__()
        if not 0 <= self.first <= self.last:
            raise InputError("first, last", found=f"{self.first}, {self.last}", expected="0 <= first <= last")

    def inside(self, state: GuidanceState) -> bool:
        """first <= step <= last."""
        return self.first <= state.step <= self.last


@displayed
@checked
@dataclass(frozen=True)
class LinearWeight:
    """A weight that goes linearly in ln sigma from `at_low` to `at_high`, constant outside.

    Weight schedules are compared in arXiv 2404.13040; monotone ones that rise towards low noise did best there.

    Attributes
    ----------
    at_low, at_high : float
        Weights at and below `low`, at and above `high`.
    low, high : float
        Noise levels, variance exploding, in units of the data.
    """

    at_low: float
    at_high: float
    low: float = 0.002
    high: float = 80.0

    def __post_init__(self) -> None:
        require_finite("at_low", self.at_low)
        require_finite("at_high", self.at_high)
        if not 0 < self.low < self.high < float("inf"):
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 < low < high, finite")

    def __call__(self, sigma: float) -> float:
        """The weight at a noise level."""
        return self.at_low + (self.at_high - self.at_low) * self.fraction(sigma)

    def fraction(self, sigma: float) -> float:
        """Where ln sigma lies between the ends, in [0, 1]."""
        clamped = min(max(sigma, self.low), self.high)
        return math.log(clamped / self.low) / math.log(self.high / self.low)


@displayed
@checked
@dataclass(frozen=True)
class CosineWeight(LinearWeight):
    """The same with a half cosine in place of the line."""

    def __call__(self, sigma: float) -> float:
        """The weight at a noise level."""
        turn = 0.5 - 0.5 * math.cos(math.pi * self.fraction(sigma))
        return self.at_low + (self.at_high - self.at_low) * turn


@displayed
@checked
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

    schedule: Callable[[float], float]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_dataclass(self.rule) or "weight" not in self.rule.__dataclass_fields__:
            raise InputError("rule", found=describe(self.rule), expected="a rule with a field weight")
        if not callable(self.schedule):
            raise InputError("schedule", found=repr(self.schedule), expected="a function of sigma")

    def inner(self, state: GuidanceState) -> Rule:
        """The rule with the weight of this noise level."""
        rule: Any = self.rule
        scheduled: Rule = replace(rule, weight=float(self.schedule(state.sigma)))
        return scheduled
