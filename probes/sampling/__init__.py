"""Samples and paths of a plain denoiser: solvers, rules, many interventions side by side, teleportation.

    run = sample(denoiser, seeds=range(64), condition=labels, rule=CFG(4.0), solver=Heun())
    run.samples, run.trace
    path = run_path(denoiser, x, edm_sigmas(60)[:-1])
    sample_arms(denoiser, [RunArm("bare"), RunArm("off", (off,))], seeds=range(64), condition=labels)
    sample_teleported(denoiser, gaussian, seeds=range(64), sigma_skip=8.0, sigmas=edm_sigmas(18))
    sample(denoiser, seeds=range(64), condition=labels, solver=ChangedSteps(Heun(), {3: Repeated()}))

Everything random about a sample comes from its seed. Rules are in `probes.guidance`, noise levels in `probes.models`.
"""

from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import ArmBatch, Sampling, run_arms, sample_arms
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.sampling.step_changes import (
    Change,
    ChangedSteps,
    LeftOut,
    Nudged,
    Repeated,
    Replaced,
    Unguided,
)
from scorescope.probes.sampling.teleport import pipeline_start, sample_teleported, teleport

__all__ = [
    "ArmBatch",
    "Change",
    "ChangedSteps",
    "DPMSolverPP2M",
    "Euler",
    "EulerRenoised",
    "Heun",
    "KeptPredictions",
    "LeftOut",
    "Nudged",
    "Path",
    "Repeated",
    "Replaced",
    "Run",
    "RunArm",
    "Sampling",
    "Solver",
    "SwitchingDenoiser",
    "Unguided",
    "pipeline_start",
    "run_arms",
    "run_path",
    "sample",
    "sample_arms",
    "sample_teleported",
    "teleport",
]
