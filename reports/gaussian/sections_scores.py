"""Sections of the Gaussian report on scores: laws against the network, over training, and what it remembers."""

import pandas as pd

from scorescope.analysis.gaussian.gaps import QUERIES, score_gaps
from scorescope.analysis.gaussian.scores import SCORES, regimes, score_table
from scorescope.analysis.gaussian.training import memorisation, nearest_step, training_dynamics
from scorescope.data.checkpoints import load_snapshots
from scorescope.probes.approximations import Approximation, TrainingSet
from scorescope.reports.gaussian import figures, findings, readings
from scorescope.reports.gaussian.study import MEMORY_SIGMAS, SIGMAS, Study, bands
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

DYNAMICS_SIGMAS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)


def laws_section(study: Study) -> Section:
    """Every law against the network: by noise level, by metric, by where one asks."""
    draws = 1 if study.quick else 2
    asked = {"held_out": study.held_out, "train": study.data.train[: len(study.held_out)]}
    if not study.quick:
        asked |= {"noise": study.held_out, "path": study.held_out[:64]}
    gaps = {
        query: score_gaps(
            study.denoiser, study.laws, points, study.within(SIGMAS), query=query,
            draws=draws if query == "held_out" else 1, seed=study.seed, progress=study.progress,
        )
        for query, points in asked.items()
    }  # fmt: skip
    held_out = score_table(gaps["held_out"])
    every = pd.concat([held_out, *(score_table(g) for query, g in gaps.items() if query != "held_out")])
    levels = regimes(gaps["held_out"])
    name = study.gaussian.name
    banded = bands(len(study.held_out))
    how = f"{banded}Asked at {QUERIES['held_out']}, {draws} noise draws an image, unconditional branch. "
    law_figure = figures.law_fractions(held_out, levels, constant=study.far, gaussian=name)
    return Section(
        text="Each law is fitted to the training images and has a denoiser in closed form. The centred unexplained "
        "fraction is the squared distance of the network's prediction to the law's, over its squared distance to the "
        "mean. Its floor is what a perfect network would show, as the laws' moments are those of a finite sample: "
        "error of the network is shown only above it, and where the laws agree." + study.limits,
        figures=[
            ReportFigure("laws", law_figure, readings.read_laws(held_out, levels, study.far, name), how, wide=True),
            ReportFigure(
                "metrics", figures.metrics(held_out, gaussian=name), readings.read_metrics(held_out, name), how
            ),
            ReportFigure(
                "queries",
                figures.queries(every, names=[name, "training set"]),
                readings.read_queries(every, "training set"),
                banded + "Where a denoiser is asked decides what low noise shows.",
                wide=True,
            ),
        ],
        tables=[
            ReportTable(
                "regimes",
                levels,
                "One row a noise level, held-out queries; `reason` says what is not shown, and why.",
                first=("sigma", "best", "best_fraction", "best_fraction_low", "best_fraction_high", "reason"),
            ),
            ReportTable("scores", every, "One row a (query, sigma, approximation, metric).", shown=False),
            ReportTable("scores_columns", SCORES.describe(), "Columns of that table.", shown=False),
        ],
        findings=[*findings.as_good(levels), *findings.unexplained(held_out, name)],
    )


def training_section(study: Study) -> Section:
    """The network over training: how far it is from each law."""
    if study.model.digits is None:
        return Section(
            text="Snapshots of training are shipped for the digits only; `training_dynamics` takes your own."
        )
    laws: list[Approximation] = [study.gaussian, study.modes, TrainingSet(study.train)]
    table = training_dynamics(load_snapshots(), laws, study.held_out, DYNAMICS_SIGMAS, progress=study.progress)
    nearest = nearest_step(table)
    names = [law.name for law in laws]
    return Section(
        text="Three snapshots of one short training run of a smaller network (shipped with the package), at their "
        "distance from each law. Larger networks on natural images were reported to come near the Gaussian first and "
        "to leave it at low noise (Wang & Vastola 2024, arXiv 2412.09726).",
        figures=[
            ReportFigure(
                "dynamics", figures.dynamics(table, names=names, sigmas=DYNAMICS_SIGMAS),
                readings.read_dynamics(nearest, study.gaussian.name),
                bands(len(study.held_out)) + "Held-out queries.", wide=True,
            )
        ],
        tables=[
            ReportTable("nearest_step", nearest, "The snapshot nearest to each law at each noise level."),
            ReportTable("dynamics", table, "One row a (snapshot, sigma, approximation, metric).", shown=False),
        ],
    )  # fmt: skip


def memory_section(study: Study) -> Section:
    """Training points against held-out points: error and Jacobian."""
    count = len(study.held_out)
    sets = {"train": study.data.train[:count], "held out": study.held_out}
    exact = TrainingSet(study.train)
    denoisers = {study.model.name: study.denoiser, "Gaussian": study.gaussian, "memoriser": exact}
    tables = {
        name: memorisation(denoiser, sets, study.within(MEMORY_SIGMAS), seed=study.seed, progress=study.progress)
        for name, denoiser in denoisers.items()
    }
    whole = pd.concat([table.assign(denoiser=name) for name, table in tables.items()], ignore_index=True)
    return Section(
        text="A denoiser that generalises has errors of one size on training and held-out points. The memoriser (the "
        "exact denoiser of the training set) has no error and no Jacobian on training points at low noise, and on "
        "fresh points an error that stays at the distance to the nearest training point." + _unknown_training(study),
        figures=[
            ReportFigure(
                "memorisation", figures.memorisation(tables), readings.read_memory(tables, study.model.name),
                f"{count} images each, one noise draw, 4 Rademacher probes a point. Bands are 95 % "
                f"intervals of means, corrected for skewness. {figures.BELOW}", wide=True,
            )
        ],
        tables=[ReportTable("memorisation", whole, "One row a (denoiser, set, sigma, quantity).", shown=False)],
        findings=findings.remembered(tables, study.model.name, trained=study.model.digits is not None),
    )  # fmt: skip


def _unknown_training(study: Study) -> str:
    """What is not known of a user's own images."""
    if study.model.digits is not None:
        return ""
    return (
        " Training points are here those that the laws were fitted to; whether the network was trained on them, or on "
        "the held-out ones, is not known here."
    )
