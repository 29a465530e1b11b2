"""Figures of the denoiser as a classifier at a price, and of what two conditions share.

Public through `figures`.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.information.partial_information import PARTS
from scorescope.data.doors import require_some
from scorescope.reports.page import theme

NAMES = dict(zip(PARTS, ("redundancy", "unique, first", "unique, second", "synergy"), strict=True))
COLORS = 0, 1, 9, 7  # of the palette: bars side by side, told apart by any eye
AGGREGATES = {"pixelwise": "smaller one of each pixel", "sums": "smaller one of the sums"}


@theme.styled
def accuracy_by_calls(table: pd.DataFrame, *, chance: float, ax: Axes | None = None) -> Figure:
    """Accuracy of a diffusion classifier against the evaluations that an image takes, a line a rule.

    Parameters
    ----------
    table : DataFrame
        Summaries of `paired_classify`, with columns `rule` and `evaluations_an_image`.
    chance : float
        Accuracy of a guess.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.9, ax=ax)
    for place, (rule, rows) in enumerate(table.groupby("rule", sort=False)):
        rows, look = rows.sort_values("evaluations_an_image"), theme.series(place)
        bars = theme.errors(rows, "accuracy")
        ax.errorbar(
            rows["evaluations_an_image"], rows["accuracy"], yerr=bars, label=theme.literal(str(rule)), color=look.color,
            marker=look.marker, linestyle=look.linestyle,
        )  # fmt: skip
    theme.reference_line(ax, chance, "chance")
    ax.set(xscale=theme.LOG, xlabel="denoiser evaluations an image", ylabel="accuracy", ylim=(0, 1.03))
    theme.legend(ax)
    return figure


@theme.styled
def overlap_parts(table: pd.DataFrame) -> Figure:
    """Influence that two conditions share, have alone, and have only together, a group of bars a pair.

    Parameters
    ----------
    table : DataFrame
        Summaries of `overlap`, with a column `pair`: one panel an aggregate.
    """
    require_some("table", table)
    pairs = list(table["pair"].unique())
    figure, axes = theme.panels(len(AGGREGATES), height=0.62 * len(pairs) + 0.35, least=3.0, more=0.9)
    for ax, (aggregate, title) in zip(axes, AGGREGATES.items(), strict=True):
        rows = theme.rows_where(table, "aggregate", aggregate, argument="table")
        for place, (part, name) in enumerate(NAMES.items()):
            own = rows[rows["part"] == part].set_index("pair").loc[pairs]
            heights = np.arange(len(pairs)) + 0.2 * (place - 1.5)
            ax.barh(
                heights, own["nats"], 0.18, xerr=theme.errors(own, "nats"), color=theme.PALETTE[COLORS[place]],
                label=name, error_kw={"linewidth": 0.8 * theme.unit()},
            )  # fmt: skip
        ax.axvline(0, color=theme.REFERENCE, linewidth=0.7 * theme.unit())
        theme.row_names(ax, pairs)
        ax.set(title=title)
    axes[0].invert_yaxis()
    figure.supxlabel("influence (nats)")
    theme.legend_above(figure, axes[0])
    return figure
