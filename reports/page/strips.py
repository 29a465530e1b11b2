"""Rows of pictures side by side, one axes a row: quick to draw, for figures of which there is one a noise level.

strips({"D_u": first, "D_c": second}, marks=["2.8", "3.1"])        # pictures (n, y, x, 1 or 3) in [0, 1] or 8 bits
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.reports.page import theme


@theme.styled
def strips(rows: Mapping[str, NDArray[Any]], marks: Sequence[str] = ()) -> Figure:
    """Rows of as many pictures each.

    Parameters
    ----------
    rows : mapping of str to ndarray, shape (n, y, x, 1 or 3)
        Pictures in [0, 1] or 8 bits, by the label of their row.
    marks : sequence of str
        What stands above each column.
    """
    figure, axes = theme.new_figure(nrows=len(rows), ncols=1, squeeze=False)
    figure.set_figheight(_height(figure, rows) * len(rows) + 0.35)
    _fill(axes[:, 0], rows, marks)
    return figure


def strips_below(height: float, rows: Mapping[str, NDArray[Any]], marks: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """The same under an empty axes, so many inches high, of a figure that a styled function makes."""
    figure, axes = theme.new_figure(nrows=1 + len(rows), ncols=1)
    each = _height(figure, rows)
    axes[0].get_gridspec().set_height_ratios([height, *[each] * len(rows)])
    figure.set_figheight(height + each * len(rows) + 0.35)
    _fill(axes[1:], rows, marks)
    return figure, axes[0]


def _height(figure: Figure, rows: Mapping[str, NDArray[Any]]) -> float:
    """Of one row, in inches."""
    count, height, width = next(iter(rows.values())).shape[:3]
    return float(figure.get_figwidth() / count * height / width)


def _fill(axes: Sequence[Axes], rows: Mapping[str, NDArray[Any]], marks: Sequence[str]) -> None:
    for ax, (label, pictures) in zip(axes, rows.items(), strict=True):
        theme.show_picture(ax, _side_by_side(pictures))
        theme.label_row(ax, label)
    if marks:
        width = pictures.shape[2]
        axes[0].set_xticks((np.arange(len(marks)) + 0.5) * (width + 1) - 1, [theme.literal(mark) for mark in marks])
        axes[0].tick_params(labeltop=True, labelbottom=False, length=0, pad=1)


def _side_by_side(pictures: NDArray[Any]) -> NDArray[Any]:
    """One picture of several, with a white line after each."""
    white = 255 if pictures.dtype == np.uint8 else 1
    lined = np.pad(pictures, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=white)
    return np.concatenate(list(lined), axis=1)
