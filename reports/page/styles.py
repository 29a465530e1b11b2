"""Where a figure is to stand, and so how large it and its text are: a page, a column, two columns, a slide.

    @styled
    def norms(table): ...

    norms(table, style="paper-double")
    norms(table, style=Style(width=5.5))     # the text of a page in one column
    save(norms(table, style="paper-single"), "norms.pdf")

Public through `theme`. Matplotlib's settings are changed while a figure is made or saved, and are then as they were.
"""

import functools
import inspect
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, overload
from unittest.mock import patch

import matplotlib as mpl
import pandas as pd
from matplotlib.backends import backend_pgf
from matplotlib.figure import Figure

from scorescope.data.doors import checked, describe_value
from scorescope.data.errors import InputError
from scorescope.reports.page.latex import figure_text

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

TEXT = 8.0  # pt, for which sizes in inches are given in figure functions
FORMATS = (".pdf", ".svg", ".pgf", ".png")
# fonts as TrueType, not as Type 3, which journals refuse; text of an SVG as text; PGF in the fonts of the document
SAVED = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "pgf.rcfonts": False}


UNDATED: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


@checked
@dataclass(frozen=True)
class Style:
    """Sizes of a figure.

    Attributes
    ----------
    width : float
        Of the figure, in inches.
    text : float
        Of labels and titles, in pt; ticks and legends have 7/8 of it. Heights follow.
    line : float
        Width of lines, in pt.
    pictures : float
        By how much figures of images are wider, with their text: on a narrow screen all are of one size.
    """

    width: float
    text: float = TEXT
    line: float = 1.4
    pictures: float = 1.0

    def settings(self, pictures: bool = False) -> dict[Any, Any]:
        """As matplotlib's."""
        larger = self.pictures if pictures else 1.0
        text, small = larger * self.text, 0.875 * larger * self.text
        return {
            "figure.figsize": (larger * self.width, 0.7 * larger * self.width),
            "font.size": text, "axes.titlesize": text, "axes.labelsize": text, "figure.labelsize": text,
            "xtick.labelsize": small, "ytick.labelsize": small,
            "legend.fontsize": small, "legend.title_fontsize": text, "legend.frameon": False,
            "lines.linewidth": self.line, "axes.linewidth": self.line / 2,
            "lines.markersize": text / 2, "errorbar.capsize": text / 4, "hatch.linewidth": self.line / 2,
            "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
        }  # fmt: skip


# columns of ICML and CVPR are 3.25 inches wide and their pages 6.75 and 6.9, of Nature and IEEE 3.5 and 7.2
STYLES = {
    "notebook": Style(3.7, pictures=1.28),
    "paper-single": Style(3.3, line=1.2),
    "paper-double": Style(6.9, line=1.2),
    "slides": Style(12.0, text=16.0, line=2.6),
    "cvpr": Style(3.25, line=1.2),
    "cvpr-double": Style(6.875, line=1.2),
    "iclr": Style(5.5, line=1.2),
    "neurips": Style(5.5, line=1.2),
    "siggraph": Style(3.36, line=1.2),
    "siggraph-double": Style(7.06, line=1.2),
}


class Drawn(Protocol[P, R_co]):
    """A figure function: as it was written, and with a style."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, *args: Any, style: str | Style, **kwargs: Any) -> R_co: ...


def styled(make: Callable[P, R], *, pictures: bool = False) -> Drawn[P, R]:
    """Give a figure function the argument `style`, and check what it is called with.

    `style` is a name in `STYLES`, "notebook" if none is given, or a `Style`.

    Raises
    ------
    InputError
        By the function: for an argument of a wrong type, a table without a column that is drawn, or an unknown style.
    """
    door = checked(make)

    @functools.wraps(make)
    def inside(*args: Any, style: str | Style = "notebook", **kwargs: Any) -> R:
        with mpl.rc_context(style_of(style).settings(pictures)):
            try:
                return door(*args, **kwargs)
            except KeyError as error:
                raise _absent_column(make, args, kwargs, error) from error

    shown = inspect.signature(make)
    style = inspect.Parameter("style", inspect.Parameter.KEYWORD_ONLY, default="notebook", annotation=str | Style)
    inside.__signature__ = shown.replace(parameters=[*shown.parameters.values(), style])  # type: ignore[attr-defined]
    return inside  # type: ignore[return-value]


def styled_pictures(make: Callable[P, R]) -> Drawn[P, R]:
    """The same for figures of images, which may be wider."""
    return styled(make, pictures=True)


@checked
def save(figure: Figure, path: Path | str) -> Path:
    """Write a figure as a paper takes it, at the size that it has: a `.pdf`, `.svg`, `.pgf` or `.png`.

    Parameters
    ----------
    figure : Figure
        Of any figure function.
    path : Path or str
        The ending says what is written. A PDF has its fonts in it as TrueType, an SVG its text as text, in the reader's
        fonts, a PGF file its text as the LaTeX document sets it (with the package pgf; images are PNG
        files beside it), and a PNG has 300 pixels an inch. What was there stays until the whole is written.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        For another ending, a folder that does not exist, and a `.pgf` where there is no LaTeX, which measures its text,
        or with letters and formulas that it would not show.
    """
    path = Path(path)
    settings = dict[Any, Any](SAVED)
    if path.suffix not in FORMATS:
        raise InputError("path", found=str(path), expected=f"a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir() or path.is_dir():
        found = f"{path}, {'a folder' if path.is_dir() else 'in no folder'}"
        raise InputError("path", found=found, expected="a file in a folder that is there")
    if path.suffix == ".pgf":
        settings["pgf.texsystem"] = _latex()
        if re.search(r"[^\w.+-]", path.stem, re.ASCII):
            raise InputError(
                "path", found=path.name, expected="letters, digits, _, -, + and . alone, which LaTeX reads"
            )
    if path.suffix == ".svg":
        settings["svg.hashsalt"] = path.stem  # the same figure, the same file
    undated: dict[str, Any] = {"metadata": UNDATED[path.suffix]} if path.suffix in UNDATED else {}
    # matplotlib's own escapes few letters of what it gives to LaTeX, for measuring and in the file
    escaping = patch.object(backend_pgf, "_tex_escape", figure_text) if path.suffix == ".pgf" else nullcontext()
    with mpl.rc_context(settings), escaping, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        figure.savefig(Path(folder) / path.name, dpi=300, **undated)
        for made in sorted(Path(folder).iterdir(), key=lambda one: one.name == path.name):  # the figure itself last
            made.replace(path.with_name(made.name))
    return path


def _latex() -> str:
    found = next((name for name in ("xelatex", "lualatex", "pdflatex") if shutil.which(name)), None)
    if found is None:
        expected = "xelatex, lualatex or pdflatex to be installed, or a path that ends in .pdf or .svg"
        raise InputError("path", found="a .pgf file to be written, and no LaTeX", expected=expected)
    return found


def style_of(style: object) -> Style:
    """A style, or that of a name."""
    if isinstance(style, Style):
        return style
    if not isinstance(style, str) or style not in STYLES:
        raise InputError("style", found=describe_value(style), expected=f"a Style, or one of {', '.join(STYLES)}")
    return STYLES[style]


def _absent_column(
    make: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: KeyError
) -> InputError | KeyError:
    """The error for a table in which a column was looked up that it does not have; another error stays what it is."""
    given = inspect.signature(make).bind(*args, **kwargs).arguments
    tables = {name: value for name, value in given.items() if isinstance(value, pd.DataFrame)}
    raised_in = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    if not tables or not raised_in.startswith("pandas"):
        return error
    key = error.args[0]
    name = next((name for name, table in tables.items() if key not in table), next(iter(tables)))
    found = f"a table in which {key!r} is missing, with {', '.join(map(str, tables[name])) or 'no column'}"
    return InputError(name, found=found, expected=f"what {make.__module__}.{make.__name__} says of it")
