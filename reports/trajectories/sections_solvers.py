"""Sections of the trajectories report on solvers: where they err, what calls buy, and levels that suit the model."""

import pandas as pd

from scorescope.analysis.trajectories import (
    cheapest_levels,
    end_errors,
    pairwise_costs,
    solver_errors,
    tuned_schedule,
)
from scorescope.probes.sampling import Heun, Solver
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.trajectories import figures, findings, readings
from scorescope.reports.trajectories.study import CALLS, MAIN, SOLVERS, STEPS, TUNED_CALLS, Study

COLUMNS = (
    "solver", "schedule", "calls", "median", "median_low", "median_high", "typical_ratio", "typical_ratio_low",
    "typical_ratio_high",
)  # fmt: skip


def errors_section(study: Study) -> Section:
    """Error of every step, and what becomes of it at the end."""
    start, condition = study.start(study.seeds), study.condition(len(study.seeds))
    names = [name for name in SOLVERS if not isinstance(SOLVERS[name], Heun)]
    found = {
        name: solver_errors(
            study.denoiser, start, study.grid(STEPS), SOLVERS[name], condition=condition,
            substeps=2 if study.quick else 4, progress=study.progress,
        )
        for name in names
    }  # fmt: skip
    steps = pd.concat([errors.steps().assign(solver=name) for name, errors in found.items()], ignore_index=True)
    groups = pd.concat([errors.ends().assign(solver=name) for name, errors in found.items()], ignore_index=True)
    return Section(
        text="From each state that the solver reached a fine path leads to the end. What a step adds to the distance "
        "between the solver's end and the exact one is the difference of two such paths; these add up.",
        figures=[
            ReportFigure(
                "step_errors", figures.step_errors(steps, line="solver"), readings.read_errors(steps, groups),
                f"{study.how}, {STEPS} steps at ρ = 7. Medians with 95 % intervals; samples whose parts do not add up "
                "to first order, as those that change mode, are counted apart. Intervals of shares hold from some 256 "
                "samples on: of fewer they are too narrow.", wide=True,
            )
        ],
        tables=[
            ReportTable(
                "end_groups", groups, "Samples whose steps' effects add up to first order, and the others.",
                first=("solver", "samples", "n", "share", "squared_share", "end_error", "gap", "reference"),
            ),
            ReportTable("step_errors", steps, "One row a (solver, quantity, step).", shown=False),
        ],
        findings=findings.where_errors_are_made(steps, groups),
    )  # fmt: skip


def _steps_for(solver: Solver, calls: int) -> int:
    """Of a solver, so that it makes about so many calls with a last step to 0: Heun's is one of Euler."""
    return (calls + 1) // 2 if isinstance(solver, Heun) else calls


def calls_section(study: Study) -> Section:
    """End errors of solvers and schedules at several numbers of calls."""
    start, condition = study.start(study.seeds), study.condition(len(study.seeds))
    tables = []
    for calls in CALLS:
        walks = {
            (name, schedule): (solver, sigmas)
            for name, solver in SOLVERS.items()
            for schedule, sigmas in study.schedules(_steps_for(solver, calls)).items()
        }
        table = end_errors(
            study.denoiser, start, walks, against=("Euler", "ρ = 7"), condition=condition, reference=study.exact
        )
        tables.append(table.assign(asked_calls=calls))
    table = pd.concat(tables, ignore_index=True)
    return Section(
        text="Distance of the end samples from those of the exact flow, from the same noise. It is an error of the "
        "solver: the model's own is not in it.",
        figures=[
            ReportFigure(
                "end_errors", figures.end_errors(table), readings.read_calls(table),
                f"{study.how}. Medians with 95 % intervals. AYS: the published levels, stretched to these "
                "ends.", wide=True,
            )
        ],
        tables=[
            ReportTable(
                "end_errors", table, "One row a (solver, schedule, calls). Ratios are to Euler, ρ = 7.", first=COLUMNS
            )
        ],
        findings=findings.best_at_few_calls(table),
    )  # fmt: skip


def _cheapest(study: Study) -> list[float]:
    """The levels of a grid twice as fine whose steps cost Euler the least at the end; multistep solvers gain too."""
    grid, few = study.grid(2 * TUNED_CALLS), study.seeds[:32]
    costs = pairwise_costs(
        study.denoiser, study.start(few), grid, condition=study.condition(len(few)), progress=study.progress
    )
    return cheapest_levels(costs, grid, TUNED_CALLS)


def schedule_section(study: Study) -> Section:
    """Levels tuned through the sampler, judged on other seeds."""
    solver, known = SOLVERS[MAIN], study.schedules(TUNED_CALLS)
    how = {"condition": study.condition(len(study.seeds)), "reference": study.exact}
    start = study.start(study.seeds)
    if not study.quick:
        known["cheapest for Euler"] = _cheapest(study)
    ended = end_errors(study.denoiser, start, {(MAIN, name): (solver, sigmas) for name, sigmas in known.items()}, **how)
    best = str(readings.largest(ended, -ended["mean"])["schedule"])
    found = tuned_schedule(
        study.denoiser, start, known[best], solver, **how, free_end=True, iterations=8 if study.quick else 20,
        progress=study.progress,
    )  # fmt: skip
    levels = {**known, "tuned": list(found.sigmas)}
    held_out = study.held_out_seeds
    walks = {(MAIN, name): (solver, sigmas) for name, sigmas in levels.items()}
    table = end_errors(study.denoiser, study.start(held_out), walks, condition=study.condition(len(held_out)))
    listed = pd.DataFrame(
        [(name, step, sigma) for name in reversed(levels) for step, sigma in enumerate(levels[name])],
        columns=["schedule", "step", "sigma"],
    )
    return Section(
        text=f"{TUNED_CALLS} calls of {MAIN}: all levels but the highest are moved so that the end error of "
        f"{len(study.seeds)} seeds falls, from '{best}' on, the best of the known ones there; they are judged on "
        f"{len(held_out)} other seeds.",
        figures=[
            ReportFigure(
                "schedules", figures.schedules(levels, table),
                readings.read_schedule(table, found, len(study.seeds), best),
                f"End errors of {len(held_out)} held-out seeds over those of ρ = 7, sample by sample: geometric mean, "
                "95 % interval: of these levels; other seeds to tune on give others.", wide=True,
            )
        ],
        tables=[
            ReportTable("schedules", table, "Held-out seeds. Ratios are to ρ = 7.", first=COLUMNS[1:]),
            ReportTable("levels", listed, "Noise levels, for `sample(sigmas=)` or `scheduler_arguments`."),
        ],
        findings=findings.tuned_levels(table, best),
    )  # fmt: skip
