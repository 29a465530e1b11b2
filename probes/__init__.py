"""Everything that touches a model: denoisers, sampling, guidance rules, and what is recorded of them."""

from scorescope.probes.approximations import (
    Batches,
    Gaussian,
    ImageFolder,
    Mixture,
    TrainingSet,
    fit_gaussian,
    fit_isotropic,
    fit_kmeans,
    fit_per_class,
    load_approximation,
    save_approximation,
)
from scorescope.probes.attribution import gradcam_maps, occlusion_maps
from scorescope.probes.decoding import Decoder, decode, vae_decoder
from scorescope.probes.decomposition import (
    band_products,
    branch_products,
    centred_products,
    guided_products,
    image_statistics,
    projection_products,
)
from scorescope.probes.denoiser import Condition, Denoiser
from scorescope.probes.edm2_references import read_edm2_reference
from scorescope.probes.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    module_extractor,
    pixel_extractor,
    spatial_extractor,
)
from scorescope.probes.features import Features, extract, extract_maps, stream_moments
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
    RandomLabels,
    Rescaled,
    Rule,
    Scheduled,
    StepInterval,
    TangentialCFG,
    describe,
    fit_linear_ag,
)
from scorescope.probes.guided_pipeline import Guide, guide
from scorescope.probes.guider import as_guider
from scorescope.probes.images import made_images, open_images, tensor_images
from scorescope.probes.inception_weights import convert_inception, load_class_names
from scorescope.probes.models import Model, load_model
from scorescope.probes.moments import Moments, RunningMoments, read_moments, write_moments
from scorescope.probes.noise import SampleNoise, edm_sigmas
from scorescope.probes.paths import Path, run_path
from scorescope.probes.pipeline_runs import sample_pipeline
from scorescope.probes.public_extractors import clip_extractor, dinov2_extractor, timm_extractor
from scorescope.probes.recording.level import Level
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.session import record
from scorescope.probes.recording.sites import Site
from scorescope.probes.recording.store import TraceError
from scorescope.probes.replay import replay, replay_all, visits
from scorescope.probes.sampling import Run, sample
from scorescope.probes.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.spaces import SPACES, NoiseLevel, Space, from_denoised, to_denoised
from scorescope.probes.sweep import Setting, sweep, with_weight
from scorescope.probes.teleport import pipeline_start, sample_teleported, teleport
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
    "Batches",
    "BudgetError",
    "CFGZeroStar",
    "Condition",
    "CosineWeight",
    "DPMSolverPP2M",
    "Decoder",
    "Denoiser",
    "DynamicThreshold",
    "Euler",
    "EulerRenoised",
    "Extractor",
    "Features",
    "FrequencyDecoupled",
    "Gaussian",
    "GuidanceState",
    "Guide",
    "Heun",
    "ImageFolder",
    "Interval",
    "Level",
    "LinearAG",
    "LinearWeight",
    "MagnitudeAware",
    "Mixture",
    "Model",
    "Moments",
    "NoiseLevel",
    "Path",
    "RandomLabels",
    "Recording",
    "Rescaled",
    "Rule",
    "Run",
    "RunningMoments",
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
    "TrainingSet",
    "Visit",
    "as_guider",
    "band_products",
    "branch_products",
    "centred_products",
    "classifier_extractor",
    "clip_extractor",
    "convert_inception",
    "decode",
    "describe",
    "dinov2_extractor",
    "edm_sigmas",
    "extract",
    "extract_maps",
    "fit_gaussian",
    "fit_isotropic",
    "fit_kmeans",
    "fit_linear_ag",
    "fit_per_class",
    "from_denoised",
    "gradcam_maps",
    "guide",
    "guided_products",
    "image_statistics",
    "inception_extractor",
    "load_approximation",
    "load_class_names",
    "load_model",
    "made_images",
    "module_extractor",
    "occlusion_maps",
    "open_images",
    "pipeline_start",
    "pixel_extractor",
    "projection_products",
    "read_edm2_reference",
    "read_moments",
    "record",
    "replay",
    "replay_all",
    "run_path",
    "sample",
    "sample_pipeline",
    "sample_teleported",
    "save_approximation",
    "spatial_extractor",
    "stream_moments",
    "sweep",
    "teleport",
    "tensor_images",
    "timm_extractor",
    "to_denoised",
    "vae_decoder",
    "visits",
    "with_weight",
    "write_moments",
]
