"""Figures of guidance where laws are known: paths and densities on a line, samples on a contour in a plane.

Public through `figures`.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.reports.page import theme

SHOWN = 15  # paths a rule
HIGHEST = 20.0  # noise level that is shown


@theme.styled
def toy_paths(paths: pd.DataFrame, densities: pd.DataFrame) -> Figure:
    """Densities of the ends of each rule, above a panel of paths for each.

    Parameters
    ----------
    paths : DataFrame
        From `analysis.guidance.known_laws.line_paths`; every so many of them are drawn.
    densities : DataFrame
        `rule`, `x`, `density`; what is no rule of `paths` is a law to compare with, the first of them filled.
    """
    rules = theme.looks(paths["rule"].unique())
    figure, axes = theme.new_figure(4.2, nrows=2, ncols=len(rules), sharey="row")
    for ax in axes[0]:
        ax.remove()
    top = figure.add_subplot(axes[0, 0].get_gridspec()[0, :])
    laws = [name for name in densities["rule"].unique() if name not in rules]
    for name, rows in ((str(name), rows) for name, rows in densities.groupby("rule", sort=False)):
        if name == laws[0]:
            top.fill_between(rows["x"], rows["density"], color=theme.REAL, alpha=0.15, linewidth=0, label=name)
            continue
        line = rules[name].line if name in rules else {"color": theme.REFERENCE, "linestyle": ":"}
        top.plot(rows["x"], rows["density"], label=theme.literal(name), **line)
    top.set(xlabel="x (units of data)", ylabel="density", ylim=(0, None))
    ends = paths["x"][paths["sigma"] == 0]
    for ax, (name, look) in zip(axes[1], rules.items(), strict=True):
        _paths(ax, paths[(paths["rule"] == name) & (paths["sigma"] > 0)], look.color)
    axes[1, 0].set(ylabel="x", ylim=(2 * ends.min() - ends.max(), 2 * ends.max() - ends.min()))
    axes[1, len(rules) // 2].set_xlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, top)
    return figure


def _paths(ax: Axes, rows: pd.DataFrame, color: str) -> None:
    """A few of the paths against sigma."""
    every = max(1, rows["path"].nunique() // SHOWN)
    for _, line in rows[rows["path"] % every == every // 2].groupby("path"):
        ax.plot(line["sigma"], line["x"], color=color, linewidth=0.5)
    ax.set(xscale=theme.LOG, xlim=(rows["sigma"].min(), HIGHEST))
    ax.set_xticks([0.01, 1], ["0.01", "1"])


@theme.styled
def toy_fields(points: pd.DataFrame, density: pd.DataFrame, kept: pd.DataFrame, *, level: float) -> Figure:
    """Samples in a plane on the contour of their law, a panel for each way to make them.

    Parameters
    ----------
    points : DataFrame
        `arm`, `x`, `y`.
    density : DataFrame
        `x`, `y`, `log_density` on a grid.
    kept : DataFrame
        From `analysis.guidance.known_laws.law_kept`, for the titles.
    level : float
        Log density of the contour.
    """
    figure, axes = theme.panels(len(kept), height=1.6, least=1.3, more=0.1)
    grid = density.pivot(index="y", columns="x", values="log_density")
    arms = zip(axes, kept["arm"], kept["outside"], strict=True)
    for place, (ax, arm, outside) in enumerate(arms):
        ax.contourf(
            grid.columns, grid.index, grid, levels=[level, grid.to_numpy().max() + 1], colors=[theme.REAL], alpha=0.15
        )
        ax.contour(grid.columns, grid.index, grid, levels=[level], colors=[theme.REFERENCE], linewidths=0.5)
        mine = points[points["arm"] == arm]
        color = theme.REAL if place == 0 else theme.series(place - 1).color
        ax.plot(mine["x"], mine["y"], ".", color=color, markersize=1, rasterized=True)
        ax.set_title(f"{theme.folded(theme.literal(arm), 20)}\n{outside:.1%} outside")
        ax.set(xlim=(grid.columns[0], grid.columns[-1]), ylim=(grid.index[0], grid.index[-1]), aspect="equal")
        theme.without_axes(ax)
    return figure
