"""Figures of single channels: where they fire and how far that is a region, and what editing them does."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.page import theme

EDITS = {"zero": "ablated to 0", "mean": "ablated to the mean", "insert": "inserted"}
DIMMED = 0.25  # of the brightness, where a unit does not fire
ALONE = "prior alone"


@theme.styled
def unit_overlap(table: pd.DataFrame, pictures: Tensor, maps: Tensor, *, sigma: float) -> Figure:
    """Units of a site: the images in which they are strongest, dark where they do not fire, and IoU by noise level.

    Parameters
    ----------
    table : DataFrame
        `UNIT_OVERLAP` of a few units and one region; the units in the order of `pictures`.
    pictures : Tensor, shape (unit, n, channel, y, x)
        Images in [-1, 1].
    maps : Tensor, shape (unit, n, y, x)
        The units there, at any size.
    sigma : float
        Noise level of the maps.
    """
    require_some("table", table)
    units = list(dict.fromkeys(table["unit"]))
    at = table.assign(apart=(np.log(table["sigma"] / sigma)).abs()).sort_values("apart").drop_duplicates("unit")
    if pictures.ndim != 5 or pictures.shape[:2] != maps.shape[:2] or len(units) != len(pictures):
        found = f"{tuple(pictures.shape)}, {tuple(maps.shape)} for {len(units)} units"
        raise InputError("pictures, maps", found=found, expected="(unit, n, channel, y, x) and (unit, n, y, x)")
    figure, grid, below, axes = _pictures_over_curves(pictures.shape[0], pictures.shape[1], len(units))
    larger = torch.nn.functional.interpolate(maps.float(), size=tuple(pictures.shape[-2:]), mode="bilinear")
    thresholds = at.set_index("unit")["threshold"]
    for row, unit, images, values in zip(grid, units, pictures, larger, strict=True):
        shades = (images.float() / 2 + 0.5).clamp(0, 1) * torch.where(values >= thresholds[unit], 1, DIMMED)[:, None]
        for ax, picture in zip(row, shades.permute(0, 2, 3, 1).numpy(), strict=True):
            theme.show_picture(ax, picture)
        theme.label_row(row[0], f"unit {unit}")
    for ax, unit in zip(axes, units, strict=True):
        _overlap(ax, table[table["unit"] == unit].sort_values("sigma"))
        ax.set_title(f"unit {unit}")
    below.supxlabel(theme.SIGMA)
    below.supylabel("IoU")
    theme.legend_above(figure, axes[0])
    return figure


def _pictures_over_curves(rows: int, columns: int, panels: int) -> tuple[Figure, Any, Any, Any]:
    """A figure of pictures in rows above panels of curves: itself, axes (row, column), the lower part and its axes."""
    across = min(theme.abreast(panels, 1.5), panels)
    side, lines = (theme.width() - 0.9) / columns, -(-panels // across)
    heights = [side * rows, 1.5 * lines + 0.3]
    figure, whole = theme.new_figure(sum(heights) + 0.3)
    whole.remove()
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    axes = parts[1].subplots(lines, across, squeeze=False, sharex=True, sharey=True).ravel()
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure, parts[0].subplots(rows, columns, squeeze=False), parts[1], axes[:panels]


def _overlap(ax: Axes, rows: pd.DataFrame) -> None:
    """IoU of a unit by noise level, between what masks of other images give and what is possible."""
    bars = theme.errors(rows, "value")
    ax.errorbar(rows["sigma"], rows["value"], yerr=bars, color=theme.HIGHLIGHT, marker="o", label="IoU")
    ax.plot(rows["sigma"], rows["bound"], color=theme.REFERENCE, label="largest possible")
    ax.plot(
        rows["sigma"], rows["chance_q95"], color=theme.REFERENCE, linestyle=":", label="masks of other images, 95 %"
    )
    ax.set(xscale=theme.LOG, ylim=(0, None))


@theme.styled
def unit_effects(verdicts: pd.DataFrame, arms: pd.DataFrame) -> Figure:
    """What ablating and inserting units changes at which noise levels, beside random sets: a panel a score.

    Parameters
    ----------
    verdicts : DataFrame
        `UNIT_EFFECTS`. What is said to move is filled.
    arms : DataFrame
        `UNIT_ARMS`, of the same call.
    """
    require_some("verdicts", verdicts)
    scores, edits = list(dict.fromkeys(verdicts["score"])), list(dict.fromkeys(verdicts["edit"]))
    highs = sorted(verdicts["sigma_high"].unique())
    figure, axes = theme.panels(len(scores), height=2.1, least=2.4, more=0.9, sharey=False)
    lows = verdicts.drop_duplicates("sigma_high").set_index("sigma_high")["sigma_low"]
    names = [f"{lows[high]:.2g} to\n{high:.2g}" for high in highs]
    for ax, score in zip(axes, scores, strict=True):
        for place, edit in enumerate(edits):
            shift = 0.5 * (place - (len(edits) - 1) / 2) / len(edits)
            own, random = (table[(table["score"] == score) & (table["edit"] == edit)] for table in (verdicts, arms))
            _points(ax, own, [highs.index(high) + shift for high in own["sigma_high"]], place, EDITS.get(edit, edit))
            random = random[random["arm"] != "units"]
            places = [highs.index(high) + shift for high in random["sigma_high"]]
            ax.plot(places, random["value"], "_", color=theme.REFERENCE, zorder=1)
        ax.axhline(0.0, color=theme.REFERENCE, linestyle=":")
        ax.set_xticks(range(len(highs)), names)
        ax.set(title=theme.literal(score), xlim=(-0.6, len(highs) - 0.4))
    axes[0].plot([], [], "_", color=theme.REFERENCE, label="random sets")
    figure.supxlabel(f"edited at {theme.SIGMA}")
    figure.supylabel("change (units of the score)")
    theme.legend_above(figure, axes[0])
    return figure


def _points(ax: Axes, rows: pd.DataFrame, places: list[float], place: int, label: str) -> None:
    """Changes with their intervals, filled where they are judged to be more than those of random sets."""
    look, where = theme.series(place), np.array(places)
    moves = (rows["verdict"] == "moves").to_numpy()
    bars = theme.errors(rows, "value")
    ax.errorbar(where, rows["value"], yerr=bars, fmt="none", color=look.color)
    for chosen, fill in ((moves, look.color), (~moves, "white")):
        ax.plot(where[chosen], rows["value"][chosen], look.marker, color=look.color, mfc=fill)
    ax.plot([], [], look.marker, color=look.color, label=label)


@theme.styled
def units_maximised(table: pd.DataFrame, pictures: Tensor) -> Figure:
    """States that raise units: D of the last ones without a pull and with that of each unit, and activations by level.

    Parameters
    ----------
    table : DataFrame
        `UNIT_ASCENT` of a few units, from the same images and noise. Activations after the last step at each level are
        drawn from their mean over noised images on, in standard deviations over these.
    pictures : Tensor, shape (1 + unit, n, channel, y, x)
        In [-1, 1]: `control`, which is that of all units, then `images` of each in the order of the table.
    """
    require_some("table", table)
    units = list(dict.fromkeys(table["unit"]))
    if pictures.ndim != 5 or len(pictures) != 1 + len(units):
        found = f"{tuple(pictures.shape)} for {len(units)} units"
        raise InputError("pictures", found=found, expected="(1 + unit, n, channel, y, x)")
    figure, grid, below, axes = _pictures_over_curves(pictures.shape[0], pictures.shape[1], len(units))
    shown = (pictures.float() / 2 + 0.5).clamp(0, 1).movedim(2, -1).numpy()
    names = [ALONE, *(f"unit {unit}" for unit in units)]
    for row, name, images in zip(grid, names, shown, strict=True):
        for ax, picture in zip(row, images, strict=True):
            theme.show_picture(ax, picture)
        theme.label_row(row[0], name)
    for ax, unit in zip(axes, units, strict=True):
        _ascent(ax, table[(table["unit"] == unit) & (table["step"] == table["step"].max())])
        ax.set_title(f"unit {unit}")
    below.supxlabel(theme.SIGMA_LABEL)
    below.supylabel("activation (SD of noised images)", fontsize=theme.small())
    theme.legend_above(figure, axes[0])
    return figure


def _ascent(ax: Axes, rows: pd.DataFrame) -> None:
    """Activations with the unit's pull and without, and the highest of a noised image."""
    columns = ["value", "low", "high", "control", "control_low", "control_high", "highest"]
    scaled = rows[columns].sub(rows["noised"], axis=0).div(rows["spread"], axis=0).assign(sigma=rows["sigma"])
    theme.with_band(ax, scaled, y="value", color=theme.HIGHLIGHT, marker="o", label="pulled by the unit")
    theme.with_band(ax, scaled, y="control", color=theme.PALETTE[0], marker="s", label=ALONE)
    ax.plot(scaled["sigma"], scaled["highest"], color=theme.REFERENCE, linestyle=":", label="highest of noised images")
    ax.set_xscale(theme.LOG)
