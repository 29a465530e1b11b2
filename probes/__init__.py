"""Everything that touches a model: denoisers, recording, sampling, guidance rules, activations.

The wings:

    models           what a model is: the `Denoiser` protocol, prediction spaces, conditions, noise
    decomposition    per-sample inner products of the branches, on the device
    pipelines        one engine in an unmodified pipeline: what is called when, and which rows are which branch
    sites            inner modules: kept, changed, patched from another run
    guidance         the rules, in denoised space
    perturbations    rules away from a network with skipped layers or blurred queries
    recording        `record`, `Trace`, the folder on disk
    sampling         samples and paths of a plain denoiser
    experiments      replay, sweeps, a rule inside a pipeline
    activations      what passes through sites: over a bank, along sampling, of a recording
    attention        what image positions attend to in the text, by word, noise level and branch
    sparse           sparse features of activations: autoencoders, trained here or elsewhere, and their edits
    approximations   laws whose denoiser is known: Gaussians, mixtures, the training set
    features         images to features to moments
    bank             fixed noisy points, and comparisons on them
    gradients        one differentiable step, Jacobians, captum
    work             work cut into chunks, made in processes or on a cluster and written once

The names below are those that most work begins with; everything else is in its wing.

    model = load_model("digits")
    run = sample(model.denoiser, seeds=range(64), condition=model.conditions(64), rule=CFG(4.0), record=Recording())
    with record(pipe) as trace:
        pipe("a lighthouse")
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face

if TYPE_CHECKING:
    from scorescope.probes import (
        activations,
        approximations,
        attention,
        bank,
        decomposition,
        experiments,
        features,
        gradients,
        guidance,
        models,
        perturbations,
        pipelines,
        recording,
        sampling,
        sites,
        sparse,
        work,
    )
    from scorescope.probes.activations import collect
    from scorescope.probes.bank import Bank, log_snr_grid
    from scorescope.probes.experiments import guide, replay, sample_pipeline, sweep
    from scorescope.probes.features import open_images
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
        DynamicThreshold,
        FrequencyDecoupled,
        Interval,
        LinearAG,
        MagnitudeAware,
        Rescaled,
        Rule,
        TangentialCFG,
    )
    from scorescope.probes.models import Denoiser, Model, NoiseLevel, load_model, to_denoised
    from scorescope.probes.perturbations import SEG, SLG
    from scorescope.probes.recording import Recording, Site, Trace, record
    from scorescope.probes.sampling import sample
    from scorescope.probes.sites import Direction, Intervention, intervene
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = [
    "APG",
    "CFG",
    "CFGPP",
    "ICG",
    "PAG",
    "SEG",
    "SLG",
    "TSG",
    "AdaptiveGuidance",
    "Autoguidance",
    "Bank",
    "CFGZeroStar",
    "Denoiser",
    "Direction",
    "DynamicThreshold",
    "FrequencyDecoupled",
    "Interval",
    "Intervention",
    "LinearAG",
    "MagnitudeAware",
    "Model",
    "NoiseLevel",
    "Recording",
    "Rescaled",
    "Rule",
    "Site",
    "TangentialCFG",
    "Trace",
    "activations",
    "approximations",
    "attention",
    "bank",
    "collect",
    "decomposition",
    "experiments",
    "features",
    "gradients",
    "guidance",
    "guide",
    "intervene",
    "load_model",
    "log_snr_grid",
    "models",
    "open_images",
    "perturbations",
    "pipelines",
    "record",
    "recording",
    "replay",
    "sample",
    "sample_pipeline",
    "sampling",
    "sites",
    "sparse",
    "sweep",
    "to_denoised",
    "work",
]
