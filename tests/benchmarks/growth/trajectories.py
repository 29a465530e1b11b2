"""Trajectories and steps: shapes of paths, errors of solvers, schedules, damage of changed steps."""

from typing import Any

import numpy as np

from scorescope.analysis.steps import change_steps, proxy_ranks, step_damage
from scorescope.analysis.steps.effects import StepEffects
from scorescope.analysis.trajectories import (
    cheapest_levels,
    decision_levels,
    embedded_errors,
    local_errors,
    pairwise_costs,
    path_geometry,
    path_shape,
    solver_errors,
    tuned_schedule,
)
from scorescope.probes.models import edm_sigmas
from scorescope.probes.perturbations import Repeated
from scorescope.probes.sampling import Euler, Sampling
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.gaussian import law
from tests.benchmarks.growth.made_up import halved, normal, path


def bent(x: Any, sigma: Any, condition: Any = None) -> Any:
    """A denoiser with something to be wrong about."""
    return x.tanh() * 0.5


def both(made: Any) -> None:
    path_shape(made)
    path_geometry(made)


def errors(made: Any) -> None:
    start, sigmas = made
    found = solver_errors(bent, start, sigmas, Euler(), substeps=4)
    found.steps()
    found.ends()


def changed(made: Any) -> None:
    count, steps = made
    sampling = Sampling(solver=Euler(), sigmas=edm_sigmas(steps), shape=(64,))
    effects = change_steps(halved, {"repeated": Repeated()}, seeds=range(count), sampling=sampling, progress=False)
    step_damage(effects)


def effects(samples: int, steps: int) -> StepEffects:
    rng = np.random.default_rng(0)
    damage = {name: rng.uniform(size=(steps, samples)) for name in ("repeated", "left out")}
    proxies = {name: rng.uniform(size=(steps, samples)) for name in ("denoised", "eps")}
    return StepEffects(tuple(edm_sigmas(steps)[:-1]), damage, proxies, normal(samples, 4), steps)


def tables(made: StepEffects) -> None:
    step_damage(made)
    proxy_ranks(made)


def start(samples: int, steps: int, dim: int) -> Any:
    return 80.0 * normal(samples, dim), edm_sigmas(steps)


def costs(levels: int) -> Any:
    found = np.abs(np.random.default_rng(0).normal(size=(levels, levels)))
    found[np.tril_indices(levels)] = np.inf
    return found, list(np.geomspace(80, 0.01, levels))


CASES = (
    Case("trajectories: path_shape, path_geometry", "samples", (32, 64, 128, 256, 512), lambda n: path(n, 24, 256),
         both, "samples", 1, 1),
    Case("trajectories: path_shape, path_geometry", "steps", (16, 32, 64, 128, 256), lambda n: path(16, n, 256), both,
         "steps^2: Gram matrices of the levels", 2, 1),
    Case("trajectories: path_shape, path_geometry", "dimension", (1024, 2048, 4096, 8192), lambda n: path(32, 24, n),
         both, "elements", 1, 1),
    Case("trajectories: path_shape beside a Gaussian", "dimension", (64, 128, 256, 512),
         lambda n: (path(32, 24, n), law(n)), lambda a: path_shape(*a), "d^2 a state", 2, 1),
    Case("trajectories: decision_levels", "samples", (256, 512, 1024, 2048), lambda n: path(n, 24, 256),
         decision_levels, "elements", 1, 1),
    Case("trajectories: embedded_errors", "samples", (256, 512, 1024, 2048), lambda n: path(n, 24, 256),
         embedded_errors, "elements", 1, 1),
    Case("trajectories: local_errors", "steps", (16, 32, 64, 128), lambda n: start(64, n, 64),
         lambda a: local_errors(bent, *a, {"Euler": Euler()}), "steps", 1, 1),
    Case("trajectories: solver_errors", "samples", (64, 128, 256, 512), lambda n: start(n, 8, 256), errors, "samples",
         1, 1),
    Case("trajectories: solver_errors", "steps", (4, 8, 16, 32), lambda n: start(32, n, 64), errors,
         "steps^2: a fine path from each", 2, 2),
    Case("trajectories: tuned_schedule", "steps", (5, 10, 20, 40), lambda n: start(16, n, 16),
         lambda a: tuned_schedule(bent, *a, Euler(), reference=a[0] * 0, iterations=5, progress=False),
         "steps^2 an iteration: a run a level", 2, 0),
    Case("trajectories: pairwise_costs", "levels", (4, 8, 16, 32), lambda n: start(16, n, 16),
         lambda a: pairwise_costs(bent, a[0], a[1][:-1], substeps=2), "levels^3: each pair to the end", 3, 2),
    Case("trajectories: cheapest_levels", "levels", (50, 100, 200, 400), costs,
         lambda a: cheapest_levels(*a, steps=10), "steps levels^2", 2, 2),
    Case("steps: change_steps", "samples", (128, 256, 512, 1024, 2048), lambda n: (n, 8), changed, "samples", 1, 1),
    Case("steps: change_steps", "steps", (6, 12, 24, 48), lambda n: (32, n), changed, "steps^2: a run a step", 2, 2),
    Case("steps: step_damage, proxy_ranks", "samples", (100, 200, 400, 800), lambda n: effects(n, 12), tables,
         "samples x steps", 1, 1),
    Case("steps: step_damage, proxy_ranks", "steps", (16, 32, 64, 128), lambda n: effects(100, n), tables,
         "samples x steps", 1, 1),
)  # fmt: skip
