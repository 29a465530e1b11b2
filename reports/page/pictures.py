"""Images and maps in axes: without ticks, or with the names of their rows and columns.

Public through `theme`.
"""

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from scorescope.reports.page.texts import writable


def show_picture(ax: Axes, picture: NDArray[Any]) -> None:
    """An image, (y, x) or (y, x, 1 or 3), in [0, 1] or 8 bits, without axes."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    top = 255 if picture.dtype == np.uint8 else 1
    ax.imshow(picture, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    without_axes(ax)


def without_axes(ax: Axes) -> None:
    """No ticks and no frame, but room for a label, beside which an image stands whatever its shape."""
    ax.set(xticks=[], yticks=[], anchor="W")
    for side in ax.spines.values():
        side.set_visible(False)


def small() -> float:
    """Size of ticks and legends in the style that is in use, in pt: the smallest that a figure has."""
    return float(mpl.rcParams["legend.fontsize"])


def label_row(ax: Axes, label: str) -> None:
    """A label left of a row of images."""
    ax.set_ylabel(literal(label), rotation=0, ha="right", va="center", fontsize=small())


def row_names(ax: Axes, names: Iterable[str]) -> None:
    """Names of the rows of a map."""
    names = [literal(name) for name in names]
    ax.set_yticks(range(len(names)), names)


def column_names(ax: Axes, names: Iterable[str]) -> None:
    """Names of the columns of a map, oblique."""
    names = [literal(name) for name in names]
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")


def sigma_ticks(axis: Any, sigmas: NDArray[np.float64]) -> None:
    """A few noise levels along the columns or rows of a map."""
    places = np.unique(np.linspace(0, len(sigmas) - 1, 4).round().astype(int))
    axis.set_ticks(places, [f"{sigmas[i]:.2g}" for i in places])


def literal(name: str) -> str:
    """A name that a figure shows letter by letter: no formula, nothing that no font has, and in every legend."""
    text = writable(name).replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def folded(text: str, letters: int) -> str:
    """A title in lines of about so many letters; what is equal stays together."""
    lines = [""]
    for word in text.replace(" = ", "\u00a0=\u00a0").split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
