"""The formula that a diffusers guider stands for, with its parameters, as a rule in denoised space.

paper_rule(AdaptiveProjectedGuidance(7.5, eta=0.0), steps=50)      # APG(7.5, eta=0.0, norm=15.0)
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from scorescope.data.doors import checked
from scorescope.probes.experiments.diffusers_guider import RuleGuider
from scorescope.probes.guidance import (
    APG,
    CFG,
    PAG,
    APGMix,
    CFGZeroStar,
    FrequencyDecoupled,
    MagnitudeAware,
    Rescaled,
    Rule,
    StepInterval,
    TangentialCFG,
)

# Guiders of three branches, with the name that their scale and their window of steps begin with; LTX-2 has no window.
PERTURBING = {
    "PerturbedAttentionGuidance": "skip_layer_guidance",
    "SkipLayerGuidance": "skip_layer_guidance",
    "SmoothedEnergyGuidance": "seg_guidance",
    "LTX2Guidance": "stg",
}


@checked
def paper_rule(guider: Any, steps: int) -> Rule | None:
    """The rule in denoised space that a diffusers guider stands for, with its parameters; None where there is none.

    Parameters
    ----------
    guider : object
        A guider of diffusers; others have None. Those of three branches are PAG of whichever perturbed branch they
        make; they have None where their CFG term is limited to a part of the steps, or LTX-2's modality term is on.
    steps : int
        Steps of the run: `start` and `stop` are shares of them. A perturbed branch acts in the steps k with
        start <= k / steps, and k before the whole part of stop * steps.

    Returns
    -------
    Rule or None
        With the guider's own parameters.
    """
    known: dict[str, Callable[[Any, float], Rule | None]] = {
        "ClassifierFreeGuidance": lambda g, w: CFG(w),
        "AutoGuidance": lambda g, w: CFG(w),
        "AdaptiveProjectedGuidance": _apg_of,
        "AdaptiveProjectedMixGuidance": _mix_of,
        **dict.fromkeys(PERTURBING, partial(_perturbed_of, steps=steps)),
        "ClassifierFreeZeroStarGuidance": lambda g, w: CFGZeroStar(w, g.zero_init_steps),
        "TangentialClassifierFreeGuidance": lambda g, w: TangentialCFG(w),
        "MagnitudeAwareGuidance": lambda g, w: MagnitudeAware(w, g.alpha),
        "FrequencyDecoupledGuidance": _bands_of,
    }
    if isinstance(guider, RuleGuider):
        return guider.rule
    make = known.get(type(guider).__name__)
    if make is None:
        return None
    rule = make(guider, (own_scale(guider) or 0.0) + _offset(guider))
    if rule is None:
        return None
    if isinstance(guider.guidance_rescale, float) and guider.guidance_rescale > 0:
        rule = Rescaled(rule, phi=guider.guidance_rescale)
    first, last = _window(guider, steps)
    return rule if (first, last) == (0, steps - 1) or last < first else StepInterval(rule, first=first, last=last)


def _window(guider: Any, steps: int) -> tuple[int, int]:
    """First and last step of a guider's own window."""
    return int(guider._start * steps), int(guider._stop * steps) - 1


def _offset(guider: Any) -> float:
    """What the paper's weight has over the guider's scale; LTX-2's has the paper's convention, and no choice."""
    return float(bool(getattr(guider, "use_original_formulation", False)))


def _mix_of(guider: Any, weight: float) -> Rule:
    return APGMix(
        guider.adaptive_projected_guidance_scale + _offset(guider),
        eta=guider.eta,
        norm=guider.adaptive_projected_guidance_rescale or float("inf"),
        momentum=guider.adaptive_projected_guidance_momentum or 0.0,
        cfg_weight=weight,
        start_step=guider.adaptive_projected_guidance_start_step,
    )


def _perturbed_of(guider: Any, weight: float, *, steps: int) -> Rule | None:
    if _window(guider, steps) != (0, steps - 1) or getattr(guider, "modality_scale", 1.0) != 1:
        return None
    name = PERTURBING[type(guider).__name__]
    start, stop = (float(getattr(guider, f"{name}_{end}", share)) for end, share in (("start", 0.0), ("stop", 1.0)))
    first, last = math.ceil(start * steps), int(stop * steps) - 1
    scale = float(getattr(guider, f"{name}_scale"))
    return PAG(scale, weight=weight, first=first, last=last) if first <= last else CFG(weight)


def _apg_of(guider: Any, weight: float) -> Rule:
    norm = guider.adaptive_projected_guidance_rescale or float("inf")
    return APG(weight, eta=guider.eta, norm=norm, momentum=guider.adaptive_projected_guidance_momentum or 0.0)


def _bands_of(guider: Any, weight: float) -> Rule:
    weights = tuple(float(scale) + _offset(guider) for scale in reversed(guider.guidance_scales))
    kept = tuple(float(share) for share in reversed(guider.parallel_weights))
    return FrequencyDecoupled(weights, None if set(kept) == {1.0} else kept)


def own_scale(guider: Any) -> float | None:
    """The scale of a guider that has one."""
    scale = getattr(guider, "guidance_scale", None)
    return float(scale) if isinstance(scale, int | float) else None
