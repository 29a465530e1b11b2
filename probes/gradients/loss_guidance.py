"""Guidance by the gradient of any loss: a classifier, a measurement, an energy, as a rule in denoised space.

    rule = LossGuidance(lambda denoised, sigma: -classifier(denoised)[:, 3], scale=1.0)
    sample(denoiser, seeds=range(64), condition=labels, rule=rule, record=Recording())

What it adds to D is recorded and decomposed like the update of other rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import COND, PERTURBED, UNCOND, GuidanceState, require_finite, required
from scorescope.probes.models.denoiser import Condition, Denoiser


@displayed
@checked
@dataclass(frozen=True)
class LossGuidance:
    """D_c + (w - 1) (D_c - D_u) + s (D_c - D_p), with D_p = D_c + f(sigma) times a gradient of the loss.

    With f = sigma^2, a loss -log p(y | x) of the noisy state and s = 1 this is the conditional denoiser, exactly. The
    other two put what they know of y given the prediction in place of that.

    Attributes
    ----------
    loss : callable
        (value, sigma) to a loss a sample, shape (batch,), in nats; value as `of` says, sigma of shape (batch,).
    scale : float
        s.
    of : {"denoiser", "prediction", "state"}
        What the loss is of, and its gradient by what. `denoiser`: of D(x), by x, through the denoiser (diffusion
        posterior sampling, Chung et al. 2023, arXiv 2209.14687; universal guidance, Bansal et al. 2023, arXiv
        2302.07121). `prediction`: of D, by D, without the denoiser's Jacobian (MPGD, He et al. 2024, arXiv 2311.16424).
        `state`: of the noisy x, by x, as of a classifier trained on noisy data (Dhariwal & Nichol 2021, arXiv
        2105.05233).
    strength : callable, optional
        f, of sigma; None is sigma^2. Of `prediction` that is far too much at high noise.
    project : callable, optional
        Takes the guided prediction, at s = 1, back to where data lie, as an autoencoder does; of `prediction` alone.
    weight : float
        w of the CFG term; 1 is none.
    low, high : float
        Noise levels between which it acts, low < sigma <= high.

    Notes
    -----
    D_p costs one more call of the denoiser a state, of `denoiser` with its backward pass. Inside a pipeline `denoiser`
    is refused, for its network is called again at the pipeline's own state alone.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    scale: float = 1.0
    of: Literal["denoiser", "prediction", "state"] = "denoiser"
    strength: Callable[[float], float] | None = None
    project: Callable[[Tensor], Tensor] | None = None
    weight: float = 1.0
    low: float = 0.0
    high: float = float("inf")
    branch_parameters: ClassVar[tuple[str, ...]] = ("loss", "of", "strength", "project")

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)
        require_finite("weight", self.weight)
        if not 0 <= self.low < self.high:
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 <= low < high")
        if self.project is not None and self.of != "prediction":
            raise InputError("project", found=f"a projection of {self.of}", expected="one of 'prediction' alone")

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Two or three branches."""
        uncond = (UNCOND,) if self.weight != 1 else ()
        return (COND, *uncond, PERTURBED) if self._acts(state) else (COND, *uncond)

    def _acts(self, state: GuidanceState) -> bool:
        return bool(self.scale) and self.low < state.sigma <= self.high

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """D_c, moved up the loss."""
        if branch != PERTURBED:
            return None
        with torch.enable_grad():
            at = x.detach().requires_grad_() if self.of == "denoiser" else x
            denoised = denoiser(at, sigma, condition)
            if self.of != "denoiser":
                at = (x if self.of == "state" else denoised).detach().requires_grad_()
            gradient = self._gradient(denoised if self.of == "denoiser" else at, at, sigma)
        denoised = denoised.detach()
        up = (state.sigma**2 if self.strength is None else float(self.strength(state.sigma))) * gradient
        if self.project is not None:
            up = denoised - self.project(denoised - up)
        return denoised + up

    def _gradient(self, value: Tensor, at: Tensor, sigma: Tensor) -> Tensor:
        losses = self.loss(value, sigma)
        if tuple(losses.shape) != (len(value),) or not losses.requires_grad:
            found = f"a loss of shape {tuple(losses.shape)}" + ("" if losses.requires_grad else " without a gradient")
            raise InputError(
                "loss", found=found, expected=f"shape ({len(value)},), one a sample, that is differentiable"
            )
        (found_gradient,) = torch.autograd.grad(losses.sum(), at)
        return found_gradient

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w - 1) (D_c - D_u) + s (D_c - D_p)."""
        guided = cond if self.weight == 1 else torch.lerp(required(uncond, cond), cond, self.weight)
        if not self._acts(state):
            return guided
        return guided + self.scale * (cond - required(state.others.get(PERTURBED), cond, name=PERTURBED))
