"""One look for all figures: column width, colour-blind-safe colours, small marks of measurement.

    fig, ax = new_figure()
    with_band(ax, rows, color=RULE_COLORS["CFG"], label="CFG")

Nothing global is set: figures are made inside `styled`, and pyplot holds none of them.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

COLUMN = 3.5  # inches: the width of a column in most papers
PALETTE = sns.color_palette("colorblind").as_hex()
REFERENCE = "#6b7280"  # floors, chance levels and other lines to compare with
RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
SIGMA_LABEL = "noise level σ (units of data; sampling runs right to left)"


def styled(make: Callable[P, R]) -> Callable[P, R]:
    """Run a figure function under the house style, and leave matplotlib's settings as they were."""

    @functools.wraps(make)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(RC):
            return make(*args, **kwargs)

    return inside


def new_figure(width: float = COLUMN, height: float = 2.6, **grid: Any) -> tuple[Figure, Any]:
    """An empty figure with one axes, or an array of axes for `nrows`, `ncols`."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(**grid)


def with_band(ax: Axes, rows: pd.DataFrame, *, x: str = "sigma", color: str, label: str, **line: Any) -> None:
    """Draw `mean` against `x` with the interval from `low` to `high`."""
    if rows.empty:  # a setting that failed has no curve and no place in the legend
        return
    rows = rows.sort_values(x)
    ax.plot(rows[x], rows["mean"], color=color, label=label, **line)
    ax.fill_between(rows[x], rows["low"], rows["high"], color=color, alpha=0.2, linewidth=0)


def shades(color: str, count: int) -> list[str]:
    """`count` shades of one colour, light to full, for an ordered quantity."""
    return list(sns.light_palette(color, count + 2).as_hex())[2:]
