"""Guidance rules: small frozen dataclasses, called on (cond, uncond, state) in denoised space; w = 1 is no guidance.

    rule = Interval(APG(4.0, norm=15.0), low=0.28, high=5.42)
    rule(cond, uncond, GuidanceState(x, sigma, sigma_next, step=0, call=0))
    Scheduled(CFG(4.0), CosineWeight(4.0, 1.0)), Rescaled(CFG(7.5), phi=0.7), PAG(3.0)

A rule runs unchanged in `sample`, `guide`, `replay` and `sweep`. Skip-layer and smoothed-energy guidance (SLG, SEG)
and autoguidance by the network itself with layers dropped are in `perturbations`.
"""

from scorescope.probes.guidance.adaptive import AdaptiveGuidance, LinearAG, fit_linear_ag
from scorescope.probes.guidance.bands import FrequencyDecoupled
from scorescope.probes.guidance.base import GuidanceState, Rule, describe
from scorescope.probes.guidance.corrections import DynamicThreshold, Rescaled
from scorescope.probes.guidance.draws import GaussianEmbeddings, RandomLabels, RandomRows
from scorescope.probes.guidance.in_space import InSpace
from scorescope.probes.guidance.linear import CFG, CFGPP, ICG, Autoguidance
from scorescope.probes.guidance.perturbed import PAG, TSG, TimePower
from scorescope.probes.guidance.projected import APG, APGMix, CFGZeroStar, MagnitudeAware, TangentialCFG
from scorescope.probes.guidance.wrappers import CosineWeight, Interval, LinearWeight, Scheduled, StepInterval

__all__ = [
    "APG",
    "CFG",
    "CFGPP",
    "ICG",
    "PAG",
    "TSG",
    "APGMix",
    "AdaptiveGuidance",
    "Autoguidance",
    "CFGZeroStar",
    "CosineWeight",
    "DynamicThreshold",
    "FrequencyDecoupled",
    "GaussianEmbeddings",
    "GuidanceState",
    "InSpace",
    "Interval",
    "LinearAG",
    "LinearWeight",
    "MagnitudeAware",
    "RandomLabels",
    "RandomRows",
    "Rescaled",
    "Rule",
    "Scheduled",
    "StepInterval",
    "TangentialCFG",
    "TimePower",
    "describe",
    "fit_linear_ag",
]
