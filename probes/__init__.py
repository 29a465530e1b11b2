"""Everything that touches a model: denoisers, sampling, guidance rules, and what is recorded of them."""

from scorescope.probes.decomposition import (
    band_products,
    branch_products,
    centred_products,
    guided_products,
    image_statistics,
    projection_products,
)
from scorescope.probes.denoiser import Condition, Denoiser
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGPP,
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    CosineWeight,
    DynamicThreshold,
    FrequencyDecoupled,
    GuidanceState,
    Interval,
    LinearAG,
    LinearWeight,
    MagnitudeAware,
    Rescaled,
    Rule,
    Scheduled,
    StepInterval,
    TangentialCFG,
    describe,
    fit_linear_ag,
    random_labels,
)
from scorescope.probes.guider import Guide, as_guider, guide
from scorescope.probes.models import Model, load_model
from scorescope.probes.noise import SampleNoise, edm_sigmas
from scorescope.probes.recording.level import Level
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.session import record
from scorescope.probes.recording.sites import Site
from scorescope.probes.recording.store import TraceError
from scorescope.probes.replay import replay, replay_all, visits
from scorescope.probes.sampling import Run, sample
from scorescope.probes.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.spaces import SPACES, NoiseLevel, Space, from_denoised, to_denoised
from scorescope.probes.sweep import Setting, sweep
from scorescope.probes.trace import Recording, ScalarRecorder, Trace, Visit

__all__ = [
    "APG",
    "CFG",
    "CFGPP",
    "ICG",
    "PAG",
    "SPACES",
    "TSG",
    "AdaptiveGuidance",
    "Autoguidance",
    "BudgetError",
    "CFGZeroStar",
    "Condition",
    "CosineWeight",
    "DPMSolverPP2M",
    "Denoiser",
    "DynamicThreshold",
    "Euler",
    "EulerRenoised",
    "FrequencyDecoupled",
    "GuidanceState",
    "Guide",
    "Heun",
    "Interval",
    "Level",
    "LinearAG",
    "LinearWeight",
    "MagnitudeAware",
    "Model",
    "NoiseLevel",
    "Recording",
    "Rescaled",
    "Rule",
    "Run",
    "SampleNoise",
    "ScalarRecorder",
    "Scheduled",
    "Setting",
    "Site",
    "Solver",
    "Space",
    "StepInterval",
    "TangentialCFG",
    "Trace",
    "TraceError",
    "Visit",
    "as_guider",
    "band_products",
    "branch_products",
    "centred_products",
    "describe",
    "edm_sigmas",
    "fit_linear_ag",
    "from_denoised",
    "guide",
    "guided_products",
    "image_statistics",
    "load_model",
    "projection_products",
    "random_labels",
    "record",
    "replay",
    "replay_all",
    "sample",
    "sweep",
    "to_denoised",
    "visits",
]
