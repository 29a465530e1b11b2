"""Figures of the FID instrument: declared tables and maps in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.fid import figures

    figures.contributions(feature_contributions(plan), direction_spectrum(plan).table)

In the order of the report: distances, features, images, regions, choice.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.fid.gaming import PLAIN, REAL
from scorescope.reports.fid.picture_figures import extremes, heatmaps, occlusions, outlined_maps, shortened
from scorescope.reports.page import theme

__all__ = [
    "audit", "class_gaps", "class_shares", "contributions", "distances", "extremes", "heatmaps", "occlusions",
    "outlined_maps", "region_shares",
]  # fmt: skip
CLASSES = 25  # in a histogram, as published


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
    spaces = list(dict.fromkeys(table["space"]))
    figure, axes = theme.new_figure(width=3.5 * len(spaces), height=2.8, ncols=len(spaces), squeeze=False)
    for ax, space in zip(axes[0], spaces, strict=True):
        here = table[table["space"] == space]
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
            errors = theme.errors(known, "value")
            ax.errorbar(
                at + 0.12, known["value"], yerr=errors, fmt="D", markersize=4, capsize=2, color=theme.PALETTE[3],
                label="without bias",
            )  # fmt: skip
        sizes = rows[["set", "n_fake", "n_real"]].astype(object).fillna("?").to_numpy()
        names = [f"{theme.literal(name)}\n{n} / {m}" for name, n, m in sizes]
        ax.set_xticks(at, names)
        lowest = min(0.0, float(here[["value", "low"]].min().min()))
        ax.set(ylabel=label, title=theme.literal(space), ylim=(None if lowest < 0 else 0, None))
        ax.set_ylim(top=1.35 * ax.get_ylim()[1])  # the key above the bars, whose colours it has
        ax.legend(loc="upper right")
    return figure


@theme.styled
def contributions(features: pd.DataFrame, spectrum: pd.DataFrame) -> Figure:
    """The largest contributions by feature, and how fast the principal directions add up."""
    figure, (left, right) = theme.new_figure(width=7.0, height=2.6, ncols=2)
    rows = features.head(20)
    at = np.arange(len(rows))
    left.bar(at, rows["mean_part"], color=theme.PALETTE[0], label="gap of means")
    left.bar(at, rows["covariance_part"], bottom=rows["mean_part"], color=theme.PALETTE[1], label="gap of covariances")
    left.set_xticks(at, rows["feature"], rotation=90)
    left.set(xlabel="feature", ylabel="part of FD", title=f"{len(rows)} features that carry most")
    left.legend(loc="best")
    right.plot(spectrum["direction"] + 1, spectrum["cumulative"], color=theme.PALETTE[2], marker="o", markersize=3)
    right.set(xlabel="principal directions", ylabel="share of FD", ylim=(0, 1.03), title="Directions that add up to FD")
    return figure


@theme.styled
def class_gaps(table: pd.DataFrame) -> Figure:
    """Histogram gap of the classes with the largest, and the change by leaving one image out, with 95 % intervals."""
    scale = -1 / table["n_fake"].sum()
    removal = {"removal_low": table["influence_high"] * scale, "removal_high": table["influence_low"] * scale}
    rows = table.assign(removal=table["removal_change"], **removal).head(12).iloc[::-1]
    figure, (left, right) = theme.new_figure(width=7.0, height=0.22 * len(rows) + 0.9, ncols=2, sharey=True)
    at = np.arange(len(rows))
    gap, removal_label = "share of generated − share of real", "change of FD without one image (first order)"
    for ax, value, label in ((left, "gap", gap), (right, "removal", removal_label)):
        ax.errorbar(
            rows[value], at, xerr=theme.errors(rows, value), fmt="o", markersize=4, capsize=2, color=theme.PALETTE[0]
        )
        ax.axvline(0, color=theme.REFERENCE, linestyle=":")
        ax.set(xlabel=label)
    left.set_yticks(at, [theme.literal(name) for name in rows["class_name"]])
    left.set(ylabel="class")
    return figure


@theme.styled
def class_shares(table: pd.DataFrame) -> Figure:
    """The largest classes: their share of real, of generated and of chosen generated images; see `CLASS_SHARES`."""
    classes = list(dict.fromkeys(table["class_index"]))[:CLASSES]
    figure, ax = theme.new_figure(width=7.0, height=3.2)
    kinds = list(dict.fromkeys(table["series"]))
    width = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        rows = table[table["series"] == kind].set_index("class_index").loc[classes]
        at = np.arange(len(classes)) + (place - (len(kinds) - 1) / 2) * width
        color = theme.REFERENCE if kind == "real" else theme.series(place - 1).color
        ax.bar(at, rows["share"], width=width * 0.92, color=color, label=theme.literal(kind), **_bars(rows, "share"))
    names = table.drop_duplicates("class_index").set_index("class_index").loc[classes, "class_name"]
    ax.set_xticks(np.arange(len(classes)), [theme.literal(shortened(name, 24)) for name in names], rotation=90)
    count = table["class_index"].nunique()
    ax.set(ylabel="share of the images", title=f"Top-1 classes: the {len(classes)} largest of {count}")
    ax.set_ylim(top=1.2 * ax.get_ylim()[1])
    ax.legend(loc="upper right", ncols=len(kinds))
    return figure


@theme.styled
def region_shares(table: pd.DataFrame) -> Figure:
    """Share of sensitivity inside each region with its interval, beside the region's share of the area.

    Parameters
    ----------
    table : DataFrame
        Rows of `REGIONS` with a column `series`: which bar of its region a row is.
    """
    bars, regions = list(dict.fromkeys(table["series"])), list(dict.fromkeys(table["region"]))
    figure, ax = theme.new_figure()
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
        label = "share of area" if place == 0 else None
        ax.hlines(rows["area_share"], at - width / 2, at + width / 2, color=theme.REFERENCE, linestyle=":", label=label)
    ax.set_xticks(np.arange(len(regions)), [theme.literal(region) for region in regions])
    ax.set(ylabel="share of sensitivity", ylim=(0, 1))
    ax.legend(loc="best")
    return figure


@theme.styled
def audit(table: pd.DataFrame, spaces: tuple[str, str]) -> Figure:
    """Every arm of a gaming audit: the distance in the judged space and in a second one, beside real images."""
    figure, axes = theme.new_figure(width=7.0, height=2.5, ncols=2, sharey=True)
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    at = np.arange(len(arms))
    for ax, metric, space, color in zip(
        axes, ("FD", "second FD"), spaces, (theme.PALETTE[0], theme.PALETTE[3]), strict=True
    ):
        rows = table[table["metric"] == metric].set_index("arm").loc[arms]
        ax.barh(at, rows["value"], color=color, height=0.6, **_bars(rows, "value", axis="x"))
        ends = rows["high"].fillna(rows["value"])
        for place, (end, change) in enumerate(zip(ends, rows["change"], strict=True)):
            text = "other n" if np.isnan(change) else f"{change:+.0%}"
            ax.annotate(text, (end, place), xytext=(5, 0), textcoords="offset points", va="center")
        ax.set(xlabel=f"Frechet distance, {theme.literal(space)}", xlim=(0, 1.2 * float(ends.max())))
        floor = rows[(rows.index == REAL) & (rows["n"] == rows["n"].max()) & (rows["n"] == rows["n"].min())]
        for value in floor["value"]:  # of the same numbers of images as all arms, or none
            ax.axvline(value, color=theme.REFERENCE, linestyle=":")
    sizes = table[table["metric"] == "FD"].set_index("arm").loc[arms]
    axes[0].set_yticks(at, [_arm_label(row) for row in sizes.reset_index().to_dict("records")])
    return figure


def _arm_label(row: Mapping[Any, Any]) -> str:
    """An arm, its numbers of images, and what its weights are worth."""
    worth = "" if row["arm"] in (PLAIN, REAL) else f"\nworth {row['effective_size']:.0f}"
    return f"{theme.literal(row['arm'])}\n{row['n']} / {row['n_real']}{worth}"


def _bars(rows: pd.DataFrame, value: str, *, axis: str = "y") -> dict[str, Any]:
    """Options of a bar chart that draw its intervals."""
    return {f"{axis}err": theme.errors(rows, value), "capsize": 2, "error_kw": {"linewidth": 1}}
