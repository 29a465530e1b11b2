"""sampling"""

from scorescope.probes.sampling.activations import Activations, collect, sample_with_sites, trace_activations
from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import ArmBatch, Sampling, run_arms, sample_arms
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun, Solver
from scorescope.probes.sampling.teleport import pipeline_start, sample_teleported, teleport

__all__ = [
    "Activations",
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
    "collect",
    "pipeline_start",
    "run_arms",
    "run_path",
    "sample",
    "sample_arms",
    "sample_teleported",
    "sample_with_sites",
    "teleport",
    "trace_activations",
]
