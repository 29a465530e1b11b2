"""Figures of solvers and schedules: each step's error and its share, error against calls, levels side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.page import theme

STEP_PANELS = {
    "local": "RMS error of the step\n(units of data)",
    "at_end": "what it becomes\nat the end",
    "cumulative_share": "share of the end error\nup to this step",
}


@theme.styled
def step_errors(table: pd.DataFrame, *, line: str = "") -> Figure:
    """Error of each step, what becomes of it, and the share of the end error so far, against sigma, on one axis.

    Parameters
    ----------
    table : DataFrame
        From `SolverErrors.steps`.
    line : str
        Column whose values are lines, as solvers or schedules; one line without it.
    """
    require_some("table", table)
    figure, axes = theme.new_figure(5.0, nrows=len(STEP_PANELS), sharex=True)
    for ax, (quantity, label) in zip(axes, STEP_PANELS.items(), strict=True):
        rows = theme.rows_where(table, "quantity", quantity, argument="table")
        rows = rows[(rows["value"] > 0) | (quantity == "cumulative_share")]  # a step to 0 that all take alike has none
        for place, (name, part) in enumerate(rows.groupby(line, sort=False) if line else [("", rows)]):
            look = theme.series(place)
            theme.with_band(
                ax, part, y="value", marker=look.marker, label=theme.literal(str(name)) or None, **look.line
            )
        ax.set(xscale=theme.LOG, ylabel=label)
        if quantity == "cumulative_share":
            theme.reference_line(ax, 1.0)
        else:
            ax.set_yscale(theme.LOG)
    theme.sigma_axis(axes[-1])
    if line:
        theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def end_errors(table: pd.DataFrame) -> Figure:
    """Median end error against denoiser calls, a panel a solver, a line a schedule.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.end_errors`, of several numbers of steps.
    """
    require_some("table", table)
    solvers = list(table["solver"].unique())
    figure, axes = theme.panels(len(solvers), height=2.2, least=2.0, more=0.7)
    looks = {name: theme.series(place) for place, name in enumerate(table["schedule"].unique())}
    for ax, solver in zip(axes, solvers, strict=True):
        rows = table[table["solver"] == solver]
        for schedule, part in rows.groupby("schedule", sort=False):
            look, part = looks[schedule], part.sort_values("calls")
            ax.errorbar(
                part["calls"], part["median"], yerr=theme.errors(part, "median"), marker=look.marker, **look.line,
                label=theme.literal(str(schedule)),
            )  # fmt: skip
        ax.set(xscale=theme.LOG, yscale=theme.LOG, title=theme.literal(str(solver)))
        ax.set_xticks(sorted(rows["calls"].unique()), [f"{calls}" for calls in sorted(rows["calls"].unique())])
        ax.minorticks_off()
    figure.supxlabel("denoiser calls a sample")
    figure.supylabel("median RMS end error (units of data)")
    theme.legend_above(figure)
    return figure


@theme.styled
def observed_orders(table: pd.DataFrame) -> Figure:
    """Median end error against the number of steps, beside slopes 1 and 2, above the order from one number to the next.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.observed_orders`.
    """
    require_some("table", table)
    figure, (top, bottom) = theme.new_figure(4.2, nrows=2, sharex=True)
    steps = np.array(sorted(table["steps"].unique()))
    for order, dash in ((1, ":"), (2, "--")):
        slope = table["error"].max() * (steps[0] / steps) ** order
        top.plot(steps, slope, color=theme.REFERENCE, linestyle=dash, label=f"slope {order}")
        bottom.axhline(order, color=theme.REFERENCE, linestyle=dash)
    for place, (name, rows) in enumerate(table.groupby("solver", sort=False)):
        look, rows = theme.series(place), rows.sort_values("steps")
        top.plot(rows["steps"], rows["error"], marker=look.marker, label=theme.literal(str(name)), **look.line)
        bottom.errorbar(rows["steps"], rows["order"], yerr=theme.errors(rows, "order"), marker=look.marker, **look.line)
    top.set(xscale=theme.LOG, yscale=theme.LOG, ylabel="median RMS end error\n(units of data)")
    bottom.set(xlabel="steps", ylabel="order from the number\nof steps before")
    bottom.set_xticks(steps, [str(count) for count in steps])
    bottom.minorticks_off()
    theme.legend_above(figure, top)
    return figure


@theme.styled
def schedules(levels: Mapping[str, Sequence[float]], table: pd.DataFrame) -> Figure:
    """Noise levels of several schedules side by side, and the end error of each over that of the one compared with.

    Parameters
    ----------
    levels : mapping of str to sequence of float
        By the schedule's name; a final 0 is not drawn.
    table : DataFrame
        From `analysis.trajectories.end_errors`, of one solver, on samples that had no part in finding a schedule.
    """
    require_some("levels", levels)
    rows = table.set_index("schedule")
    if rows.index.has_duplicates or not set(levels) <= set(rows.index):
        found = f"schedules {list(table['schedule'])}"
        raise InputError("table", found=found, expected=f"one row for each of {list(levels)}")
    height = 0.28 * len(levels) + 0.9
    figure, (left, right) = theme.new_figure(height, ncols=2, sharey=True, width_ratios=(2, 1))
    rows, places = rows.loc[list(levels)], np.arange(len(levels))[::-1]
    for place, sigmas in zip(places, levels.values(), strict=True):
        look = theme.series(len(levels) - 1 - int(place))
        shown = [sigma for sigma in sigmas if sigma > 0]
        left.plot(shown, [place] * len(shown), marker=look.marker, **look.line)
    bars = theme.errors(rows, "typical_ratio")
    right.errorbar(rows["typical_ratio"], places, xerr=bars, linestyle="", marker="o", color=theme.HIGHLIGHT)
    right.axvline(1.0, color=theme.REFERENCE, linestyle=":")
    left.set_yticks(places, [theme.literal(name) for name in levels])
    theme.sigma_axis(left, xlabel="noise level σ (units of\ndata)  ← sampling")
    right.set(xlabel="typical ratio\nof end errors")
    return figure
