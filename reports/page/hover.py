"""Values under the pointer: where in a picture the points of curves and the cells of maps are, and what they say.

spots(figure, box)        # [Spot(left=12.5, top=30.1, width=2, height=3, text="CFG: noise level σ 0.3, norm 4")]
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

MOST = 1200  # spots of a figure, that its page stays small
SIZE = 2.0  # of a point, in percent of the picture's width
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spot:
    """A part of a picture, in percent of its width and height, and what is there."""

    left: float
    top: float
    width: float
    height: float
    text: str


def spots(figure: Figure, box: Bbox) -> list[Spot]:
    """Points of curves and scatters, and cells of maps, of a figure that was drawn and whose picture shows `box`, in
    inches; none of a figure that has more than `MOST`."""
    found = [spot for ax in figure.axes if ax.get_visible() for spot in (*_points(ax, box), *_cells(ax, box))]
    return found if len(found) <= MOST else []


def _points(ax: Axes, box: Bbox) -> Iterator[Spot]:
    height = SIZE * box.width / box.height
    for name, places in _series(ax):
        for place in places[np.isfinite(places).all(axis=1)]:
            (x, y) = _percent(ax, box, place)
            if ax.viewLim.contains(*place):
                told = ", ".join(_said(axis, value) for axis, value in zip((ax.xaxis, ax.yaxis), place, strict=True))
                yield Spot(x - SIZE / 2, y - height / 2, SIZE, height, f"{name}: {told}" if name else told)


def _series(ax: Axes) -> Iterator[tuple[str, Floats]]:
    """Name and points, shape (n, 2), of every line and scatter in the units of the data."""
    bars = {one.lines[0]: one.get_label() for one in ax.containers if isinstance(one, ErrorbarContainer)}
    for line in ax.lines:
        if line.get_transform() == ax.transData:  # not a line across the axes
            yield _name(bars.get(line) or line.get_label()), np.asarray(line.get_xydata(), np.float64)
    for scatter in ax.collections:
        if scatter.get_offset_transform() == ax.transData:
            places = np.ma.asarray(scatter.get_offsets(), np.float64)
            yield _name(scatter.get_label()), np.ma.filled(places, np.nan)


def _cells(ax: Axes, box: Bbox) -> Iterator[Spot]:
    for image in ax.images:
        values = image.get_array()
        if values is None or values.ndim != 2 or image.get_cmap().name == "gray":  # a picture
            continue
        yield from _each_cell(ax, box, image, np.ma.filled(values.astype(np.float64), np.nan))


def _each_cell(ax: Axes, box: Bbox, image: AxesImage, values: Floats) -> Iterator[Spot]:
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape
    edges = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
    corners = _percent(ax, box, np.stack(np.meshgrid(*edges), axis=-1).reshape(-1, 2)).reshape(rows + 1, columns + 1, 2)
    across, down = ([_said(axis, at) if _has_names(axis) else "" for at in (ends[1:] + ends[:-1]) / 2]
                    for axis, ends in zip((ax.xaxis, ax.yaxis), edges, strict=True))  # fmt: skip
    for (row, column), value in np.ndenumerate(values):
        (left, top), (right, bottom) = np.sort(corners[[row, row + 1], [column, column + 1]], axis=0)
        told = "missing" if np.isnan(value) else f"{value:.4g}"
        where = ", ".join(filter(None, (down[row], across[column])))
        named = f"{where}: {told}" if where else told
        yield Spot(float(left), float(top), float(right - left), float(bottom - top), named)


def _percent(ax: Axes, box: Bbox, place: Any) -> Floats:
    """Where points of the data are, (..., 2), in percent from the left and from the top."""
    places = ax.transData.transform(place) / ax.get_figure(root=True).dpi  # type: ignore[union-attr]  # it has one
    x, y = places[..., 0], places[..., 1]
    return np.stack([100 * (x - box.x0) / box.width, 100 * (box.y1 - y) / box.height], axis=-1)


def _has_names(axis: Axis) -> bool:
    """Whether its ticks were given names."""
    return isinstance(axis.get_major_formatter(), FuncFormatter | StrCategoryFormatter)


def _said(axis: Axis, value: float) -> str:
    """A value with what its axis is called; by its name where the axis has names."""
    named = _plain(axis.get_major_formatter()(value)) if _has_names(axis) else ""
    return f"{_name(axis.get_label_text())} {named or format(value, '.4g')}".strip()


def _name(label: object) -> str:
    """The first words of a label, without units; empty for one that matplotlib made."""
    text = str(label)
    return "" if text.startswith("_") else _plain(re.split(r"[(;\n]", text)[0])


def _plain(text: str) -> str:
    return text.replace(r"\$", "$").replace("\u200b", "").strip()
