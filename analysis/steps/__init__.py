"""Which steps of a sampler matter: damage of a changed step, what proxies say of it, gradients; few-step models.

    changes = {"left out": LeftOut(), "repeated": Repeated(), "4 bits": Replaced(Rounded(denoiser, bits=4))}
    effects = change_steps(denoiser, changes, seeds=range(64), condition=labels)
    step_damage(effects), proxy_ranks(effects)                                  # by step; do proxies order them?
    cheapest_steps(denoiser, Repeated(), within=0.05, seeds=range(64), condition=labels)     # greedy, every set run
    gradient_affinity(denoiser, images, [0.05, 0.2, 1.0, 5.0], condition=labels)             # between noise levels
    consistency_errors(student, run_path(teacher, start, edm_sigmas(40)))
    student_gaps({"4 steps": samples}, teacher=fine), enough_steps({4: four, 8: eight}, fine, within=0.02)

Changes of steps are in `probes.sampling`, the shape of paths in `analysis.trajectories`.
"""

from scorescope.analysis.steps.affinity import gradient_affinity
from scorescope.analysis.steps.effects import StepEffects, change_steps, proxy_ranks, step_damage
from scorescope.analysis.steps.few_steps import consistency_errors, enough_steps, student_gaps
from scorescope.analysis.steps.sets import cheapest_steps

__all__ = [
    "StepEffects",
    "change_steps",
    "cheapest_steps",
    "consistency_errors",
    "enough_steps",
    "gradient_affinity",
    "proxy_ranks",
    "step_damage",
    "student_gaps",
]
