"""Figures of what changed: differences against the noise level, and the images that differ most."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.page import theme


@theme.styled
def run_differences(table: pd.DataFrame, quantities: Sequence[str]) -> Figure:
    """Differences of two runs against sigma, a panel a quantity, in percent of the first run's mean.

    `table` is from `analysis.changes.run_changes`; a step that is shown to differ has a mark.
    """
    figure, axes = theme.panels(len(quantities))
    for place, (ax, quantity) in enumerate(zip(axes.flat, quantities, strict=False)):
        rows = table[table["quantity"] == quantity].sort_values("sigma")
        scale = rows["first"].abs().max() / 100
        _band(ax, rows.assign(**{name: rows[name] / scale for name in ("value", "low", "high")}), theme.series(place))
        ax.set_title(quantity.replace("_", " "))
        theme.sigma_axis(ax, xlabel=theme.SIGMA)
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
