"""Figures of the guidance instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.guidance import figures

    figures.update_parts(summarise(decompose(trace)), rule="CFG", weight=4.0)

In this order: the update at each noise level, whole paths, samples, and rules compared.
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
from scorescope.data.errors import InputError
from scorescope.reports.guidance.runs import of_run, pick
from scorescope.reports.page import theme

SWEPT = theme.looks(["CFG", "APG"])  # rules that are sampled at several weights
GAIN = "gain on $D_c$: ⟨guided, $D_c$⟩ / ‖$D_c$‖²"


@theme.styled
def update_parts(summary: pd.DataFrame, *, rule: str, weight: float) -> Figure:
    """Norm of the update and of its two parts against sigma, with the dtype's floor.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.guidance.summarise`.
    rule, weight
        Which run.
    """
    figure, ax = theme.new_figure()
    for part, label in (("update", "whole update"), ("orthogonal", "orthogonal to $D_c$"),
                        ("parallel", "parallel to $D_c$")):  # fmt: skip
        theme.with_band(ax, pick(summary, f"{part}_norm", rule, weight), label=label, **theme.PARTS[part].line)
    _floor(ax, pick(summary, "norm_floor", rule, weight), "rounding floor")
    theme.sigma_axis(ax, yscale="log", ylabel="L2 norm (units of data)")
    ax.set_title(f"Update $D_c - D_u$ along {run_name(rule, weight)}")
    ax.legend(loc="best")
    return figure


@theme.styled
def parallel_share(
    summary: pd.DataFrame, centred: pd.DataFrame, *, weights: Sequence[float], centred_weight: float
) -> Figure:
    """Parallel share of the update's energy against sigma: CFG at every weight, APG at the highest, chance.

    `centred` is a summary of `decompose_centred` for CFG: the share with channel means removed.
    """
    figure, ax = theme.new_figure(height=3.2)
    _by_weight(ax, summary, "parallel_share", "CFG", weights)
    _by_weight(ax, summary, "parallel_share", "APG", [max(weights)])
    rows = pick(centred, "centred_parallel_share", "CFG", centred_weight)
    theme.with_band(ax, rows, label=f"w = {centred_weight:g}, mean removed", **theme.PARTS["mean removed"].line)
    chance = summary[summary["quantity"] == "chance_share"]["mean"].iloc[0]
    theme.reference_line(ax, chance, "chance, 1/N")
    theme.sigma_axis(ax, ylabel="parallel share of the update's energy", ylim=(0, None))
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def branch_cosine(summary: pd.DataFrame, *, rule: str, weight: float) -> Figure:
    """How far the two branches point apart, 1 - cosine, in denoised and in eps space."""
    figure, ax = theme.new_figure()
    for space, look in theme.SPACES.items():
        theme.with_band(ax, pick(summary, f"one_minus_cos_{space}", rule, weight), label=f"{space} space", **look.line)
    for quantity, style, space in (("cos_floor", ":", "denoised"), ("cos_eps_floor", "-.", "eps")):
        _floor(ax, pick(summary, quantity, rule, weight), f"rounding floor, {space}", style)
    theme.sigma_axis(ax, yscale="log", ylabel="1 − cosine of cond and uncond")
    ax.set_title(f"Branches along {run_name(rule, weight)}")
    ax.legend(loc="best")
    return figure


@theme.styled
def applied_gain(summary: pd.DataFrame, *, weights: Sequence[float]) -> Figure:
    """The factor by which CFG and APG at every weight but 1 scale D_c, against sigma."""
    figure, ax = theme.new_figure()
    for rule in SWEPT:
        _by_weight(ax, summary, "applied_gain", rule, [weight for weight in weights if weight != 1])
    theme.reference_line(ax, 1, "no gain")
    theme.sigma_axis(ax, ylabel=GAIN)
    ax.legend(ncols=2, loc="best")
    return figure


@theme.styled
def band_norms(bands: pd.DataFrame) -> Figure:
    """Norm of the update in each radial frequency band against sigma.

    `bands` is a summary of `decompose_bands` by band, sigma and call.
    """
    figure, ax = theme.new_figure()
    rows = bands[(bands["quantity"] == "update_norm") & (bands["call"] == 0)]
    numbers = sorted(rows["band"].unique())
    for number, color in zip(numbers, theme.shades(theme.HIGHLIGHT, len(numbers)), strict=True):
        band = rows[rows["band"] == number]
        low, high = band["low_frequency"].iloc[0], band["high_frequency"].iloc[0]
        label = f"{low:.2g} to {high:.2g}" if np.isfinite(high) else f"from {low:.2g}"
        theme.with_band(ax, band, color=color, label=f"{label} cycles / pixel")
    theme.sigma_axis(ax, yscale="log", ylabel="L2 norm of the update's band")
    ax.legend(loc="best")
    return figure


@theme.styled
def information(curve: pd.DataFrame, interval: pd.DataFrame) -> Figure:
    """Information gained per octave, with the suggested interval, above its integral with the bound.

    Parameters
    ----------
    curve, interval : DataFrame
        From `analysis.guidance.guidance_information` and `suggest_interval`.
    """
    figure, (top, bottom) = theme.new_figure(height=3.8, nrows=2, sharex=True)
    curve = curve[curve["sigma"] > 0]
    low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
    label = f"{interval['share'].iloc[0]:.0%} of it: σ from {low:.2g} to {high:.2g}"
    for ax in (top, bottom) if low > 0 else ():  # NaN where none is suggested
        ax.axvspan(
            low, high, color=theme.RULES["interval"].color, alpha=0.15, linewidth=0,
            label=label if ax is top else None,
        )  # fmt: skip
    theme.with_band(top, curve, y="density", color=theme.HIGHLIGHT, label="gained per octave")
    most = float(curve["high"].max())
    top.set(ylabel="nats per halving of σ", ylim=(0, 1.45 * most if most > 0 else 1))
    theme.with_band(bottom, curve, y="information", color=theme.HIGHLIGHT, label="known at this σ")
    bound = float(curve["bound"].iloc[0])
    if np.isfinite(bound):
        theme.reference_line(bottom, bound, "entropy of the condition")
    theme.sigma_axis(bottom, ylabel="I(condition; $x_σ$) in nats", ylim=(0, None))
    for ax in (top, bottom):
        ax.legend(loc="best")
    return figure


@theme.styled
def gain_path(path: pd.DataFrame, *, runs: Sequence[tuple[str, float]]) -> Figure:
    """Gain of each step along D_c, above its product along the path; one line a (rule, weight).

    `path` is from `analysis.guidance.gain_path`.
    """
    figure, (top, bottom) = theme.new_figure(height=3.8, nrows=2, sharex=True)
    for rule, look in theme.looks(dict.fromkeys(rule for rule, _ in runs)).items():
        weights = [weight for name, weight in runs if name == rule]
        for weight, color in zip(weights, theme.shades(look.color, len(weights)), strict=True):
            rows = of_run(path, rule, weight)
            for ax, quantity in ((top, "step_gain"), (bottom, "path_gain")):
                line, label = rows[rows["quantity"] == quantity], run_name(rule, weight, between=" ")
                theme.with_band(ax, line, color=color, linestyle=look.linestyle, label=label)
    for ax in (top, bottom):
        theme.reference_line(ax, 1)
    top.set(ylabel="gain of a step")
    theme.sigma_axis(bottom, ylabel="product so far")
    bottom.legend(loc="best", ncols=2)
    return figure


@theme.styled
def clip(activity: Mapping[float, pd.DataFrame], ratio: pd.DataFrame) -> Figure:
    """Share of samples that a norm clip r acts on, above r and the update in units of the norm of D_c.

    Parameters
    ----------
    activity : mapping of float to DataFrame
        For each r, `analysis.guidance.clip_activity` of one run.
    ratio : DataFrame
        Summary of `update_ratio` of the same run: `sigma`, `mean`, `low`, `high`.
    """
    figure, (top, bottom) = theme.new_figure(height=3.8, nrows=2, sharex=True)
    theme.with_band(bottom, ratio, label="‖$D_c - D_u$‖", **theme.PARTS["update"].line)
    for (norm, table), color in zip(activity.items(), theme.shades(SWEPT["APG"].color, len(activity)), strict=True):
        active = table[table["quantity"] == "active"]
        theme.with_band(top, active, color=color, label=f"r = {norm:.2g}")
        relative = table[table["quantity"] == "relative_norm"].sort_values("sigma")
        bottom.plot(relative["sigma"], relative["mean"], color=color, linestyle="--", label=f"r = {norm:.2g}")
    top.set(ylabel="share of samples clipped", ylim=(-0.03, 1.03))
    theme.sigma_axis(bottom, yscale="log", ylabel="in units of ‖$D_c$‖")
    theme.legend_above(figure, bottom, ncols=3)
    return figure


@theme.styled
def separation(tables: Mapping[str, pd.DataFrame], *, tolerance: float) -> Figure:
    """Distance of paired states against sigma, one line a pair of runs; the first separated step is marked.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        `analysis.guidance.separation` by name of the run that is compared.
    tolerance : float
        Above which two states are taken to have separated.
    """
    figure, ax = theme.new_figure()
    for name, look in theme.looks(tables).items():
        table = tables[name]
        moved = table[table["mean"] > 0]  # the first states are the same
        theme.with_band(ax, moved, color=look.color, label=theme.literal(name))
        first = table[table["separated"]].head(1)
        ax.plot(first["sigma"], first["mean"], color=look.color, marker=look.marker, markersize=4, linestyle="")
    theme.reference_line(ax, tolerance, "tolerance")
    theme.sigma_axis(ax, yscale="log", ylabel="RMS distance of states / σ")
    ax.legend(loc="best")
    return figure


@theme.styled
def value_densities(
    density: pd.DataFrame, *, weights: Sequence[float], value_range: tuple[float, float] | None
) -> Figure:
    """Kernel density of element values per rule (panel) and weight (shade), with the real data."""
    figure, axes = theme.new_figure(height=3.4, nrows=2, sharex=True, sharey=True)
    top = 0.0
    for ax, rule in zip(axes, SWEPT, strict=True):
        for edge in value_range or ():
            ax.axvline(edge, color=theme.REFERENCE, linestyle=":", linewidth=0.8)
        real = density[density["rule"] == "data"]
        if len(real):
            ax.fill_between(
                real["value"], real["density"], color=theme.REAL, alpha=0.15, linewidth=0, label="real data"
            )
        for weight, color in zip(weights, theme.shades(SWEPT[rule].color, len(weights)), strict=True):
            rows = of_run(density, rule, weight)
            ax.plot(rows["value"], rows["density"], color=color, label=f"w = {weight:g}")
            # the peak at the background's value would hide everything else
            top = max(top, float(rows.loc[rows["value"] > rows["value"].quantile(0.5), "density"].max()))
        ax.set(ylabel="density (1 / unit)", title=rule)
        ax.legend(loc="upper center", ncols=2)
    axes[0].set_ylim(0, 1.4 * top)
    axes[1].set_xlabel("value of an element (units of data)")
    return figure


@theme.styled
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
    figure, axes = theme.new_figure(
        width=7.0, height=7.4 / columns * len(samples) + 0.2, nrows=len(samples), ncols=1, squeeze=False
    )
    low, high = value_range
    for ax, ((rule, weight), images) in zip(axes[:, 0], samples.items(), strict=True):
        strip = ((images[:columns].cpu() - low) / (high - low)).clamp(0, 1)
        gap = strip.new_ones(*strip.shape[:-1], 1)
        row = np.concatenate(list(np.concatenate([strip, gap], axis=-1)), axis=-1)  # (channel, y, columns * (x + 1))
        theme.show_picture(ax, np.moveaxis(row, 0, -1))
        theme.label_row(ax, run_name(rule, weight, between="\n"))
    return figure


def against_weight(table: pd.DataFrame, quantity: str, *, label: str, reference: float | None = None) -> Figure:
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
    """
    shown = table[table["rule"].isin(list(SWEPT))].drop(columns=swept_columns(table))
    return against_field(shown, quantity, x="weight", label=label, reference=reference)


@theme.styled
def against_field(table: pd.DataFrame, quantity: str, *, x: str, label: str, reference: float | None = None) -> Figure:
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
    """
    table = table.rename(columns={"metric": "quantity", "value": "mean"})
    fields = ["weight", *swept_columns(table)]
    if x not in fields:
        raise InputError("x", found=repr(x), expected=f"one of {', '.join(fields)}")
    rows = table[(table["quantity"] == quantity) & table[x].notna() & (table[x] != "")].sort_values(x, kind="stable")
    others = [name for name in fields if name != x and rows[name].nunique(dropna=False) > 1]
    lines: Any = rows.groupby(["rule", *others], sort=False, dropna=False)
    looks = theme.looks(map(str, rows["rule"].unique()))
    figure, ax = theme.new_figure()
    places = _places(ax, x, rows[x].unique())
    for number, ((rule, *values), line) in enumerate(lines):
        look = theme.series(number) if others else looks[rule]
        named = [f"{_field(name)} = {_value(value)}" for name, value in zip(others, values, strict=True)]
        ax.errorbar(
            line[x].map(places), line["mean"], yerr=theme.errors(line, "mean"), color=look.color, marker=look.marker,
            markersize=4, capsize=2, label=", ".join([rule, *named]),
        )  # fmt: skip
    if reference is not None:
        theme.reference_line(ax, reference, "real data")
    ax.set(ylabel=label)
    ax.legend(loc="best")
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
def cost_and_quality(table: pd.DataFrame, front: pd.DataFrame, *, metric: str, label: str) -> Figure:
    """A metric against denoiser calls a sample, one point a setting; those that no other dominates are named.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    front : DataFrame
        From `pareto`, with `setting` and `pareto`.
    """
    figure, ax = theme.new_figure(height=3.2)
    wide = table.pivot(index="setting", columns="metric", values="value")
    best = front.set_index("setting")["pareto"].reindex(wide.index).fillna(False).astype(bool)
    ax.scatter(wide["calls"][~best], wide[metric][~best], color=theme.REFERENCE, s=14, label="dominated")
    ax.scatter(wide["calls"][best], wide[metric][best], color=theme.HIGHLIGHT, marker="D", s=20, label="not dominated")
    middle = (wide["calls"].min() + wide["calls"].max()) / 2
    # labels stand towards the middle, every other one above its point, so that neighbours do not meet
    for place, (name, row) in enumerate(wide[best].sort_values(metric).iterrows()):
        _name(ax, str(name), (row["calls"], row[metric]), 6, -8 if place % 2 else 4, left=row["calls"] > middle)
    ax.set(xlabel="denoiser calls a sample", ylabel=label)
    ax.margins(x=0.08, y=0.12)
    ax.legend(loc="best")
    return figure


@theme.styled
def threshold_curve(savings: pd.DataFrame) -> Figure:
    """Calls saved by adaptive guidance and the change of the final sample, one point a threshold."""
    figure, ax = theme.new_figure()
    rows = savings[savings["setting"].str.contains("threshold")].sort_values("calls_saved")
    saved = rows[["calls_saved"]].assign(low=rows["saved_low"], high=rows["saved_high"])
    ax.errorbar(
        100 * rows["calls_saved"], rows["change"], xerr=100 * theme.errors(saved, "calls_saved"),
        yerr=theme.errors(rows, "change"), color=theme.RULES["adaptive"].color, marker="o", markersize=4, capsize=2,
    )  # fmt: skip
    for _, same in rows.groupby(["calls_saved", "change"]):  # settings of one point share its label
        calls, change = same[["calls_saved", "change"]].to_numpy(np.float64)[0]
        text, left = ", ".join(sorted(same["setting"].str.split("threshold ").str[-1])), 2 * calls > saved.max().iloc[0]
        _name(ax, text, (100 * calls, change), 4 if left else 6, 6 if left else -3, left=left)
    ax.set(xlabel="denoiser calls saved (%)", ylabel="RMS change of the sample (units of data)")
    ax.margins(x=0.15)
    return figure


def _by_weight(ax: Axes, summary: pd.DataFrame, quantity: str, rule: str, weights: Sequence[float]) -> None:
    """A line of one rule for each weight, the highest in the rule's full colour."""
    for weight, color in zip(weights, theme.shades(SWEPT[rule].color, len(weights)), strict=True):
        rows = pick(summary, quantity, rule, weight)
        theme.with_band(ax, rows, color=color, linestyle=SWEPT[rule].linestyle, label=f"{rule} w = {weight:g}")


def _floor(ax: Axes, rows: pd.DataFrame, label: str, style: str = ":") -> None:
    rows = rows.sort_values("sigma")
    ax.plot(rows["sigma"], rows["mean"], color=theme.REFERENCE, linestyle=style, label=label)


def _name(ax: Axes, text: str, point: tuple[float, float], aside: float, above: float, *, left: bool) -> None:
    """The name of a point, to its right or to its left."""
    offset, side = (-aside if left else aside, above), "right" if left else "left"
    ax.annotate(text, point, textcoords="offset points", xytext=offset, ha=side, fontsize=6)
