"""Sections of the Gaussian report on paths: the closed form's, what skipping by it saves, and the solvers' errors."""

import math

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.gaussian.paths import (
    beside,
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
)
from scorescope.analysis.gaussian.skip import FINE_STEPS, Suggestion, skip_table
from scorescope.analysis.gaussian.solver_errors import linear_error, solver_gains
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, Heun, Solver
from scorescope.reports.gaussian import figures, findings, readings
from scorescope.reports.gaussian.study import TOLERANCE, Study, bands
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

NONE_SHOWN = "no level is shown to keep the error of the state within the tolerance"
SCHEDULES: tuple[tuple[Solver, int], ...] = ((Euler(), 35), (DPMSolverPP2M(), 35), (Heun(), 18), (Heun(), 9))
SKIPS = (19.352453, 8.4, 5.3151957, 3.2568218, 2.0, 1.0881714)


def paths_section(study: Study) -> Section:
    """The network's paths against the closed form's, from the same starting noise."""
    pair = beside(study.fine.thinned(3 if study.quick else 2), study.gaussian)
    errors, modes = path_errors(pair), min(16, study.gaussian.rank)
    table = emergence(pair, modes=modes)
    amplitudes = mode_amplitudes(pair, modes=min(8, modes))
    ends = end_agreement({"closed form": pair.end}, pair.network.end, study.gaussian.mean, mode_of(study.modes))
    how = f"{len(study.seeds)} seeds, {FINE_STEPS} Heun steps from σ = {study.span[1]:.3g}. "
    return Section(
        text="From the same starting noise, the network's path and the Gaussian's closed-form path: error of the "
        "state, and error of the prediction made from it." + study.limits,
        figures=[
            ReportFigure(
                "path_errors", figures.path_errors(errors, study.advice.table), readings.read_paths(errors, ends),
                how + "Relative to the squared distance of the closed form from the mean. "
                + bands(len(study.seeds), "seeds"),
            ),
            ReportFigure(
                "emergence", figures.emergence(amplitudes, table), readings.read_emergence(table),
                how + "Solid: network; dotted: √(λ / (λ + σ²)). Other panel: intervals over seeds.", wide=True,
            ),
        ],
        tables=[
            ReportTable("ends", ends, "Closed-form end samples against the network's of the same seeds."),
            ReportTable("emergence", table, "One row an eigen-mode."),
            ReportTable("path_errors", errors, "One row a (quantity, sigma).", shown=False),
            ReportTable("mode_amplitudes", amplitudes, "One row a (mode, sigma).", shown=False),
        ],
        findings=findings.order_of_modes(table),
    )  # fmt: skip


def skip_section(study: Study) -> Section:
    """What jumping to a noise level by the closed form costs and saves."""
    solvers: dict[str, Solver] = (
        {"Heun": Heun()} if study.quick else {"Heun": Heun(), "DPM-Solver++ 2M": DPMSolverPP2M()}
    )
    table = skip_table(
        study.denoiser, study.gaussian, seeds=study.seeds, skips=(study.span[1], *study.within(SKIPS)),
        solvers=solvers, steps=(8, 18), real=study.data.held_out, classify=mode_of(study.modes),
        sigma_min=study.span[0], reference=study.fine.end, progress=study.progress,
    )  # fmt: skip
    advice = study.advice
    return Section(
        text="The closed form carries the starting noise to σ_skip, and the network goes on from there. The calls "
        "saved can be kept, or spent on finer steps below.",
        figures=[
            ReportFigure(
                "skips", figures.skips(table), readings.read_skips(table, advice, TOLERANCE),
                f"{len(study.seeds)} seeds; error against a 120-step Heun run from the same noise, relative to the "
                "squared distance of its samples from the mean. The rightmost point is no skip.", wide=True,
            )
        ],
        tables=[
            ReportTable("suggestion", _jump(advice), "Lowest level with a squared state error within the tolerance."),
            ReportTable("skips", table, "One row a (solver, steps, how the skip is spent, sigma_skip)."),
            ReportTable("skip_candidates", advice.table, "Error of the state at each candidate.", shown=False),
        ],
        findings=findings.calls_saved(table),
    )  # fmt: skip


def _jump(advice: Suggestion) -> pd.DataFrame:
    """The jump with its errors; missing, with the reason, where none is shown to be within the tolerance."""
    shown = (advice.table["sigma"] == advice.sigma_skip).any()
    row = {
        "sigma_skip": advice.sigma_skip, "predicted_error": advice.predicted_error,
        "measured_error": advice.measured_error, "low": advice.measured_low, "high": advice.measured_high,
    }  # fmt: skip
    found = row if shown else dict.fromkeys(row, math.nan)
    known = {"sigma_predicted": advice.sigma_predicted, "reason": "" if shown else NONE_SHOWN}
    return pd.DataFrame([{"tolerance": TOLERANCE, **found, **known}])


def solver_section(study: Study) -> Section:
    """The error of a schedule on the linear part of the path."""
    eigenvalues = np.logspace(-4, np.log10(max(25.0, float(study.gaussian.eigenvalues[0]))), 60)
    grids = [(solver, study.grid(steps)[:-1]) for solver, steps in SCHEDULES]
    every = [solver_gains(solver, grid, torch.from_numpy(eigenvalues)) for solver, grid in grids]
    table = pd.concat(every, ignore_index=True)
    own = study.gaussian.eigenvalues[study.gaussian.eigenvalues > 1e-10]
    errors = [
        {"solver": type(s).__name__, "levels": len(grid), "error": linear_error(solver_gains(s, grid, own))}
        for s, grid in grids
    ]
    summary = pd.DataFrame(errors)
    return Section(
        text="For a Gaussian law a deterministic solver multiplies each eigen-mode by a number. Its ratio to the exact "
        "one is the solver's error on the linear part of the path, for any schedule and without a network.",
        figures=[
            ReportFigure(
                "gains", figures.gains(table), readings.read_gains(summary),
                f"ρ = 7 grid from {study.span[1]:.3g} to {study.span[0]:.3g}, without the last step to 0. Exact "
                "arithmetic, no sampling.",
            )
        ],
        tables=[
            ReportTable("linear_error", summary, "Relative root-mean-square error of end samples, data's spectrum."),
            ReportTable("gains", table, "One row a (schedule, eigenvalue).", shown=False),
        ],
    )  # fmt: skip
