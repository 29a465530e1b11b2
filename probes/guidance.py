"""Guidance rules in denoised space: small frozen dataclasses, called on (cond, uncond, state).

    rule = APG(weight=4.0, norm=2.5, momentum=-0.75)
    guided = rule(cond, uncond, state)

The weight convention is w = 1 for no guidance: D_u + w (D_c - D_u). A rule that needs a memory between
steps keeps it in `state.memory`, which belongs to the run, so one rule object serves any number of runs.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.decomposition import projection_products

COND, UNCOND, GUIDED = "cond", "uncond", "guided"


@dataclass
class GuidanceState:
    """Where on its path a run is when a rule is called.

    Attributes
    ----------
    x : Tensor, shape (batch, *shape)
        State, variance-exploding convention.
    sigma : float
        Its noise level.
    sigma_next : float
        Noise level the step goes to; 0 at the last step.
    step, call : int
        Scheduler step, and denoiser call within it (Heun has two).
    memory : dict
        What rules remember from step to step; starts empty with the run.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    step: int
    call: int
    memory: MutableMapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Rule(Protocol):
    """A guidance rule."""

    @property
    def weight(self) -> float:
        """Guidance weight w; 1 is no guidance."""
        ...

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Branches that the rule needs at this state; the others are not computed."""
        ...

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The guided prediction, in denoised space, shaped like `cond`."""
        ...


@dataclass(frozen=True)
class CFG:
    """Classifier-free guidance, D_u + w (D_c - D_u) (Ho & Salimans 2022, arXiv 2207.12598).

    Attributes
    ----------
    weight : float
        w = 1 is the conditional prediction, w = 0 the unconditional one.
    """

    weight: float

    def __post_init__(self) -> None:
        require_finite("weight", self.weight)

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """At w = 1 the unconditional branch is not needed."""
        return (COND,) if self.weight == 1 else (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w - 1) (D_c - D_u)."""
        if uncond is None or self.weight == 1:
            return cond
        return torch.lerp(uncond, cond, self.weight)


@dataclass(frozen=True)
class APG:
    """Adaptive projected guidance (Sadat, Hilliges & Weber 2025, arXiv 2410.02416, algorithm 1).

    In the order of the paper's listing: reverse momentum, norm clip, projection. The momentum advances once
    a step, with the step's first call: a solver's further calls see it and leave it as it is, where a buffer
    advanced by every call would count a Heun step twice.

    Attributes
    ----------
    weight : float
        w; the guided prediction is D_c + (w - 1) * update.
    eta : float
        Share of the parallel part that is kept; 0 removes it (the paper's choice), 1 keeps it.
    norm : float
        Largest L2 norm of the update, over all axes of a sample, in units of the data; infinity is off.
        It scales with the square root of the number of elements.
    momentum : float
        beta; negative values push away from earlier updates. |beta| < 1, or the buffer diverges.
    """

    weight: float
    eta: float = 0.0
    norm: float = float("inf")
    momentum: float = 0.0

    def __post_init__(self) -> None:
        require_finite("weight", self.weight)
        require_finite("eta", self.eta)
        if not self.norm > 0:
            raise InputError("norm", found=str(self.norm), expected="a positive L2 norm, or infinity for none")
        if not abs(self.momentum) < 1:
            raise InputError(
                "momentum", found=str(self.momentum), expected="|momentum| < 1; beyond it the buffer diverges"
            )

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Both branches, except at w = 1 where the update has no effect."""
        return (COND,) if self.weight == 1 else (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w - 1) (orthogonal + eta * parallel)."""
        if uncond is None or self.weight == 1:
            return cond
        update = cond - uncond
        if self.momentum:
            if (buffer := state.memory.get("apg")) is not None:
                update.add_(buffer, alpha=self.momentum)
            if state.call == 0:
                state.memory["apg"] = update
        update_sq, update_cond, cond_sq = projection_products(update, cond)
        clip = (self.norm / update_sq.sqrt()).clamp(max=1)  # 0 / 0 cannot occur: norm > 0
        coefficient = torch.where(cond_sq > 0, update_cond / cond_sq, 0.0)
        # D_c + (w - 1) clip (d - (1 - eta) a c), without forming either part
        keep = (self.weight - 1) * clip
        scale = 1 - keep * (1 - self.eta) * coefficient
        return torch.addcmul(_rows(scale, cond) * cond, _rows(keep, cond), update)


def require_finite(argument: str, value: float) -> None:
    """Raise `InputError` unless `value` is a finite number."""
    if not abs(value) < float("inf"):
        raise InputError(argument, found=str(value), expected="a finite number")


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))
