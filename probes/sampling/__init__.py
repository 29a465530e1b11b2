"""Samples and paths of a plain denoiser: solvers, rules, many interventions side by side, teleportation.

    run = sample(denoiser, seeds=range(64), condition=labels, rule=CFG(4.0), solver=Heun())
    run.samples, run.trace
    path = run_path(denoiser, x, edm_sigmas(60)[:-1])
    sample_arms(denoiser, [RunArm("bare"), RunArm("off", (off,))], seeds=range(64), condition=labels)
    sample_teleported(denoiser, gaussian, seeds=range(64), sigma_skip=8.0, sigmas=edm_sigmas(18))
    run_path(RuleField(denoiser, CFG(4.0)), x, sigmas, solver=scheduler_solver(UniPCMultistepScheduler, solver_order=3))
    pipe.scheduler.set_timesteps(**scheduler_arguments(pipe.scheduler, sigmas).arguments)

Everything random about a sample comes from its seed. Rules are in `probes.guidance`, noise levels in `probes.models`.
"""

from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import ArmBatch, Sampling, run_arms, sample_arms
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.grids import (
    SchedulerArguments,
    ays_sigmas,
    scheduler_arguments,
    scheduler_sigmas,
    uniform_log_sigmas,
)
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.paths import Path, run_path, run_to_end
from scorescope.probes.sampling.reference import RungeKutta, RungeKutta4
from scorescope.probes.sampling.rule_field import RuleField
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.scheduler_solver import SchedulerSolver, scheduler_solver
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.sampling.teleport import pipeline_start, sample_teleported, teleport

__all__ = [
    "ArmBatch",
    "DPMSolverPP2M",
    "Euler",
    "EulerRenoised",
    "Heun",
    "KeptPredictions",
    "Path",
    "RuleField",
    "Run",
    "RunArm",
    "RungeKutta",
    "RungeKutta4",
    "Sampling",
    "SchedulerArguments",
    "SchedulerSolver",
    "Solver",
    "SwitchingDenoiser",
    "ays_sigmas",
    "pipeline_start",
    "run_arms",
    "run_path",
    "run_to_end",
    "sample",
    "sample_arms",
    "sample_teleported",
    "scheduler_arguments",
    "scheduler_sigmas",
    "scheduler_solver",
    "teleport",
    "uniform_log_sigmas",
]
