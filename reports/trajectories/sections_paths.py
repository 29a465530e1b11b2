"""Sections of the trajectories report on paths: their shape, when samples are decided, and the noise states have."""

import pandas as pd

from scorescope.analysis.trajectories import (
    decision_levels,
    decisions,
    effective_noise,
    gaussian_path,
    moment_bias,
    path_geometry,
    path_shape,
    products_along,
)
from scorescope.data.errors import InputError
from scorescope.probes.sampling import Path, run_path
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.trajectories import figures, readings
from scorescope.reports.trajectories.study import FINE_STEPS, MAIN, SOLVERS, STEPS, Study


def shape_section(study: Study) -> Section:
    """Bends, lengths and ranks of paths, beside those of a Gaussian."""
    law = study.law
    both = {"model": study.fine, "Gaussian": gaussian_path(law, study.fine)}
    products = {name: products_along(path) for name, path in both.items()}
    parts = [path_geometry(path, products=products[name]).assign(path=name) for name, path in both.items()]
    bends = pd.concat(parts, ignore_index=True)
    numbers = path_shape(study.fine, law, products=products["model"])
    caption = (
        f"{study.how}, {FINE_STEPS} Heun steps. The Gaussian: {study.law_source}; its own error is in no interval."
    )
    return Section(
        text="Three components hold nearly all of any path, a Gaussian's too: each number stands beside that of the "
        "Gaussian from the same noise.",
        figures=[
            ReportFigure("path_bends", figures.path_bends(bends), readings.read_bends(bends), caption),
            ReportFigure("path_numbers", figures.path_numbers(numbers), readings.read_shape(numbers), caption),
        ],
        tables=[
            ReportTable("path_shape", numbers, "One row a (quantity, curve)."),
            ReportTable("path_bends", bends, "One row a (path, quantity, sigma).", shown=False),
        ],
    )  # fmt: skip


def decided_section(study: Study) -> Section:
    """What is left between the prediction and the last one."""
    edges, classify = study.edges, study.classify
    table = decisions(study.fine, edges=edges, classify=classify)
    levels = decision_levels(study.fine, edges=edges, classify=classify)
    return Section(
        text="How far the prediction at a noise level is from the last one of its path.",
        figures=[
            ReportFigure(
                "decided", figures.decided_when(table), readings.read_decided(levels),
                f"{study.how}, {FINE_STEPS} Heun steps. Bands are 95 % intervals over samples.",
            )
        ],
        tables=[
            ReportTable(
                "decision_levels", levels, "Noise level below which half of the distance is left, or the class stays.",
                first=("quantity", "low_frequency", "high_frequency", "n", "from_start", "sigma", "low", "high"),
            ),
            ReportTable("decisions", table, "One row a (quantity, band, sigma).", shown=False),
        ],
    )  # fmt: skip


def noise_section(study: Study) -> Section:
    """Variance of the states against the schedule's, and the noise level that the denoiser reads from them."""
    law, condition = study.law, study.condition(len(study.seeds))
    path = run_path(
        study.denoiser, study.start(study.seeds), study.grid(STEPS), condition=condition, solver=SOLVERS[MAIN]
    )
    bias = moment_bias(path, law, solver=SOLVERS[MAIN])
    missing = "" if study.weight == 1.0 else " Guidance changes the variance too: that is part of what is beyond."
    tables = [ReportTable("moment_bias", bias, "One row a (quantity, sigma).")]
    if study.weight == 1.0:
        try:
            read = effective_noise(
                study.denoiser, _thinned(path, 2), condition=condition, iterations=2, seed=study.seed,
                progress=study.progress,
            )  # fmt: skip
            caption = "Noise level by the denoiser's own residual. One row a sigma."
            tables.insert(0, ReportTable("effective_noise", read, caption))
        except (InputError, RuntimeError) as error:  # it takes derivatives, which not every denoiser has
            missing = f" The noise level by the denoiser's own residual is missing: {error}."
    return Section(
        text="States of a solver with few steps have another variance than the noised data, with a perfect model too: "
        "beside the model's stands what the same steps do on a Gaussian." + missing,
        figures=[
            ReportFigure(
                "variance_bias", figures.variance_bias(bias), readings.read_variance(bias),
                f"{study.how}, {MAIN}, {STEPS} steps. Bands are 95 % intervals over samples, which hold the truth "
                "in 85 to 92 % at 8 to 128 of them. The Gaussian: "
                f"{study.law_source}; its own error is in no interval.",
            )
        ],
        tables=tables,
    )  # fmt: skip


def _thinned(path: Path, every: int) -> Path:
    """Each so many-th level."""
    return Path(path.sigmas[::every], path.states[::every], path.denoised[::every], path.end, path.calls)
