"""Figures of whole paths: gains and their product, where a norm clip acts, where two rules part."""

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from scorescope.reports.page.run_names import run_name, same_weight
from scorescope.reports.page.theme import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, shades, styled, with_band


@styled
def gain_path(path: pd.DataFrame, *, runs: Sequence[tuple[str, float]]) -> Figure:
    """Gain of each step along D_c, above its product along the path; one line a (rule, weight).

    `path` is from `analysis.gain_path`.
    """
    figure, (top, bottom) = new_figure(height=3.8, nrows=2, sharex=True)
    for (rule, weight), color, style in zip(runs, _colors(runs), _styles(runs), strict=True):
        rows = path[(path["rule"] == rule) & same_weight(path["weight"], weight)]
        for ax, quantity in ((top, "step_gain"), (bottom, "path_gain")):
            line = rows[rows["quantity"] == quantity]
            with_band(ax, line, color=color, label=run_name(rule, weight, between=" "), linestyle=style)
    for ax in (top, bottom):
        ax.axhline(1, color=REFERENCE, linestyle=":", linewidth=0.8)
    top.set(ylabel="gain of a step")
    bottom.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="product so far")
    bottom.legend(loc="best", ncols=2)
    return figure


@styled
def clip(activity: Mapping[float, pd.DataFrame], ratio: pd.DataFrame) -> Figure:
    """Share of samples that a norm clip r acts on, above r and the update in units of the norm of D_c.

    Parameters
    ----------
    activity : mapping of float to DataFrame
        For each r, `analysis.clip_activity` of one run.
    ratio : DataFrame
        Summary of `update_ratio` of the same run: `sigma`, `mean`, `low`, `high`.
    """
    figure, (top, bottom) = new_figure(height=3.8, nrows=2, sharex=True)
    with_band(bottom, ratio, color=PALETTE[7], label="‖$D_c - D_u$‖")
    for (norm, table), color in zip(activity.items(), shades(PALETTE[1], len(activity)), strict=True):
        active = table[table["quantity"] == "active"]
        with_band(top, active, color=color, label=f"r = {norm:.2g}")
        relative = table[table["quantity"] == "relative_norm"].sort_values("sigma")
        bottom.plot(relative["sigma"], relative["mean"], color=color, linestyle="--", label=f"r = {norm:.2g}")
    top.set(ylabel="share of samples clipped", ylim=(-0.03, 1.03))
    bottom.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="in units of ‖$D_c$‖")
    figure.legend(*bottom.get_legend_handles_labels(), ncols=3, loc="outside upper center", columnspacing=1.0)
    return figure


@styled
def separation(tables: Mapping[str, pd.DataFrame], *, tolerance: float) -> Figure:
    """Distance of paired states against sigma, one line a pair of rules; the first separated step is marked.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        `analysis.separation` by name of the rule that is compared.
    tolerance : float
        Above which two states are taken to have separated.
    """
    figure, ax = new_figure()
    looks = itertools.cycle(zip((PALETTE[1], PALETTE[2], PALETTE[4], PALETTE[5], PALETTE[3]), "os^Dv", strict=True))
    for (name, table), (color, marker) in zip(tables.items(), looks, strict=False):
        rows = table[table["mean"] > 0]  # the first states are the same
        with_band(ax, rows, color=color, label=name)
        first = table[table["separated"]].head(1)
        ax.plot(first["sigma"], first["mean"], color=color, marker=marker, markersize=4, linestyle="")
    ax.axhline(tolerance, color=REFERENCE, linestyle=":", label="tolerance")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="RMS distance of states / σ")
    ax.legend(loc="best")
    return figure


def _colors(runs: Sequence[tuple[str, float]]) -> list[str]:
    """One hue a rule, one shade a weight."""
    found = []
    for rule, weight in runs:
        weights = [w for name, w in runs if name == rule]
        hue = {"CFG": PALETTE[0], "APG": PALETTE[1]}.get(rule, PALETTE[2])
        found.append(shades(hue, len(weights))[weights.index(weight)])
    return found


def _styles(runs: Sequence[tuple[str, float]]) -> list[str]:
    names = list(dict.fromkeys(rule for rule, _ in runs))
    return [("-", "--", ":", "-.")[min(names.index(rule), 3)] for rule, _ in runs]
