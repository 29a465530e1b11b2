"""Figures of the guidance instrument: declared tables in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.reports.page.run_names import run_name, same_weight
from scorescope.reports.page.theme import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, shades, styled, with_band

RULE_COLORS = {"CFG": PALETTE[0], "APG": PALETTE[1], "data": "#222222"}
MARKERS = {"CFG": "o", "APG": "s"}


@styled
def update_parts(summary: pd.DataFrame, *, rule: str, weight: float) -> Figure:
    """Norm of the update and of its two parts against sigma, with the dtype's floor.

    Parameters
    ----------
    summary : DataFrame
        From `analysis.summarise`.
    rule, weight
        Which run.
    """
    figure, ax = new_figure()
    lines = [
        ("update_norm", "whole update", PALETTE[7], "-"),
        ("orthogonal_norm", "orthogonal to $D_c$", PALETTE[2], "-"),
        ("parallel_norm", "parallel to $D_c$", PALETTE[3], "-"),
    ]
    for quantity, label, color, style in lines:
        with_band(ax, pick(summary, quantity, rule, weight), color=color, label=label, linestyle=style)
    floor = pick(summary, "norm_floor", rule, weight).sort_values("sigma")
    ax.plot(floor["sigma"], floor["mean"], color=REFERENCE, linestyle=":", label="rounding floor")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="L2 norm (units of data)")
    ax.set_title(f"Update $D_c - D_u$ along {run_name(rule, weight)}")
    ax.legend(loc="best")
    return figure


@styled
def parallel_share(
    summary: pd.DataFrame, centred: pd.DataFrame, *, weights: Sequence[float], centred_weight: float
) -> Figure:
    """Parallel share of the update's energy against sigma: CFG at every weight, APG at the highest, chance.

    `centred` is a summary of `decompose_centred` for CFG: the share with channel means removed.
    """
    figure, ax = new_figure(height=3.2)
    for weight, color in zip(weights, shades(RULE_COLORS["CFG"], len(weights)), strict=True):
        rows = pick(summary, "parallel_share", "CFG", weight)
        with_band(ax, rows, color=color, label=f"CFG w = {weight:g}")
    rows = pick(summary, "parallel_share", "APG", max(weights))
    with_band(ax, rows, color=RULE_COLORS["APG"], label=f"APG w = {max(weights):g}", linestyle="--")
    rows = pick(centred, "centred_parallel_share", "CFG", centred_weight)
    with_band(ax, rows, color=PALETTE[2], label=f"w = {centred_weight:g}, mean removed", linestyle="-.")
    chance = summary[summary["quantity"] == "chance_share"]["mean"].iloc[0]
    ax.axhline(chance, color=REFERENCE, linestyle=":", label="chance, 1/N")
    ax.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="parallel share of the update's energy", ylim=(0, None))
    figure.legend(ncols=3, loc="outside upper center", columnspacing=1.0)
    return figure


@styled
def branch_cosine(summary: pd.DataFrame, *, rule: str, weight: float) -> Figure:
    """How far the two branches point apart, 1 - cosine, in denoised and in eps space."""
    figure, ax = new_figure()
    with_band(ax, pick(summary, "one_minus_cos_denoised", rule, weight), color=PALETTE[0], label="denoised space")
    with_band(ax, pick(summary, "one_minus_cos_eps", rule, weight), color=PALETTE[4], label="eps space", linestyle="--")
    for quantity, style, space in (("cos_floor", ":", "denoised"), ("cos_eps_floor", "-.", "eps")):
        floor = pick(summary, quantity, rule, weight).sort_values("sigma")
        ax.plot(floor["sigma"], floor["mean"], color=REFERENCE, linestyle=style, label=f"rounding floor, {space}")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="1 − cosine of cond and uncond")
    ax.set_title(f"Branches along {run_name(rule, weight)}")
    ax.legend(loc="best")
    return figure


@styled
def applied_gain(summary: pd.DataFrame, *, weights: Sequence[float]) -> Figure:
    """The factor by which CFG at every weight, and APG at the highest, scales D_c, against sigma."""
    figure, ax = new_figure()
    for rule, style in (("CFG", "-"), ("APG", "--")):
        shown = [weight for weight in weights if weight != 1]
        for weight, color in zip(shown, shades(RULE_COLORS[rule], len(shown)), strict=True):
            with_band(
                ax,
                pick(summary, "applied_gain", rule, weight),
                color=color,
                label=f"{rule} w = {weight:g}",
                linestyle=style,
            )
    ax.axhline(1, color=REFERENCE, linestyle=":", label="no gain")
    ax.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="gain on $D_c$: ⟨guided, $D_c$⟩ / ‖$D_c$‖²")
    ax.legend(ncols=2, loc="best")
    return figure


@styled
def value_densities(
    density: pd.DataFrame, *, weights: Sequence[float], value_range: tuple[float, float] | None
) -> Figure:
    """Kernel density of element values per rule (panel) and weight (shade), with the real data."""
    figure, axes = new_figure(height=3.4, nrows=2, sharex=True, sharey=True)
    top = 0.0
    for ax, rule in zip(axes, ("CFG", "APG"), strict=True):
        if value_range is not None:
            for edge in value_range:
                ax.axvline(edge, color=REFERENCE, linestyle=":", linewidth=0.8)
        real = density[density["rule"] == "data"]
        if len(real):
            ax.fill_between(real["value"], real["density"], color="#222222", alpha=0.15, linewidth=0, label="real data")
        for weight, color in zip(weights, shades(RULE_COLORS[rule], len(weights)), strict=True):
            rows = density[(density["rule"] == rule) & (density["weight"] == weight)]
            ax.plot(rows["value"], rows["density"], color=color, label=f"w = {weight:g}")
            # the peak at the background's value would hide everything else
            top = max(top, float(rows.loc[rows["value"] > rows["value"].quantile(0.5), "density"].max()))
        ax.set(ylabel="density (1 / unit)", title=rule)
        ax.legend(loc="upper center", ncols=2)
    axes[0].set_ylim(0, 1.4 * top)
    axes[1].set_xlabel("value of an element (units of data)")
    return figure


@styled
def against_weight(images: pd.DataFrame, quantity: str, *, label: str, reference: float | None = None) -> Figure:
    """An image statistic against the guidance weight, per rule, with intervals.

    Parameters
    ----------
    images : DataFrame
        Summary of `image_table` by rule and weight.
    quantity : str
        Which statistic.
    label : str
        Axis label with unit.
    reference : float, optional
        Value of the real data.
    """
    figure, ax = new_figure()
    for rule in ("CFG", "APG"):
        rows = images[(images["rule"] == rule) & (images["quantity"] == quantity)].sort_values("weight")
        errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["mean"].to_numpy())
        ax.errorbar(
            rows["weight"],
            rows["mean"],
            yerr=errors,
            color=RULE_COLORS[rule],
            marker=MARKERS[rule],
            markersize=4,
            capsize=2,
            label=rule,
        )
    if reference is not None:
        ax.axhline(reference, color=REFERENCE, linestyle=":", label="real data")
    ax.set_xscale("log", base=2)
    ax.set_xticks(
        sorted(images["weight"].dropna().unique()), [f"{w:g}" for w in sorted(images["weight"].dropna().unique())]
    )
    ax.set(xlabel="guidance weight w", ylabel=label)
    ax.legend(loc="best")
    return figure


@styled
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
    figure, axes = new_figure(width=7.0, height=0.42 * len(samples) + 0.2, nrows=len(samples), ncols=1, squeeze=False)
    low, high = value_range
    for ax, ((rule, weight), images) in zip(axes[:, 0], samples.items(), strict=True):
        strip = ((images[:columns].cpu() - low) / (high - low)).clamp(0, 1)
        gap = strip.new_ones(*strip.shape[:-1], 1)
        row = np.concatenate(list(np.concatenate([strip, gap], axis=-1)), axis=-1)  # (channel, y, columns * (x + 1))
        _show(ax, row)
        ax.set_ylabel(f"{rule}\nw = {weight:g}", rotation=0, ha="right", va="center")
    return figure


def pick(summary: pd.DataFrame, quantity: str, rule: str, weight: float) -> pd.DataFrame:
    """Rows of one quantity of one run, first call of each step: one row a noise level."""
    first = summary["call"] == 0
    run = (summary["rule"] == rule) & same_weight(summary["weight"], weight)
    return summary[first & (summary["quantity"] == quantity) & run]


def _show(ax: Axes, picture: np.ndarray) -> None:
    if len(picture) == 1:
        ax.imshow(picture[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        ax.imshow(np.moveaxis(picture, 0, -1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
