"""Figures of the guidance laboratory: where the condition tells, and what rules cost and give."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.reports.page.theme import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, shades, styled, with_band


@styled
def information(curve: pd.DataFrame, interval: pd.DataFrame) -> Figure:
    """Information gained per octave, with the suggested interval, above its integral with the bound."""
    figure, (top, bottom) = new_figure(height=3.8, nrows=2, sharex=True)
    curve = curve[curve["sigma"] > 0]
    low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
    for ax in (top, bottom):
        label = f"{interval['share'].iloc[0]:.0%} of it: σ from {low:.2g} to {high:.2g}"
        ax.axvspan(low, high, color=PALETTE[2], alpha=0.12, linewidth=0, label=label if ax is top else None)
    with_band(top, curve.rename(columns={"density": "mean"}), color=PALETTE[0], label="gained per octave")
    top.set(ylabel="nats per halving of σ", ylim=(0, 1.45 * float(curve["high"].max())))
    whole = curve[["sigma", "information", "information_low", "information_high"]]
    whole = whole.set_axis(["sigma", "mean", "low", "high"], axis=1)
    with_band(bottom, whole, color=PALETTE[0], label="known at this σ")
    bound = float(curve["bound"].iloc[0])
    if np.isfinite(bound):
        bottom.axhline(bound, color=REFERENCE, linestyle=":", label="entropy of the condition")
    bottom.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="I(condition; $x_σ$) in nats", ylim=(0, None))
    for ax in (top, bottom):
        ax.legend(loc="best")
    return figure


@styled
def band_norms(bands: pd.DataFrame) -> Figure:
    """Norm of the update in each radial frequency band against sigma.

    `bands` is a summary of `decompose_bands` by band, sigma and call.
    """
    figure, ax = new_figure()
    rows = bands[(bands["quantity"] == "update_norm") & (bands["call"] == 0)]
    numbers = sorted(rows["band"].unique())
    for number, color in zip(numbers, shades(PALETTE[4], len(numbers)), strict=True):
        band = rows[rows["band"] == number]
        low, high = band["low_frequency"].iloc[0], band["high_frequency"].iloc[0]
        label = f"{low:.2g} to {high:.2g}" if np.isfinite(high) else f"from {low:.2g}"
        with_band(ax, band, color=color, label=f"{label} cycles / pixel")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="L2 norm of the update's band")
    ax.legend(loc="best")
    return figure


@styled
def metric_against_weight(table: pd.DataFrame, metric: str, *, label: str, rules: Sequence[str]) -> Figure:
    """A metric of `measure_sweep` against the guidance weight, one line a rule."""
    figure, ax = new_figure()
    colors = {"CFG": PALETTE[0], "APG": PALETTE[1]}
    rows = table[(table["metric"] == metric) & table["rule"].isin(rules)]
    for rule, marker in zip(rules, "osD^", strict=False):
        line = rows[rows["rule"] == rule].sort_values("weight")
        errors = np.abs(line[["low", "high"]].to_numpy().T - line["value"].to_numpy())
        ax.errorbar(
            line["weight"], line["value"], yerr=errors, color=colors.get(rule), marker=marker, markersize=4, capsize=2,
            label=rule,
        )  # fmt: skip
    ticks = sorted(rows["weight"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{w:g}" for w in ticks])
    ax.set(xlabel="guidance weight w", ylabel=label)
    ax.legend(loc="best")
    return figure


@styled
def cost_and_quality(table: pd.DataFrame, front: pd.DataFrame, *, metric: str, label: str) -> Figure:
    """A metric against denoiser calls a sample, one point a setting; those that no other dominates are named.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    front : DataFrame
        From `pareto`, with `setting` and `pareto`.
    """
    figure, ax = new_figure(height=3.2)
    wide = table.pivot(index="setting", columns="metric", values="value")
    best = front.set_index("setting")["pareto"].reindex(wide.index).fillna(False).astype(bool)
    ax.scatter(wide["calls"][~best], wide[metric][~best], color=REFERENCE, s=14, label="dominated")
    ax.scatter(wide["calls"][best], wide[metric][best], color=PALETTE[3], marker="D", s=20, label="not dominated")
    middle = (wide["calls"].min() + wide["calls"].max()) / 2
    # labels stand towards the middle, every other one above its point, so that neighbours do not meet
    for place, (name, row) in enumerate(wide[best].sort_values(metric).iterrows()):
        right = row["calls"] > middle
        offset = (-6 if right else 6, -8 if place % 2 else 4)
        point = (row["calls"], row[metric])
        ax.annotate(
            str(name), point, textcoords="offset points", xytext=offset, ha="right" if right else "left", fontsize=6
        )  # fmt: skip
    ax.set(xlabel="denoiser calls a sample", ylabel=label)
    ax.margins(x=0.08, y=0.12)
    ax.legend(loc="best")
    return figure


@styled
def threshold_curve(savings: pd.DataFrame) -> Figure:
    """Calls saved by adaptive guidance and the change of the final sample, one point a threshold."""
    figure, ax = new_figure()
    rows = savings[savings["setting"].str.contains("threshold")].sort_values("calls_saved")
    errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["change"].to_numpy())
    saved = 100 * np.abs(rows[["saved_low", "saved_high"]].to_numpy().T - rows["calls_saved"].to_numpy())
    ax.errorbar(
        100 * rows["calls_saved"], rows["change"], xerr=saved, yerr=errors, color=PALETTE[0], marker="o", markersize=4,
        capsize=2,
    )  # fmt: skip
    for _, same in rows.groupby(["calls_saved", "change"]):  # settings of one point share its label
        calls, change = same[["calls_saved", "change"]].to_numpy(np.float64)[0]
        text = ", ".join(sorted(same["setting"].str.split("threshold ").str[-1]))
        right = 2 * calls > rows["calls_saved"].max()
        point, offset = (100 * calls, change), (-4, 6) if right else (6, -3)
        ax.annotate(text, point, textcoords="offset points", xytext=offset, ha="right" if right else "left", fontsize=6)
    ax.set(xlabel="denoiser calls saved (%)", ylabel="RMS change of the sample (units of data)")
    ax.margins(x=0.15)
    return figure
