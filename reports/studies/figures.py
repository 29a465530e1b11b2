"""Figures of a study: every number over the checkpoints, and one curve of each checkpoint on common axes."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.data.doors import require_some
from scorescope.reports.page import theme
from scorescope.reports.studies.headlines import Curve

MOST_PANELS = 12
_WIDE = 24  # letters of a panel's title in a line


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
    require_some("table", quantities)
    figure, axes = theme.panels(len(quantities), more=0.9, sharey=False)
    for ax, quantity in zip(axes, quantities, strict=True):
        for place, setting in enumerate(settings):
            rows = table[(table["quantity"] == quantity) & (table["setting"] == setting)]
            _points(ax, rows, subjects, shift=0.12 * (place - (len(settings) - 1) / 2), label=setting, place=place)
        ax.set_title(theme.folded(quantity, _WIDE))
        theme.column_names(ax, subjects)
        ax.set_xlim(-0.5, len(subjects) - 0.5)
    if settings != [""]:
        theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def curves(parts: dict[str, pd.DataFrame], asked: Curve) -> Figure:
    """A panel for each checkpoint, all on the same axes, a colour and dash a line.

    Parameters
    ----------
    parts : dict of str to DataFrame
        Columns line, x, value, low and high, by the checkpoint's name.
    asked : Curve
        What the curve is, and its labels.
    """
    require_some("parts", parts)
    shown = dict(list(parts.items())[:MOST_PANELS])
    figure, axes = theme.panels(len(shown), more=0.8)
    lines = list(dict.fromkeys(line for rows in shown.values() for line in rows["line"]))
    for ax, (name, rows) in zip(axes, shown.items(), strict=True):
        for place, line in enumerate(lines):
            look, label = theme.series(place).line, theme.literal(line) if line else None
            theme.with_band(ax, rows[rows["line"] == line], y="value", x="x", label=label, **look)
        ax.set_title(theme.folded(theme.literal(name), _WIDE))
        ax.set_yscale(theme.LOG if asked.yscale == "log" else asked.yscale)
        if asked.x == "sigma":
            ax.set_xscale(theme.LOG)
    figure.supxlabel(asked.x_label)
    figure.supylabel(asked.label)
    if lines != [""]:
        theme.legend_above(figure, axes[0])
    return figure


def _drawn(table: pd.DataFrame) -> list[str]:
    """Quantities with a number at any checkpoint, in their order."""
    return list(dict.fromkeys(table.loc[np.isfinite(table["value"]), "quantity"]))[:MOST_PANELS]


def _points(ax: Any, rows: pd.DataFrame, subjects: list[str], *, shift: float, label: str, place: int) -> None:
    """Values of one setting at their checkpoints, with bars to the ends of their intervals where there are some."""
    look = theme.series(place)
    places = np.array([subjects.index(name) for name in rows["subject"]], dtype=float) + shift
    ax.errorbar(
        places, rows["value"], yerr=theme.errors(rows, "value"), fmt=look.marker, color=look.color, capsize=0,
        linestyle="none", label=theme.literal(label),
    )  # fmt: skip
