"""Figures of the FID instrument that show images: with numbers and classes above them, and with maps below.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.page import theme

Floats = NDArray[np.float64]
Pictures = NDArray[np.uint8]  # (n, y, x, 3)
HEAT, SIGNED = "inferno", "RdBu_r"
OUTLINES = ("#00d5ff", "#ffffff", "#7dff5a", "#ff9df5")


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


def _fitting(text: str, columns: int) -> str:
    """Lines above one of so many images in a row, cut to its width."""
    return theme.literal("\n".join(shortened(line, 112 // columns) for line in text.split("\n")))


def shortened(name: str, length: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= length else name[: length - 1] + "…"
