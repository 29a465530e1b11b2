"""Guidance rules in denoised space, and how they are put together.

rule = Interval(APG(4.0, norm=2.5, momentum=-0.75), low=0.28, high=5.42)
guided = rule(cond, uncond, state)
"""

from scorescope.probes.guidance.adaptive import AdaptiveGuidance, LinearAG, fit_linear_ag
from scorescope.probes.guidance.bands import FrequencyDecoupled, laplacian_pyramid
from scorescope.probes.guidance.base import (
    COND,
    PERTURBED,
    UNCOND,
    WEAK,
    BranchRule,
    GuidanceState,
    NetworkDenoiser,
    Products,
    RowRule,
    Rule,
    describe,
    evaluations_needed,
)
from scorescope.probes.guidance.combination import Combination, CombinationRule, combination_of
from scorescope.probes.guidance.corrections import DynamicThreshold, Rescaled
from scorescope.probes.guidance.draws import GaussianEmbeddings, RandomLabels, RandomRows
from scorescope.probes.guidance.linear import CFG, CFGPP, ICG, Autoguidance
from scorescope.probes.guidance.perturbed import PAG, TSG, TimePower
from scorescope.probes.guidance.projected import APG, APGMix, CFGZeroStar, MagnitudeAware, TangentialCFG
from scorescope.probes.guidance.wrappers import (
    CosineWeight,
    Interval,
    LinearWeight,
    Scheduled,
    StepInterval,
)

__all__ = [
    "APG",
    "CFG",
    "CFGPP",
    "COND",
    "ICG",
    "PAG",
    "PERTURBED",
    "TSG",
    "UNCOND",
    "WEAK",
    "APGMix",
    "AdaptiveGuidance",
    "Autoguidance",
    "BranchRule",
    "CFGZeroStar",
    "Combination",
    "CombinationRule",
    "CosineWeight",
    "DynamicThreshold",
    "FrequencyDecoupled",
    "GaussianEmbeddings",
    "GuidanceState",
    "Interval",
    "LinearAG",
    "LinearWeight",
    "MagnitudeAware",
    "NetworkDenoiser",
    "Products",
    "RandomLabels",
    "RandomRows",
    "Rescaled",
    "RowRule",
    "Rule",
    "Scheduled",
    "StepInterval",
    "TangentialCFG",
    "TimePower",
    "combination_of",
    "describe",
    "evaluations_needed",
    "fit_linear_ag",
    "laplacian_pyramid",
]
