"""Derivatives of one denoiser step: numbers of a guided prediction, captum with its baselines, Jacobians.

    step = make_step(denoiser, x, 1.0, labels, head=projection(direction), weight=3.0)
    attribute_step(step, "IntegratedGradients").by_token
    found = jacobian_directions(denoiser, x, 1.0, labels, of="network.middle1", to="x", count=5)
    push_forward(denoiser, x, 1.0, labels, vector, of="network.middle1")         # J v
    rule = LossGuidance(lambda denoised, sigma: energy(denoised), scale=2.0)     # guidance by the gradient of any loss

Gradients pass through guidance, condition tokens, the state and named sites.
"""

from scorescope.probes.gradients.heads import (
    Head,
    Prediction,
    attribute_score,
    guidance_energy,
    paired_loss,
    projection,
)
from scorescope.probes.gradients.jacobian import (
    JacobianDirections,
    Transported,
    jacobian_directions,
    transport_direction,
)
from scorescope.probes.gradients.jacobian_products import pull_back, push_forward
from scorescope.probes.gradients.loss_guidance import LossGuidance
from scorescope.probes.gradients.step import Step, make_step, same_noise
from scorescope.probes.gradients.step_attribution import (
    Attribution,
    CompletenessWarning,
    activation_baseline,
    attribute_step,
)

__all__ = [
    "Attribution",
    "CompletenessWarning",
    "Head",
    "JacobianDirections",
    "LossGuidance",
    "Prediction",
    "Step",
    "Transported",
    "activation_baseline",
    "attribute_score",
    "attribute_step",
    "guidance_energy",
    "jacobian_directions",
    "make_step",
    "paired_loss",
    "projection",
    "pull_back",
    "push_forward",
    "same_noise",
    "transport_direction",
]
