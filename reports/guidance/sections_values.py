"""Sections of the guidance report on what the samples look like: values, range, contrast, the pictures themselves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.guidance.images import image_table, value_density
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.reports.guidance import figures, readings
from scorescope.reports.guidance.runs import row_of
from scorescope.reports.guidance.study import WEIGHTS, Study
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section


def values_section(study: Study) -> Section:
    """Densities, overshoot and contrast of the final samples of every run, beside the real data."""
    sets, value_range = _sets(study), study.model.value_range
    tables = [image_table(images, value_range, rule=rule, weight=weight) for (rule, weight), images in sets.items()]
    images = summarise_by(pd.concat(tables, ignore_index=True), by=["rule", "weight"])
    density, headline = densities(sets, value_range), _headline(study, images)
    return Section(
        figures=_value_figures(study, images, density),
        tables=[
            ReportTable("settings", headline, "Final samples of each setting, 95 % intervals."),
            ReportTable("images", images, "Statistics of the final samples, long form.", shown=False),
            ReportTable("value_density", density, "Densities as drawn.", shown=False),
        ],
    )


def samples_section(study: Study) -> Section:
    """The first seeds under every rule and weight."""
    shape = study.model.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return Section(text=f"Samples of shape {shape} are no pictures of one or three channels: none shown.")
    shown = {key: run.samples for key, run in study.runs.items()}
    columns = min(20, study.count)
    value_range = study.model.value_range or spread(list(shown.values()))
    grid = figures.sample_grid(shown, columns=columns, value_range=value_range)
    reading = readings.read_samples(shown, min(WEIGHTS), max(WEIGHTS))
    how = f"The first {columns} seeds, one column a seed, clipped to the range."
    return Section(figures=[ReportFigure("samples", grid, reading, how, wide=True)])


def _sets(study: Study) -> dict[tuple[str, float], Tensor]:
    """Final samples by rule and weight, and the real data where there are some."""
    sets = {key: run.samples for key, run in study.runs.items()}
    digits = study.model.digits
    return sets if digits is None else sets | {("data", float("nan")): digits.train.images}


def _value_figures(study: Study, images: pd.DataFrame, density: pd.DataFrame) -> list[ReportFigure]:
    low, high, value_range = min(WEIGHTS), max(WEIGHTS), study.model.value_range
    how = "Gaussian kernel of the same bandwidth (0.03) for every curve; dotted: the range of the data. "
    if study.model.digits is not None:
        how += "The real digits have 17 grey levels, which show as peaks."
    figure = figures.value_densities(density, weights=WEIGHTS, value_range=value_range)
    shown = [ReportFigure("value_density", figure, readings.read_density(images, high), how)]
    if value_range is not None:
        figure = figures.against_weight(images, "overshoot_share", label="share of elements outside the range")
        how = "Final samples before clipping, by more than half an 8-bit level; 95 % intervals."
        shown.append(ReportFigure("overshoot", figure, readings.read_overshoot(images, low, high), how))
    real = row_of(images, "data", np.nan, "contrast")
    label, reference = "contrast: std within a sample (units of data)", None if real is None else float(real["mean"])
    figure = figures.against_weight(images, "contrast", label=label, reference=reference)
    how = "Final samples; 95 % intervals over samples."
    return [*shown, ReportFigure("contrast", figure, readings.read_contrast(images, high), how)]


def densities(sets: dict[tuple[str, float], Tensor], value_range: tuple[float, float] | None) -> pd.DataFrame:
    """Densities of the values of sets by (rule, weight), a little beyond the range of the data or of the first set."""
    low, high = value_range or spread(list(sets.values()))
    margin = 0.6 * (high - low) / 2
    grid = np.linspace(low - margin, high + margin, 321)
    parts = [value_density(images, rule=rule, weight=weight, grid=grid) for (rule, weight), images in sets.items()]
    return pd.concat(parts, ignore_index=True)


def _headline(study: Study, images: pd.DataFrame) -> pd.DataFrame:
    """One row a setting: what its samples are like, and how often they show the class that was asked for."""
    rows, scorer = [], study.scorer
    for (rule, weight), run in study.runs.items():
        row: dict[str, object] = {"rule": rule, "w": weight, "n": len(run.samples)}
        for quantity in ("overshoot_share", "contrast", "saturation"):
            found = row_of(images, rule, weight, quantity)
            if found is not None and not np.isnan(found["mean"]):
                row[quantity] = found["mean"]
                row[f"{quantity} 95 %"] = f"{found['low']:.3g} to {found['high']:.3g}"
        if scorer is not None:
            score = scorer(run.samples.cpu())
            low, high = share_interval(score)
            row["class agreement"] = score.mean()
            row["class agreement 95 %"] = f"{low:.3g} to {high:.3g}"
        rows.append(row)
    return pd.DataFrame(rows)


def spread(sets: Sequence[Tensor]) -> tuple[float, float]:
    """Range of unbounded data for drawing: the 1 % and 99 % quantiles of the first set."""
    values = sets[0].double().flatten().cpu().numpy()
    low, high = np.quantile(values, [0.01, 0.99])
    return float(low), float(high)
