"""What the samples of a guidance report look like: values, range, contrast, the pictures themselves."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.images import image_table, value_density
from scorescope.analysis.guidance.quality import class_scorer
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.probes.models.model import Model
from scorescope.probes.sampling.sample import Run
from scorescope.reports.guidance import figures, readings
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

Runs = Mapping[tuple[str, float], Run]


def values_section(runs: Runs, model: Model, *, weights: Sequence[float]) -> Section:
    """Densities, overshoot and contrast of the final samples of every run, beside the real data."""
    real = None if model.digits is None else model.digits.train.images
    tables = [image_table(run.samples, model.value_range, rule=rule, weight=w) for (rule, w), run in runs.items()]
    if real is not None:
        tables.append(image_table(real, model.value_range, rule="data", weight=np.nan))
    images = summarise_by(pd.concat(tables, ignore_index=True), by=["rule", "weight"])
    density = _densities(runs, real, model)
    shown = [
        ReportFigure(
            "value_density",
            figures.value_densities(density, weights=weights, value_range=model.value_range),
            readings.read_density(images, max(weights)),
            "Gaussian kernel of the same bandwidth (0.03) for every curve; dotted: the range of the data. "
            + ("" if real is None else "The real digits have 17 grey levels, which show as peaks."),
        )
    ]
    if model.value_range is not None:
        shown.append(
            ReportFigure(
                "overshoot",
                figures.against_weight(images, "overshoot_share", label="share of elements outside the range"),
                readings.read_overshoot(images, min(weights), max(weights)),
                "Final samples before clipping, by more than half an 8-bit level; 95 % bootstrap intervals.",
            )
        )
    reference = readings.row_of(images, "data", np.nan, "contrast")
    contrast = figures.against_weight(
        images,
        "contrast",
        label="contrast: std within a sample (units of data)",
        reference=None if reference is None else float(reference["mean"]),
    )
    how = "Final samples; 95 % bootstrap intervals over samples."
    shown.append(ReportFigure("contrast", contrast, readings.read_contrast(images, max(weights)), how))
    return Section(
        figures=shown,
        tables=[
            ReportTable("settings", _headline(images, runs, model), "Final samples of each setting, 95 % intervals."),
            ReportTable("images", images, "Statistics of the final samples, long form.", shown=False),
            ReportTable("value_density", density, "Densities as drawn.", shown=False),
        ],
    )


def _densities(runs: Runs, real: Tensor | None, model: Model) -> pd.DataFrame:
    low, high = model.value_range or _spread([run.samples for run in runs.values()])
    margin = 0.6 * (high - low) / 2
    grid = np.linspace(low - margin, high + margin, 321)
    sets = [(rule, w, run.samples) for (rule, w), run in runs.items()]
    if real is not None:
        sets.append(("data", float("nan"), real))
    parts = [value_density(images, rule=rule, weight=w, grid=grid) for rule, w, images in sets]
    return pd.concat(parts, ignore_index=True)


def _headline(images: pd.DataFrame, runs: Runs, model: Model) -> pd.DataFrame:
    rows, scorers = [], dict[int, Callable[[Tensor], NDArray[np.float64]]]()
    for (rule, weight), run in runs.items():
        row: dict[str, object] = {"rule": rule, "w": weight, "n": len(run.samples)}
        for quantity in ("overshoot_share", "contrast", "saturation"):
            found = readings.row_of(images, rule, weight, quantity)
            if found is not None and not np.isnan(found["mean"]):
                row[quantity] = found["mean"]
                row[f"{quantity} 95 %"] = f"{found['low']:.3g} to {found['high']:.3g}"
        if model.digits is not None:
            count = len(run.samples)
            if count not in scorers:  # a classifier is fitted, once
                scorers[count] = class_scorer(model.conditions(count), train=model.digits.train)
            score = scorers[count](run.samples.cpu())
            low, high = share_interval(score)
            row["class agreement"] = score.mean()
            row["class agreement 95 %"] = f"{low:.3g} to {high:.3g}"
        rows.append(row)
    return pd.DataFrame(rows)


def samples_section(runs: Runs, model: Model, *, weights: Sequence[float]) -> Section:
    """The first seeds under every rule and weight."""
    if len(model.shape) != 3 or model.shape[0] not in (1, 3):
        return Section(text=f"Samples of shape {model.shape} are no pictures of one or three channels: none shown.")
    shown = {key: run.samples for key, run in runs.items()}
    columns = min(20, *(len(images) for images in shown.values()))
    value_range = model.value_range or _spread(list(shown.values()))
    grid = figures.sample_grid(shown, columns=columns, value_range=value_range)
    reading = readings.read_samples(shown, min(weights), max(weights))
    how = f"The first {columns} seeds, one column a seed, clipped to the range."
    return Section(figures=[ReportFigure("samples", grid, reading, how, wide=True)])


def _spread(sets: Sequence[Tensor]) -> tuple[float, float]:
    """Range of unbounded data for drawing: the 1 % and 99 % quantiles of the first set."""
    values = sets[0].double().flatten().cpu().numpy()
    low, high = np.quantile(values, [0.01, 0.99])
    return float(low), float(high)
