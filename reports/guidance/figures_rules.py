"""Figures of the guidance instrument that compare rules, and values of their fields, by what the samples are worth.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.data.doors import require_some
from scorescope.reports.page import theme

ENDS = {"upper end": "rule_high", "lower end": "rule_low"}  # of an interval of noise levels, by what is varied


@theme.styled
def interval_ends(table: pd.DataFrame, metric: str, *, label: str) -> Figure:
    """A metric against either end of the interval of noise levels that are guided, beside none and all of them.

    Parameters
    ----------
    table : DataFrame
        Of `measure_sweep`, with what was varied as `varied`: "upper end" (`rule_high`), "lower end" (`rule_low`),
        "no guidance" or "at all levels".
    metric : str
        Which of its metrics.
    label : str
        Its axis label with unit.
    """
    rows = theme.rows_where(table, "metric", metric)
    figure, axes = theme.panels(2, height=2.2, least=1.6, more=0.4, sharex=False)
    for ax, (end, column) in zip(axes, ENDS.items(), strict=True):
        for name, look in (("no guidance", theme.RULES["no guidance"]), ("at all levels", theme.RULES["cfg"])):
            _level(ax, rows[rows["varied"] == name], name, look)
        line, look = rows[rows["varied"] == end].sort_values(column), theme.RULES["interval"]
        ax.errorbar(line[column], line["value"], yerr=theme.errors(line, "value"), marker=look.marker, **look.line,
                    label="in the interval")  # fmt: skip
        ax.set(xscale=theme.LOG, xlabel=f"{end}, σ")
    axes[0].set_ylabel(theme.folded(label, 28))
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def precision_and_recall(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Precision against recall, a line a rule through its weights, which stand in the marks; with intervals.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    both = [theme.rows_where(table, "metric", name) for name in ("recall", "precision")]
    figure, ax = theme.new_figure(3.0, ax=ax)
    for rule, look in theme.looks(map(str, dict.fromkeys(table["rule"]))).items():
        across, up = (rows[rows["rule"] == rule].set_index("weight").sort_index() for rows in both)
        ax.errorbar(
            across["value"], up["value"], xerr=theme.errors(across, "value"), yerr=theme.errors(up, "value"),
            marker="o", mfc="white", markersize=8, elinewidth=0.6, **look.line, label=theme.literal(rule),
        )  # fmt: skip
        for weight, x, y in zip(across.index, across["value"], up["value"], strict=True):
            ax.plot(x, y, linestyle="", marker=f"${weight:g}$", markersize=5, color=look.color, mew=0, zorder=3)
    ax.set(xlabel="recall", ylabel="precision")
    theme.legend(ax)
    return figure


@theme.styled
def paired_changes(
    changes: pd.DataFrame, metrics: Mapping[str, str], *, levels: pd.DataFrame, level: tuple[str, str]
) -> Figure:
    """A metric of settings, and how much they differ from one of them in others, a panel each, with intervals.

    Parameters
    ----------
    changes : DataFrame
        From `analysis.guidance.changes`.
    metrics : mapping of str to str
        Metrics of that table, and their axis labels with units.
    levels : DataFrame
        From `measure_sweep`, of the same settings.
    level : (str, str)
        Metric of that table that is drawn as it is, and its axis label.
    """
    require_some("metrics", metrics)
    whole = theme.rows_where(levels, "metric", level[0], argument="level")
    names = list(dict.fromkeys(whole["setting"]))
    figure, axes = theme.panels(1 + len(metrics), height=0.55 + 0.19 * len(names), least=2.4, more=0.1, sharex=False)
    _dots_by_name(axes[0], whole, names, level[1])
    for ax, (metric, label) in zip(axes[1:], metrics.items(), strict=True):
        _dots_by_name(ax, theme.rows_where(changes, "metric", metric), names, label)
        ax.axvline(0, color=theme.REFERENCE, linestyle=":")
    return figure


@theme.styled
def rule_fields(table: pd.DataFrame, shares: pd.DataFrame, metric: str, *, label: str) -> Figure:
    """A metric against APG's clip and its momentum, and the share of steps that the clip acts on.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`, with `rule_norm` in the rows where the clip was varied and `rule_momentum` where the
        momentum was; a clip of infinity is drawn as a line.
    shares : DataFrame
        From `analysis.guidance.clip_share`.
    metric : str
        Which metric.
    label : str
        Its axis label with unit.
    """
    rows, look = theme.rows_where(table, "metric", metric), theme.RULES["apg"]
    figure, (clip, momentum, share) = theme.panels(3, height=1.9, least=2.4, more=0.3, sharex=False, sharey=False)
    finite = rows[np.isfinite(rows["rule_norm"])].sort_values("rule_norm")
    _level(clip, rows[np.isposinf(rows["rule_norm"])], "no clip", theme.RULES["no guidance"])
    _dots(clip, finite, "rule_norm", "value", look)
    _dots(momentum, rows[rows["rule_momentum"].notna()].sort_values("rule_momentum"), "rule_momentum", "value", look)
    _dots(share, shares.sort_values("norm"), "norm", "mean", theme.PARTS["update"], marker="o")
    theme.log_if_wide(momentum)
    for ax in (clip, share):
        ax.set(xscale=theme.LOG, xlabel="clip r (units of data)")
    clip.set_ylabel(theme.folded(label, 26))
    momentum.set(xlabel="momentum β", ylabel=theme.folded(label, 26))
    share.set(ylabel="share of steps clipped", ylim=(-0.05, 1.05))
    theme.legend(clip)
    return figure


@theme.styled
def cost_and_quality(
    table: pd.DataFrame,
    front: pd.DataFrame,
    *,
    metric: str,
    label: str,
    every: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """A metric with its interval against denoiser calls a sample, a point a setting; those none dominates are named.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    front : DataFrame
        From `pareto`, with `setting` and `pareto`.
    metric : str
        Which of the table's metrics.
    label : str
        Its axis label with unit.
    every : bool
        Name those that are dominated too, by hollow marks.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    ends = theme.rows_where(table, "metric", metric).set_index("setting")
    figure, ax = theme.new_figure(3.4, ax=ax)
    wide = table.pivot(index="setting", columns="metric", values="value").sort_values(["calls", metric])
    best = set(front.loc[front["pareto"], "setting"])
    left, named = wide[~wide.index.isin(best)], wide if every else wide[wide.index.isin(best)]
    if not every:
        ax.errorbar(left["calls"], left[metric], yerr=theme.errors(ends.reindex(left.index), "value"), fmt="x",
                    elinewidth=0.5, color=theme.REFERENCE, label="dominated")  # fmt: skip
    # neighbours on a front are too near for names beside them
    for place, (name, row) in enumerate(named.iterrows()):
        look, again = theme.series(place), place >= len(theme.SERIES)
        hollow = again or name not in best
        ax.errorbar(row["calls"], row[metric], yerr=theme.errors(ends.reindex([name]), "value"), fmt=look.marker,
                    elinewidth=0.5, color=look.color, mfc="white" if hollow else look.color,
                    label=theme.literal(str(name)))  # fmt: skip
    ax.set(xlabel="denoiser calls a sample", ylabel=theme.folded(label, 36))
    theme.log_if_wide(ax)
    theme.legend(ax)
    return figure


@theme.styled
def threshold_curve(savings: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Calls saved by adaptive guidance and the change of the final sample, one point a threshold.

    Parameters
    ----------
    savings : DataFrame
        From `analysis.guidance.savings`; settings without a threshold are left out.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    rows = savings[savings["setting"].str.contains("threshold")].sort_values("calls_saved")
    require_some("savings", rows)
    figure, ax = theme.new_figure(2.9, ax=ax)
    rows = rows.assign(calls_saved_low=rows["saved_low"], calls_saved_high=rows["saved_high"])
    color = theme.RULES["adaptive"].color
    ax.plot(100 * rows["calls_saved"], rows["change"], color=color, zorder=1)
    points = rows.groupby(["calls_saved", "change"], sort=False)  # settings of one point share its label
    for (_, same), shade, marker in zip(points, theme.shades(color, len(points)), cycle("os^DvPX"), strict=False):
        names, one = sorted(same["setting"].str.split("threshold ").str[-1]), same.head(1)
        ax.errorbar(
            100 * one["calls_saved"], one["change"], xerr=100 * theme.errors(one, "calls_saved"),
            yerr=theme.errors(one, "change"), color=shade, marker=marker, linestyle="", mec=color,
            label=f"threshold {', '.join(names)}",
        )  # fmt: skip
    ax.set(xlabel="denoiser calls saved (%)", ylabel="RMS change of the sample (units of data)")
    theme.legend(ax)
    return figure


def _level(ax: Axes, rows: pd.DataFrame, name: str, look: theme.Look) -> None:
    """A value across the axes, with its interval."""
    for value, low, high in rows[["value", "low", "high"]].to_numpy(np.float64):
        ax.axhline(value, label=name, **look.line)
        if np.isfinite(low) and np.isfinite(high):
            ax.axhspan(low, high, color=look.color, alpha=0.12, linewidth=0)


def _dots(ax: Axes, rows: pd.DataFrame, x: str, y: str, look: theme.Look, **more: Any) -> None:
    """Values with error bars, joined by a line."""
    ax.errorbar(rows[x], rows[y], yerr=theme.errors(rows, y), **{"marker": look.marker, **look.line, **more})


def _dots_by_name(ax: Axes, rows: pd.DataFrame, names: Sequence[str], label: str) -> None:
    """A row a name, from above."""
    look = theme.series(0)
    places = rows["setting"].map(lambda name: -names.index(name))
    ax.errorbar(rows["value"], places, xerr=theme.errors(rows, "value"), marker=look.marker, color=look.color,
                linestyle="")  # fmt: skip
    ax.set(xlabel=theme.folded(label, 34), ylim=(-len(names) + 0.4, 0.6))
    ax.set_yticks([-place for place in range(len(names))], [theme.literal(name) for name in names])
    theme.few_ticks(ax)
