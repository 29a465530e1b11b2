"""Figures of the FID instrument: declared tables and maps in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.page.theme import PALETTE, REFERENCE, new_figure, styled

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8]  # (n, y, x, 3)
HEAT, SIGNED = "inferno", "RdBu_r"
OUTLINES = ("#00d5ff", "#ffffff", "#7dff5a", "#ff9df5")


@styled
def distances(table: pd.DataFrame, label: str = "Frechet distance") -> Figure:
    """Frechet distance of every set in every feature space, with interval and floor.

    Parameters
    ----------
    table : DataFrame
        Rows of companion tables of one metric, with a column `set`.
    label : str
        Name of that metric.
    """
    spaces = list(dict.fromkeys(table["space"]))
    figure, axes = new_figure(width=3.5 * len(spaces), height=2.6, ncols=len(spaces), squeeze=False)
    for ax, space in zip(axes[0], spaces, strict=True):
        rows = table[table["space"] == space].reset_index(drop=True)
        at = np.arange(len(rows))
        errors = np.abs(rows[["low", "high"]].to_numpy().T - rows["value"].to_numpy())
        ax.bar(at, rows["value"], color=PALETTE[0], width=0.6, yerr=errors, capsize=3, error_kw={"linewidth": 1})
        if rows["floor"].notna().any():
            floor = "floor of two Gaussian sets"
            ax.hlines(rows["floor"], at - 0.38, at + 0.38, color=REFERENCE, linestyle=":", label=floor)
            ax.legend(loc="best")
        ax.set_xticks(at, rows["set"])
        ax.set(ylabel=label, title=space, ylim=(0, None))
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
        From `gradient_maps` and `influence_maps`.
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
    rows, columns = 1 + len(maps), len(pictures)
    figure, axes = new_figure(
        width=7.0, height=7.0 / columns * rows * 0.95 + 0.35, nrows=rows, ncols=columns, squeeze=False
    )
    for column, picture in enumerate(pictures):
        _show(axes[0, column], picture)
        height, width = picture.shape[:2]
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        for row, found in enumerate(maps, start=1):
            top = np.quantile(found, 0.999)
            axes[row, column].imshow(found[column], cmap=HEAT, vmin=0, vmax=top, extent=extent, interpolation="nearest")
        for ax in axes[:, column]:
            for masks, color in zip(outlines, OUTLINES, strict=False):
                _outline(ax, masks[column], extent, color)
            _bare(ax)
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=7)
    for row, label in enumerate(("image", *labels)):
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


@styled
def region_shares(table: pd.DataFrame) -> Figure:
    """Share of sensitivity inside each region with its interval, beside the region's share of the area.

    Parameters
    ----------
    table : DataFrame
        Rows of `REGIONS` with a column `series`: which bar of its region a row is.
    """
    series, regions = list(dict.fromkeys(table["series"])), list(dict.fromkeys(table["region"]))
    figure, ax = new_figure()
    width = 0.8 / len(series)
    for number, name in enumerate(series):
        rows = table[table["series"] == name].set_index("region").loc[regions]
        at = np.arange(len(regions)) + (number - (len(series) - 1) / 2) * width
        errors = np.nan_to_num(np.abs(rows[["low", "high"]].to_numpy().T - rows["sensitivity_share"].to_numpy()))
        ax.bar(
            at, rows["sensitivity_share"], width=width * 0.92, color=PALETTE[number], label=name, yerr=errors,
            capsize=3, error_kw={"linewidth": 1},
        )  # fmt: skip
        label = "share of area" if number == 0 else None
        ax.hlines(rows["area_share"], at - width / 2, at + width / 2, color=REFERENCE, linestyle=":", label=label)
    ax.set_xticks(np.arange(len(regions)), regions)
    ax.set(ylabel="share of sensitivity", ylim=(0, 1))
    ax.legend(loc="best")
    return figure


@styled
def occlusions(pictures: Sequence[Pictures], signed: Floats | None, occluded: Floats, titles: Sequence[str]) -> Figure:
    """Images with the closed-form signed map, where there is one, and that of occlusion; one scale a row.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (Y, X, 3), uint8
        The images.
    signed : ndarray, shape (m, y, x), or None
        From `gradient_maps`.
    occluded : ndarray, shape (m, Y', X')
        From `occlusion_maps`.
    titles : sequence of str
        One an image.
    """
    maps = {"occlusion": occluded} if signed is None else {"closed form": signed, "occlusion": occluded}
    rows, columns = 1 + len(maps), len(pictures)
    figure, axes = new_figure(
        width=7.0, height=7.0 / columns * rows * 0.92 + 0.35, nrows=rows, ncols=columns, squeeze=False
    )
    for column, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        _show(axes[0, column], picture)
        axes[0, column].set_title(title, fontsize=7)
    axes[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")
    for row, (label, found) in enumerate(maps.items(), start=1):
        reach = float(np.abs(found).max())
        for column in range(columns):
            drawn = axes[row, column].imshow(found[column], cmap=SIGNED, vmin=-reach, vmax=reach)
            _bare(axes[row, column])
        axes[row, 0].set_ylabel(label, rotation=0, ha="right", va="center")
        bar = figure.colorbar(drawn, ax=axes[row], fraction=0.015, pad=0.01, ticks=[-reach, 0, reach])
        bar.ax.set_yticklabels(["lowers", "0", "raises"])
    return figure


def _outline(ax: Axes, mask: Floats, extent: tuple[float, float, float, float], color: str) -> None:
    """Draw where a mask passes one half, if it does so inside the image."""
    if not mask.min() < 0.5 <= mask.max():
        return
    left, right, bottom, top = extent
    y, x = ((np.arange(length) + 0.5) / length for length in mask.shape)
    ax.contour(
        left + x * (right - left), top + y * (bottom - top), mask, levels=[0.5], colors=color, linewidths=0.8
    )  # fmt: skip


def _show(ax: Axes, picture: Pictures) -> None:
    ax.imshow(picture, interpolation="nearest")
    _bare(ax)


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)
