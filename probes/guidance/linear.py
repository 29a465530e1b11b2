"""Rules that are linear in their branches: CFG and the rules that change what stands in for `uncond`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import (
    COND,
    UNCOND,
    WEAK,
    GuidanceState,
    NetworkDenoiser,
    Products,
    WeakNetwork,
    WeightedRule,
    require_finite,
    required,
    sample_generators,
)
from scorescope.probes.guidance.combination import Combination, factors
from scorescope.probes.models.denoiser import Condition, Denoiser


@displayed
@checked
@dataclass(frozen=True)
class CFG(WeightedRule):
    """Classifier-free guidance, D_u + w (D_c - D_u) (Ho & Salimans 2022, arXiv 2207.12598).

    Attributes
    ----------
    weight : float
        w = 1 is the conditional prediction, w = 0 the unconditional one.
    """

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_u + w (D_c - D_u)."""
        if self.weight == 1:
            return cond
        return torch.lerp(required(uncond, cond), cond, self.weight)

    def combination(self, products: Products, state: GuidanceState) -> Combination:
        """w - 1 times the update."""
        return factors(state, update=self.weight - 1)


@displayed
@checked
@dataclass(frozen=True)
class Autoguidance(WeightedRule):
    """Guidance by a weaker model with the same condition, D_0 + w (D_1 - D_0) (Karras et al. 2024, 2406.02507).

    Attributes
    ----------
    weight : float
        w; at 1 the weak model is not called.
    weak : Denoiser or WeakNetwork
        D_0: smaller or less trained, degraded in the same way as the main model. Inside a pipeline (`guide`) it is
        what could stand in place of the pipeline's network: a module that is called with the same arguments. Or the
        network itself without some of its layers, `perturbations.SkippedLayers`.
    """

    weak: Denoiser | WeakNetwork
    branch_parameters: ClassVar[tuple[str, ...]] = ("weak",)

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """The weak model stands where CFG has the unconditional branch, and is named for what it is."""
        return (COND,) if self.weight == 1 else (COND, WEAK)

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """The weak model's prediction under the same condition."""
        if branch != WEAK:
            return None
        if isinstance(self.weak, WeakNetwork):
            return self.weak.weak_prediction(denoiser, x, sigma, condition, state)
        if isinstance(denoiser, NetworkDenoiser):
            return denoiser.around(self.weak, argument="weak")(x, sigma, condition)
        shape = getattr(self.weak, "shape", None)
        if shape is not None and tuple(shape) != tuple(x.shape[1:]):
            expected = f"one of {tuple(x.shape[1:])}, like the model that it guides"
            raise InputError("weak", found=f"a model of data of shape {tuple(shape)}", expected=expected)
        return self.weak(x, sigma, condition)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_0 + w (D_1 - D_0)."""
        if self.weight == 1:
            return cond
        return torch.lerp(required(state.others.get(WEAK), cond, name=WEAK), cond, self.weight)


@displayed
@checked
@dataclass(frozen=True)
class ICG(CFG):
    """Independent condition guidance: a random condition in place of none (Sadat et al. 2025, arXiv 2407.02687).

    The rule is that of CFG, D_r + w (D_c - D_r) with D_r under the random condition.

    Attributes
    ----------
    weight : float
        w.
    draw : callable
        (generators, condition) to a condition like `condition` that is independent of the sample; one generator
        a sample. `RandomLabels` makes one for class labels, `RandomRows` and `GaussianEmbeddings` for others; what
        the condition is inside a pipeline is told there (`guidance.draws`).
    """

    draw: Callable[[list[torch.Generator], Condition], Condition]
    own_branches: ClassVar[tuple[str, ...]] = (UNCOND,)
    own_reference: ClassVar[str] = "independent"
    branch_parameters: ClassVar[tuple[str, ...]] = ("draw",)

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """The prediction under a random condition, in place of the unconditional one."""
        return denoiser(x, sigma, self.draw(sample_generators(state, 1), condition)) if branch == UNCOND else None


@displayed
@checked
@dataclass(frozen=True)
class CFGPP:
    """CFG++ (Chung et al. 2025, arXiv 2406.08070) as the step-dependent weight that it equals at first order.

    CFG++ steps to D_lambda + sigma' (x - D_u) / sigma: guided by lambda <= 1, re-noised by the unconditional
    prediction. For a first-order step that is CFG with w = lambda sigma / (sigma - sigma'), so the strength grows
    with the number of steps. `EulerRenoised` with `CFG(lambda)` takes the step as the paper writes it.

    Attributes
    ----------
    strength : float
        lambda.
    """

    strength: float

    def __post_init__(self) -> None:
        require_finite("strength", self.strength)

    @property
    def weight(self) -> float:
        """lambda: the weight of the last step, to sigma = 0."""
        return self.strength

    def effective_weight(self, state: GuidanceState) -> float:
        """w of the CFG step that this step equals.

        Raises
        ------
        InputError
            In a correction of a second-order solver, where there is no such weight.
        """
        if not state.sigma_next < state.sigma:
            found = f"a step from {state.sigma:.4g} to {state.sigma_next:.4g}"
            raise InputError("solver", found=found, expected="first-order steps down the noise levels (Euler)")
        return self.strength * state.sigma / (state.sigma - state.sigma_next)

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Always both: the unconditional prediction is what re-noises."""
        return (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """CFG at the effective weight."""
        return CFG(self.effective_weight(state))(cond, uncond, state)

    def combination(self, products: Products, state: GuidanceState) -> Combination:
        """As CFG at the effective weight."""
        return CFG(self.effective_weight(state)).combination(products, state)
