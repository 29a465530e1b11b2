"""Figures of what branches say: the weight that one step would have, whether two updates agree, what a step applies.

Public through `figures`.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.reports.page import theme


@theme.styled
def one_step_weights(weights: pd.DataFrame) -> Figure:
    """Weight of least one-step error against sigma, above how far the error points along the update; a line a pair.

    Parameters
    ----------
    weights : DataFrame
        From `analysis.information.optimal_weights`; rows without a weight are left out.
    """
    known = weights[weights["weight"].notna()]
    figure, (top, bottom) = theme.new_figure(4.0, nrows=2, sharex=True)
    for ax, quantity in ((top, "weight"), (bottom, "alignment")):
        theme.band_each(ax, known, "weak", y=quantity)
    theme.reference_line(top, 1, "no guidance, w = 1")
    theme.reference_line(bottom, 0)
    top.set(ylabel="w of least error", ylim=_told(known))
    theme.sigma_axis(bottom, ylabel="cosine of error and $D_0 - D_1$")
    theme.legend_above(figure, top)
    return figure


@theme.styled
def update_agreement(agreement: pd.DataFrame) -> Figure:
    """Cosine of two updates at the same states against sigma, above the ratio of their norms.

    Parameters
    ----------
    agreement : DataFrame
        Summary of `analysis.changes.update_agreement` by step and sigma.
    """
    figure, (top, bottom) = theme.new_figure(3.6, nrows=2, sharex=True)
    for ax, quantity, color in ((top, "cosine", theme.HIGHLIGHT), (bottom, "norm_ratio", theme.series(0).color)):
        rows = theme.rows_where(agreement, "quantity", quantity)
        theme.with_band(ax, rows[rows["mean"].notna()], color=color, label=None)
        theme.reference_line(ax, 1)
    top.set(ylabel="cosine of the updates")
    theme.sigma_axis(bottom, ylabel="ratio of their norms", ylim=(0, None))
    return figure


@theme.styled
def effective_weights(weights: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """The weight of CFG that each step comes to, one line a setting.

    Parameters
    ----------
    weights : DataFrame
        From `analysis.trajectories.effective_weights`, with a column `setting`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(3.0, ax=ax)
    for place, (name, rows) in enumerate(weights.groupby("setting", sort=False)):
        ax.plot(rows["sigma"], rows["weight"], label=theme.literal(str(name)), **theme.series(place).line)
    theme.reference_line(ax, 1, "no guidance, w = 1")
    theme.sigma_axis(ax, ylabel="weight of CFG in the step")
    theme.legend(ax)
    return figure


def _told(weights: pd.DataFrame) -> tuple[float, float]:
    """Ends of an axis for what is told from other weights: wide intervals leave it."""
    width = weights["high"] - weights["low"]
    told = [1.0, *weights["weight"][~(width > 2 * (weights["weight"].abs() + 1))]]
    low, high = min(told), max(told)
    return low - 0.3 * (high - low + 1), high + 0.3 * (high - low + 1)
