"""Figures of the guidance instrument that show samples: values, images, statistics by weight, and rules compared.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence
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
            rows = of_run(density, rule, weight, needed=True)
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
        _draw_field(ax, table, metric, x, label, (references or {}).get(metric), starred=metric in starred)
        ax.set_ylabel(theme.folded(label, 22))
    for ax in axes[: -theme.abreast(len(metrics), 1.6)]:  # they share the axis below them
        ax.set_xlabel("")
    theme.legend_above(figure)
    return figure


def _against_field(
    table: pd.DataFrame, quantity: str, x: str, label: str, reference: float | None, ax: Axes | None
) -> Figure:
    figure, ax = theme.new_figure(2.8, ax=ax)
    _draw_field(ax, table, quantity, x, label, reference)
    theme.legend(ax)
    return figure


def _draw_field(
    ax: Axes, table: pd.DataFrame, quantity: str, x: str, label: str, reference: float | None, *, starred: bool = False
) -> None:
    """Lines with error bars in an axes, without their key."""
    table = table.rename(columns={"metric": "quantity", "value": "mean"})
    fields = ["weight", *swept_columns(table)]
    if x not in fields:
        raise InputError("x", found=repr(x), expected=f"one of {', '.join(fields)}")
    rows = theme.rows_where(table, "quantity", quantity)
    rows = rows[rows[x].notna() & (rows[x] != "")].sort_values(x, kind="stable")
    others = [name for name in fields if name != x and rows[name].nunique(dropna=False) > 1]
    lines: Any = rows.groupby(["rule", *others], sort=False, dropna=False)
    looks = theme.looks(map(str, rows["rule"].unique()))
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
