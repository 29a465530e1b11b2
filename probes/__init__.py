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
from scorescope.probes.guidance import APG, CFG, GuidanceState, Rule
from scorescope.probes.models import Model, load_model
from scorescope.probes.noise import SampleNoise, edm_sigmas
from scorescope.probes.recording.level import Level
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.session import record
from scorescope.probes.recording.sites import Site
from scorescope.probes.recording.store import TraceError
from scorescope.probes.sampling import Run, sample
from scorescope.probes.solvers import DPMSolverPP2M, Euler, Heun, Solver
from scorescope.probes.spaces import SPACES, NoiseLevel, Space, from_denoised, to_denoised
from scorescope.probes.trace import Recording, ScalarRecorder, Trace

__all__ = [
    "APG",
    "CFG",
    "SPACES",
    "BudgetError",
    "Condition",
    "DPMSolverPP2M",
    "Denoiser",
    "Euler",
    "GuidanceState",
    "Heun",
    "Level",
    "Model",
    "NoiseLevel",
    "Recording",
    "Rule",
    "Run",
    "SampleNoise",
    "ScalarRecorder",
    "Site",
    "Solver",
    "Space",
    "Trace",
    "TraceError",
    "band_products",
    "branch_products",
    "centred_products",
    "edm_sigmas",
    "from_denoised",
    "guided_products",
    "image_statistics",
    "load_model",
    "projection_products",
    "record",
    "sample",
    "to_denoised",
]
