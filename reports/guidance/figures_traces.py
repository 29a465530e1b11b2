"""Figures of the page on recorded traces: all of them in one pair of axes, or in small panels of one scale.

Public through `figures`.
"""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.data.doors import require_some
from scorescope.reports.page import theme


@theme.styled
def quantity_by_line(
    steps: pd.DataFrame, quantity: str, *, label: str, floor: str = "", reference: float | None = None,
    against: str = "", yscale: str = "linear", ax: Axes | None = None,
) -> Figure:  # fmt: skip
    """One quantity of several runs against sigma, first call of each step.

    Parameters
    ----------
    steps : DataFrame
        As of `analysis.guidance.summarise`, with a column `line` that names the runs.
    quantity, label : str
        Which, and what the axis says.
    floor : str
        A second quantity of each, dotted: what rounding or chance gives.
    reference : float, optional
        A dotted line at one value.
    against : str
        What the legend calls the floor, or the reference.
    yscale : str
        Of the axis.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(3.2, ax=ax)
    steps = steps[steps["call"] == 0]
    drawn = theme.rows_where(steps, "quantity", quantity, argument="steps")
    for place, (line, rows) in enumerate(drawn.groupby("line", sort=False)):
        look = theme.series(place)
        theme.with_band(ax, rows, label=theme.literal(str(line)), **look.line)
        below = steps[(steps["line"] == line) & (steps["quantity"] == floor)].sort_values("sigma")
        ax.plot(below["sigma"], below["mean"], color=look.color, linestyle=":",
                linewidth=0.7 * mpl.rcParams["lines.linewidth"])  # fmt: skip
    if floor:
        theme.reference_key(ax, against)
    if reference is not None:
        theme.reference_line(ax, reference, against)
    theme.sigma_axis(ax, ylabel=label, yscale=yscale)
    if floor and yscale == "linear":
        ax.set_ylim(bottom=0)
    theme.legend(ax)
    return figure


@theme.styled
def parts_by_line(steps: pd.DataFrame) -> Figure:
    """Norms of the update and of its two parts, a panel a run, all on one scale.

    Parameters
    ----------
    steps : DataFrame
        As of `analysis.guidance.summarise`, with a column `line` that names the runs.
    """
    require_some("steps", steps)
    steps = steps[steps["call"] == 0]
    lines = list(dict.fromkeys(steps["line"]))
    figure, axes = theme.panels(len(lines))
    for ax, line in zip(axes, lines, strict=True):
        rows = steps[steps["line"] == line]
        for part in ("update", "orthogonal", "parallel"):
            drawn = rows[rows["quantity"] == f"{part}_norm"]
            theme.with_band(ax, drawn, label=part, **theme.PARTS[part].line)
        ax.set(xscale=theme.LOG, yscale=theme.LOG, title=theme.folded(theme.literal(line), 22))
    figure.supxlabel(theme.SIGMA)
    figure.supylabel("L2 norm (units of data)")
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def replayed_by_trace(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """How far another rule of the same weight would have moved each prediction, a line a (trace, rule).

    Parameters
    ----------
    table : DataFrame
        Summary by `trace`, `setting` and `sigma` of |other rule - own| / |own|.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(3.2, ax=ax)
    for place, ((trace, setting), rows) in enumerate(table.groupby(["trace", "setting"], sort=False)):
        theme.with_band(ax, rows, label=theme.literal(f"{trace}: {setting}"), **theme.series(place).line)
    theme.sigma_axis(ax, ylabel="|other rule − own| / |own|, guided prediction", ylim=(0, None))
    theme.legend(ax)
    return figure
