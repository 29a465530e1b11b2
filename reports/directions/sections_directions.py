"""Section of the directions report on directions themselves: reading against moving, stability, transport."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.directions.carrying import How, carry_direction, jacobian_carry, judge_transport
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.direction_fits import Method
from scorescope.analysis.directions.finding import find_direction
from scorescope.analysis.directions.stability import direction_stability, step_cosines
from scorescope.analysis.directions.steering_effects import steering_effect, transport_effect
from scorescope.probes.sites.control_directions import shuffled_directions
from scorescope.probes.sites.direction import Direction
from scorescope.reports.directions import figures, readings
from scorescope.reports.directions.study import Scores
from scorescope.reports.directions.workbench import FOUND_AT, LAW, Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

METHODS: tuple[Method, ...] = ("difference", "lda", "logistic", "svm")
CARRIED: tuple[How, ...] = ("same", "refit", "procrustes", "least_squares")


def direction_section(bench: Workbench) -> Section:
    """How a direction is best found, how stable it is, and how it travels over noise levels."""
    contrast = bench.contrasts[0]
    site = bench.best_site(contrast)
    readers = compare_readers(bench, site)
    stability = _stability(bench, site)
    cosines = cosines_of(bench, site)
    transported = _transport(bench, site)
    return Section(
        figures=[
            ReportFigure(
                "readers", figures.readers_and_movers(readers), readings.read_readers(readers),
                f"Directions of {contrast} at {site}, found on half of the images at σ = {FOUND_AT:g}, read on the "
                "other half, and added to the same seeds; 95 % intervals over images and over seeds. Moves: more than "
                "random directions do and than the same recipe's of shuffled labels (t, one-sided, 5 %), for each "
                "direction alone; nothing here is corrected for their number. {_others(bench)}",
            ),
            ReportFigure(
                "step_cosines", figures.cosine_matrix(cosines), readings.read_cosines(cosines),
                f"Difference of means of {contrast} at {site}; each cosine is between directions of different halves "
                "of the images, so that common chance does not count.",
            ),
        ],
        tables=[
            ReportTable(
                "readers", readers, "Which direction reads best, which moves best, and the angle between.",
                first=("attribute", "method", "control", "auc", "reads_best", "effect", "moves_best"),
            ),
            ReportTable("stability", stability, "Cosines between halves, bootstrap draws and shuffled labels."),
            ReportTable("transport", transported, "Ways to carry the direction over noise levels, by their effect."),
            ReportTable("step_cosines", cosines, shown=False),
        ],
    )  # fmt: skip


def _others(bench: Workbench) -> str:
    """Which scores should not move when the first contrast's does, in a sentence."""
    others = [name for name in bench.natural if name != bench.contrasts[0].attribute]
    if not others:
        return "The judge has no score but the target's, so that no effect on another one can be seen."
    return f"Scores that should not move: {', '.join(others)}."


def _rows(bench: Workbench) -> Tensor:
    """Images that show one end of the first contrast."""
    rows, _ = bench.subject.rows(bench.contrasts[0])
    return rows[rows < len(bench.images)]


def _labels(bench: Workbench) -> np.ndarray:
    rows, high = bench.subject.rows(bench.contrasts[0])
    return high[rows < len(bench.images)].numpy()


def cosines_of(bench: Workbench, site: str) -> pd.DataFrame:
    """Cosines between the first contrast's directions of every two noise levels at a site."""
    part, groups = bench.contrast_activations(bench.contrasts[0], site), bench.groups[_rows(bench)].numpy()
    return step_cosines(part, _labels(bench), site=site, groups=groups, halves=bench.size(20, 8))


def compare_readers(bench: Workbench, site: str) -> pd.DataFrame:
    """How well directions of the first contrast at a site read, and how purely they move, by recipe."""
    contrast, count = bench.contrasts[0], bench.size(24, 8)
    level = bench.activations.nearest_level(FOUND_AT)
    values, high = bench.examples(contrast, site, level)
    half, other = bench.halves(_rows(bench), high)
    where: dict[str, Any] = {"site": site, "attribute": contrast.attribute, "sigma": bench.activations.sigmas[level]}
    where["output"] = bench.activations.output_of(site)

    def find(x: Tensor, labels: Tensor, method: Method) -> Direction:
        return find_direction(x, labels.numpy(), method=method, **where)

    def finder(method: Method) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, labels: find(x, labels, method).vector

    directions = [find(values[half], high[half], method) for method in METHODS]
    laws = [
        shuffled_directions(
            direction, values[half], high[half], count=bench.size(LAW, 2), find=finder(method)
        )
        for direction, method in zip(directions, METHODS, strict=True)
    ]  # fmt: skip
    scaled = _in_natural_units(bench)
    effect = steering_effect(
        bench.subject.denoiser, scaled, seeds=bench.fresh(count),
        condition=bench.open_condition(contrast, count), sampling=bench.sampling,
    )  # fmt: skip
    return compare_directions(
        directions, values[other], high[other].numpy(), effect=effect, random=bench.size(5, 4), shuffled=laws
    )


def _in_natural_units(bench: Workbench) -> Scores:
    scores = bench.subject.scores()
    return lambda images: {name: value / bench.natural[name] for name, value in scores(images).items()}


def _stability(bench: Workbench, site: str) -> pd.DataFrame:
    values, high = bench.examples(bench.contrasts[0], site, bench.activations.nearest_level(FOUND_AT))
    groups, resamples, halves = bench.groups[_rows(bench)].numpy(), bench.size(100, 20), bench.size(25, 8)
    methods: tuple[Method, ...] = ("difference", "lda")
    tables = [
        direction_stability(values, high.numpy(), method=one, groups=groups, resamples=resamples, halves=halves)
        for one in methods
    ]
    return pd.concat(tables, ignore_index=True)


def _transport(bench: Workbench, site: str) -> pd.DataFrame:
    contrast, count = bench.contrasts[0], bench.size(24, 8)
    part, labels = bench.contrast_activations(contrast, site), _labels(bench)
    direction = bench.direction(contrast, site, sigma=FOUND_AT)
    carried: dict[str, list[Direction]] = {
        how: carry_direction(direction, part, how=how, labels=labels) for how in CARRIED
    }
    if hasattr(bench.subject.denoiser, "embed"):
        by_jacobian = jacobian_carry(bench.subject.denoiser, bench.images[: bench.size(32, 8)])
        carried["jacobian"] = carry_direction(direction, part, how="given", carry=by_jacobian, labels=labels)
    effect = transport_effect(
        bench.subject.denoiser, _in_natural_units(bench), target=contrast.attribute, seeds=bench.fresh(count),
        condition=bench.open_condition(contrast, count), sampling=bench.sampling,
    )  # fmt: skip
    return judge_transport(carried, effect=effect)
