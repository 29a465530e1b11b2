"""Rows of pictures side by side, one axes a row: quick to draw, for figures of which there is one a noise level.

strips({"D_u": first, "D_c": second}, marks=["2.8", "3.1"])        # pictures (n, y, x, 1 or 3) in [0, 1] or 8 bits
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
    count, height, width = next(iter(rows.values())).shape[:3]
    figure, axes = theme.new_figure(nrows=len(rows), ncols=1, squeeze=False)
    tall = figure.get_figwidth() / count * height / width
    figure.set_figheight(tall * len(rows) + 0.35)
    for ax, (label, pictures) in zip(axes[:, 0], rows.items(), strict=True):
        theme.show_picture(ax, _side_by_side(pictures))
        theme.label_row(ax, label)
    if marks:
        top = axes[0, 0]
        top.set_xticks((np.arange(count) + 0.5) * (width + 1) - 1, [theme.literal(mark) for mark in marks])
        top.tick_params(labeltop=True, labelbottom=False, length=0, pad=1)
    return figure


def _side_by_side(pictures: NDArray[Any]) -> NDArray[Any]:
    """One picture of several, with a white line after each."""
    white = 255 if pictures.dtype == np.uint8 else 1
    lined = np.pad(pictures, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=white)
    return np.concatenate(list(lined), axis=1)
