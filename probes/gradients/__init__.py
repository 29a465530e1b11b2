"""gradients"""

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
from scorescope.probes.gradients.step import Step, make_step, same_noise
from scorescope.probes.gradients.step_attribution import (
    Attribution,
    CompletenessWarning,
    attribute_step,
    mean_activation,
)

__all__ = [
    "Attribution",
    "CompletenessWarning",
    "Head",
    "JacobianDirections",
    "Prediction",
    "Step",
    "Transported",
    "attribute_score",
    "attribute_step",
    "guidance_energy",
    "jacobian_directions",
    "make_step",
    "mean_activation",
    "paired_loss",
    "projection",
    "pull_back",
    "push_forward",
    "same_noise",
    "transport_direction",
]
