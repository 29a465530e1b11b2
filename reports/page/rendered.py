"""Pictures of figures: SVG and PNG of one layout, and which of the two a page holds.

svg, png, box = picture_files(figure, "norms")
smaller_uri(svg, png)                          # "data:image/svg+xml;base64,..."
"""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from scorescope.reports.page.texts import clean_texts

FRAME_DPI = 150


def picture_files(figure: Figure, name: str) -> tuple[bytes, bytes, Bbox]:
    """SVG and PNG of a figure, and the part of it that they show, in inches; the same figure makes the same bytes."""
    clean_texts(figure)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "path"}), _laid_out(figure) as box:
        svg = render_figure(figure, "svg", bbox_inches=box, metadata={"Date": None})
        return svg, render_figure(figure, "png", dpi=200, bbox_inches=box), box


def frame_file(figure: Figure) -> bytes:
    """PNG of a figure that is one of many."""
    clean_texts(figure)
    with _laid_out(figure) as box:
        return render_figure(figure, "png", dpi=FRAME_DPI, bbox_inches=box)


def render_figure(figure: Figure, kind: str, **options: Any) -> bytes:
    """A figure as a file of one kind."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **{"bbox_inches": "tight", **options})
    return buffer.getvalue()


def smaller_uri(svg: bytes, png: bytes) -> str:
    """The smaller one as a page holds it: an image element keeps the ids of figures apart; maps are smaller as PNG."""
    return data_uri("svg+xml", svg) if len(svg) < len(png) else data_uri("png", png)


def data_uri(kind: str, content: bytes) -> str:
    """A picture inside a page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@contextmanager
def _laid_out(figure: Figure) -> Iterator[Bbox]:
    """Lay out once and give the part that is drawn on, in inches: a file with a layout of its own is drawn twice."""
    engine = figure.get_layout_engine()
    if engine:
        engine.execute(figure)
    with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    try:
        yield figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    finally:
        if engine:
            figure.set_layout_engine(engine)
