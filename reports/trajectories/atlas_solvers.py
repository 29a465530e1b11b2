"""Atlas: figures of what each step of a sampler does: its error, its order, its damage, and what its states become."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from scorescope.analysis.steps import change_steps, gradient_affinity, step_damage
from scorescope.analysis.trajectories import (
    decisions,
    end_errors,
    moment_bias,
    observed_orders,
    reference_ends,
    solver_errors,
    tuned_schedule,
)
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.models.conditions import to_device
from scorescope.probes.perturbations import LeftOut, Repeated
from scorescope.probes.sampling import Euler, run_path, uniform_log_sigmas
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.trajectories import figures
from scorescope.reports.trajectories.atlas_paths import LARGEST, UNGUIDED, fine_path
from scorescope.reports.trajectories.atlas_paths import STEPS as FINE_STEPS
from scorescope.reports.trajectories.atlas_training import labels_for
from scorescope.reports.trajectories.readings import largest
from scorescope.reports.trajectories.sections_steps import AFFINITY_SIGMAS
from scorescope.reports.trajectories.study import MAIN, SOLVERS, STEPS, TUNED_CALLS, Study

COUNT, TUNED_COUNT = 32, 64  # samples, at most
SUBSTEPS = 2  # of RungeKutta4 for a step
ORDER_STEPS = (8, 16, 32, 64)
ITERATIONS, REFERENCE_STEPS = 5, 32
TUNING = (  # L-BFGS looks at some points more than it has iterations, each with two runs a width for the slopes
    TUNED_CALLS * (8 + (ITERATIONS + 3) * (2 * TUNED_CALLS + 1)) + 2 * (4 * REFERENCE_STEPS + 1)
)
IMAGES, GROUPS, MOST = 1024, 8, 2**31  # bytes of gradients


def study_of(material: Material, most: int = COUNT) -> Study:
    """The first seeds of the material, unguided, as the report on trajectories has them."""
    count = min(material.count, most)
    return Study(material.studied, True, material.progress, count=count, seed=material.seed, device=material.device)


def drawing(draw: Callable[..., Figure], **fixed: Any) -> Callable[..., Figure]:
    """What draws an entry's own table with a function of `figures`."""
    return lambda numbers, **how: draw(next(iter(numbers.tables.values())), **fixed, **how)


def _facts(study: Study, how: str) -> dict[str, Any]:
    seeds = f"{study.seeds[0]} to {study.seeds[-1]}"
    return {"n": len(study.seeds), "seeds": seeds, "how": f"{{n}} samples, seeds {{seeds}}, {how}, without guidance."}


def error_numbers(material: Material) -> Numbers:
    """Every step's error of two solvers on one grid."""
    study = study_of(material)
    start, condition, tables = study.start(study.seeds), study.condition(len(study.seeds)), []
    for name in ("Euler", MAIN):
        found = solver_errors(
            study.denoiser, start, study.grid(STEPS), SOLVERS[name], condition=condition, substeps=SUBSTEPS,
            progress=material.progress,
        )  # fmt: skip
        tables.append((found.steps().assign(solver=name), found.ends().assign(solver=name)))
    steps, groups = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    apart = groups[groups["samples"] == "apart"]
    said = ", ".join(f"{row.n} of {row.solver}" for row in apart.itertuples())
    why = "" if steps["n"].max() > 0 else "of no sample do the steps' effects add up to first order"
    return Numbers(
        {"step_errors": steps, "end_groups": groups}, facts=_facts(study, f"{STEPS} steps at ρ = 7") | {"apart": said},
        why=why,
    )  # fmt: skip


def order_numbers(material: Material) -> Numbers:
    """End errors of solvers along levels at equal ratios, above 0."""
    study = study_of(material)
    low, high = study.span
    table = observed_orders(
        study.denoiser, study.start(study.seeds), SOLVERS,
        lambda steps: uniform_log_sigmas(steps, high=high, low=low, zero=False), steps=ORDER_STEPS,
        condition=study.condition(len(study.seeds)),
    )  # fmt: skip
    how = f"levels at equal ratios from {high:.3g} to {low:.3g}"
    return Numbers({"orders": table}, facts=_facts(study, how) | {"fine": max(ORDER_STEPS)})


def schedule_numbers(material: Material) -> Numbers:
    """Levels tuned from the best known ones, and all of them judged on as many other seeds."""
    study, solver = study_of(material, TUNED_COUNT), SOLVERS[MAIN]
    levels, count = study.schedules(TUNED_CALLS), len(study.seeds)
    others, condition = range(material.seeds.stop, material.seeds.stop + count), study.condition(count)

    def ended(seeds: range) -> tuple[pd.DataFrame, dict[str, Any]]:
        start = study.start(seeds)
        exact = reference_ends(
            study.denoiser, start, study.grid(TUNED_CALLS), condition=condition, steps=REFERENCE_STEPS
        )
        how = {"condition": condition, "reference": exact}
        walks = {(MAIN, name): (solver, sigmas) for name, sigmas in levels.items()}
        return end_errors(study.denoiser, start, walks, **how), how | {"start": start}

    table, how = ended(study.seeds)
    best = str(largest(table, -table["mean"])["schedule"])
    found = tuned_schedule(
        study.denoiser, sigmas=levels[best], solver=solver, **how, free_end=True, iterations=ITERATIONS,
        progress=material.progress,
    )  # fmt: skip
    levels["tuned"] = list(found.sigmas)
    rows = [(name, step, sigma) for name, sigmas in levels.items() for step, sigma in enumerate(sigmas)]
    listed = pd.DataFrame(rows, columns=["schedule", "step", "sigma"])
    facts = {"best": best, "calls": TUNED_CALLS, "others": f"{others[0]} to {others[-1]}", "iterations": ITERATIONS}
    return Numbers(
        {"schedules": ended(others)[0], "levels": listed}, facts=_facts(study, f"{TUNED_CALLS} steps of {MAIN}") | facts
    )  # fmt: skip


def draw_schedules(numbers: Numbers, **how: Any) -> Figure:
    """Levels side by side, and ratios on seeds that had no part in finding them."""
    rows = numbers.tables["levels"].groupby("schedule", sort=False)["sigma"]
    return figures.schedules({str(name): list(part) for name, part in rows}, numbers.tables["schedules"], **how)


def damage_numbers(material: Material) -> Numbers:
    """Every step left out, or made with the prediction before it, alone."""
    study = study_of(material)
    effects = change_steps(
        study.denoiser, {"left out": LeftOut(), "prediction repeated": Repeated()}, seeds=study.seeds,
        condition=study.condition(len(study.seeds)), sampling=study.sampling, progress=material.progress,
    )  # fmt: skip
    return Numbers({"damages": step_damage(effects)}, facts=_facts(study, f"{STEPS} steps of {MAIN} at ρ = 7"))


def decided_numbers(material: Material) -> Numbers:
    """Distances from the last prediction along fine paths."""
    study, path = study_of(material), fine_path(material)
    table = decisions(path, edges=study.edges)
    return Numbers({"decisions": table}, facts=_facts(study, f"{FINE_STEPS} steps of Heun"))


def bias_numbers(material: Material) -> Numbers:
    """Variance of the states of Euler's method, beside the same steps on a Gaussian."""
    study, data = study_of(material), material.data
    assert data is not None  # the entry asks for it
    law = fit_gaussian(data.train.double().cpu(), rank=None if data.train[0].numel() <= LARGEST else 512)
    path = run_path(
        study.denoiser, study.start(study.seeds), study.grid(STEPS), condition=study.condition(len(study.seeds)),
        solver=Euler(),
    )  # fmt: skip
    facts = _facts(study, f"{STEPS} Euler steps at ρ = 7") | {"images": len(data.train)}
    return Numbers({"moments": moment_bias(path, law, solver=Euler())}, facts=facts)


def affinity_numbers(material: Material) -> Numbers:
    """Gradients of training images, each group's apart."""
    data, model = material.data, material.studied
    assert data is not None  # the entry asks for it
    count = min(IMAGES, len(data.train))
    labels = None if data.labels is None else labels_for(model, data.labels[:count])
    table = gradient_affinity(
        model.denoiser, data.train[:count].to(material.device), material.within(AFFINITY_SIGMAS), groups=GROUPS,
        condition=to_device(labels, torch.device(material.device)), seed=material.seed, most=MOST,
        progress=material.progress,
    )  # fmt: skip
    facts = {"images": count, "groups": GROUPS, "branch": "unconditional" if labels is None else "conditional"}
    return Numbers({"affinity": table}, facts=facts | {"how": "{images} training images, one noise draw each a level."})


def no_gradients(material: Material) -> str:
    """Gradients are of weights, and those of all groups and levels are kept together."""
    denoiser = material.studied.denoiser
    weights = list(denoiser.parameters()) if isinstance(denoiser, nn.Module) else []
    taken = sum(one.numel() * one.element_size() for one in weights) * GROUPS * len(AFFINITY_SIGMAS)
    if not taken:
        return "the denoiser has to be a torch.nn.Module with weights"
    return "" if taken <= MOST else f"its gradients would take {taken / 1e9:.3g} GB, and {MOST / 1e9:.3g} is the most"


def gradient_calls(material: Material) -> dict[str, int]:
    """Each image at each level, over the material's samples."""
    images = 0 if material.data is None else min(IMAGES, len(material.data.train))
    return {"gradients": -(-images * len(AFFINITY_SIGMAS) // material.count)}


ENTRIES = (
    Entry(
        "step-errors", "error of every step of a solver, what becomes of it and its share of the end error, against σ",
        ("model",), error_numbers, drawing(figures.step_errors, line="solver"),
        "Root mean square difference of each step and a fine path from the same state, what becomes of it at the last "
        "level, and the share of the end error that steps up to this one make ({model}; medians, of shares ratios of "
        "sums of inner products, 95 % intervals). Without the samples whose steps' effects do not add up to first "
        "order: {apart}.",
        "the shares of all steps add up to 1; of a Gaussian what becomes of an error is shrunk as its flow shrinks",
        calls={"steps and fine paths": 2 * ((STEPS - 1) ** 2 * 4 * SUBSTEPS + 4 * (STEPS - 1) + 3 * STEPS)},
    ),
    Entry(
        "solver-orders", "end error of solvers against the number of steps, and the order at which it falls",
        ("model",), order_numbers, drawing(figures.observed_orders),
        "Root mean square distance from the end of {fine} steps of the classical Runge-Kutta method against the number "
        "of steps, and the order at which it falls from one number to the next ({model}; medians over samples with "
        "95 % intervals of the order).",
        "Euler's order is 1, that of Heun and DPM++ 2M 2",
        cites=("karras2022elucidating", "lu2022dpmpp"),
        calls={"solvers in more and more steps": 4 * sum(ORDER_STEPS) + 4 * max(ORDER_STEPS)},
    ),
    Entry(
        "tuned-schedule", "noise levels tuned through the sampler beside known ones, and what they gain on other seeds",
        ("model",), schedule_numbers, draw_schedules,
        "Noise levels of {calls} steps by several rules and tuned from the best of these, '{best}', so that the end "
        "error falls; right: end error over that of ρ = 7 of as many seeds that had no part in it, {others} ({model}; "
        "geometric mean over samples, 95 % interval).",
        "tuned levels end nearer on seeds that had no part in tuning, on a mixture",
        cites=("tong2024learning",),
        differs=f"the levels alone are tuned, by differences of whole runs in {ITERATIONS} iterations",
        calls={"tuning of levels": TUNING},
    ),
    Entry(
        "step-damage", "change of the end sample where one step is left out or repeats a prediction, and its proxies",
        ("model",), damage_numbers, drawing(figures.step_damages),
        "Root mean square change of the end sample where one step is left out, or made with the prediction before it, "
        "against the step; below, changes from the step before that are known without a run, over their largest "
        "({model}; means over samples, 95 % intervals).",
        "where the last step repeats a prediction the end moves by the last change of D, of a Gaussian in closed form",
        cites=("liu2024timestep",),
        differs="proxies are of states and predictions, not of a signal inside of the network",
        calls={"runs with a changed step": STEPS + 3 * STEPS * (STEPS - 1) // 2},
    ),
    Entry(
        "decided-when", "what is left between the prediction and the last one against σ, whole and by frequency",
        ("model",), decided_numbers, drawing(figures.decided_when),
        "Distance of the denoised prediction from the last one of its path over that of the first, of all samples "
        "together, against the noise level ({model}; 95 % intervals over samples).",
        "of a Gaussian of one variance l it is linear in 1 / √(l + σ²), in every band",
        calls=UNGUIDED, one_panel=True,
    ),
    Entry(
        "variance-bias", "variance of a solver's states over the schedule's against σ, beside that of a Gaussian",
        ("model", "data"), bias_numbers, drawing(figures.variance_bias),
        "Variance of the states over that of the noised data, less 1, against the noise level; dashed: the same steps "
        "on a Gaussian with the mean and covariance of {images} images ({model}; 95 % intervals over samples).",
        "of a Gaussian the states' variance is that of the steps' gains, and nothing is beyond it",
        cites=("ning2024elucidating",), differs="beside it a Gaussian takes the same steps",
        calls={"Euler": STEPS}, one_panel=True,
    ),
    Entry(
        "gradient-affinity", "cosine of the training gradients of two noise levels, as a matrix",
        ("model", "data"), affinity_numbers, drawing(figures.affinity_matrix),
        "Cosine of the expected gradients of the denoising loss over all weights between noise levels, of the "
        "{branch} branch, from inner products of {groups} groups of images ({model}); grey where it is too noisy.",
        "of a linear denoiser the gradients have a closed form",
        cites=("go2023addressing",), differs="of one checkpoint, not averaged over training",
        refuses=no_gradients, calls=gradient_calls, one_panel=True,
    ),
)  # fmt: skip
