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
LABEL, BESIDE = 0.6, 1.2  # inches of a label, and of a label and a bar, beside images, where text has 8 pt
LONGEST = 12  # letters of a line above an image that are sure to be shown


@theme.styled_pictures
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
    titles = [f"{value:{form}}" for value in (*raised, *lowered)]
    titles = [f"{value}\n{name}" for value, name in zip(titles, names, strict=True)] if names else titles
    columns = _fitting_columns(max(len(raising), len(lowering)), titles, LABEL)
    pictures, heads, labels, place = [], [], [], 0
    for label, group in zip(rows, (raising, lowering), strict=True):
        for start in range(0, len(group), columns):
            part = group[start : start + columns]
            pictures.append(part)
            heads.append(titles[place : place + len(part)])
            labels.append("" if start else label)
            place += len(part)
    height = _side(columns, LABEL) + 0.16 * (2 if names else 1) + 0.06
    figure, axes = theme.new_figure(height * len(pictures) + 0.1, nrows=len(pictures), ncols=columns, squeeze=False)
    for ax in axes.flat:
        theme.without_axes(ax)
    for line, part, titled, label in zip(axes, pictures, heads, labels, strict=True):
        theme.label_row(line[0], theme.folded(label, 6))
        for ax, picture, title in zip(line, part, titled, strict=False):
            theme.show_picture(ax, picture)
            _head(ax, title, columns, LABEL)
    return figure


@theme.styled_pictures
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
    figure, blocks = _blocks(pictures, titles, ["sensi-\ntivity", "raises\n(red)\nlowers\n(blue)"])
    heat, signed_scale = {"cmap": HEAT, "vmin": 0, "vmax": float(squared.max())}, _signed(signed)
    for places, lines in blocks:
        _map_row(figure, lines[1], squared[places], **heat)
        _map_row(figure, lines[2], signed[places], **signed_scale)
    return figure


@theme.styled_pictures
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
    figure, blocks = _blocks(pictures, titles, labels)
    tops = [np.quantile(found, 0.999) for found in maps]
    for places, lines in blocks:
        for column, place in enumerate(range(len(pictures))[places]):
            height, width = pictures[place].shape[:2]
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            for line, found, top in zip(lines[1:], maps, tops, strict=True):
                look: dict[str, Any] = {"vmin": 0, "vmax": top, "extent": extent, "interpolation": "nearest"}
                line[column].imshow(found[place], cmap=HEAT, **look)
            for ax in lines[:, column]:
                for masks, color in zip(outlines, OUTLINES, strict=False):
                    _outline(ax, masks[place], extent, color)
    return figure


@theme.styled_pictures
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
    figure, blocks = _blocks(pictures, titles, list(maps))
    for places, lines in blocks:
        for line, found in zip(lines[1:], maps.values(), strict=True):
            bar, reach = _map_row(figure, line, found[places], **_signed(found)), float(np.abs(found).max())
            bar.set_ticks([-reach, 0, reach], labels=["lowers", "0", "raises"])
    return figure


def _blocks(
    pictures: Sequence[Pictures], titles: Sequence[str], labels: Sequence[str]
) -> tuple[Figure, list[tuple[slice, NDArray[np.object_]]]]:
    """Rows of images with their titles, each above an empty row for every label, as many images abreast as fit.

    Returns
    -------
    Figure
    list of (slice, ndarray of Axes)
        Which images stand in a block of rows, and its axes, shape (1 + labels, columns): the last may have more.
    """
    columns = _fitting_columns(len(pictures), titles)
    starts, rows = range(0, len(pictures), columns), 1 + len(labels)
    head = 0.16 * max((1 + title.count("\n") for title in titles), default=0)
    height = (rows * (_side(columns) + 0.05) + head + 0.1) * len(starts)
    figure, axes = theme.new_figure(height, nrows=rows * len(starts), ncols=columns, squeeze=False)
    for ax in axes.flat:
        theme.without_axes(ax)
    blocks = []
    for block, start in enumerate(starts):
        places = slice(start, start + columns)
        lines = axes[block * rows : (block + 1) * rows]
        for ax in lines[:, len(pictures[places]) :].flat:
            ax.set_axis_off()
        for ax, picture in zip(lines[0], pictures[places], strict=False):
            theme.show_picture(ax, picture)
        for ax, title in zip(lines[0], titles[places], strict=False):
            _head(ax, title, columns)
        for ax, label in zip(lines[:, 0], ("image", *labels), strict=True):
            theme.label_row(ax, theme.folded(label, 8))
        blocks.append((places, lines))
    return figure, blocks


def _fitting_columns(count: int, titles: Sequence[str], beside: float = BESIDE) -> int:
    """How many of so many images stand abreast: as the lines above them have room."""
    longest = min(max((len(line) for title in titles for line in title.split("\n")), default=1), LONGEST)
    return theme.abreast(count, max(0.26, 0.075 * longest) * theme.width() / (theme.width() - beside))


def _side(columns: int, beside: float = BESIDE) -> float:
    """Of an image, in inches where text has 8 pt."""
    return (theme.width() - beside) / columns


def _head(ax: Axes, title: str, columns: int, beside: float = BESIDE) -> None:
    """Lines above one of so many images in a row, cut to its width."""
    room = max(4, int(_side(columns, beside) / 0.066))
    text = theme.literal("\n".join(shortened(line, room) for line in title.split("\n")))
    ax.set_title(text, fontsize=theme.small(), pad=2)


def _map_row(figure: Figure, line: Sequence[Axes], maps: Floats, **scale: Any) -> Colorbar:
    """A row of maps on one scale, with its bar."""
    drawn = [ax.imshow(values, **scale) for ax, values in zip(line, maps, strict=False)]
    return figure.colorbar(drawn[0], ax=line, fraction=0.02, pad=0.01)


def _signed(maps: Floats) -> dict[str, Any]:
    """The scale of maps that have a sign."""
    reach = float(np.abs(maps).max())
    return {"cmap": SIGNED, "vmin": -reach, "vmax": reach}


def _outline(ax: Axes, mask: Floats, extent: tuple[float, float, float, float], color: str) -> None:
    """Draw where a mask passes one half, if it does so inside the image."""
    if not mask.min() < 0.5 <= mask.max():
        return
    left, right, bottom, top = extent
    y, x = ((np.arange(length) + 0.5) / length for length in mask.shape)
    ax.contour(
        left + x * (right - left), top + y * (bottom - top), mask, levels=[0.5], colors=color, linewidths=0.8
    )  # fmt: skip


def shortened(name: str, length: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= length else name[: length - 1] + "…"
