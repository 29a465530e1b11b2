"""Figures of the Gaussian instrument on Jacobians, and of samples from the same noise.

Public through `figures`.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.reports.page import theme


@theme.styled
def flipd_curves(tables: Mapping[str, pd.DataFrame], *, dimension: int, ax: Axes | None = None) -> Figure:
    """FLIPD at clean training and held-out points, for each denoiser, on an axis up to 1.25 times the dimension.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        From `flipd`, by the denoiser's name.
    dimension : int
        Elements of a sample: no law has a larger dimension.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("tables", tables)
    figure, ax = theme.new_figure(3.0, ax=ax)
    for place, (name, table) in enumerate(tables.items()):
        for images, rows in table[table["quantity"] == "flipd"].groupby("images", sort=False):
            look = vars(theme.series(place)) | {"linestyle": "-" if images == "held out" else ":"}
            theme.with_band(ax, rows, label=theme.literal(f"{name}, {images}"), **look)
    theme.reference_line(ax, dimension, "dimension of the space")
    theme.sigma_axis(ax, ylabel="FLIPD at clean images", ylim=(min(0.0, ax.dataLim.ymin), 1.25 * dimension))
    theme.legend(ax)
    return figure


@theme.styled
def jacobian_ranks(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Numerical rank and trace of dD/dx, for each denoiser.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        From `jacobian_ranks`, by the denoiser's name.
    """
    require_some("tables", tables)
    figure, (left, right) = theme.panels(2, height=1.9, least=2.6, more=0.8, sharey=False)
    for ax, quantity, label in ((left, "rank", "numerical rank"), (right, "trace", "trace of dD/dx")):
        for place, (name, table) in enumerate(tables.items()):
            rows = table[table["quantity"] == quantity]
            theme.with_band(ax, rows, label=theme.literal(name), **theme.series(place).line)
        theme.sigma_axis(ax, xlabel="", ylabel=label)
    left.set_ylim(bottom=0)
    theme.log_if_wide(right)
    figure.supxlabel(theme.SIGMA)
    theme.legend_above(figure, left)
    return figure


@theme.styled_pictures
def same_seeds(rows: Mapping[str, Tensor], *, first: int, value_range: tuple[float, float]) -> Figure:
    """Samples from the same noise: a row a law, a column a seed.

    Parameters
    ----------
    rows : mapping of str to Tensor, shape (seeds, channel, y, x)
        One or three channels, by the law's name.
    first : int
        The first seed; the next columns have the next ones.
    value_range : (float, float)
        Black and white.
    """
    require_some("rows", rows)
    count = len(next(iter(rows.values())))
    height = (theme.width() - 1.35) / count + 0.05
    figure, axes = theme.new_figure(height * len(rows) + 0.5, nrows=len(rows), ncols=count, squeeze=False)
    low, high = value_range
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            shown = ((image.float() - low) / (high - low)).clamp(0, 1)
            theme.show_picture(ax, shown.permute(1, 2, 0).cpu().numpy())
        theme.label_row(line[0], name)
    for seed, ax in enumerate(axes[0], start=first):
        ax.set_title(f"{seed}", fontsize=theme.small(), pad=2)
    figure.suptitle("seed", fontsize=theme.small())
    return figure
