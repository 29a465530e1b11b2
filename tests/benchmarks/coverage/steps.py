"""Changed steps, gradients of levels, few-step models: at a mixture, and at a linear denoiser."""

from dataclasses import replace
from functools import cache, partial
from itertools import combinations

import torch
from torch import nn

from scorescope.analysis.steps import (
    change_steps,
    cheapest_steps,
    consistency_errors,
    enough_steps,
    gradient_affinity,
    proxy_ranks,
    step_damage,
    student_gaps,
)
from scorescope.analysis.steps.runner import StepRunner, distance
from scorescope.probes.models import edm_sigmas
from scorescope.probes.perturbations import Repeated
from scorescope.probes.sampling import Euler, Sampling, run_to_end
from tests.benchmarks.coverage.case import Case, pick
from tests.benchmarks.coverage.gaussian import its_gaussian, two_modes
from tests.benchmarks.coverage.solvers import POOL, drawn, starts
from tests.benchmarks.coverage.solvers import _euler as paths

SEEDS = 4000  # whose runs with changed steps samples are drawn from
CHANGES = {"repeated": Repeated()}
HOW = Sampling(sigmas=edm_sigmas(8, sigma_min=0.1, sigma_max=20.0), solver=Euler(), shape=(3,), batch=SEEDS)
SHORT = replace(HOW, sigmas=[20.0, 5.0, 1.5, 0.4, 0.0])
ENOUGH = (4, 8, 16, 32)


@cache
def _changed():
    return change_steps(two_modes(), CHANGES, seeds=range(SEEDS), sampling=HOW, progress=False)


def _chosen(rows):
    pool = _changed()
    parts = {
        name: {key: values[:, rows] for key, values in getattr(pool, name).items()} for name in ("damage", "proxies")
    }
    return replace(pool, samples=pool.samples[rows], **parts)


def _damaged(effects):
    table = step_damage(effects).set_index(["name", "step"])
    return {f"{name}, step {step}": table.loc[(name, step)] for name, step in
            (("repeated", 2), ("repeated", 5), ("denoised", 5), ("difference", 5))}  # fmt: skip


def _damage(n, rng):
    return {name: pick(row, "")[""] for name, row in _damaged(_chosen(rng.integers(SEEDS, size=n))).items()}


@cache
def _damage_truth():
    return {name: row["mean"] for name, row in _damaged(_changed()).items()}


def _ranked(effects, **how):
    few = {name: effects.proxies[name] for name in ("eps", "difference", "amplified")}
    table = proxy_ranks(replace(effects, proxies=few), **how)
    return {f"{row['change']} by {row['proxy']}": row for _, row in table.iterrows()}


def _rank(n, rng):
    return {name: pick(row, "")[""] for name, row in _ranked(_chosen(rng.integers(SEEDS, size=n))).items()}


@cache
def _rank_truth():
    return {name: row["rank"] for name, row in _ranked(_changed(), resamples=1).items()}


@cache
def _sets():
    """Mean damage of every set of repeated steps."""
    runner = StepRunner.of(two_modes(), range(SEEDS), None, SHORT)
    base, steps = runner.run({}).samples, list(runner.steps(Repeated()))
    sets = [chosen for count in range(1, len(steps) + 1) for chosen in combinations(steps, count)]
    return {
        frozenset(chosen): distance(runner.run(dict.fromkeys(chosen, Repeated())).samples, base).mean()
        for chosen in sets
    }


def _cheapest(n, rng):
    """Each interval less the damage of the set that it is of, as sets are chosen by the sample."""
    seeds, taken, found = rng.integers(2**31, size=n).tolist(), frozenset(), {}
    table = cheapest_steps(two_modes(), Repeated(), within=0.4, seeds=seeds, sampling=SHORT, progress=False)
    for order, (_, row) in enumerate(table.iterrows()):
        truth = _sets()[taken | {row["step"]}]
        found[f"set {order}, less its damage"] = row["low"] - truth, row["high"] - truth
        taken |= {row["step"]} if row["taken"] else set()
    return found


class Diagonal(nn.Module):
    """D = w x."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.2, 0.9, 0.1, 0.5], dtype=torch.float64))

    def forward(self, x, sigma, condition=None):
        return self.weights * x


VARIANCE = torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def _affine(n, rng):
    images = torch.from_numpy(rng.normal(size=(n, 4))) * VARIANCE.sqrt()
    table = gradient_affinity(Diagonal(), images, [0.2, 1.0], seed=int(rng.integers(2**31)), progress=False)
    return {"agreement": pick(table.iloc[1], "")[""]}


def _affine_truth():
    """d/dw E(w x - x0)^2 = 2 (w (l + s^2) - l), of each coordinate."""
    weights = Diagonal().weights.detach()
    first, second = (weights * (VARIANCE + sigma**2) - VARIANCE for sigma in (0.2, 1.0))
    return {"agreement": float(first @ second / first.norm() / second.norm())}


def _inconsistent(path):
    table = consistency_errors(its_gaussian(), path, batch=POOL).groupby("quantity")
    return {f"distance from the {quantity}": part.iloc[3] for quantity, part in table}


def _consistent(n, rng):
    found = _inconsistent(drawn(paths(), rng.integers(POOL, size=n)))
    return {name: pick(row, "")[""] for name, row in found.items()}


@cache
def _consistent_truth():
    return {name: row["mean"] for name, row in _inconsistent(paths()).items()}


@cache
def _few(law):
    """Ends of the same starts after few steps, and after 128."""
    start = starts(POOL, 54)
    grids = {steps: edm_sigmas(steps, sigma_min=0.1, sigma_max=20.0) for steps in (*ENOUGH, 128)}
    return {steps: run_to_end(law(), start, grid, solver=Euler())[0] for steps, grid in grids.items()}


def _gap(rows):
    ends = {steps: samples[rows] for steps, samples in _few(two_modes).items()}
    return student_gaps({"student": ends[8]}, teacher=ends[128], teacher_coarse=ends[16]).iloc[0]


def _gaps(n, rng):
    row = _gap(rng.integers(POOL, size=n))
    return {"distance": pick(row, "")[""], "beyond the coarse teacher": pick(row, "beyond")["beyond"]}


@cache
def _gap_truth():
    row = _gap(slice(None))
    return {"distance": row["mean"], "beyond the coarse teacher": row["beyond"]}


def _within(law, factor):
    fine = _few(law)[128]
    return factor * float(distance(_few(law)[16], fine).mean())


def _enough(law, factor, n, rng):
    ends = {steps: samples[rows] for rows in [rng.integers(POOL, size=n)] for steps, samples in _few(law).items()}
    fine = ends.pop(128)
    return {"steps": pick(enough_steps(ends, fine, within=_within(law, factor)).iloc[0], "")[""]}


CASES = (
    *(
        Case(
            f"steps: damage, {n}", "Hall's corrected t", str(n), f"two modes, Euler in 8 steps; {SEEDS} seeds",
            _damage_truth, partial(_damage, n), ("step_damage",),
        )
        for n in (8, 32, 128)
    ),
    *(
        Case(
            f"steps: ranks, {n}", "bootstrap of the rank correlation of medians", str(n),
            f"two modes, Euler in 8 steps; {SEEDS} seeds", _rank_truth, partial(_rank, n), ("proxy_ranks",),
            wide="correlations of few ranks take few values",
        )
        for n in (16, 64)
    ),
    *(
        Case(
            f"steps: cheapest, {n}", "Hall's corrected t, of the set that was run", str(n),
            f"two modes, Euler in 4 steps; damages of {SEEDS} seeds",
            lambda: {f"set {order}, less its damage": 0.0 for order in range(3)}, partial(_cheapest, n),
            ("cheapest_steps",),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"steps: gradients, {n}", "jackknife, 8 groups", f"{n} images", "a linear denoiser, d = 4", _affine_truth,
            partial(_affine, n), ("gradient_affinity",),
        )
        for n in (64, 256)
    ),
    *(
        Case(
            f"steps: consistency, {n}", "Hall's corrected t", str(n),
            f"a Gaussian's denoiser on paths of two modes; {POOL} paths", _consistent_truth, partial(_consistent, n),
            ("consistency_errors",),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"steps: students, {n}", "Hall's corrected t, paired", str(n),
            f"two modes, Euler in 8 steps against 128; {POOL} starts", _gap_truth, partial(_gaps, n),
            ("student_gaps", "student_gaps:beyond"),
        )
        for n in (8, 32, 128)
    ),
    *(
        Case(
            f"steps: enough, {name}, {n}, {factor}", "bootstrap of the number", str(n),
            f"{name}, Euler; {factor:g} of the error of 16 steps allowed",
            partial(lambda factor: {"steps": 16.0 if factor > 1 else 32.0}, factor),
            partial(_enough, law, factor, n), ("enough_steps",), wide="numbers of steps are few",
        )
        for name, law in (("a Gaussian", its_gaussian), ("two modes", two_modes)) for n in (8, 32)
        for factor in (0.95, 1.05)
    ),
)  # fmt: skip
