"""Atlas: figures of what solvers and grids of noise levels give for their calls of the denoiser."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.paths import seed_noise
from scorescope.analysis.trajectories import local_errors, steps_table
from scorescope.analysis.trajectories.steps import Steps
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.guidance import CFG
from scorescope.probes.models.conditions import to_device
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, Heun, Solver
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance.atlas_metrics import LABELS, about, needs_features, over_seed_sets
from scorescope.reports.trajectories import figures
from scorescope.reports.trajectories.atlas_training import shown_metrics

Walks = Mapping[Steps, tuple[Solver, Sequence[float]]]
"""Solver and noise levels by their names and number of steps."""

ERROR = {"end_error": "RMS distance from fine samples (units of data)"}
CALLS = (5, 9, 17, 35)  # a sample: those of Heun are odd
RHOS, LOCAL_RHOS = (3.0, 4.0, 5.0, 7.0, 10.0), (3.0, 7.0)
FINE_STEPS = 240  # of what end samples are held against: on a Gaussian 35 of the best solver err 40 times as much
CHURNS = (0.0, 0.1, 0.2, 0.3, 0.4)  # a step: more than 0.414 is cut by the algorithm
CHURNED = (0.05, 50.0)  # noise levels, as the authors have them for CIFAR-10
LOCAL_COUNT, SUBSTEPS = 16, 8
FINE = {"a fine run": FINE_STEPS}


def uniform_in_log(material: Material, steps: int) -> list[float]:
    """Levels at equal ratios between the ends of EDM's grid, then 0: the limit of large rho."""
    low, high = material.span
    return [*np.geomspace(high, low, steps).tolist(), 0.0] if steps > 1 else material.grid(1)


def solver_walks(material: Material) -> Walks:
    """Three solvers on two grids, each with as many steps as make the same calls."""
    solvers: dict[str, Solver] = {"Euler": Euler(), "Heun": Heun(), "DPM++ 2M": DPMSolverPP2M()}
    grids: dict[str, Callable[[int], list[float]]] = {
        "ρ = 7": material.grid,
        "uniform ln σ": partial(uniform_in_log, material),
    }
    return {
        (name, grid, steps): (solver, make(steps))
        for grid, make in grids.items() for name, solver in solvers.items() for calls in CALLS
        for steps in [(calls + 1) // 2 if name == "Heun" else calls]
    }  # fmt: skip


def rho_walks(material: Material) -> Walks:
    """Heun on grids of several rho, of the material's steps and half of them."""
    counts = sorted({max(2, material.steps // 2), material.steps})
    return {
        ("Heun", f"{rho:g}", steps): (Heun(), material.grid(steps, rho=rho)) for steps in counts for rho in RHOS
    }  # fmt: skip


def churn_walks(material: Material) -> Walks:
    """Heun with noise added between its steps, in the material's steps and half of them."""
    counts = sorted({max(2, material.steps // 2), material.steps})
    low, high = CHURNED
    return {
        ("Heun", f"{churn * steps:g}", steps): (Heun(churn * steps, low, high), material.grid(steps))
        for steps in counts for churn in CHURNS
    }  # fmt: skip


def walked(material: Material, walks: Walks, *, fine: bool) -> pd.DataFrame:
    """Metrics of every walk's unguided samples, beside the error of where they end."""
    return over_seed_sets(material, lambda seeds: _walked(material, walks, list(seeds), fine))


def _walked(material: Material, walks: Walks, seeds: list[int], fine: bool) -> pd.DataFrame:
    model, data = material.studied, material.data
    settings = {key: _sampled(material, *walk, seeds) for key, walk in walks.items()}
    ended = (
        _sampled(material, DPMSolverPP2M(), uniform_in_log(material, FINE_STEPS), seeds).run.samples if fine else None
    )
    condition = model.conditions(len(seeds))
    found = steps_table(
        settings, fine=ended, value_range=model.value_range, features=material.features,
        labels=condition if getattr(condition, "ndim", 0) == 1 else None,
        reference=None if data is None else data.train, reference_labels=None if data is None else data.labels,
    )  # fmt: skip
    known: pd.DataFrame = found[np.isfinite(found["value"])].reset_index(drop=True)
    return known


def _sampled(material: Material, solver: Solver, sigmas: Sequence[float], seeds: list[int]) -> Setting:
    (one,) = material.sweep({"no guidance": CFG(1.0)}, solver=solver, sigmas=sigmas, seeds=seeds)
    return one


def solver_numbers(material: Material) -> Numbers:
    """Every solver and grid."""
    table = walked(material, solver_walks(material), fine=True)
    return Numbers({"steps": table.assign(line=table["solver"] + ", " + table["grid"])}, facts=_facts(material, table))


def rho_numbers(material: Material) -> Numbers:
    """Every rho, a line a number of steps."""
    table = walked(material, rho_walks(material), fine=True)
    line = table["steps"].map("{:d} steps".format)
    return Numbers({"steps": table.assign(rho=table["grid"].astype(float), line=line)}, facts=_facts(material, table))


def churn_numbers(material: Material) -> Numbers:
    """Every churn, a line a number of steps."""
    table = walked(material, churn_walks(material), fine=False)
    churn, line = table["grid"].astype(float), table["steps"].map("{:d} steps".format)
    facts = _facts(material, table) | {"churn_low": CHURNED[0], "churn_high": CHURNED[1]}
    return Numbers({"steps": table.assign(grid="ρ = 7", churn=churn, line=line)}, facts=facts)


def _facts(material: Material, table: pd.DataFrame) -> dict[str, Any]:
    return about(material, table) | {"how": "{n} samples a setting, seeds {seeds}.", "fine": FINE_STEPS}


def draw_steps(numbers: Numbers, *, x: str, xlabel: str, metrics: Sequence[str], scale: str, **how: Any) -> Figure:
    """A panel a metric that there is."""
    table = numbers.tables["steps"]
    shown = shown_metrics(table, metrics, LABELS | ERROR)
    return figures.metrics_along(table, shown, x=x, xlabel=xlabel, line="line", scale=scale, **how)


def local_numbers(material: Material) -> Numbers:
    """Errors of Euler and Heun steps on grids of several rho.

    The last step, to 0, is left out: the finer ones would ask a network at levels that it was not trained for.
    """
    model, count = material.studied, min(material.count, LOCAL_COUNT)
    seeds, device = list(material.seeds)[:count], torch.device(material.device)
    start = material.span[1] * seed_noise(seeds, model.shape, torch.float32).to(device)
    condition = to_device(model.conditions(count), device)
    solvers: dict[str, Solver] = {"Euler": Euler(), "Heun": Heun()}
    parts = [
        local_errors(
            model.denoiser, start, material.grid(material.steps, rho=rho)[:-1], solvers, condition=condition,
            substeps=SUBSTEPS,
        ).assign(grid=f"ρ = {rho:g}")
        for rho in LOCAL_RHOS
    ]  # fmt: skip
    drawn = f"{count} samples, the first of the seeds {{seeds}}, grids of {material.steps} steps, but for the last one."
    return Numbers({"errors": pd.concat(parts, ignore_index=True)}, facts={"how": drawn, "substeps": SUBSTEPS})


def draw_local(numbers: Numbers, **how: Any) -> Figure:
    """A panel a solver."""
    return figures.local_errors(numbers.tables["errors"], **how)


QUALITY_AND_ERROR = ("frechet_debiased", "end_error")

ENTRIES = (
    Entry(
        "edm-fid-vs-nfe", "Frechet distance and error of the samples against calls of the denoiser, by solver and grid",
        ("model", "data"), solver_numbers,
        partial(draw_steps, x="calls", xlabel="denoiser calls a sample", metrics=QUALITY_AND_ERROR, scale="log"),
        "Frechet distance to {reference} real images, and distance of each sample from that of {fine} steps of DPM++ "
        "2M from the same seed, against denoiser calls a sample, without guidance ({model}; {space}; {bands}).",
        "of a Gaussian the distance from fine samples is what the gains of each schedule on its modes imply",
        cites=("karras2022elucidating",), place="Figure 2", refuses=needs_features,
        differs="no dot marks the fewest calls within 3 % of the best distance, which so few samples do not tell",
        calls={"three solvers on two grids": 6 * sum(CALLS), **FINE},
    ),
    Entry(
        "edm-fid-vs-rho", "Frechet distance and error of the samples against ρ, the exponent of the grid",
        ("model", "data"), rho_numbers,
        partial(draw_steps, x="rho", xlabel="exponent ρ of the grid", metrics=QUALITY_AND_ERROR, scale="linear"),
        "Frechet distance to {reference} real images, and distance of each sample from that of {fine} steps of DPM++ "
        "2M from the same seed, against the exponent of the grid of noise levels ({model}, without guidance; {space}; "
        "{bands}).",
        "of a Gaussian the distance from fine samples is what the gains of each schedule on its modes imply",
        cites=("karras2022elucidating",), place="Figure 13c", refuses=needs_features,
        calls={"Heun over rho": 5 * (17 + 35), **FINE},
    ),
    Entry(
        "edm-churn", "Frechet distance and recall against the noise that is added between steps",
        ("model", "data"), churn_numbers,
        partial(
            draw_steps, x="churn", xlabel="$S_{churn}$", metrics=("frechet_debiased", "recall"), scale="linear"
        ),
        "Frechet distance to {reference} real images and recall against $S_{{churn}}$, the noise that Heun's method "
        "adds between its steps at levels from {churn_low:g} to {churn_high:g}, without guidance ({model}; {space}; "
        "{bands}).",
        "of a Gaussian the variance of every mode is that of the steps' linear recursion",
        cites=("karras2022elucidating",), place="Figure 5b", refuses=needs_features,
        differs="the noise that is added has a standard deviation of 1, and the steps are fewer",
        calls={"Heun with churn": 5 * (17 + 35)},
    ),
    Entry(
        "edm-local-error", "error of one step of a solver against the noise level that it starts from",
        ("model",), local_numbers, draw_local,
        "Root mean square difference of one step and {substeps} Heun steps over the same interval, from the same state "
        "of a fine path, against the noise level that the step starts from ({model}, without guidance; 95 % intervals "
        "of the mean over samples); dotted: the resolution of the state's floating-point type.",
        "against a Gaussian's exact flow the same; an Euler step's error falls with the square of the step, a Heun "
        "step's with its cube",
        cites=("karras2022elucidating",), place="Figure 13a and b",
        calls={"single steps and finer ones": len(LOCAL_RHOS) * 17 * (2 * SUBSTEPS + 6)},
    ),
)  # fmt: skip
