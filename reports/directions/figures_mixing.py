"""Figures of the directions instrument by noise level and by strength: windows, mixing step, balance.

Public through `figures`.
"""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scorescope.data.doors import require_some
from scorescope.reports.directions.study import site_name
from scorescope.reports.page import theme

HATCHES = {"steerable": "", "reversed": "xxx", "not steerable": "", "undecided": "////"}


def window_bars(ax: Axes, rows: pd.DataFrame) -> None:
    """Margin of a direction over its controls within each window of noise levels, with its interval."""
    for _, row in rows.iterrows():
        low, high = max(row["sigma_low"], 1e-3), row["sigma_high"]
        look = _look(row["verdict"])
        ax.fill_between([low, high], row["low"], row["high"], **look, linewidth=0)
        ax.plot([low, high], [row["margin"]] * 2, color=look["edgecolor"])
    theme.reference_line(ax, 0)
    ax.set(xscale=theme.LOG)


def window_key(effects: pd.DataFrame) -> tuple[list[Any], list[str]]:
    """Handles and names of the verdicts that are drawn."""
    shown = [name for name in HATCHES if (effects["verdict"] == name).any()]
    return [Patch(label=name, linewidth=0, **_look(name)) for name in shown], shown


def _look(verdict: str) -> dict[str, Any]:
    """Face, edge and hatch of a verdict: what moves has a colour, what is not decided or moves backwards a hatch."""
    color = theme.PALETTE[1] if verdict in ("steerable", "reversed") else theme.REFERENCE
    return {"facecolor": theme.pale(color), "edgecolor": color, "hatch": HATCHES[verdict]}


@theme.styled
def mixing_step(probes: pd.DataFrame, norms: pd.DataFrame, effects: pd.DataFrame) -> Figure:
    """Where an attribute is read in the state and in a site, how long states are, and in which window it is moved.

    Parameters
    ----------
    probes : DataFrame
        Declared in `PROBES`, of one attribute at several sites; "x" is the noisy state itself.
    norms : DataFrame
        Declared in `NOISE_NORMS`.
    effects : DataFrame
        Declared in `STEER_VERDICTS`, of several windows of noise levels.
    """
    require_some("effects", effects)
    figure, axes = theme.new_figure(5.2, nrows=3, sharex=True)
    for place, (site, cells) in enumerate(probes.groupby("site", sort=False)):
        label = "read in x" if site == "x" else f"read at {site_name(str(site))}"
        theme.with_band(axes[0], cells, y="value", label=theme.literal(label), **theme.series(place).line)
    theme.reference_line(axes[0], probes["chance"].iloc[0], "chance")
    axes[0].set(ylabel="balanced accuracy\nof a probe", ylim=(0, 1.03))
    _norms(axes[1], norms)
    window_bars(axes[2], effects)
    axes[2].set_ylabel("effect beyond controls\n(natural SD)")
    theme.sigma_axis(axes[2])
    handles, labels = axes[0].get_legend_handles_labels()
    more, names = axes[1].get_legend_handles_labels()
    patches, verdicts = window_key(effects)
    theme.key_above(figure, [*handles, *more, *patches], [*labels, *names, *verdicts])
    return figure


def _norms(ax: Axes, norms: pd.DataFrame) -> None:
    """Squared norms a dimension, with the middle 95 % of images, beside the middle 95 % of pure noise."""
    rows = norms.sort_values("sigma")
    look = theme.series(2)
    theme.with_band(ax, rows, y="mean", label="squared norm", **look.line)
    ax.fill_between(rows["sigma"], rows["spread_low"], rows["spread_high"], color=look.color, alpha=0.2, linewidth=0)
    for end in ("noise_low", "noise_high"):
        theme.reference_line(ax, float(rows[end].iloc[0]), "pure noise, 95 %" if end == "noise_low" else None)
    ax.set(xscale=theme.LOG, ylabel="squared norm\na dimension")


@theme.styled
def balance_curves(balance: pd.DataFrame) -> Figure:
    """Shares of two values against strength along the direction, and the imbalance in every arm.

    Parameters
    ----------
    balance : DataFrame
        Declared in `BALANCE`, of one interval of noise levels.
    """
    require_some("balance", balance)
    figure, axes = theme.panels(2, height=2.4, least=2.6, more=0.4, sharey=False)
    own = balance[balance["arm"].isin(["direction", "none"])]
    for place, (value, rows) in enumerate(own.groupby("value", sort=False)):
        theme.with_band(
            axes[0], rows, x="strength", y="share", label=theme.literal(str(value)), **theme.series(place).line
        )
    theme.reference_line(axes[0], 0.5)
    axes[0].set(ylabel="share of samples", ylim=(-0.03, 1.03))
    bare = balance[balance["arm"] == "none"]
    for arm, rows in balance[balance["arm"] != "none"].groupby("arm", sort=False):
        look, label = arm_look(str(arm))
        line = pd.concat([rows, bare]).drop_duplicates("strength").sort_values("strength")
        if arm == "direction":
            theme.with_band(axes[1], line, x="strength", y="imbalance", label=label, **look.line)
        else:
            axes[1].plot(line["strength"], line["imbalance"], label=label, **look.line)
    axes[1].set(ylabel="imbalance (0: even)", ylim=(-0.02, 0.75))
    for ax, title in zip(axes, ("values, along the direction", "distance from even, by arm"), strict=True):
        theme.key_as_title(ax, title)
    figure.supxlabel("strength (standard deviations of the projection)")
    return figure


def arm_look(arm: str) -> tuple[theme.Look, str | None]:
    """The look and the label of an arm; of all random ones the first has the label."""
    if arm.startswith("random"):
        return theme.Look(theme.REFERENCE, "", ":"), "random, same norm" if arm == "random 1" else None
    if arm.startswith("shuffled "):
        return theme.series(1), "shuffled labels" if arm == "shuffled 1" else None
    return (theme.series(0) if arm == "direction" else theme.series(1)), arm
