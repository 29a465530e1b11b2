"""Figures of what changed: differences against the noise level, and the images that differ most.

    from scorescope.reports.changes import figures

    figures.loss_differences(denoiser_changes(denoisers, images))

Each takes `style=`, and those of one panel `ax=`: see `theme`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.data.doors import require_some
from scorescope.reports.changes.readings import in_words
from scorescope.reports.page import theme

CURVES = 5  # noise levels that are drawn as curves
LENGTH = r"EMA length $\sigma_\mathrm{rel}$"


@theme.styled
def run_differences(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Differences of two runs against sigma, a panel a quantity, in percent of the first run's mean.

    A step that is shown to differ has a mark. Where runs had several schedulers or schedules, each has a line.

    Parameters
    ----------
    table : DataFrame
        From `analysis.changes.run_changes`.
    quantities : sequence of str
        Those of its quantities that are drawn.
    """
    require_some("quantities", quantities)
    figure, axes = theme.panels(len(quantities), more=0.8)
    several = bool(table[["stream", "schedule"]].any(axis=None))
    for place, (ax, quantity) in enumerate(zip(axes, quantities, strict=True)):
        rows = theme.rows_where(table, "quantity", quantity, argument="quantities")
        scale = rows["first"].abs().max() / 100
        rows = rows.assign(**{name: rows[name] / scale for name in ("value", "low", "high")})
        for number, ((stream, schedule), path) in enumerate(rows.groupby(["stream", "schedule"])):
            label = f"scheduler {stream}, schedule {schedule}" if several and not place else None
            _band(ax, path, theme.series(number if several else place), label)
        ax.set_title(theme.folded(theme.literal(in_words(quantity)), 24))
        theme.sigma_axis(ax, xlabel="")
    if several:
        theme.legend_above(figure, axes[0])
    figure.supxlabel(theme.SIGMA_LABEL)
    figure.supylabel("second less first\n(% of the first's largest mean)", multialignment="center")
    return figure


@theme.styled
def loss_differences(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Differences of loss of two denoisers against sigma, a line a pair, in percent of the first one's loss.

    Parameters
    ----------
    table : DataFrame
        From `analysis.changes.denoiser_changes`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(3.0, ax=ax)
    for place, ((first, second), rows) in enumerate(table.groupby(["first", "second"], sort=False)):
        share = {name: 100 * rows[name] / rows["loss"] for name in ("value", "low", "high")}
        _band(ax, rows.assign(**share), theme.series(place), label=theme.literal(f"{second} less {first}"))
    theme.sigma_axis(ax, xlabel=theme.SIGMA, ylabel="difference of loss (%)")
    theme.legend(ax)
    return figure


@theme.styled
def ema_losses(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """How far the loss of each EMA length is above the lowest there, in percent of that: a line a noise level.

    A filled mark is shown to be worse than the lowest.

    Parameters
    ----------
    table : DataFrame
        From `analysis.changes.above_lowest`, with a column `length`; of its noise levels a few are drawn.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(3.0, ax=ax)
    levels = np.sort(table["sigma"].unique())[::-1]
    drawn = levels[np.unique(np.linspace(0, len(levels) - 1, CURVES).round().astype(int))]
    for place, sigma in enumerate(drawn):
        rows, look = table[table["sigma"] == sigma].sort_values("length"), theme.series(place)
        share = rows[["value", "low", "high"]].mul(100 / rows["lowest"], axis=0)
        length, worse = rows["length"] * 1.012 ** (place - (len(drawn) - 1) / 2), rows["shown"]  # side by side
        ax.errorbar(
            length, share["value"], theme.errors(share, "value"), **look.line, elinewidth=0.8 * theme.unit(), capsize=0
        )
        for marked, face in ((worse, look.color), (~worse, "white")):
            ax.plot(length[marked], share["value"][marked], look.marker, color=look.color, mfc=face)
        ax.plot([], [], look.marker, **look.line, label=f"σ = {sigma:.2g}")
    theme.reference_line(ax, 0)
    _length_axis(ax.xaxis, table["length"])
    ax.set(xlabel=LENGTH, ylabel="loss above the lowest (%)")
    theme.legend(ax)
    return figure


@theme.styled
def ema_lowest(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """The EMA length of the lowest loss at each noise level, and those that are not told from it.

    Parameters
    ----------
    table : DataFrame
        As for `ema_losses`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.7, ax=ax)
    best, open_ = table["value"] == 0, ~table["shown"] & (table["value"] > 0)
    ax.plot(
        table["sigma"][open_], table["length"][open_], "o", color=theme.REFERENCE, mfc="white", label="not told from it"
    )
    ax.plot(table["sigma"][best], table["length"][best], "o", color=theme.PALETTE[0], label="lowest loss")
    theme.sigma_axis(ax, xlabel=theme.SIGMA, ylabel=LENGTH)
    _length_axis(ax.yaxis, table["length"])
    theme.legend(ax)
    return figure


def _length_axis(axis: Any, lengths: "pd.Series[float]") -> None:
    """EMA lengths, each with its tick, evenly by their ratios."""
    ticks = sorted(set(lengths))
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (ticks[0] / 1.15, ticks[-1] * 1.15)})
    axis.set_ticks(ticks, [f"{length:g}" for length in ticks])
    axis.set_ticks([], minor=True)


@theme.styled_pictures
def image_pairs(
    pairs: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], names: tuple[str, str]
) -> Figure:
    """Images of two runs below each other, a column a pair under its title.

    Parameters
    ----------
    pairs : sequence of (str, ndarray, ndarray)
        Title and images, shape (y, x, channel) in [0, 1].
    names : (str, str)
        Of the runs.
    """
    require_some("pairs", pairs)
    columns = theme.abreast(len(pairs), 0.075 * max(len(line) for title, *_ in pairs for line in title.split("\n")))
    blocks = -(-len(pairs) // columns)
    height = 2 * (theme.width() - 0.7) / max(columns, 3) + 0.4
    figure, axes = theme.new_figure(height * blocks, nrows=2 * blocks, ncols=columns, squeeze=False)
    for ax in axes.flat:
        theme.without_axes(ax)
    for place, (title, *pictures) in enumerate(pairs):
        column = axes[2 * (place // columns) :, place % columns]
        for ax, picture in zip(column, pictures, strict=False):
            theme.show_picture(ax, picture)
        column[0].set_title(theme.literal(title), fontsize=theme.small())
    for ax, name in zip(axes[:, 0], names * blocks, strict=True):
        theme.label_row(ax, theme.folded(name, 10))
    return figure


def _band(ax: Axes, rows: pd.DataFrame, look: theme.Look, label: str | None = None) -> None:
    rows = rows.sort_values("sigma")
    theme.with_band(ax, rows, y="value", color=look.color, linestyle=look.linestyle, label=label)
    shown = rows[rows["shown"]]
    ax.plot(shown["sigma"], shown["value"], look.marker or "o", color=look.color)
    theme.reference_line(ax, 0)
