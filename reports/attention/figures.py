"""Figures of the attention instrument: maps and declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.attention import figures

    figures.agreement_curves(map_agreement(attention, influence, sigmas=sigmas))

Each takes `style=`, and those of one panel `ax=`: see `theme`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.page import theme

__all__ = ["agreement_curves", "map_rows"]

MOST_COLUMNS = 8


@theme.styled_pictures
def map_rows(
    rows: Mapping[str, Tensor], sigmas: Sequence[float] | Tensor, *, scale: Literal["row", "map"] = "row"
) -> Figure:
    """Maps by noise level, a row a word or a kind of map, from 0 to the largest value, of a row written beside it.

    Parameters
    ----------
    rows : mapping of str to Tensor, shape (level, y, x)
        By name; at most eight levels are shown, at even distances in their order.
    sigmas : sequence of float, or Tensor, shape (level,)
        Noise levels of the columns.
    scale : {"row", "map"}
        What has a scale of its own. Influence falls as the square of the noise level: see each map of it by itself.
    """
    require_some("rows", rows)
    levels = [float(sigma) for sigma in sigmas]
    if scale not in ("row", "map"):
        raise InputError("scale", found=repr(scale), expected="'row' or 'map'")
    if any(len(maps) != len(levels) or maps.ndim != 3 for maps in rows.values()) or not levels:
        found = f"{len(levels)} levels, and maps of shapes {[tuple(maps.shape) for maps in rows.values()]}"
        raise InputError("rows, sigmas", found=found, expected="maps (level, y, x), and a noise level for each")
    places = np.unique(np.linspace(0, len(levels) - 1, min(len(levels), MOST_COLUMNS)).round().astype(int))
    height = (theme.width() - 1.3) / len(places) + 0.05
    figure, axes = theme.new_figure(height * len(rows) + 0.5, nrows=len(rows), ncols=len(places), squeeze=False)
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        shown = maps[places].detach().double().cpu().numpy()
        for ax, values in zip(line, shown, strict=True):
            top = float(np.nanmax(shown if scale == "row" else values))
            ax.imshow(values, cmap="viridis", vmin=0, vmax=max(top, 1e-30), interpolation="nearest")
            theme.without_axes(ax)
        theme.label_row(line[0], name)
        if scale == "row":
            place = {"xy": (1.08, 0.5), "xycoords": "axes fraction", "va": "center", "fontsize": theme.small()}
            line[-1].annotate(f"≤ {top:.2g}", **place)
    for ax, place in zip(axes[0], places, strict=True):
        ax.set_title(f"{levels[place]:.2g}", fontsize=theme.small(), pad=2)
    own = "" if scale == "row" else "\neach map from 0 to its own largest value"
    figure.supxlabel(f"{theme.SIGMA}{own}")
    return figure


@theme.styled
def agreement_curves(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Rank correlation of attention with what it is held against, by noise level; dashed, of different samples.

    Parameters
    ----------
    table : DataFrame
        From `map_agreement` or `compare_word`; a line a value of `compared`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.9, ax=ax)
    for place, (name, rows) in enumerate(table.groupby("compared", sort=False)):
        color, rows = theme.PALETTE[place], rows.sort_values("sigma")
        theme.with_band(ax, rows, color=color, label=theme.literal(str(name)))
        ax.plot(
            rows["sigma"], rows["across"], color=color, linestyle="--", label=theme.literal(f"{name}, of two samples")
        )
    theme.reference_line(ax, 0)
    theme.sigma_axis(ax, ylabel="rank correlation with attention", ylim=(-1.05, 1.05), xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure
