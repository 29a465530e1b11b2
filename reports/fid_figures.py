"""Figures of the FID instrument: declared tables and maps in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.style import PALETTE, REFERENCE, new_figure, styled

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8]  # (n, y, x, 3)
HEAT, SIGNED = "inferno", "RdBu_r"


@styled
def distances(table: pd.DataFrame) -> Figure:
    """Frechet distance of every set in every feature space, with interval and floor.

    Parameters
    ----------
    table : DataFrame
        Rows `metric` "FD" of companion tables, with a column `set`.
    """
    spaces = list(dict.fromkeys(table["space"]))
    figure, axes = new_figure(width=3.5 * len(spaces), height=2.6, ncols=len(spaces), squeeze=False)
    for ax, space in zip(axes[0], spaces, strict=True):
        rows = table[table["space"] == space].reset_index(drop=True)
        at = np.arange(len(rows))
        errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
        ax.bar(at, rows["value"], color=PALETTE[0], width=0.6, yerr=errors, capsize=3, error_kw={"linewidth": 1})
        ax.hlines(
            rows["floor"], at - 0.38, at + 0.38, color=REFERENCE, linestyle=":", label="floor of two Gaussian sets"
        )
        ax.set_xticks(at, rows["set"])
        ax.set(ylabel="Frechet distance", title=space, ylim=(0, None))
        ax.legend(loc="best")
    return figure


@styled
def contributions(features: pd.DataFrame, spectrum: pd.DataFrame, *, count: int = 20) -> Figure:
    """The largest contributions by feature, and how fast the principal directions add up."""
    figure, (left, right) = new_figure(width=7.0, height=2.6, ncols=2)
    rows = features.head(count)
    at = np.arange(len(rows))
    left.bar(at, rows["mean_part"], color=PALETTE[0], label="gap of means")
    left.bar(at, rows["covariance_part"], bottom=rows["mean_part"], color=PALETTE[1], label="gap of covariances")
    left.set_xticks(at, rows["feature"], rotation=90)
    left.set(xlabel="feature", ylabel="part of FD", title=f"{len(rows)} features that carry most")
    left.legend(loc="best")
    right.plot(spectrum["direction"] + 1, spectrum["cumulative"], color=PALETTE[2], marker="o", markersize=3)
    right.set(xlabel="principal directions", ylabel="share of FD", ylim=(0, 1.03), title="Directions that add up to FD")
    return figure


@styled
def class_gaps(table: pd.DataFrame, *, count: int = 12) -> Figure:
    """Histogram gap and mean influence of the classes with the largest gaps, with 95 % intervals."""
    rows = table.head(count).iloc[::-1]
    figure, (left, right) = new_figure(width=7.0, height=0.22 * len(rows) + 0.9, ncols=2, sharey=True)
    at = np.arange(len(rows))
    panels = (
        (left, "gap", "gap_low", "gap_high", "share of generated − share of real"),
        (right, "influence", "influence_low", "influence_high", "mean influence (> 0: raises FD)"),
    )
    for ax, value, low, high, label in panels:
        errors = np.abs(rows[[low, high]].to_numpy().T - rows[value].to_numpy())
        ax.errorbar(rows[value], at, xerr=errors, fmt="o", markersize=4, capsize=2, color=PALETTE[0])
        ax.axvline(0, color=REFERENCE, linestyle=":")
        ax.set(xlabel=label)
    left.set_yticks(at, rows["class_name"])
    left.set(ylabel="class")
    return figure


@styled
def extremes(
    raising: Sequence[Pictures], lowering: Sequence[Pictures], raised: Sequence[float], lowered: Sequence[float]
) -> Figure:
    """Images with the largest and the smallest influence, each with its value."""
    columns = max(len(raising), len(lowering))
    figure, axes = new_figure(width=7.0, height=7.0 / columns * 2 + 0.75, nrows=2, ncols=columns, squeeze=False)
    rows = ((axes[0], raising, raised, "raise FD"), (axes[1], lowering, lowered, "lower FD"))
    for row, pictures, values, label in rows:
        for ax in row:
            ax.set_axis_off()
        for ax, picture, value in zip(row, pictures, values, strict=False):
            _show(ax, picture)
            ax.set_title(f"{value:+.3g}", fontsize=6)
        row[0].text(-0.12, 0.5, label, transform=row[0].transAxes, rotation=90, ha="right", va="center")
    return figure


@styled
def heatmaps(pictures: Sequence[Pictures], squared: Floats, signed: Floats, titles: Sequence[str]) -> Figure:
    """Images with where the distance is sensitive and where each image raises or lowers it; one scale a row.

    Parameters
    ----------
    pictures : ndarray, shape (m, Y, X, 3), uint8
        The images.
    squared, signed : ndarray, shape (m, y, x)
        From `squared_maps` and `influence_maps`.
    titles : sequence of str
        One an image.
    """
    figure, axes = new_figure(
        width=7.0, height=7.0 / len(pictures) * 3 * 0.92 + 0.35, nrows=3, ncols=len(pictures), squeeze=False
    )
    top, reach = float(squared.max()), float(np.abs(signed).max())
    for column, picture in enumerate(pictures):
        _show(axes[0, column], picture)
        axes[0, column].set_title(titles[column], fontsize=7)
        heat = axes[1, column].imshow(squared[column], cmap=HEAT, vmin=0, vmax=top)
        change = axes[2, column].imshow(signed[column], cmap=SIGNED, vmin=-reach, vmax=reach)
        for ax in axes[:, column]:
            _bare(ax)
    for row, label in enumerate(("image", "sensitivity", "raises (red)\nlowers (blue)")):
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.colorbar(heat, ax=axes[1], fraction=0.015, pad=0.01)
    figure.colorbar(change, ax=axes[2], fraction=0.015, pad=0.01)
    return figure


@styled
def audit(table: pd.DataFrame, spaces: tuple[str, str]) -> Figure:
    """Every arm of a gaming audit: the distance in the judged space and in a second one, beside real images."""
    figure, axes = new_figure(width=7.0, height=2.5, ncols=2, sharey=True)
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    at = np.arange(len(arms))
    for ax, metric, space, color in zip(axes, ("FD", "second FD"), spaces, (PALETTE[0], PALETTE[3]), strict=True):
        rows = table[table["metric"] == metric].set_index("arm").loc[arms]
        errors = np.nan_to_num(np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy()))
        ax.barh(at, rows["value"], xerr=errors, color=color, height=0.6, capsize=2, error_kw={"linewidth": 1})
        ends = rows["high"].fillna(rows["value"])
        for position, (end, change) in enumerate(zip(ends, rows["change"], strict=True)):
            ax.annotate(f"{change:+.0%}", (end, position), xytext=(5, 0), textcoords="offset points", va="center")
        ax.set(xlabel=f"Frechet distance, {space}", xlim=(0, 1.2 * float(ends.max())))
    axes[0].set_yticks(at, arms)
    return figure


@styled
def planted_maps(pictures: Pictures, boxes: Sequence[Floats], maps: Sequence[Floats], labels: Sequence[str]) -> Figure:
    """The same scenes under two feature networks, with the boxes of subject and accessory.

    Parameters
    ----------
    pictures : ndarray, shape (m, Y, X, 3), uint8
        The scenes.
    boxes : sequence of ndarray, shape (m, Y, X)
        Masks whose outlines are drawn.
    maps : sequence of ndarray, shape (m, y, x)
        Squared maps of each network, each row on its own scale.
    labels : sequence of str
        One a network.
    """
    rows, columns = 1 + len(maps), len(pictures)
    figure, axes = new_figure(
        width=7.0, height=7.0 / columns * rows * 0.95 + 0.2, nrows=rows, ncols=columns, squeeze=False
    )
    height, width = pictures.shape[1:3]
    for column, picture in enumerate(pictures):
        _show(axes[0, column], picture)
        for row, found in enumerate(maps, start=1):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axes[row, column].imshow(
                found[column], cmap=HEAT, vmin=0, vmax=np.quantile(found, 0.999), extent=extent, interpolation="nearest"
            )
        for ax in axes[:, column]:
            for box, color in zip(boxes, ("#00d5ff", "#ffffff"), strict=False):
                ax.contour(box[column], levels=[0.5], colors=color, linewidths=0.8)
            _bare(ax)
    for row, label in enumerate(("scene", *labels)):
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


@styled
def planted_shares(table: pd.DataFrame) -> Figure:
    """Share of sensitivity inside each region for each network, beside the region's share of the area.

    Parameters
    ----------
    table : DataFrame
        Columns `network`, `region`, `sensitivity_share`, `area_share`.
    """
    networks, regions = list(dict.fromkeys(table["network"])), list(dict.fromkeys(table["region"]))
    figure, ax = new_figure()
    width = 0.8 / len(networks)
    values = table.set_index(["network", "region"])
    for number, network in enumerate(networks):
        at = np.arange(len(regions)) + (number - (len(networks) - 1) / 2) * width
        shares = [values.loc[(network, region), "sensitivity_share"] for region in regions]
        ax.bar(at, shares, width=width * 0.92, color=PALETTE[number], label=f"{network} network")
    for place, region in enumerate(regions):
        area = float(values.loc[(networks[0], region), "area_share"])
        label = "share of area" if place == 0 else None
        ax.hlines(area, place - 0.42, place + 0.42, color=REFERENCE, linestyle=":", label=label)
    ax.set_xticks(np.arange(len(regions)), regions)
    ax.set(ylabel="share of sensitivity", ylim=(0, 1))
    ax.legend(loc="best")
    return figure


def _show(ax: Axes, picture: Pictures) -> None:
    ax.imshow(picture, interpolation="nearest")
    _bare(ax)


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
