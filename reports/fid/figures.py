"""Figures of the FID instrument: declared tables and maps in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.fid import figures

    figures.contributions(feature_contributions(plan), direction_spectrum(plan).table)

In the order of the report: distances, features, images, regions, audit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.analysis.fid.gaming import PLAIN, REAL
from scorescope.reports.page import theme

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8]  # (n, y, x, 3)
HEAT, SIGNED = "inferno", "RdBu_r"
CLASSES = 25  # in a histogram, as published
OUTLINES = ("#00d5ff", "#ffffff", "#7dff5a", "#ff9df5")


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
        ax.legend(loc="best")
        sizes = rows[["set", "n_fake", "n_real"]].astype(object).fillna("?").to_numpy()
        names = [f"{theme.literal(name)}\n{n} / {m}" for name, n, m in sizes]
        ax.set_xticks(at, names)
        lowest = min(0.0, float(here[["value", "low"]].min().min()))
        ax.set(ylabel=label, title=theme.literal(space), ylim=(None if lowest < 0 else 0, None))
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
    ax.set_xticks(np.arange(len(classes)), [theme.literal(_shortened(name, 24)) for name in names], rotation=90)
    ax.set(
        ylabel="share of the images",
        title=f"Top-1 classes: the {len(classes)} largest of {len(set(table['class_index']))}",
    )
    ax.legend(loc="best")
    return figure


@theme.styled
def extremes(
    raising: Sequence[Pictures],
    lowering: Sequence[Pictures],
    raised: Sequence[float],
    lowered: Sequence[float],
    *,
    rows: tuple[str, str] = ("raise FD", "lower FD"),
    names: Sequence[str] = (),
    form: str = "+.3g",
) -> Figure:
    """Images that raise the distance most and that lower it most, each with the change when it is left out.

    Parameters
    ----------
    raising, lowering : sequence of ndarray, shape (Y, X, 3), uint8
        The images of the two rows.
    raised, lowered : sequence of float
        The number above each.
    rows : (str, str)
        What the rows are called.
    names : sequence of str
        Below each number, in the order of both rows: such as the class of the image.
    form : str
        Format of the numbers.
    """
    columns = max(len(raising), len(lowering))
    height = 7.0 / columns * 2 + (0.95 if names else 0.75)
    figure, axes = theme.new_figure(width=7.0, height=height, nrows=2, ncols=columns, squeeze=False)
    for ax in axes.flat:
        theme.without_axes(ax)
    titles = [f"{value:{form}}" for value in (*raised, *lowered)]
    titles = [f"{value}\n{name}" for value, name in zip(titles, names, strict=True)] if names else titles
    shown = [*axes[0][: len(raising)], *axes[1][: len(lowering)]]
    for ax, picture, title in zip(shown, (*raising, *lowering), titles, strict=True):
        theme.show_picture(ax, picture)
        ax.set_title(_fitting(title, columns), fontsize=6)
    for line, label in zip(axes, rows, strict=True):
        line[0].set_ylabel(label)
    return figure


@theme.styled
def heatmaps(pictures: Sequence[Pictures], squared: Floats, signed: Floats, titles: Sequence[str]) -> Figure:
    """Images with where the distance is sensitive and where each image raises or lowers it; one scale a row.

    Parameters
    ----------
    pictures : ndarray, shape (m, Y, X, 3), uint8
        The images.
    squared, signed : ndarray, shape (m, y, x)
        From `gradient_maps` and `influence_maps`.
    titles : sequence of str
        One an image.
    """
    figure, axes = _picture_rows(pictures, titles, ["sensitivity", "raises (red)\nlowers (blue)"])
    _map_row(figure, axes[1], squared, cmap=HEAT, vmin=0, vmax=float(squared.max()))
    _signed_row(figure, axes[2], signed)
    return figure


@theme.styled
def outlined_maps(
    pictures: Sequence[Pictures],
    outlines: Sequence[Sequence[Floats]],
    maps: Sequence[Floats],
    labels: Sequence[str],
    titles: Sequence[str] = (),
) -> Figure:
    """Images with outlines of regions, over the maps of one or more feature networks.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (Y, X, 3), uint8
        The images.
    outlines : sequence of sequence of ndarray, shape (Y', X')
        For each region a mask of each image, at any size.
    maps : sequence of ndarray, shape (m, y, x)
        Squared maps of each network, each row on its own scale.
    labels : sequence of str
        One a network.
    titles : sequence of str
        One an image.
    """
    figure, axes = _picture_rows(pictures, titles, labels)
    for column, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        for row, found in enumerate(maps, start=1):
            top = np.quantile(found, 0.999)
            axes[row, column].imshow(found[column], cmap=HEAT, vmin=0, vmax=top, extent=extent, interpolation="nearest")
        for ax in axes[:, column]:
            for masks, color in zip(outlines, OUTLINES, strict=False):
                _outline(ax, masks[column], extent, color)
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
def occlusions(pictures: Sequence[Pictures], maps: Mapping[str, Floats], titles: Sequence[str]) -> Figure:
    """Images with signed maps, such as that in closed form and that of occlusion; one scale a row.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (Y, X, 3), uint8
        The images.
    maps : mapping of str to ndarray, shape (m, y, x)
        From `gradient_maps` and `occlusion_maps`, by the row's label.
    titles : sequence of str
        One an image.
    """
    figure, axes = _picture_rows(pictures, titles, list(maps))
    for line, found in zip(axes[1:], maps.values(), strict=True):
        bar, reach = _signed_row(figure, line, found), float(np.abs(found).max())
        bar.set_ticks([-reach, 0, reach], labels=["lowers", "0", "raises"])
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
        if REAL in rows.index and rows.loc[REAL, "n"] == rows.loc[PLAIN, "n"]:
            ax.axvline(rows.loc[REAL, "value"], color=theme.REFERENCE, linestyle=":")
    sizes = table[table["metric"] == "FD"].set_index("arm").loc[arms]
    axes[0].set_yticks(at, [_arm_label(row) for row in sizes.reset_index().to_dict("records")])
    return figure


def _arm_label(row: Mapping[Any, Any]) -> str:
    """An arm, its numbers of images, and what its weights are worth."""
    worth = "" if row["arm"] in (PLAIN, REAL) else f"\nworth {row['effective_size']:.0f}"
    return f"{theme.literal(row['arm'])}\n{row['n']} / {row['n_real']}{worth}"


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _fitting(text: str, columns: int) -> str:
    """Lines above one of so many images in a row, cut to its width."""
    return theme.literal("\n".join(_shortened(line, 140 // columns) for line in text.split("\n")))


def _bars(rows: pd.DataFrame, value: str, *, axis: str = "y") -> dict[str, Any]:
    """Options of a bar chart that draw its intervals."""
    return {f"{axis}err": theme.errors(rows, value), "capsize": 2, "error_kw": {"linewidth": 1}}


def _picture_rows(
    pictures: Sequence[Pictures], titles: Sequence[str], labels: Sequence[str]
) -> tuple[Figure, NDArray[np.object_]]:
    """A row of images with their titles, and an empty row below it for each label."""
    rows, columns = 1 + len(labels), len(pictures)
    height = 7.0 / columns * rows * 0.92 + 0.35 + 0.12 * any("\n" in title for title in titles)
    figure, axes = theme.new_figure(width=7.0, height=height, nrows=rows, ncols=columns, squeeze=False)
    for ax in axes.flat:
        theme.without_axes(ax)
    for ax, picture in zip(axes[0], pictures, strict=True):
        theme.show_picture(ax, picture)
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(_fitting(title, columns), fontsize=7)
    for ax, label in zip(axes[:, 0], ("image", *labels), strict=True):
        theme.label_row(ax, label)
    return figure, axes


def _map_row(figure: Figure, line: Sequence[Axes], maps: Floats, **scale: Any) -> Colorbar:
    """A row of maps on one scale, with its bar."""
    drawn = [ax.imshow(values, **scale) for ax, values in zip(line, maps, strict=True)]
    return figure.colorbar(drawn[0], ax=line, fraction=0.015, pad=0.01)


def _signed_row(figure: Figure, line: Sequence[Axes], maps: Floats) -> Colorbar:
    reach = float(np.abs(maps).max())
    return _map_row(figure, line, maps, cmap=SIGNED, vmin=-reach, vmax=reach)


def _outline(ax: Axes, mask: Floats, extent: tuple[float, float, float, float], color: str) -> None:
    """Draw where a mask passes one half, if it does so inside the image."""
    if not mask.min() < 0.5 <= mask.max():
        return
    left, right, bottom, top = extent
    y, x = ((np.arange(length) + 0.5) / length for length in mask.shape)
    ax.contour(
        left + x * (right - left), top + y * (bottom - top), mask, levels=[0.5], colors=color, linewidths=0.8
    )  # fmt: skip
