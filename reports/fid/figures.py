"""Figures of the FID instrument: declared tables and maps in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.fid import figures

    figures.contributions(feature_contributions(plan), direction_spectrum(plan).table)

Each takes `style=`, and those of one panel `ax=`: see `theme`. In the order of the report: distances, features, images,
regions, choice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.fid.gaming import PLAIN, REAL
from scorescope.data.doors import require_some
from scorescope.reports.fid.paper_figures import (
    infinity,
    matched_classes,
    metric_dots,
    nearest_training_images,
    two_spaces,
)
from scorescope.reports.fid.picture_figures import extremes, heatmaps, occlusions, outlined_maps, shortened
from scorescope.reports.page import theme

__all__ = [
    "audit", "class_gaps", "class_shares", "contributions", "distances", "extremes", "heatmaps", "infinity",
    "matched_classes", "metric_dots", "nearest_training_images", "occlusions", "outlined_maps", "overview",
    "region_shares",
    "two_spaces",
]  # fmt: skip
CLASSES = 25  # in a histogram, as published
GAP = "share of generated − share of real"


@theme.styled
def distances(table: pd.DataFrame, label: str = "Frechet distance") -> Figure:
    """Frechet distance of every set in every feature space: as measured, without bias, and the floor.

    Parameters
    ----------
    table : DataFrame
        Rows of companion tables of one metric, and of the same without bias where that is known, with a column `set`.
    label : str
        Name of that metric.
    """
    require_some("table", table)
    spaces = list(dict.fromkeys(table["space"]))
    figure, axes = theme.panels(len(spaces), height=2.3, least=2.6, sharex=False, sharey=False)
    for ax, space in zip(axes, spaces, strict=True):
        _distances(ax, table[table["space"] == space])
        ax.set(ylabel=label, title=theme.literal(space))
    theme.legend_above(figure)
    return figure


def _distances(ax: Axes, here: pd.DataFrame) -> None:
    """Bars of one feature space."""
    without = here["metric"].str.endswith("without bias")
    rows = here[~without].reset_index(drop=True)
    at = np.arange(len(rows))
    scatter = rows.rename(columns={"scatter_low": "value_low", "scatter_high": "value_high"})
    ax.bar(at, rows["value"], color=theme.PALETTE[0], width=0.6, label="as measured", **_bars(scatter, "value"))
    if rows["floor"].notna().any():
        floor = "real images at these numbers"
        ax.hlines(rows["floor"], at - 0.38, at + 0.38, color=theme.REFERENCE, linestyle=":", label=floor)
    known = here[without].set_index("set").reindex(rows["set"])
    if known["value"].notna().any():
        look: dict[str, Any] = {"color": theme.PALETTE[3], "fmt": "D", "label": "without bias"}
        ax.errorbar(at + 0.12, known["value"], yerr=theme.errors(known, "value"), **look)
    sizes = rows[["set", "n_fake", "n_real"]].astype(object).fillna("?").to_numpy()
    letters = int(16 * theme.width() / max(3, len(rows)) / 3)
    ax.set_xticks(at, [f"{theme.folded(theme.literal(name), letters)}\n{n} / {m}" for name, n, m in sizes])
    if min(0.0, float(here[["value", "low"]].min().min())) == 0:
        ax.set_ylim(bottom=0)


@theme.styled
def contributions(features: pd.DataFrame, spectrum: pd.DataFrame) -> Figure:
    """The largest contributions by feature, and how fast the principal directions add up.

    Parameters
    ----------
    features : DataFrame
        From `feature_contributions`, the largest first.
    spectrum : DataFrame
        The table of `direction_spectrum`.
    """
    figure, (left, right) = theme.panels(2, height=2.4, least=2.6, more=0.2, sharex=False, sharey=False)
    rows = features.head(20)
    at = np.arange(len(rows))
    left.bar(at, rows["mean_part"], color=theme.PALETTE[0], label="gap of means")
    left.bar(at, rows["covariance_part"], bottom=rows["mean_part"], color=theme.PALETTE[1], label="gap of covariances")
    left.set_xticks(at, rows["feature"], rotation=90)
    left.set(xlabel="feature", ylabel="part of FD", title=f"{len(rows)} features that carry most")
    left.legend(loc="best")
    right.plot(spectrum["direction"] + 1, spectrum["cumulative"], color=theme.PALETTE[2], marker=".")
    right.set(xlabel="principal directions", ylabel="share of FD", ylim=(0, 1.03), title="Directions that add up to FD")
    return figure


@theme.styled
def class_gaps(table: pd.DataFrame) -> Figure:
    """Histogram gap of the classes with the largest, and the change by leaving one image out, with 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From `class_table`.
    """
    scale = -1 / table["n_fake"].sum()
    removal = {"removal_low": table["influence_high"] * scale, "removal_high": table["influence_low"] * scale}
    rows = table.assign(removal=table["removal_change"], **removal).head(12).iloc[::-1]
    height = 0.2 * len(rows) + 0.6
    figure, (left, right) = theme.panels(2, height=height, least=2.6, more=0.1, sharex=False)
    for ax, value, label in ((left, "gap", GAP), (right, "removal", "change of FD without one image (first order)")):
        _rows_about_0(ax, rows, value, label)
    theme.row_names(left, (shortened(name, 24) for name in rows["class_name"]))
    return figure


def _rows_about_0(ax: Axes, rows: pd.DataFrame, value: str, label: str) -> None:
    """A value of every row with its interval, beside none."""
    bars = theme.errors(rows, value)
    ax.errorbar(rows[value], np.arange(len(rows)), xerr=bars, fmt="o", color=theme.PALETTE[0])
    ax.axvline(0, color=theme.REFERENCE, linestyle=":")
    ax.set(xlabel=theme.folded(label, 32))
    theme.few_ticks(ax)


@theme.styled
def class_shares(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """The largest classes: their share of real, of generated and of chosen generated images, with 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        Declared in `CLASS_SHARES`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    classes = list(dict.fromkeys(table["class_index"]))[:CLASSES]
    kinds = list(dict.fromkeys(table["series"]))
    figure, ax = theme.new_figure(0.085 * len(classes) * (len(kinds) + 0.6) + 1.1, ax=ax)
    for place, kind in enumerate(kinds):
        rows = table[table["series"] == kind].set_index("class_index").loc[classes]
        at = np.arange(len(classes)) + 0.75 * (place / max(len(kinds) - 1, 1) - 0.5)
        look = theme.Look(theme.REFERENCE, "D") if kind == "real" else theme.series(place - 1)
        ax.errorbar(
            rows["share"], at, xerr=theme.errors(rows, "share"), color=look.color, fmt=look.marker, capsize=0,
            markersize=3 * theme.unit(), label=theme.literal(kind),
        )  # fmt: skip
    names = table.drop_duplicates("class_index").set_index("class_index").loc[classes, "class_name"]
    theme.row_names(ax, (shortened(name, 24) for name in names))
    for between in range(1, len(classes)):
        ax.axhline(between - 0.5, color=theme.pale(theme.REFERENCE), linewidth=0.5 * theme.unit())
    count = table["class_index"].nunique()
    ax.set(xlabel="share of the images", title=f"Top-1 classes: the {len(classes)} largest of {count}")
    ax.set(ylim=(len(classes) - 0.5, -0.5), xlim=(0, None))
    theme.legend(ax)
    return figure


@theme.styled
def region_shares(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Share of sensitivity inside each region with its interval, beside the region's share of the area.

    Parameters
    ----------
    table : DataFrame
        Rows of `REGIONS` with a column `series`: which bar of its region a row is.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    bars, regions = list(dict.fromkeys(table["series"])), list(dict.fromkeys(table["region"]))
    figure, ax = theme.new_figure(2.8, ax=ax)
    width = 0.8 / len(bars)
    for place, name in enumerate(bars):
        rows = table[table["series"] == name].set_index("region").loc[regions]
        at = np.arange(len(regions)) + (place - (len(bars) - 1) / 2) * width
        share = rows["sensitivity_share"]
        ax.bar(
            at,
            share,
            width=width * 0.92,
            color=theme.series(place).color,
            label=theme.literal(name),
            **_bars(rows, "sensitivity_share"),
        )
        label = "share of area" if place == 0 else ""
        ax.hlines(rows["area_share"], at - width / 2, at + width / 2, color=theme.REFERENCE, linestyle=":", label=label)
    letters = int(16 * theme.width() / max(3, len(regions)) / 3)
    ax.set_xticks(np.arange(len(regions)), [theme.folded(theme.literal(region), letters) for region in regions])
    ax.set(ylabel="share of sensitivity", ylim=(0, 1))
    theme.legend(ax)
    return figure


@theme.styled
def audit(table: pd.DataFrame, spaces: tuple[str, str]) -> Figure:
    """Every arm of a gaming audit: the distance in the judged space and in a second one, beside real images.

    Parameters
    ----------
    table : DataFrame
        From `gaming_audit`.
    spaces : (str, str)
        Names of both feature spaces.
    """
    require_some("table", table)
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    figure, axes = theme.panels(2, height=0.42 * len(arms) + 0.5, least=2.6, more=0.1, sharex=False)
    looks = ("FD", theme.PALETTE[0]), ("second FD", theme.PALETTE[3])
    for ax, space, (metric, color) in zip(axes, spaces, looks, strict=True):
        _arms(ax, table[table["metric"] == metric].set_index("arm").loc[arms], color, space)
    _arm_names(axes[0], table, arms)
    return figure


def _arms(ax: Axes, rows: pd.DataFrame, color: str, space: str) -> None:
    """Bars of an audit in one space, with their changes."""
    ax.barh(np.arange(len(rows)), rows["value"], color=color, height=0.6, **_bars(rows, "value", axis="x"))
    ends = rows["high"].fillna(rows["value"])
    for place, (end, change) in enumerate(zip(ends, rows["change"], strict=True)):
        text = "other n" if np.isnan(change) else f"{change:+.0%}"
        ax.annotate(text, (end, place), xytext=(5, 0), textcoords="offset points", va="center")
    ax.set(xlabel=f"Frechet distance, {theme.literal(space)}", xlim=(0, 1.3 * float(ends.max())))
    theme.few_ticks(ax)
    floor = rows[(rows.index == REAL) & (rows["n"] == rows["n"].max()) & (rows["n"] == rows["n"].min())]
    for value in floor["value"]:  # of the same numbers of images as all arms, or none
        ax.axvline(value, color=theme.REFERENCE, linestyle=":")


def _arm_names(ax: Axes, table: pd.DataFrame, arms: list[str]) -> None:
    sizes = table[table["metric"] == "FD"].set_index("arm").loc[arms]
    ax.set_yticks(np.arange(len(arms)), [_arm_label(row) for row in sizes.reset_index().to_dict("records")])


@theme.styled
def overview(tables: Mapping[str, pd.DataFrame], spaces: tuple[str, str], missing: Mapping[str, str]) -> Figure:
    """Four panels with letters: distances, gaps of classes, regions, choices; one that is missing says why.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Those of `distances`, `class_gaps`, `region_shares` and `audit`, by `distances`, `classes`, `regions`, `audit`.
    spaces : (str, str)
        Names of both feature spaces.
    missing : mapping of str to str
        Why a table of these names is not there.
    """
    panels: dict[str, tuple[str, Callable[[Axes, pd.DataFrame], object]]] = {
        "distances": ("Frechet distances", lambda ax, table: _judged_distances(ax, table, spaces[0])),
        "classes": ("classes", _gaps),
        "regions": ("sensitivity by region", lambda ax, table: region_shares(table, ax=ax)),
        "audit": ("choosing among images", lambda ax, table: _judged_arms(ax, table, spaces[0])),
    }
    figure, axes = theme.panels(len(panels), height=2.3, least=3.0, more=0.1, sharex=False, sharey=False)
    for ax, letter, (name, (title, draw)) in zip(axes, "abcd", panels.items(), strict=True):
        if name in missing:
            ax.set_axis_off()
            ax.text(0.5, 0.5, theme.folded(theme.literal(missing[name]), 40), ha="center", transform=ax.transAxes)
        else:
            draw(ax, tables[name])
        ax.set_title(f"({letter}) {title}", loc="left")
    return figure


def _judged_distances(ax: Axes, table: pd.DataFrame, space: str) -> None:
    """Distances in the judged space, by the names of the sets alone."""
    rows = table[table["space"] == space]
    _distances(ax, rows)
    names = list(dict.fromkeys(rows["set"]))
    ax.set_xticks(np.arange(len(names)), [theme.folded(theme.literal(shortened(name, 16)), 8) for name in names])
    ax.set_ylabel("Frechet distance")


def _gaps(ax: Axes, table: pd.DataFrame) -> None:
    """The classes with the largest gaps."""
    rows = table.head(8).iloc[::-1]
    _rows_about_0(ax, rows, "gap", GAP)
    theme.row_names(ax, (shortened(name, 16) for name in rows["class_name"]))


def _judged_arms(ax: Axes, table: pd.DataFrame, space: str) -> None:
    """An audit in the judged space."""
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    _arms(ax, table[table["metric"] == "FD"].set_index("arm").loc[arms], theme.PALETTE[0], space)
    theme.row_names(ax, (theme.folded(arm, 12) for arm in arms))


def _arm_label(row: Mapping[Any, Any]) -> str:
    """An arm, its numbers of images, and what its weights are worth."""
    worth = "" if row["arm"] in (PLAIN, REAL) else f"\nworth {row['effective_size']:.0f}"
    return f"{theme.literal(row['arm'])}\n{row['n']} / {row['n_real']}{worth}"


def _bars(rows: pd.DataFrame, value: str, *, axis: str = "y") -> dict[str, Any]:
    """Options of a bar chart that draw its intervals."""
    return {f"{axis}err": theme.errors(rows, value), "error_kw": {"linewidth": 0.7 * mpl.rcParams["lines.linewidth"]}}
