"""Everything that touches a model: denoisers, sampling, guidance rules, and what is recorded of them."""

from scorescope.probes.activation_cache import ActivationCache
from scorescope.probes.activations import Activations, collect, sample_with_sites, trace_activations
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
from scorescope.probes.arm_rows import RunArm
from scorescope.probes.arms import ArmBatch, Sampling, run_arms, sample_arms
from scorescope.probes.attribution import gradcam_maps, occlusion_maps
from scorescope.probes.bank import Bank, Point, log_snr_grid
from scorescope.probes.cached import cached
from scorescope.probes.comparison import Arm, compare_arms
from scorescope.probes.comparison_sums import Comparison
from scorescope.probes.condition_switch import SwitchingDenoiser
from scorescope.probes.conditions import attribute_candidates, open_attributes
from scorescope.probes.controls import random_directions, shuffled_direction
from scorescope.probes.corruption import noisy_condition
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
from scorescope.probes.differentiable import (
    Head,
    Prediction,
    Step,
    attribute_score,
    guidance_energy,
    make_step,
    paired_loss,
    projection,
    same_noise,
)
from scorescope.probes.direction import Direction
from scorescope.probes.edm2_references import read_edm2_reference
from scorescope.probes.extractors import (
    Extractor,
    classifier_extractor,
    inception_extractor,
    module_extractor,
    pixel_extractor,
    spatial_extractor,
    spatial_readings,
)
from scorescope.probes.features import Features, extract, extract_maps, extract_spatial, stream_maps, stream_moments
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGPP,
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    APGMix,
    Autoguidance,
    CFGZeroStar,
    CosineWeight,
    DynamicThreshold,
    FrequencyDecoupled,
    GaussianEmbeddings,
    GuidanceState,
    Interval,
    LinearAG,
    LinearWeight,
    MagnitudeAware,
    RandomLabels,
    RandomRows,
    Rescaled,
    Rule,
    Scheduled,
    StepInterval,
    TangentialCFG,
    TimePower,
    describe,
    fit_linear_ag,
)
from scorescope.probes.guided_pipeline import Guide, guide
from scorescope.probes.guider import as_guider
from scorescope.probes.images import made_images, open_images, tensor_images
from scorescope.probes.inception_weights import convert_inception, load_class_names
from scorescope.probes.intervene import cache_activations, intervene
from scorescope.probes.intervened import intervened
from scorescope.probes.interventions import Intervention
from scorescope.probes.jacobian import JacobianDirections, Transported, jacobian_directions, transport_direction
from scorescope.probes.jacobian_products import pull_back, push_forward
from scorescope.probes.masks import open_masks
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
from scorescope.probes.step_attribution import Attribution, CompletenessWarning, attribute_step, mean_activation
from scorescope.probes.sweep import Setting, sweep, with_weight
from scorescope.probes.teleport import pipeline_start, sample_teleported, teleport
from scorescope.probes.token_shift import subject_tokens, with_tokens
from scorescope.probes.trace import Recording, ScalarRecorder, Trace, Visit

__all__ = [
    "APG",
    "CFG",
    "CFGPP",
    "ICG",
    "PAG",
    "SPACES",
    "TSG",
    "APGMix",
    "ActivationCache",
    "Activations",
    "AdaptiveGuidance",
    "Arm",
    "ArmBatch",
    "Attribution",
    "Autoguidance",
    "Bank",
    "Batches",
    "BudgetError",
    "CFGZeroStar",
    "Comparison",
    "CompletenessWarning",
    "Condition",
    "CosineWeight",
    "DPMSolverPP2M",
    "Decoder",
    "Denoiser",
    "Direction",
    "DynamicThreshold",
    "Euler",
    "EulerRenoised",
    "Extractor",
    "Features",
    "FrequencyDecoupled",
    "Gaussian",
    "GaussianEmbeddings",
    "GuidanceState",
    "Guide",
    "Head",
    "Heun",
    "ImageFolder",
    "Interval",
    "Intervention",
    "JacobianDirections",
    "Level",
    "LinearAG",
    "LinearWeight",
    "MagnitudeAware",
    "Mixture",
    "Model",
    "Moments",
    "NoiseLevel",
    "Path",
    "Point",
    "Prediction",
    "RandomLabels",
    "RandomRows",
    "Recording",
    "Rescaled",
    "Rule",
    "Run",
    "RunArm",
    "RunningMoments",
    "SampleNoise",
    "Sampling",
    "ScalarRecorder",
    "Scheduled",
    "Setting",
    "Site",
    "Solver",
    "Space",
    "Step",
    "StepInterval",
    "SwitchingDenoiser",
    "TangentialCFG",
    "TimePower",
    "Trace",
    "TraceError",
    "TrainingSet",
    "Transported",
    "Visit",
    "as_guider",
    "attribute_candidates",
    "attribute_score",
    "attribute_step",
    "band_products",
    "branch_products",
    "cache_activations",
    "cached",
    "centred_products",
    "classifier_extractor",
    "clip_extractor",
    "collect",
    "compare_arms",
    "convert_inception",
    "decode",
    "describe",
    "dinov2_extractor",
    "edm_sigmas",
    "extract",
    "extract_maps",
    "extract_spatial",
    "fit_gaussian",
    "fit_isotropic",
    "fit_kmeans",
    "fit_linear_ag",
    "fit_per_class",
    "from_denoised",
    "gradcam_maps",
    "guidance_energy",
    "guide",
    "guided_products",
    "image_statistics",
    "inception_extractor",
    "intervene",
    "intervened",
    "jacobian_directions",
    "load_approximation",
    "load_class_names",
    "load_model",
    "log_snr_grid",
    "made_images",
    "make_step",
    "mean_activation",
    "module_extractor",
    "noisy_condition",
    "occlusion_maps",
    "open_attributes",
    "open_images",
    "open_masks",
    "paired_loss",
    "pipeline_start",
    "pixel_extractor",
    "projection",
    "projection_products",
    "pull_back",
    "push_forward",
    "random_directions",
    "read_edm2_reference",
    "read_moments",
    "record",
    "replay",
    "replay_all",
    "run_arms",
    "run_path",
    "same_noise",
    "sample",
    "sample_arms",
    "sample_pipeline",
    "sample_teleported",
    "sample_with_sites",
    "save_approximation",
    "shuffled_direction",
    "spatial_extractor",
    "spatial_readings",
    "stream_maps",
    "stream_moments",
    "subject_tokens",
    "sweep",
    "teleport",
    "tensor_images",
    "timm_extractor",
    "to_denoised",
    "trace_activations",
    "transport_direction",
    "vae_decoder",
    "visits",
    "with_tokens",
    "with_weight",
    "write_moments",
]
