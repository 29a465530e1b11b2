"""What a figure owes its reader: no text over another, none outside of it or too small, and something drawn.

assert not faults(figure)
"""

import itertools

from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Affine2D

SMALLEST = 7.0  # pt
TOUCHING = 0.6  # pt by which boxes, which are a little larger than their letters, may meet


def faults(figure: Figure) -> list[str]:
    """What is wrong with the texts of a figure as it is drawn at its size."""
    figure.draw_without_rendering()
    boxes = [(text.get_text().replace("\n", " "), _box(text)) for text in texts(figure)]
    small = [text.get_text() for text in texts(figure) if text.get_fontsize() < SMALLEST]
    width, height = figure.bbox.max
    whole = Path([(-1, -1), (width + 1, -1), (width + 1, height + 1), (-1, height + 1), (-1, -1)])
    outside = [name for name, box in boxes if not all(whole.contains_points(box.vertices))]
    over = [
        f"{one!r} over {other!r}"
        for (one, first), (other, second) in itertools.combinations(boxes, 2)
        if first.intersects_path(second)
    ]
    return [*over, *(f"{name!r} outside" for name in outside), *(f"{name!r} too small" for name in small)]


def texts(figure: Figure) -> list[Text]:
    """Texts that are seen: those of ticks only where the tick is on its axis."""
    drawn = list(figure.texts)
    for ax in figure.axes:
        if ax.axison:
            drawn += [label for axis in (ax.xaxis, ax.yaxis) for label in (*_ticks(axis), axis.label, axis.offsetText)]
        drawn += [ax.title, *ax.texts]
    for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
        drawn += [*legend.get_texts(), legend.get_title()] if legend else []
    return [text for text in drawn if text is not None and text.get_visible() and text.get_text().strip("\u200b ")]


def _ticks(axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
    return [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]


def _box(text: Text) -> Path:
    """The text's box in pixels, turned as the text is."""
    angle, touching = text.get_rotation(), TOUCHING * text.get_figure(root=True).dpi / 72
    if angle % 90 == 0:
        return Path.unit_rectangle().transformed(_frame(text.get_window_extent().padded(-touching)))
    text.set_rotation(0)
    frame = _frame(text.get_window_extent().padded(-touching))
    text.set_rotation(angle)
    x, y = text.get_transform().transform(text.get_position())
    return Path.unit_rectangle().transformed(frame).transformed(Affine2D().rotate_deg_around(x, y, angle))


def _frame(bbox) -> Affine2D:
    return Affine2D().scale(bbox.width, bbox.height).translate(bbox.x0, bbox.y0)
