"""Networks and runs disturbed: guidance away from skipped layers or blurred queries, rounded models, changed steps.

    SLG(2.5, sites=("transformer_blocks.7", "transformer_blocks.8", "transformer_blocks.9"), weight=4.0, last=7)
    SEG(3.0, sites=("mid_block.attentions.0.transformer_blocks.0.attn1",))
    Autoguidance(2.0, weak=SkippedLayers(("network.middle1",), dropout=0.1))
    Rounded(denoiser, bits=4)                                    # weights as integers of 4 bits would be
    sample(denoiser, seeds=range(64), condition=labels, solver=ChangedSteps(Heun(), {3: Repeated()}))

SLG and SEG are rules like those of `guidance`, where PAG and TSG are: they run in `sample`, `guide`, `replay` and
`sweep`.
"""

from scorescope.probes.perturbations.blurred_queries import SEG
from scorescope.probes.perturbations.rounded import Rounded
from scorescope.probes.perturbations.skipped_layers import SLG, SkippedLayers
from scorescope.probes.perturbations.step_changes import (
    Change,
    ChangedSteps,
    LeftOut,
    Nudged,
    Repeated,
    Replaced,
    Unguided,
)

__all__ = [
    "SEG",
    "SLG",
    "Change",
    "ChangedSteps",
    "LeftOut",
    "Nudged",
    "Repeated",
    "Replaced",
    "Rounded",
    "SkippedLayers",
    "Unguided",
]
