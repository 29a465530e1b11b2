"""Figures of a study: every number over the checkpoints, and one curve of each checkpoint on common axes."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.reports.page import theme
from scorescope.reports.studies.headlines import Curve

MOST_PANELS = 12
_WIDE = 26  # letters of a panel's title in a line


@theme.styled
def over_checkpoints(table: pd.DataFrame) -> Figure:
    """A panel for each quantity, with its value and interval at each checkpoint; a colour a setting.

    Parameters
    ----------
    table : DataFrame
        One row a (subject, setting, quantity), as `StudyOutcome.table` has them, of one report.
    """
    quantities = _drawn(table)
    subjects, settings = (list(dict.fromkeys(table[column])) for column in ("subject", "setting"))
    figure, axes = theme.new_figure(*_size(len(quantities)), **_grid(len(quantities)), sharex=True, squeeze=False)
    for ax, quantity in zip(axes.flat, quantities, strict=False):
        for place, setting in enumerate(settings):
            rows = table[(table["quantity"] == quantity) & (table["setting"] == setting)]
            _points(ax, rows, subjects, shift=0.12 * (place - (len(settings) - 1) / 2), label=setting, place=place)
        ax.set_title(_folded(quantity))
        ax.set_xticks(range(len(subjects)), [theme.literal(name) for name in subjects], rotation=30, ha="right")
        ax.set_xlim(-0.5, len(subjects) - 0.5)
    _hide_rest(axes, len(quantities))
    if settings != [""]:
        theme.legend_above(figure, axes.flat[0])
    return figure


@theme.styled
def curves(parts: dict[str, pd.DataFrame], asked: Curve) -> Figure:
    """A panel for each checkpoint, all on the same axes: the curve that `curve` gives, a colour and dash a line."""
    shown = dict(list(parts.items())[:MOST_PANELS])
    figure, axes = theme.panels(len(shown))
    lines = list(dict.fromkeys(line for rows in shown.values() for line in rows["line"]))
    for ax, (name, rows) in zip(axes.flat, shown.items(), strict=False):
        for place, line in enumerate(lines):
            look, label = theme.series(place).line, theme.literal(line) if line else None
            theme.with_band(ax, rows[rows["line"] == line], y="value", x="x", label=label, **look)
        ax.set(title=theme.literal(_folded(name)), yscale=asked.yscale)
        if asked.x == "sigma":
            ax.set_xscale("log")
    figure.supxlabel(asked.x_label)
    figure.supylabel(asked.label)
    if lines != [""]:
        theme.legend_above(figure, axes.flat[0])
    return figure


def _drawn(table: pd.DataFrame) -> list[str]:
    """Quantities with a number at any checkpoint, in their order."""
    return list(dict.fromkeys(table.loc[np.isfinite(table["value"]), "quantity"]))[:MOST_PANELS]


def _points(ax: Any, rows: pd.DataFrame, subjects: list[str], *, shift: float, label: str, place: int) -> None:
    """Values of one setting at their checkpoints, with bars to the ends of their intervals where there are some."""
    look = theme.series(place)
    places = np.array([subjects.index(name) for name in rows["subject"]], dtype=float) + shift
    ax.errorbar(
        places, rows["value"], yerr=theme.errors(rows, "value"), fmt=look.marker, color=look.color, markersize=4,
        elinewidth=1, linestyle="none", label=theme.literal(label),
    )  # fmt: skip


def _grid(count: int) -> dict[str, int]:
    columns = min(3, count)
    return {"nrows": -(-count // columns), "ncols": columns}


def _size(count: int) -> tuple[float, float]:
    grid = _grid(count)
    return max(2.2 * grid["ncols"] + 0.5, 3.5), 1.9 * grid["nrows"] + 0.6


def _hide_rest(axes: Any, count: int) -> None:
    columns = axes.shape[1]
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, count - columns) : count]:
        ax.tick_params(labelbottom=True)


def _folded(text: str) -> str:
    """A title in lines that a panel has room for; what is equal stays together."""
    lines = [""]
    for word in text.replace(" = ", "\u00a0=\u00a0").split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= _WIDE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
