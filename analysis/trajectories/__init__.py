"""Paths of a sampler: what a solver gets wrong at which step, what its calls give, how a path bends.

    weighted_losses({"model": denoiser}, {"held out": images}, sigmas, sigma_data=0.5)       # as it is trained
    local_errors(denoiser, 80.0 * noise, edm_sigmas(18), {"Heun": Heun()})                   # of each step alone
    steps_table({("Heun", "rho 7", 18): setting}, fine=samples, reference=real)              # what calls buy
    effective_weights(CFGPP(0.6), edm_sigmas(50))          # the weight of CFG that a rule comes to in each step
    path_geometry(run_path(denoiser, 80.0 * noise, edm_sigmas(60)))                          # where paths bend
    divergence(later, earlier, samples, sigmas)                                              # between checkpoints
    site_magnitudes(denoiser, ["network.middle1"], images, [0.1, 1.0, 10.0])                 # do they grow?

Checkpoints are sampled from the same seeds by `probes.experiments.sweep_models`.
"""

from scorescope.analysis.trajectories.divergence import divergence
from scorescope.analysis.trajectories.geometry import path_geometry
from scorescope.analysis.trajectories.local_errors import local_errors
from scorescope.analysis.trajectories.losses import skip_only, weighted_losses
from scorescope.analysis.trajectories.magnitudes import block_sites, site_magnitudes
from scorescope.analysis.trajectories.step_weights import effective_weights
from scorescope.analysis.trajectories.steps import steps_table

__all__ = [
    "block_sites",
    "divergence",
    "effective_weights",
    "local_errors",
    "path_geometry",
    "site_magnitudes",
    "skip_only",
    "steps_table",
    "weighted_losses",
]
