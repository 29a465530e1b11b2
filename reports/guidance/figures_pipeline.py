"""Figures of the guidance report on a pipeline: rules at its states, and statistics of its images by setting.

Public through `figures`.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.page import theme

GAIN = "gain on $D_c$: ⟨guided, $D_c$⟩ / ‖$D_c$‖²"


@theme.styled
def replayed_rules(steps: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Factor by which each rule scales D_c at the recorded states, against sigma.

    Parameters
    ----------
    steps : DataFrame
        With the columns of `analysis.guidance.summarise`, and `setting`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(3.0, ax=ax)
    rows = theme.rows_where(steps[steps["call"] == 0], "quantity", "applied_gain", argument="steps")
    for place, (name, table) in enumerate(rows.groupby("setting", sort=False)):
        theme.with_band(ax, table, label=theme.literal(str(name)), **theme.series(place).line)
    theme.reference_line(ax, 1, "no gain")
    theme.sigma_axis(ax, ylabel=GAIN)
    theme.log_if_wide(ax)
    theme.legend(ax)
    return figure


@theme.styled
def set_densities(density: pd.DataFrame, value_range: tuple[float, float], *, ax: Axes | None = None) -> Figure:
    """Kernel density of the values of each setting's images.

    Parameters
    ----------
    density : DataFrame
        From `analysis.guidance.value_density`.
    value_range : (float, float)
        Of the data, marked by dotted lines.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(3.0, ax=ax)
    for edge in value_range:
        ax.axvline(edge, color=theme.REFERENCE, linestyle=":", linewidth=0.8)
    settings = density[["rule", "weight"]].drop_duplicates()
    for place, (rule, weight) in enumerate(settings.itertuples(index=False, name=None)):
        rows = of_run(density, rule, weight)
        ax.plot(rows["value"], rows["density"], label=theme.literal(run_name(rule, weight)), **theme.series(place).line)
    ax.set(xlabel="value of an element (units of data)", ylabel="density (1 / unit)")
    theme.density_axis(ax)
    theme.legend(ax)
    return figure


@theme.styled
def image_statistic(images: pd.DataFrame, quantity: str, *, label: str, ax: Axes | None = None) -> Figure:
    """A statistic of the images of each setting, with intervals, a line a setting.

    Parameters
    ----------
    images : DataFrame
        Summary of `image_table` by rule and weight.
    quantity : str
        Which of its quantities.
    label : str
        Axis label with unit.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    rows = theme.rows_where(images, "quantity", quantity).iloc[::-1].reset_index(drop=True)
    figure, ax = theme.new_figure(0.24 * len(rows) + 0.7, ax=ax)
    ax.errorbar(
        rows["mean"], rows.index, xerr=theme.errors(rows, "mean"), color=theme.HIGHLIGHT, marker="o", linestyle=""
    )
    names = [theme.literal(run_name(rule, weight)) for rule, weight in zip(rows["rule"], rows["weight"], strict=True)]
    ax.set_yticks(rows.index, names)
    ax.set(xlabel=theme.folded(label, 44), ylim=(-0.5, len(rows) - 0.5))
    return figure
