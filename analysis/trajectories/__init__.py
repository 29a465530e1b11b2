"""Paths of a sampler: what a solver gets wrong at which step, what its calls give, how a path bends.

    weighted_losses({"model": denoiser}, {"held out": images}, sigmas, sigma_data=0.5)       # as it is trained
    local_errors(denoiser, 80.0 * noise, edm_sigmas(18), {"Heun": Heun()})                   # of each step alone
    solver_errors(denoiser, 80.0 * noise, edm_sigmas(10), DPMSolverPP2M()).steps()           # and what becomes of it
    embedded_errors(path), halved_errors(denoiser, path, Euler(), order=1)                   # estimates for few calls
    tuned = tuned_schedule(denoiser, start, edm_sigmas(8), DPMSolverPP2M())                  # a better schedule
    end_errors(denoiser, others, {("2M", "rho 7"): (solver, edm_sigmas(8)), ("2M", "tuned"): (solver, tuned.sigmas)})
    steps_table({("Heun", "rho 7", 18): setting}, fine=samples, reference=real)              # what calls buy
    effective_weights(CFGPP(0.6), edm_sigmas(50))          # the weight of CFG that a rule comes to in each step
    divergence(later, earlier, samples, sigmas)                                              # between checkpoints
    site_magnitudes(denoiser, ["network.middle1"], images, [0.1, 1.0, 10.0])                 # do they grow?

    path = run_path(denoiser, 80.0 * noise, edm_sigmas(60))        # or recorded_path(trace), also of a pipeline
    path_geometry(path), path_shape(path, gaussian)                # where it bends; ranks beside a Gaussian's
    products_along(path)                                           # for both, where the path is large
    decisions(path, edges=(0.125, 0.25)), decision_levels(path)    # when the sample is decided
    moment_bias(path, gaussian, solver=Heun()), effective_noise(denoiser, path), step_noise(trace)

Checkpoints are sampled from the same seeds by `probes.experiments.sweep_models`.
"""

from scorescope.analysis.trajectories.added_noise import step_noise
from scorescope.analysis.trajectories.decided import decision_levels, decisions
from scorescope.analysis.trajectories.divergence import divergence
from scorescope.analysis.trajectories.end_errors import end_errors, observed_orders, reference_ends
from scorescope.analysis.trajectories.error_estimates import embedded_errors, halved_errors
from scorescope.analysis.trajectories.geometry import path_geometry
from scorescope.analysis.trajectories.local_errors import local_errors
from scorescope.analysis.trajectories.losses import skip_only, weighted_losses
from scorescope.analysis.trajectories.magnitudes import block_sites, site_magnitudes
from scorescope.analysis.trajectories.moments import moment_bias
from scorescope.analysis.trajectories.noise_levels import effective_noise
from scorescope.analysis.trajectories.path_products import products_along
from scorescope.analysis.trajectories.recorded import recorded_path
from scorescope.analysis.trajectories.schedules import cheapest_levels, equal_error_schedule, pairwise_costs
from scorescope.analysis.trajectories.shape import gaussian_path, path_shape
from scorescope.analysis.trajectories.step_errors import SolverErrors, solver_errors
from scorescope.analysis.trajectories.step_weights import effective_weights
from scorescope.analysis.trajectories.steps import steps_table
from scorescope.analysis.trajectories.tuned_schedules import TunedSchedule, tuned_schedule

__all__ = [
    "SolverErrors",
    "TunedSchedule",
    "block_sites",
    "cheapest_levels",
    "decision_levels",
    "decisions",
    "divergence",
    "effective_noise",
    "effective_weights",
    "embedded_errors",
    "end_errors",
    "equal_error_schedule",
    "gaussian_path",
    "halved_errors",
    "local_errors",
    "moment_bias",
    "observed_orders",
    "pairwise_costs",
    "path_geometry",
    "path_shape",
    "products_along",
    "recorded_path",
    "reference_ends",
    "site_magnitudes",
    "skip_only",
    "solver_errors",
    "step_noise",
    "steps_table",
    "tuned_schedule",
    "weighted_losses",
]
