"""Figures of the guidance instrument that show samples: values, images, statistics by weight, and rules compared.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.run_keys import run_name, swept_columns
from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.page import theme

SWEPT = theme.looks(["CFG", "APG"])  # rules that are sampled at several weights


@theme.styled
def value_densities(
    density: pd.DataFrame, *, weights: Sequence[float], value_range: tuple[float, float] | None
) -> Figure:
    """Kernel density of element values per rule (panel) and weight (shade), with the real data.

    Parameters
    ----------
    density : DataFrame
        From `analysis.guidance.value_density`, of CFG and APG, with rows of rule "data" for real data.
    weights : sequence of float
        Of both rules.
    value_range : (float, float), optional
        Of the data, marked by dotted lines.
    """
    figure, axes = theme.new_figure(4.4, nrows=2, sharex=True, sharey=True)
    for ax, rule in zip(axes, SWEPT, strict=True):
        for edge in value_range or ():
            ax.axvline(edge, color=theme.REFERENCE, linestyle=":", linewidth=0.8)
        real = density[density["rule"] == "data"]
        if len(real):
            ax.fill_between(
                real["value"], real["density"], color=theme.REAL, alpha=0.15, linewidth=0, label="real data"
            )
        for weight, color in zip(weights, theme.shades(SWEPT[rule].color, len(weights)), strict=True):
            rows = of_run(density, rule, weight, drawn=True)
            label = f"{rule} w = {weight:g}"
            ax.plot(rows["value"], rows["density"], color=color, linestyle=SWEPT[rule].linestyle, label=label)
        ax.set(ylabel="density (1 / unit)", title=rule)
    theme.density_axis(axes[0])
    theme.legend_above(figure)
    axes[1].set_xlabel("value of an element (units of data)")
    return figure


@theme.styled_pictures
def sample_grid(
    samples: Mapping[tuple[str, float], Tensor], *, columns: int, value_range: tuple[float, float]
) -> Figure:
    """The same seeds under every rule and weight: a row each, clipped to the range.

    Parameters
    ----------
    samples : mapping of (rule, weight) to Tensor, shape (n, channel, y, x)
        One or three channels.
    columns : int
        Samples shown.
    value_range : (float, float)
        Black and white.
    """
    require_some("samples", samples)
    height = 1.06 * (theme.width() - 0.6) / columns * len(samples) + 0.2
    figure, axes = theme.new_figure(height, nrows=len(samples), ncols=1, squeeze=False)
    low, high = value_range
    for ax, ((rule, weight), images) in zip(axes[:, 0], samples.items(), strict=True):
        strip = ((images[:columns].cpu() - low) / (high - low)).clamp(0, 1)
        gap = strip.new_ones(*strip.shape[:-1], 1)
        row = np.concatenate(list(np.concatenate([strip, gap], axis=-1)), axis=-1)  # (channel, y, columns * (x + 1))
        theme.show_picture(ax, np.moveaxis(row, 0, -1))
        theme.label_row(ax, run_name(rule, weight))
    return figure


@theme.styled
def against_weight(
    table: pd.DataFrame, quantity: str, *, label: str, reference: float | None = None, ax: Axes | None = None
) -> Figure:
    """A statistic of the samples against the guidance weight, under CFG and APG, with intervals.

    Parameters
    ----------
    table : DataFrame
        Summary of `image_table` by rule and weight, or `measure_sweep`.
    quantity : str
        Which of its quantities or metrics.
    label : str
        Axis label with unit.
    reference : float, optional
        Value of the real data.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    shown = table[table["rule"].isin(list(SWEPT))].drop(columns=swept_columns(table))
    return _against_field(shown, quantity, "weight", label, reference, ax)


@theme.styled
def against_field(
    table: pd.DataFrame, quantity: str, *, x: str, label: str, reference: float | None = None, ax: Axes | None = None
) -> Figure:
    """A statistic of the samples against a field of their rules, a line for each rule and the other fields, intervals.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`, or another summary by rule and weight.
    quantity : str
        Which of its metrics or quantities.
    x : str
        Column on the axis: `weight`, or what a sweep varied, `rule_eta`. Texts, and numbers of which one is infinite,
        stand at even distances in their order.
    label : str
        Axis label with unit.
    reference : float, optional
        Value of the real data.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    return _against_field(table, quantity, x, label, reference, ax)


@theme.styled
def metrics_against(
    table: pd.DataFrame,
    metrics: Mapping[str, str],
    *,
    x: str = "weight",
    references: Mapping[str, float] | None = None,
    starred: Sequence[str] = (),
) -> Figure:
    """Several metrics of the samples against a field of their rules, a panel each, with intervals.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    metrics : mapping of str to str
        Metrics of the table, and their axis labels with units.
    x : str
        As for `against_field`.
    references : mapping of str to float, optional
        Value of the real data by metric.
    starred : sequence of str
        Metrics of which the least measured value of each line has a star.
    """
    require_some("metrics", metrics)
    figure, axes = theme.panels(len(metrics), height=1.7, least=1.6, more=0.5, sharey=False)
    for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
        _against_field(table, metric, x, label, (references or {}).get(metric), ax, starred=metric in starred)
        ax.set_ylabel(theme.folded(label, 22))
        if (legend := ax.get_legend()) is not None:
            legend.remove()
    for ax in axes[: -theme.abreast(len(metrics), 1.6)]:  # they share the axis below them
        ax.set_xlabel("")
    theme.legend_above(figure)
    return figure


def _against_field(
    table: pd.DataFrame,
    quantity: str,
    x: str,
    label: str,
    reference: float | None,
    ax: Axes | None,
    *,
    starred: bool = False,
) -> Figure:
    table = table.rename(columns={"metric": "quantity", "value": "mean"})
    fields = ["weight", *swept_columns(table)]
    if x not in fields:
        raise InputError("x", found=repr(x), expected=f"one of {', '.join(fields)}")
    rows = theme.rows_where(table, "quantity", quantity)
    rows = rows[rows[x].notna() & (rows[x] != "")].sort_values(x, kind="stable")
    others = [name for name in fields if name != x and rows[name].nunique(dropna=False) > 1]
    lines: Any = rows.groupby(["rule", *others], sort=False, dropna=False)
    looks = theme.looks(map(str, rows["rule"].unique()))
    figure, ax = theme.new_figure(2.8, ax=ax)
    places = _places(ax, x, rows[x].unique())
    for number, ((rule, *values), line) in enumerate(lines):
        look = theme.series(number) if others else looks[rule]
        named = [f"{_field(name)} = {_value(value)}" for name, value in zip(others, values, strict=True)]
        ax.errorbar(
            line[x].map(places), line["mean"], yerr=theme.errors(line, "mean"), marker=look.marker, **look.line,
            label=theme.literal(", ".join([rule, *named])),
        )  # fmt: skip
        if starred:
            best = line.loc[line["mean"].idxmin()]
            ax.plot(places[best[x]], best["mean"], "*", color=look.color, markersize=11, mec="white", zorder=4)
    if reference is not None:
        theme.reference_line(ax, reference, "real data")
    ax.set_ylabel(theme.folded(label, 36))
    theme.log_if_wide(ax)
    theme.legend(ax)
    return figure


def _places(ax: Axes, x: str, values: NDArray[Any]) -> dict[Any, float]:
    """Where each value of a field stands on the axis: where it lies, or in its order where that is nowhere."""
    if x == "weight":
        theme.weight_axis(ax, values)
        return {value: value for value in values}
    ax.set_xlabel(_field(x))
    if values.dtype.kind == "f" and np.isfinite(values).all():
        return {value: value for value in values}
    ax.set_xticks(range(len(values)), [_value(value) for value in values])
    return {value: float(place) for place, value in enumerate(values)}


def _field(column: str) -> str:
    return "w" if column == "weight" else column.removeprefix("rule_")


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


@theme.styled
def cost_and_quality(
    table: pd.DataFrame, front: pd.DataFrame, *, metric: str, label: str, ax: Axes | None = None
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
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    ends = theme.rows_where(table, "metric", metric).set_index("setting")
    figure, ax = theme.new_figure(3.4, ax=ax)
    wide = table.pivot(index="setting", columns="metric", values="value")
    best = front.set_index("setting")["pareto"].reindex(wide.index).fillna(False).astype(bool)
    left = wide[~best]
    ax.errorbar(
        left["calls"], left[metric], yerr=theme.errors(ends.loc[left.index], "value"), fmt="x", elinewidth=0.5,
        color=theme.REFERENCE, label="dominated",
    )  # fmt: skip
    # neighbours on a front are too near for names beside them
    for place, (name, row) in enumerate(wide[best].sort_values(["calls", metric]).iterrows()):
        look, again = theme.series(place), place >= len(theme.SERIES)
        face = "white" if again else look.color
        ax.errorbar(
            row["calls"], row[metric], yerr=theme.errors(ends.loc[[name]], "value"), fmt=look.marker, color=look.color,
            mfc=face, label=theme.literal(str(name)),
        )  # fmt: skip
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
