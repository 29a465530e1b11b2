"""Figures of the FID instrument that compare sets of images as papers do: a results table as dots, spaces, numbers.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.data.doors import require_some
from scorescope.reports.fid.picture_figures import shortened
from scorescope.reports.page import theme
from scorescope.reports.page.strips import strips_below

BINS = 30


@theme.styled
def metric_dots(table: pd.DataFrame, less: Sequence[str] = ()) -> Figure:
    """Metrics of several sets, a panel each: values with their 95 % intervals, hollow where there is none.

    Parameters
    ----------
    table : DataFrame
        Rows of companion tables with columns `set` and `best`: whether a set is marked as the best of its metric.
    less : sequence of str
        Metrics that are better where they are lower.
    """
    require_some("table", table)
    groups = list(table.groupby(["metric", "space"], sort=False))
    sets = list(dict.fromkeys(table["set"]))
    figure, axes = theme.panels(len(groups), height=0.17 * len(sets) + 0.75, least=1.6, more=0.1, sharex=False)
    for ax, ((metric, space), rows) in zip(axes, groups, strict=True):
        _dots(ax, rows.set_index("set").loc[sets])
        letters = int(14 * theme.width() / theme.abreast(len(groups), 1.6))
        lines = f"{metric} {'↓' if metric in less else '↑'}", shortened(str(space), letters)
        ax.set_title(theme.literal("\n".join(lines)), fontsize=theme.small())
        theme.few_ticks(ax)
    theme.legend_above(figure)
    theme.row_names(axes[0], (shortened(name, 16) for name in sets))
    axes[0].set_ylim(len(sets) - 0.5, -0.5)
    return figure


def _dots(ax: Axes, rows: pd.DataFrame) -> None:
    known, best, at = (
        rows[["low", "high"]].notna().all(axis=1),
        rows["best"],
        pd.Series(np.arange(len(rows)), rows.index),
    )
    looks: dict[str, tuple[Any, dict[str, Any]]] = {
        "with a 95 % interval": (known & ~best, {"fmt": "o", "color": theme.PALETTE[0]}),
        "best: its interval lies beyond all others": (best, {"fmt": "*", "color": theme.HIGHLIGHT}),
        "no interval": (~known, {"fmt": "o", "color": theme.PALETTE[0], "fillstyle": "none"}),
    }
    for label, (chosen, look) in looks.items():
        if chosen.any():
            size = (1.7 if look["fmt"] == "*" else 1) * mpl.rcParams["lines.markersize"]
            bars = theme.errors(rows[chosen], "value")
            ax.errorbar(rows["value"][chosen], at[chosen], xerr=bars, label=label, markersize=size, **look)


@theme.styled
def two_spaces(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Frechet distance in one feature space against that in another, a mark a set.

    Parameters
    ----------
    table : DataFrame
        Rows of companion tables of the metrics FD and FD without bias in two spaces, with a column `set`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    spaces = list(dict.fromkeys(table["space"]))
    figure, ax = theme.new_figure(2.7, ax=ax)
    for place, (name, rows) in enumerate(table.groupby("set", sort=False)):
        look = theme.series(place)
        for without in (False, True):
            kind = rows[rows["metric"].str.endswith("without bias") == without].set_index("space").loc[spaces]
            _point(ax, kind, look, theme.literal(shortened(str(name), 24)) if without else None)
    for space, line in zip(spaces, (ax.axvline, ax.axhline), strict=True):
        for floor in table.loc[table["space"] == space, "floor"].replace(0.0, np.nan).dropna().unique():
            line(floor, color=theme.REFERENCE, linestyle=":", linewidth=0.7 * mpl.rcParams["lines.linewidth"])
    ax.plot([], [], "o", color=theme.REFERENCE, fillstyle="none", label="as measured")
    theme.reference_key(ax, "floor of what is measured")
    first, second = (f"Frechet distance,\n{theme.literal(shortened(space, 34))}" for space in spaces)
    ax.set(xlabel=first, ylabel=second)
    theme.few_ticks(ax)
    theme.legend(ax)
    return figure


def _point(ax: Axes, rows: pd.DataFrame, look: theme.Look, name: str | None) -> None:
    """A set's distances in both spaces: without bias, filled and with a name, or as measured."""
    if rows["value"].isna().any():
        return
    x, y = rows["value"]
    if name is None:
        ax.plot(x, y, look.marker, color=look.color, fillstyle="none")
        return
    bars = theme.errors(rows, "value")
    ax.errorbar([x], [y], xerr=bars[:, :1], yerr=bars[:, 1:], label=name, color=look.color, fmt=look.marker)


@theme.styled
def infinity(points: pd.DataFrame, fits: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Frechet distance against 1/n with the line through it, and its value with interval at infinitely many images.

    Parameters
    ----------
    points : DataFrame
        Columns set, n and value.
    fits : DataFrame
        Columns set, value, low, high, slope and slope_one_law: a line a set.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("fits", fits)
    figure, ax = theme.new_figure(2.7, ax=ax)
    ends = np.array([0.0, 1 / points["n"].min()])
    for place, (_, fit) in enumerate(fits.iterrows()):
        look, rows = theme.series(place), points[points["set"] == fit["set"]]
        name = theme.literal(shortened(fit["set"], 24))
        ax.plot(1 / rows["n"], rows["value"], look.marker, color=look.color, alpha=0.6, fillstyle="none")
        ax.plot(ends, fit["value"] + fit["slope"] * ends, color=look.color, linewidth=0.7)
        ax.plot(ends, fit["value"] + fit["slope_one_law"] * ends, color=look.color, linestyle=":")
        bar = theme.errors(fits.iloc[[place]], "value")
        beside = -0.03 * (place + 1) * ends[1]  # intervals that would lie on each other at 0
        ax.errorbar([beside], [fit["value"]], yerr=bar, color=look.color, fmt=look.marker, label=name)
    theme.reference_key(ax, "slope of two sets of one law")
    ax.set(xlabel="1 / number of generated images", ylabel="Frechet distance")
    theme.few_ticks(ax)
    theme.legend(ax)
    return figure


@theme.styled
def matched_classes(table: pd.DataFrame, spaces: tuple[str, str]) -> Figure:
    """Frechet distance in two spaces against how many classes an image are matched.

    Parameters
    ----------
    table : DataFrame
        Rows of a gaming audit with columns `ranks`, which classes were matched, and `count`, how many; 0 for others.
    spaces : (str, str)
        Names of both feature spaces.
    """
    require_some("table", table)
    figure, axes = theme.panels(2, height=2.0, least=2.6, more=0.5, sharey=False)
    for ax, metric, space in zip(axes, ("FD", "second FD"), spaces, strict=True):
        rows = theme.rows_where(table, "metric", metric)
        matched = rows[rows["count"] > 0]
        for place, (ranks, part) in enumerate(matched.groupby("ranks", sort=False)):
            look = theme.series(place)
            bars = theme.errors(part, "value")
            ax.errorbar(part["count"], part["value"], yerr=bars, label=f"{ranks} N", marker=look.marker, **look.line)
        for (_, other), style in zip(rows[rows["count"] == 0].iterrows(), ("--", ":"), strict=False):
            ax.axhline(other["value"], color=theme.REFERENCE, linestyle=style, label=other["arm"])
        counts = sorted(matched["count"].unique())
        ax.set(xscale="log", ylabel="Frechet distance", title=theme.literal(space))
        ax.set_xticks(counts, [str(n) for n in counts], minor=False)
        ax.set_xticks([], minor=True)
    axes[-1].set_xlabel("classes matched an image, N")
    theme.legend_above(figure)
    return figure


@theme.styled
def nearest_training_images(
    table: pd.DataFrame, limit: float, pictures: Mapping[str, NDArray[Any]] = MappingProxyType({})
) -> Figure:
    """Histograms of the distance to the nearest training image, and rows of pictures below.

    Parameters
    ----------
    table : DataFrame
        Declared in `NEAREST_IMAGES`.
    limit : float
        A distance to compare with, dotted.
    pictures : mapping of str to ndarray, shape (n, y, x, 1 or 3)
        Rows of pictures in [0, 1] by their label.
    """
    require_some("table", table)
    figure, ax = strips_below(2.2, pictures) if pictures else theme.new_figure(2.4)
    edges = np.linspace(0, table["distance"].max() * 1.0001 or 1.0, BINS + 1)
    for place, (name, rows) in enumerate(table.groupby("what", sort=False)):
        heights = np.histogram(rows["distance"], edges)[0] / len(rows)
        ax.stairs(heights, edges, label=theme.literal(str(name)), **theme.series(place).line)
    ax.axvline(limit, color=theme.REFERENCE, linestyle=":", label="5 % quantile")
    name = theme.folded("distance to the nearest training image (units of data)", int(14 * theme.width()))
    ax.set(xlabel=name, ylabel="share of the images", xlim=(0, None))
    ax.legend(loc="upper left")
    return figure
