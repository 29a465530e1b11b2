"""The Gaussian report: how much of a denoiser is a Gaussian's, at which noise levels, and what that saves.

    outcome = build(Path("report/gaussian"), load_model("digits"), command="...")

For a model without the shipped digits, give `data`: a training and a held-out set in the model's units.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.gaussian.gaps import QUERIES, score_gaps
from scorescope.analysis.gaussian.paths import (
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
    path_pair,
)
from scorescope.analysis.gaussian.scores import SCORES, regimes, score_table
from scorescope.analysis.gaussian.skip import skip_table
from scorescope.analysis.gaussian.solver_errors import linear_error, solver_gains
from scorescope.analysis.gaussian.training import memorisation, nearest_step, training_dynamics
from scorescope.data.checkpoints import load_snapshots
from scorescope.probes.approximations import Approximation, TrainingSet
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, Heun, Solver
from scorescope.reports.gaussian import figures, readings
from scorescope.reports.gaussian.study import TOLERANCE, Data, Study, digits_of
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, Section, write_report

SIGMAS = (80.0, 57.0, 40.0, 28.0, 20.0, 14.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.8, 1.3, 0.9, 0.6, 0.4, 0.25, 0.15, 0.08, 0.04)
DYNAMICS_SIGMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
MEMORY_SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SKIPS = (80.0, 19.352453, 8.4, 5.3151957, 3.2568218, 2.0, 1.0881714)
INTERVALS = "Bands are 95 % bootstrap intervals over images. "


def build(
    out: Path,
    model: Model,
    *,
    command: str,
    data: Data | None = None,
    quick: bool = False,
    progress: bool = True,
) -> Outcome:
    """Measure and write the Gaussian report.

    Parameters
    ----------
    out : Path
        Folder of the report.
    model : Model
        The denoiser; its unconditional branch is measured.
    command : str
        What the manifest says made it.
    data : Data, optional
        Training and held-out images; by default the shipped digits, where the model has them.
    quick : bool
        Fewer seeds, images, solvers and queries: wider intervals.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        If there are no data.
    """
    study = Study(model, data or digits_of(model), quick, progress)
    manifest = {
        "model": model.name, "model_source": model.source, "data": study.data.name, "train": len(study.train),
        "held_out": len(study.held_out), "seeds": len(study.seeds), "branch": "unconditional", "quick": quick,
    }  # fmt: skip
    title, question = (
        f"Gaussian score: {model.name}",
        "Where is the learned score a Gaussian's, and what does that save?",
    )
    sections: list[tuple[str, str, Callable[[Study], Section]]] = [
        ("laws", "Which law the denoiser is nearest to", _laws),
        ("paths", "Paths against the closed form", _paths),
        ("teleport", "Skipping the first steps", _teleport),
        ("solvers", "Solver error on the linear part", _solvers),
        ("training", "Over training: the linear part comes first", _training),
        ("memory", "Training points against held-out points", _memory),
    ]
    return write_report(
        out, sections, study, name="gaussian", title=title, question=question, command=command, manifest=manifest
    )


def _laws(study: Study) -> Section:
    draws = 1 if study.quick else 2
    asked = {"held_out": study.held_out, "train": study.data.train[: len(study.held_out)]}
    if not study.quick:
        asked |= {"noise": study.held_out, "path": study.held_out[:64]}
    gaps = {
        query: score_gaps(
            study.model.denoiser, study.laws, points, SIGMAS, query=query, draws=draws if query == "held_out" else 1,
            progress=study.progress,
        )
        for query, points in asked.items()
    }  # fmt: skip
    held_out = score_table(gaps["held_out"])
    every = pd.concat([held_out, *(score_table(g) for query, g in gaps.items() if query != "held_out")])
    levels = regimes(gaps["held_out"])
    name = study.gaussian.name
    how = INTERVALS + f"Asked at {QUERIES['held_out']}, {draws} noise draws an image, unconditional branch. "
    law_figure = figures.law_fractions(held_out, levels, constant=study.constant, gaussian=name)
    return Section(
        text="Each law is fitted to the training images and has a denoiser in closed form. The centred unexplained "
        "fraction is the squared distance of the network's prediction to the law's, over its squared distance to the "
        "mean. At high noise all laws with the data's covariance agree; what is left there is the network's own error.",
        figures=[
            ReportFigure(
                "laws", law_figure, readings.read_laws(held_out, levels, study.constant, name), how, wide=True
            ),
            ReportFigure(
                "metrics", figures.metrics(held_out, gaussian=name), readings.read_metrics(held_out, name), how
            ),
            ReportFigure(
                "queries",
                figures.queries(every, names=[name, "training set"]),
                readings.read_queries(every, "training set"),
                INTERVALS + "Where a denoiser is asked decides what low noise shows.",
                wide=True,
            ),
        ],
        tables=[
            ReportTable("regimes", levels, "One row a noise level, held-out queries."),
            ReportTable("scores", every, "One row a (query, sigma, approximation, metric).", shown=False),
            ReportTable("scores_columns", SCORES.describe(), "Columns of that table.", shown=False),
        ],
    )


def _paths(study: Study) -> Section:
    steps = 40 if study.quick else 60
    grid = edm_sigmas(steps)
    pair = path_pair(study.model.denoiser, study.gaussian, seeds=study.seeds, sigmas=grid)
    errors, modes = path_errors(pair), min(16, study.gaussian.rank)
    table = emergence(pair, modes=modes)
    amplitudes = mode_amplitudes(pair, modes=min(8, modes))
    ends = end_agreement({"closed form": pair.end}, pair.network.end, study.gaussian.mean, mode_of(study.modes))
    how = f"{len(study.seeds)} seeds, {steps} Heun steps from σ = 80. "
    return Section(
        text="From the same starting noise, the network's path and the Gaussian's closed-form path. The state's error "
        "is far smaller than the prediction's: early errors of the prediction are damped on the way down.",
        figures=[
            ReportFigure(
                "path_errors", figures.path_errors(errors, study.advice.table), readings.read_paths(errors, ends),
                how + "Relative to the squared distance of the closed form from the mean. " + INTERVALS,
            ),
            ReportFigure(
                "emergence", figures.emergence(amplitudes, table), readings.read_emergence(table),
                how + "Solid: network; dotted: √(λ / (λ + σ²)). Right: intervals over seeds.", wide=True,
            ),
        ],
        tables=[
            ReportTable("ends", ends, "Closed-form end samples against the network's of the same seeds."),
            ReportTable("emergence", table, "One row an eigen-mode."),
            ReportTable("path_errors", errors, "One row a (quantity, sigma).", shown=False),
            ReportTable("mode_amplitudes", amplitudes, "One row a (mode, sigma).", shown=False),
        ],
    )  # fmt: skip


def _teleport(study: Study) -> Section:
    solvers: dict[str, Solver] = (
        {"Heun": Heun()} if study.quick else {"Heun": Heun(), "DPM-Solver++ 2M": DPMSolverPP2M()}
    )
    table = skip_table(
        study.model.denoiser, study.gaussian, seeds=study.seeds, skips=SKIPS, solvers=solvers, steps=(8, 18),
        real=study.data.held_out, classify=mode_of(study.modes), progress=study.progress,
    )  # fmt: skip
    advice = study.advice
    suggestion = pd.DataFrame(
        {
            "tolerance": [TOLERANCE], "sigma_skip": [advice.sigma_skip], "predicted_error": [advice.predicted_error],
            "measured_error": [advice.measured_error], "low": [advice.measured_low], "high": [advice.measured_high],
            "sigma_predicted": [advice.sigma_predicted],
        }
    )  # fmt: skip
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
            ReportTable("suggestion", suggestion, "Lowest level with a relative squared state error within tolerance."),
            ReportTable("skips", table, "One row a (solver, steps, how the skip is spent, sigma_skip)."),
            ReportTable("skip_candidates", advice.table, "Error of the state at each candidate.", shown=False),
        ],
    )  # fmt: skip


def _solvers(study: Study) -> Section:
    eigenvalues = np.logspace(-4, np.log10(max(25.0, float(study.gaussian.eigenvalues[0]))), 60)
    schedules: list[tuple[Solver, int]] = [(Euler(), 35), (DPMSolverPP2M(), 35), (Heun(), 18), (Heun(), 9)]
    grids = [(solver, edm_sigmas(steps)[:-1]) for solver, steps in schedules]
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
                "ρ = 7 grid from 80 to 0.002, without the last step to 0. Exact arithmetic, no sampling.",
            )
        ],
        tables=[
            ReportTable("linear_error", summary, "Relative root-mean-square error of end samples, data's spectrum."),
            ReportTable("gains", table, "One row a (schedule, eigenvalue).", shown=False),
        ],
    )  # fmt: skip


def _training(study: Study) -> Section:
    if study.model.digits is None:
        return Section(
            text="Snapshots of training are shipped for the digits only; `training_dynamics` takes your own."
        )
    laws: list[Approximation] = [study.gaussian, study.modes, TrainingSet(study.train)]
    table = training_dynamics(load_snapshots(), laws, study.held_out, DYNAMICS_SIGMAS, progress=study.progress)
    nearest = nearest_step(table)
    names = [law.name for law in laws]
    return Section(
        text="Three snapshots of one short training run of a smaller network (shipped with the package). A network "
        "comes near the Gaussian first; at low noise it then moves away as it learns what is not Gaussian.",
        figures=[
            ReportFigure(
                "dynamics", figures.dynamics(table, names=names, sigmas=DYNAMICS_SIGMAS),
                readings.read_dynamics(nearest, study.gaussian.name), INTERVALS + "Held-out queries.", wide=True,
            )
        ],
        tables=[
            ReportTable("nearest_step", nearest, "The snapshot nearest to each law at each noise level."),
            ReportTable("dynamics", table, "One row a (snapshot, sigma, approximation, metric).", shown=False),
        ],
    )  # fmt: skip


def _memory(study: Study) -> Section:
    count = len(study.held_out)
    sets = {"train": study.data.train[:count], "held out": study.held_out}
    exact = TrainingSet(study.train)
    denoisers = {study.model.name: study.model.denoiser, "Gaussian": study.gaussian, "memoriser": exact}
    tables: Mapping[str, pd.DataFrame] = {
        name: memorisation(denoiser, sets, MEMORY_SIGMAS, progress=study.progress)
        for name, denoiser in denoisers.items()
    }
    whole = pd.concat([table.assign(denoiser=name) for name, table in tables.items()], ignore_index=True)
    return Section(
        text="A denoiser that generalises treats training and held-out points alike. The memoriser (the exact denoiser "
        "of the training set) has no error and no Jacobian on training points at low noise, and on fresh points an "
        "error that stays at the distance to the nearest training point.",
        figures=[
            ReportFigure(
                "memorisation", figures.memorisation(dict(tables)), readings.read_memory(tables, study.model.name),
                f"{count} images each, one noise draw, 4 Rademacher probes a point. " + INTERVALS, wide=True,
            )
        ],
        tables=[ReportTable("memorisation", whole, "One row a (denoiser, set, sigma, quantity).", shown=False)],
    )  # fmt: skip
