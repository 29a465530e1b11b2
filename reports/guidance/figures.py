"""Figures of the guidance instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.guidance import figures

    figures.update_parts(summarise(decompose(trace)), rule="CFG", weight=4.0)

Each takes `style=`, and those of one panel `ax=`: see `theme`. Here are the update at each noise level and whole paths;
samples, rules compared, a pipeline's images, and several traces are in files of their own.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.data.doors import require_some
from scorescope.reports.guidance.figures_branches import effective_weights, one_step_weights, update_agreement
from scorescope.reports.guidance.figures_panels import gain_panel, information_panel
from scorescope.reports.guidance.figures_pipeline import GAIN, image_statistic, replayed_rules, set_densities
from scorescope.reports.guidance.figures_rules import (
    cost_and_quality,
    interval_ends,
    paired_changes,
    precision_and_recall,
    rule_fields,
    threshold_curve,
)
from scorescope.reports.guidance.figures_samples import (
    SWEPT,
    against_field,
    against_weight,
    metrics_against,
    sample_grid,
    value_densities,
)
from scorescope.reports.guidance.figures_toys import toy_fields, toy_paths
from scorescope.reports.guidance.figures_traces import parts_by_line, quantity_by_line, replayed_by_trace
from scorescope.reports.guidance.runs import of_run, pick
from scorescope.reports.page import theme
from scorescope.reports.page.numbers import plain

__all__ = [
    "against_field", "against_weight", "applied_gain", "band_norms", "branch_cosine", "clip", "cost_and_quality",
    "effective_weights", "gain_path", "image_statistic", "information", "interval_ends", "metrics_against",
    "one_step_weights", "paired_changes", "parallel_share", "parts_by_line", "precision_and_recall",
    "quantity_by_line", "replayed_by_trace", "replayed_rules", "rule_fields", "sample_grid", "separation",
    "set_densities", "threshold_curve", "toy_fields", "toy_paths", "update_agreement", "update_parts",
    "value_densities",
]  # fmt: skip


@theme.styled
def update_parts(summary: pd.DataFrame, *, rule: str, weight: float, ax: Axes | None = None) -> Figure:
    """Norm of the update and of its two parts against sigma, with the dtype's floor.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.guidance.summarise`.
    rule, weight
        Which run.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.9, ax=ax)
    for part, label in (("update", "whole update"), ("orthogonal", "orthogonal to $D_c$"),
                        ("parallel", "parallel to $D_c$")):  # fmt: skip
        theme.with_band(ax, pick(summary, f"{part}_norm", rule, weight), label=label, **theme.PARTS[part].line)
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="L2 norm (units of data)")
    theme.floor_lines(ax, {"rounding floor": pick(summary, "norm_floor", rule, weight)})
    ax.set_title(f"Update $D_c - D_u$ along {theme.literal(run_name(rule, weight))}")
    theme.legend(ax)
    return figure


@theme.styled
def parallel_share(
    summary: pd.DataFrame,
    centred: pd.DataFrame,
    *,
    weights: Sequence[float],
    centred_weight: float,
    ax: Axes | None = None,
) -> Figure:
    """Parallel share of the update's energy against sigma: CFG at every weight, APG at the highest, chance.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.guidance.summarise`, of CFG and APG.
    centred : DataFrame
        A summary of `decompose_centred` for CFG: the share with channel means removed.
    weights : sequence of float
        Of CFG; APG is drawn at the highest.
    centred_weight : float
        Of the share with means removed.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("weights", weights)
    figure, ax = theme.new_figure(3.2, ax=ax)
    _by_weight(ax, summary, "parallel_share", "CFG", weights)
    _by_weight(ax, summary, "parallel_share", "APG", [max(weights)])
    rows = pick(centred, "centred_parallel_share", "CFG", centred_weight)
    theme.with_band(ax, rows, label=f"w = {centred_weight:g}, mean removed", **theme.PARTS["mean removed"].line)
    chance = summary[summary["quantity"] == "chance_share"]["mean"].iloc[0]
    theme.reference_line(ax, chance, "chance, 1/N")
    theme.sigma_axis(ax, ylabel="parallel share of the update's energy", ylim=(0, None))
    theme.legend(ax)
    return figure


@theme.styled
def branch_cosine(summary: pd.DataFrame, *, rule: str, weight: float, ax: Axes | None = None) -> Figure:
    """How far the two branches point apart, 1 - cosine, in denoised and in eps space.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.guidance.summarise`.
    rule, weight
        Which run.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.9, ax=ax)
    for space, look in theme.SPACES.items():
        rows = pick(summary, f"one_minus_cos_{space}", rule, weight)
        theme.with_band(ax, rows, label=f"{space} space", **look.line)
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="1 − cosine of cond and uncond")
    floors = {"denoised": "cos_floor", "eps": "cos_eps_floor"}
    theme.floor_lines(ax, {f"floor, {space}": pick(summary, name, rule, weight) for space, name in floors.items()})
    ax.set_title(f"Branches along {theme.literal(run_name(rule, weight))}")
    theme.legend(ax)
    return figure


@theme.styled
def applied_gain(summary: pd.DataFrame, *, weights: Sequence[float], ax: Axes | None = None) -> Figure:
    """The factor by which CFG and APG at every weight but 1 scale D_c, against sigma.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.guidance.summarise`, of CFG and APG.
    weights : sequence of float
        Of both.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.9, ax=ax)
    for rule in SWEPT:
        _by_weight(ax, summary, "applied_gain", rule, [weight for weight in weights if weight != 1])
    theme.reference_line(ax, 1, "no gain")
    theme.sigma_axis(ax, ylabel=GAIN)
    theme.log_if_wide(ax)
    theme.legend(ax)
    return figure


@theme.styled
def band_norms(bands: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Norm of the update in each radial frequency band against sigma.

    Parameters
    ----------
    bands : DataFrame
        Summary of `decompose_bands` by band, sigma and call.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.9, ax=ax)
    rows = theme.rows_where(bands[bands["call"] == 0], "quantity", "update_norm", argument="bands")
    numbers = sorted(rows["band"].unique())
    for number, color in zip(numbers, theme.shades(theme.HIGHLIGHT, len(numbers)), strict=True):
        band = rows[rows["band"] == number]
        low, high = band["low_frequency"].iloc[0], band["high_frequency"].iloc[0]
        label = f"{low:.2g} to {high:.2g}" if np.isfinite(high) else f"from {low:.2g}"
        theme.with_band(ax, band, color=color, label=f"{label} cycles / pixel")
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="L2 norm of the update's band")
    theme.legend(ax)
    return figure


@theme.styled
def information(curve: pd.DataFrame, interval: pd.DataFrame) -> Figure:
    """Information gained per octave, with the suggested interval, above its integral with the bound.

    Parameters
    ----------
    curve, interval : DataFrame
        From `analysis.guidance.guidance_information` and `suggest_interval`.
    """
    figure, (top, bottom) = theme.new_figure(4.4, nrows=2, sharex=True)
    information_panel(top, curve, interval, summed=False)
    information_panel(bottom, curve, interval, summed=True)
    theme.sigma_axis(bottom)
    theme.legend_above(figure)
    return figure


@theme.styled
def gain_path(path: pd.DataFrame, *, runs: Sequence[tuple[str, float]]) -> Figure:
    """Gain of each step along D_c, above its product along the path; one line a (rule, weight).

    Parameters
    ----------
    path : DataFrame
        From `analysis.guidance.gain_path`.
    runs : sequence of (str, float)
        Rule and weight of each line.
    """
    for rule, weight in runs:
        of_run(path, rule, weight, needed=True)
    figure, (top, bottom) = theme.new_figure(4.4, nrows=2, sharex=True)
    gain_panel(top, path, runs, "step_gain")
    gain_panel(bottom, path, runs, "path_gain")
    top.set(ylabel="gain of a step")
    theme.sigma_axis(bottom, ylabel="product so far")
    theme.legend_above(figure, bottom)
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
    require_some("activity", activity)
    figure, (top, bottom) = theme.new_figure(4.4, nrows=2, sharex=True)
    theme.with_band(bottom, ratio, label="‖$D_c - D_u$‖", **theme.PARTS["update"].line)
    for (norm, table), color in zip(activity.items(), theme.shades(SWEPT["APG"].color, len(activity)), strict=True):
        active = table[table["quantity"] == "active"]
        theme.with_band(top, active, color=color, label=f"r = {plain(norm)}")
        relative = table[table["quantity"] == "relative_norm"].sort_values("sigma")
        bottom.plot(relative["sigma"], relative["mean"], color=color, linestyle="--", label=f"r = {plain(norm)}")
    top.set(ylabel="share of samples clipped", ylim=(-0.03, 1.03))
    theme.sigma_axis(bottom, yscale=theme.LOG, ylabel="in units of ‖$D_c$‖")
    theme.legend_above(figure, bottom)
    return figure


@theme.styled
def separation(tables: Mapping[str, pd.DataFrame], *, tolerance: float, ax: Axes | None = None) -> Figure:
    """Distance of paired states against sigma, one line a pair of runs; the first separated step is marked.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        `analysis.guidance.separation` by name of the run that is compared.
    tolerance : float
        Above which two states are taken to have separated.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("tables", tables)
    figure, ax = theme.new_figure(2.9, ax=ax)
    for name, look in theme.looks(tables).items():
        table = tables[name]
        moved = table[table["mean"] > 0]  # the first states are the same
        theme.with_band(ax, moved, color=look.color, label=theme.literal(name))
        first = table[table["separated"]].head(1)
        ax.plot(first["sigma"], first["mean"], color=look.color, marker=look.marker, linestyle="")
    theme.reference_line(ax, tolerance, "tolerance")
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="RMS distance of states / σ")
    theme.legend(ax)
    return figure


def _by_weight(ax: Axes, summary: pd.DataFrame, quantity: str, rule: str, weights: Sequence[float]) -> None:
    """A line of one rule for each weight, the highest in the rule's full colour."""
    for weight, color in zip(weights, theme.shades(SWEPT[rule].color, len(weights)), strict=True):
        rows = pick(summary, quantity, rule, weight)
        theme.with_band(ax, rows, color=color, linestyle=SWEPT[rule].linestyle, label=f"{rule} w = {weight:g}")
