"""Figures of the page on recorded traces: all of them in one pair of axes, or in small panels of one scale."""

import pandas as pd
from matplotlib.figure import Figure

from scorescope.reports.page import theme


@theme.styled
def quantity_by_line(
    steps: pd.DataFrame,
    quantity: str,
    *,
    label: str,
    floor: str = "",
    floor_label: str = "",
    reference: float | None = None,
    yscale: str = "linear",
) -> Figure:
    """One quantity of every line against sigma, first call of each step.

    Parameters
    ----------
    steps : DataFrame
        As of `analysis.guidance.summarise`, with a column `line`.
    quantity, label : str
        Which, and what the axis says.
    floor, floor_label : str
        A second quantity, dotted: what rounding or chance gives.
    reference : float, optional
        A dotted line at one value.
    yscale : str
        Of the axis.
    """
    figure, ax = theme.new_figure(3.2)
    steps = steps[steps["call"] == 0]
    for place, (line, rows) in enumerate(steps.groupby("line", sort=False)):
        look = theme.series(place)
        drawn = rows[rows["quantity"] == quantity]
        theme.with_band(ax, drawn, label=theme.literal(str(line)), **look.line)
        if floor:
            below = rows[rows["quantity"] == floor].sort_values("sigma")
            ax.plot(below["sigma"], below["mean"], color=look.color, linestyle=":", linewidth=0.8)
    if floor:
        theme.reference_key(ax, floor_label)
    if reference is not None:
        theme.reference_line(ax, reference, floor_label)
    theme.sigma_axis(ax, ylabel=label, yscale=yscale, **({"ylim": (0, None)} if yscale == "linear" and floor else {}))
    theme.legend_above(figure, ax)
    return figure


@theme.styled
def parts_by_line(steps: pd.DataFrame) -> Figure:
    """Norms of the update and of its two parts, a panel a line, all on one scale."""
    steps = steps[steps["call"] == 0]
    lines = list(dict.fromkeys(steps["line"]))
    figure, axes = theme.panels(len(lines))
    for ax, line in zip(axes.flat, lines, strict=False):
        rows = steps[steps["line"] == line]
        for part in ("update", "orthogonal", "parallel"):
            drawn = rows[rows["quantity"] == f"{part}_norm"]
            theme.with_band(ax, drawn, label=part, **theme.PARTS[part].line)
        ax.set(xscale=theme.LOG, yscale=theme.LOG, title=theme.literal(line))
    figure.supxlabel(theme.SIGMA)
    figure.supylabel("L2 norm (units of data)")
    theme.legend_above(figure, axes.flat[0])
    return figure


@theme.styled
def replayed_by_trace(table: pd.DataFrame) -> Figure:
    """How far another rule of the same weight would have moved each prediction, a line a (trace, rule)."""
    figure, ax = theme.new_figure(3.2)
    places = {name: place for place, name in enumerate(dict.fromkeys(table["trace"]))}
    for (trace, setting), rows in table.groupby(["trace", "setting"], sort=False):
        look = theme.series(places[trace])
        style = "-" if setting == "APG" else "--"
        label = theme.literal(f"{trace}: {setting}")
        theme.with_band(ax, rows, label=label, color=look.color, linestyle=style)
    theme.sigma_axis(ax, ylabel="|other rule − own| / |own|, guided prediction", ylim=(0, None))
    theme.legend_above(figure, ax)
    return figure
