"""Figures of what changed: differences against the noise level, and the images that differ most."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.page import theme

CURVES = 5  # noise levels that are drawn as curves
LENGTH = r"EMA length $\sigma_\mathrm{rel}$"


@theme.styled
def run_differences(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Differences of two runs against sigma, a panel a quantity, in percent of the first run's mean.

    `table` is from `analysis.changes.run_changes`; a step that is shown to differ has a mark. Where runs had several
    schedulers or schedules, each has a line.
    """
    figure, axes = theme.panels(len(quantities))
    several = bool(table[["stream", "schedule"]].any(axis=None))
    for place, (ax, quantity) in enumerate(zip(axes.flat, quantities, strict=False)):
        rows = table[table["quantity"] == quantity]
        scale = rows["first"].abs().max() / 100
        rows = rows.assign(**{name: rows[name] / scale for name in ("value", "low", "high")})
        for number, ((stream, schedule), path) in enumerate(rows.groupby(["stream", "schedule"])):
            label = f"scheduler {stream}, schedule {schedule}" if several and not place else None
            _band(ax, path, theme.series(number if several else place), label)
        ax.set_title(quantity.replace("_", " "))
        theme.sigma_axis(ax, xlabel=theme.SIGMA)
    if several:
        theme.legend_above(figure, axes.flat[0], ncols=3)
    figure.supylabel("second less first (% of the first's largest mean)")
    return figure


@theme.styled
def loss_differences(table: pd.DataFrame) -> Figure:
    """Differences of loss of two denoisers against sigma, a line a pair, in percent of the first one's loss.

    `table` is from `analysis.changes.denoiser_changes`.
    """
    figure, ax = theme.new_figure(height=3.0)
    for place, ((first, second), rows) in enumerate(table.groupby(["first", "second"], sort=False)):
        share = {name: 100 * rows[name] / rows["loss"] for name in ("value", "low", "high")}
        _band(ax, rows.assign(**share), theme.series(place), label=theme.literal(f"{second} less {first}"))
    theme.sigma_axis(ax, xlabel=theme.SIGMA, ylabel="difference of loss (%)")
    theme.legend_above(figure, ncols=2)
    return figure


@theme.styled
def ema_losses(table: pd.DataFrame) -> Figure:
    """How far the loss of each EMA length is above the lowest there, in percent of that: a line a noise level.

    `table` is from `analysis.changes.above_lowest`, with a column `length`; of its noise levels a few are drawn. A
    filled mark is shown to be worse than the lowest.
    """
    figure, ax = theme.new_figure(height=3.0)
    levels = np.sort(table["sigma"].unique())[::-1]
    drawn = levels[np.unique(np.linspace(0, len(levels) - 1, CURVES).round().astype(int))]
    for place, sigma in enumerate(drawn):
        rows, look = table[table["sigma"] == sigma].sort_values("length"), theme.series(place)
        share = rows[["value", "low", "high"]].mul(100 / rows["lowest"], axis=0)
        length, worse = rows["length"] * 1.012 ** (place - (len(drawn) - 1) / 2), rows["shown"]  # side by side
        ax.errorbar(length, share["value"], theme.errors(share, "value"), **look.line, elinewidth=0.8)
        for marked, face in ((worse, look.color), (~worse, "white")):
            ax.plot(length[marked], share["value"][marked], look.marker, color=look.color, mfc=face, markersize=4)
        ax.plot([], [], look.marker, **look.line, label=f"σ = {sigma:.2g}", markersize=4)
    theme.reference_line(ax, 0)
    _length_axis(ax.xaxis, table["length"])
    ax.set(xlabel=LENGTH, ylabel="loss above the lowest (%)")
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def ema_lowest(table: pd.DataFrame) -> Figure:
    """The EMA length of the lowest loss at each noise level, and those that are not told from it.

    `table` is as for `ema_losses`.
    """
    figure, ax = theme.new_figure(height=2.6)
    best, open_ = table["value"] == 0, ~table["shown"] & (table["value"] > 0)
    ax.plot(
        table["sigma"][open_], table["length"][open_], "o", color=theme.REFERENCE, mfc="white", label="not told from it"
    )
    ax.plot(table["sigma"][best], table["length"][best], "o", color=theme.PALETTE[0], label="lowest loss")
    theme.sigma_axis(ax, xlabel=theme.SIGMA, ylabel=LENGTH)
    _length_axis(ax.yaxis, table["length"])
    theme.legend_above(figure, ncols=2)
    return figure


def _length_axis(axis: Any, lengths: "pd.Series[float]") -> None:
    """EMA lengths, each with its tick, evenly by their ratios."""
    ticks = sorted(set(lengths))
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (ticks[0] / 1.15, ticks[-1] * 1.15)})
    axis.set_ticks(ticks, [f"{length:g}" for length in ticks])
    axis.set_ticks([], minor=True)


@theme.styled
def image_pairs(
    pairs: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], names: tuple[str, str]
) -> Figure:
    """Images of two runs below each other, a column a pair under its title; (y, x, channel) in [0, 1]."""
    figure, axes = theme.new_figure(
        width=7.0, height=2 * 6.4 / max(len(pairs), 3) + 0.4, nrows=2, ncols=len(pairs), squeeze=False
    )
    for column, (title, *pictures) in zip(axes.T, pairs, strict=True):
        for ax, picture in zip(column, pictures, strict=True):
            theme.show_picture(ax, picture)
        column[0].set_title(title, fontsize=7)
    for ax, name in zip(axes[:, 0], names, strict=True):
        theme.label_row(ax, name)
    return figure


def _band(ax: Axes, rows: pd.DataFrame, look: theme.Look, label: str | None = None) -> None:
    rows = rows.sort_values("sigma")
    theme.with_band(ax, rows, y="value", color=look.color, linestyle=look.linestyle, label=label)
    shown = rows[rows["shown"]]
    ax.plot(shown["sigma"], shown["value"], look.marker or "o", color=look.color, markersize=4)
    theme.reference_line(ax, 0)
