"""Figures of the guidance report on a pipeline: rules at its states, and statistics of its images by setting."""

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.reports.guidance.figures import GAIN
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.page import theme


@theme.styled
def replayed_rules(steps: pd.DataFrame) -> Figure:
    """Factor by which each rule scales D_c at the recorded states, against sigma.

    `steps` has the columns of `analysis.guidance.summarise`, and `setting`.
    """
    figure, ax = theme.new_figure(height=3.0)
    rows = steps[(steps["quantity"] == "applied_gain") & (steps["call"] == 0)]
    for place, (name, table) in enumerate(rows.groupby("setting", sort=False)):
        theme.with_band(ax, table, label=theme.literal(str(name)), **theme.series(place).line)
    theme.reference_line(ax, 1, "no gain")
    theme.sigma_axis(ax, ylabel=GAIN)
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def set_densities(density: pd.DataFrame, value_range: tuple[float, float]) -> Figure:
    """Kernel density of the values of each setting's images.

    `density` is from `analysis.guidance.value_density`.
    """
    figure, ax = theme.new_figure(height=3.0)
    for edge in value_range:
        ax.axvline(edge, color=theme.REFERENCE, linestyle=":", linewidth=0.8)
    settings = density[["rule", "weight"]].drop_duplicates()
    for place, (rule, weight) in enumerate(settings.itertuples(index=False, name=None)):
        rows = of_run(density, rule, weight)
        ax.plot(rows["value"], rows["density"], label=theme.literal(run_name(rule, weight)), **theme.series(place).line)
    ax.set(xlabel="value of an element (units of data)", ylabel="density (1 / unit)", ylim=(0, None))
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def image_statistic(images: pd.DataFrame, quantity: str, *, label: str) -> Figure:
    """A statistic of the images of each setting, with intervals, a line a setting.

    `images` is a summary of `image_table` by rule and weight.
    """
    rows = images[images["quantity"] == quantity].iloc[::-1].reset_index(drop=True)
    figure, ax = theme.new_figure(height=0.24 * len(rows) + 0.7)
    ax.errorbar(
        rows["mean"], rows.index, xerr=theme.errors(rows, "mean"), color=theme.HIGHLIGHT, marker="o", markersize=4,
        linestyle="", capsize=2,
    )  # fmt: skip
    names = [theme.literal(run_name(rule, weight)) for rule, weight in zip(rows["rule"], rows["weight"], strict=True)]
    ax.set_yticks(rows.index, names)
    ax.set(xlabel=label, ylim=(-0.5, len(rows) - 0.5))
    return figure
