"""sampling"""

from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import ArmBatch, Sampling, run_arms, sample_arms
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.sampling.teleport import pipeline_start, sample_teleported, teleport

__all__ = [
    "ArmBatch",
    "DPMSolverPP2M",
    "Euler",
    "EulerRenoised",
    "Heun",
    "Path",
    "Run",
    "RunArm",
    "Sampling",
    "Solver",
    "SwitchingDenoiser",
    "pipeline_start",
    "run_arms",
    "run_path",
    "sample",
    "sample_arms",
    "sample_teleported",
    "teleport",
]
