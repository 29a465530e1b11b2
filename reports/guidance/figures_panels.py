"""Panels that figures of several rows, and pages of figures, have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.page import theme
from scorescope.reports.page.numbers import between

Panel = tuple[str, str, Callable[..., Any]]  # title, label of its axis, what draws it in ax=


def information_panel(ax: Axes, curve: pd.DataFrame, interval: pd.DataFrame, *, summed: bool) -> None:
    """Information gained per octave, or known so far with its bound, on the suggested interval."""
    curve = curve[curve["sigma"] > 0]
    low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
    if low > 0:  # NaN where none is suggested
        label = None if summed else f"{interval['share'].iloc[0]:.0%} of it: σ from {between(low, high)}"
        ax.axvspan(low, high, color=theme.RULES["interval"].color, alpha=0.15, linewidth=0, label=label)
    y, label = ("information", "known at this σ") if summed else ("density", "gained per octave")
    theme.with_band(ax, curve, y=y, color=theme.HIGHLIGHT, label=label)
    bound = float(curve["bound"].iloc[0])
    if summed and np.isfinite(bound):
        theme.reference_line(ax, bound, "entropy of the condition")
    ax.set_ylabel("I(condition; $x_σ$) in nats" if summed else "nats per halving of σ")
    ax.set_ylim(bottom=min(0.0, ax.dataLim.ymin))


def gain_panel(ax: Axes, path: pd.DataFrame, runs: Sequence[tuple[str, float]], quantity: str) -> None:
    """Gain of each step, or its product so far, of the runs named by (rule, weight)."""
    for rule, look in theme.looks(dict.fromkeys(rule for rule, _ in runs)).items():
        weights = [weight for name, weight in runs if name == rule]
        for weight, color in zip(weights, theme.shades(look.color, len(weights)), strict=True):
            rows = of_run(path, rule, weight)
            line, label = rows[rows["quantity"] == quantity], run_name(rule, weight, between=" ")
            theme.with_band(ax, line, color=color, linestyle=look.linestyle, label=label)
    theme.reference_line(ax, 1)
    theme.log_if_wide(ax)


def lettered(panels: Sequence[Panel]) -> Figure:
    """Panels side by side, each with its letter and its own key below its title."""
    figure, axes = theme.panels(len(panels), height=2.7, least=2.1, more=0.0, sharex=False, sharey=False)
    for letter, ax, (title, ylabel, draw) in zip("abcdefgh", axes, panels, strict=False):
        draw(ax=ax)
        if (key := ax.get_legend()) is not None:
            key.remove()
        ax.set_title("")
        if ax.axison and ax.lines:
            ax.set(xlabel=theme.SIGMA, ylabel=ylabel)
        title = f"({letter}) {title}"
        theme.key_as_title(ax, title) if ax.lines else ax.set_title(title)
    return figure


def say_in(ax: Axes, why: str) -> None:
    """The reason in place of a curve."""
    ax.text(0.5, 0.5, theme.folded(why, 24), ha="center", va="center", transform=ax.transAxes)
    theme.without_axes(ax)
