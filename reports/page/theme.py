"""One look for all figures: sizes by where they are to stand, colours that mean one thing to any eye, readable axes.

    from scorescope.reports import theme

    @theme.styled
    def norms(table, ax=None):
        figure, ax = theme.new_figure(ax=ax)
        for rule, look in theme.looks(table["rule"].unique()).items():
            theme.with_band(ax, table[table["rule"] == rule], label=rule, **look.line)
        theme.sigma_axis(ax, yscale=theme.LOG, ylabel="L2 norm (units of data)")
        theme.legend(ax)
        return figure

    theme.save(norms(table, style="paper-single"), "norms.pdf")

Every figure function of the reports takes `style=`, a name in `STYLES` or a `Style` of one's own; those of one panel
take `ax=` and draw there. Nothing global is set, and pyplot holds none of the figures.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from scorescope.data.errors import InputError
from scorescope.reports.page.colours import (
    ALIASES,
    BRANCHES,
    HIGHLIGHT,
    OTHER_RULES,
    PALETTE,
    PARTS,
    REAL,
    REFERENCE,
    RULES,
    SERIES,
    SPACES,
    Look,
    looks,
    pale,
    series,
    shades,
)
from scorescope.reports.page.pictures import (
    column_names,
    folded,
    label_row,
    literal,
    row_names,
    show_picture,
    sigma_ticks,
    small,
    without_axes,
)
from scorescope.reports.page.styles import STYLES, TEXT, Style, save, styled, styled_pictures
from scorescope.reports.page.ticks import LOG, power

__all__ = [
    "ALIASES", "BRANCHES", "HIGHLIGHT", "LOG", "OTHER_RULES", "PALETTE", "PARTS", "REAL", "REFERENCE", "RULES",
    "SERIES", "SIGMA", "SIGMA_LABEL", "SPACES", "STYLES", "Look", "Style", "abreast", "band_each", "column_names",
    "density_axis", "errors", "few_ticks", "floor_lines", "folded", "interval_names", "key_above", "key_as_title",
    "label_row", "legend", "legend_above", "literal", "log_if_wide", "looks", "new_figure", "pale", "panels",
    "reference_key", "reference_line", "row_names", "rows_where", "said", "save", "series", "shades", "show_picture",
    "sigma_axis", "sigma_ticks", "small", "styled", "styled_pictures", "unit", "weight_axis", "width", "with_band",
    "without_axes",
]  # fmt: skip

SIGMA = "noise level σ (units of data)"
SIGMA_LABEL = f"{SIGMA}  ← sampling"  # samples are made from right to left
WIDE = 1e3  # a ratio of values from which an axis is logarithmic
BESIDE = 0.6  # inches that an axes leaves to its labels, where text has 8 pt
BELOW = 1e3  # by how much a floor may lie below all else and be drawn


def unit() -> float:
    """Inches on a figure of the style that is in use, for an inch where text has 8 pt."""
    return float(mpl.rcParams["font.size"]) / TEXT


def width() -> float:
    """Of a figure of the style that is in use, in inches where text has 8 pt."""
    return float(mpl.rcParams["figure.figsize"][0]) / unit()


def new_figure(height: float = 2.6, *, ax: Axes | None = None, **grid: Any) -> tuple[Figure, Any]:
    """An empty figure as wide as the style says, with one axes, or an array of axes for `nrows`, `ncols`.

    Parameters
    ----------
    height : float
        In inches where text has 8 pt.
    ax : Axes, optional
        Of a figure of the user's: it is given back with its figure.
    """
    if ax is not None:
        return ax.get_figure(root=True), ax  # type: ignore[return-value]
    figure = Figure(figsize=(width() * unit(), height * unit()))
    return figure, figure.subplots(**grid)


@styled
def said(why: str) -> Figure:
    """A figure of which nothing can be drawn: the reason in place of axes."""
    figure, ax = new_figure(1.1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.text(0.5, 0.5, folded(literal(why), 52), ha="center", va="center", transform=ax.transAxes)
    return figure


def panels(
    count: int, *, height: float = 1.9, least: float = 1.7, more: float = 0.6, **shared: Any
) -> tuple[Figure, Any]:
    """A figure of `count` panels, as many abreast as the style has room for; the rest of the grid is hidden.

    Parameters
    ----------
    count : int
        At least one.
    height, least : float
        Height of a panel, and the width that it needs, in inches where text has 8 pt.
    more : float
        Height of what all panels share.
    **shared
        `sharex`, `sharey`: both if they are not given.

    Returns
    -------
    Figure
    ndarray of Axes, shape (count,)
    """
    columns = abreast(count, least)
    rows = -(-count // columns)
    shared = {"sharex": True, "sharey": True} | shared
    figure, axes = new_figure(height * rows + more, nrows=rows, ncols=columns, squeeze=False, **shared)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, count - columns) : count]:  # the last of its column, perhaps above a hidden one
        ax.tick_params(labelbottom=True)
    return figure, axes.flat[:count]


def abreast(count: int, least: float) -> int:
    """How many of `count` panels of a width stand beside each other, as evenly filled as can be."""
    most = max(1, int(width() / least))
    return -(-count // -(-count // most))


def sigma_axis(ax: Axes, **more: Any) -> None:
    """The usual axis of noise levels, and what else is to be set."""
    ax.set(**{"xscale": LOG, "xlabel": SIGMA_LABEL, **more})


def log_if_wide(ax: Axes) -> None:
    """Make the vertical axis logarithmic where all lines are positive and span three decades."""
    lines = [np.asarray(line.get_ydata(), np.float64) for line in ax.lines if line.get_marker() != "_"]  # no bar's end
    values = np.concatenate([line[np.isfinite(line)] for line in lines]) if lines else np.zeros(1)
    if values.size and 0 < values.min() <= values.max() / WIDE:
        ax.set_yscale(LOG)


def density_axis(ax: Axes) -> None:
    """A vertical axis of densities that shows the peak and, in the tails, a thousandth of it."""
    top = ax.dataLim.ymax
    ax.set(yscale=LOG, ylim=(top / WIDE, 1.3 * top))


def rows_where(table: pd.DataFrame, column: str, value: Any, *, argument: str = "") -> pd.DataFrame:
    """Rows of one value of a column.

    Raises
    ------
    InputError
        If there are none: a figure of nothing would look like one of a model that does nothing.
    """
    rows: pd.DataFrame = table[table[column] == value]
    if rows.empty:
        known = ", ".join(map(repr, table[column].unique())) or "rows"
        raise InputError(
            argument or column, found=f"{value!r}, of which the table has no row", expected=f"one of {known}"
        )
    return rows


def with_band(
    ax: Axes, rows: pd.DataFrame, *, y: str = "mean", x: str = "sigma", color: str, label: str | None, **line: Any
) -> None:
    """Draw `y` against `x` with its interval: from `<y>_low` to `<y>_high` where there are such columns, else `low`."""
    if rows.empty:  # a setting that failed has no curve and no place in the legend
        return
    rows = rows.sort_values(x)
    ax.plot(rows[x], rows[y], color=color, label=label, **line)
    low, high = interval_names(rows, y)
    ax.fill_between(rows[x], rows[low], rows[high], color=color, alpha=0.2, linewidth=0)


def band_each(ax: Axes, table: pd.DataFrame, by: str, *, y: str, x: str = "sigma") -> None:
    """One line with its band for each value of a column that names them."""
    for place, (name, rows) in enumerate(table.groupby(by, sort=False)):
        with_band(ax, rows, y=y, x=x, label=literal(str(name).replace("_", " ")), **series(place).line)


def interval_names(rows: pd.DataFrame, y: str) -> tuple[str, str]:
    """Columns that hold the ends of the interval of a column."""
    return (f"{y}_low", f"{y}_high") if f"{y}_low" in rows else ("low", "high")


def errors(rows: pd.DataFrame, y: str) -> NDArray[np.float64]:
    """Lengths of error bars below and above a column, shape (2, n); NaN, so not drawn, where none is known."""
    ends = rows[list(interval_names(rows, y))].to_numpy(np.float64).T
    lengths: NDArray[np.float64] = np.abs(ends - rows[y].to_numpy(np.float64))
    return lengths


def reference_line(ax: Axes, value: float, label: str | None = None) -> None:
    """A dotted line to compare with: a floor, a chance level, the real data."""
    ax.axhline(value, color=REFERENCE, linestyle=":", linewidth=0.7 * mpl.rcParams["lines.linewidth"], label=label)


def reference_key(ax: Axes, label: str) -> None:
    """An entry of the legend for dotted lines in many colours."""
    ax.plot([], [], color=REFERENCE, linestyle=":", linewidth=0.7 * mpl.rcParams["lines.linewidth"], label=label)


def floor_lines(ax: Axes, floors: Mapping[str, pd.DataFrame]) -> None:
    """Floors by their names, on a logarithmic axis on which all else is drawn: it ends where they are lowest.

    Of floors that lie far below all else the lowest part is left out, and so the axis is for what was measured.
    """
    low = ax.get_ylim()[0]
    known = {name: rows["mean"][rows["mean"] > 0] for name, rows in floors.items()}
    ends = max(min((float(values.min()) for values in known.values() if len(values)), default=low), low / BELOW)
    for (name, rows), linestyle in zip(floors.items(), (":", "-."), strict=False):
        top = float(known[name].max()) if len(known[name]) else ends
        label = name if top >= ends else f"{name}: at most {power(10.0 ** np.ceil(np.log10(top)))}"
        rows = rows.sort_values("sigma")
        ax.plot(rows["sigma"], rows["mean"], color=REFERENCE, linestyle=linestyle, label=label)
    ax.set_ylim(bottom=min(low, ends))


def legend(ax: Axes) -> None:
    """A legend of one axes: above it where it is alone in its figure, else inside."""
    figure = ax.get_figure(root=True)
    if figure is not None and figure.axes == [ax] and isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        legend_above(figure, ax)
    else:
        ax.legend(loc="best")


def legend_above(figure: Figure, ax: Axes | None = None, **more: Any) -> None:
    """A legend over the whole figure, of one axes or of all of them, in as many columns as fit."""
    handles, labels = (ax or figure.axes[0]).get_legend_handles_labels()
    for other in () if ax else figure.axes[1:]:
        for handle, label in zip(*other.get_legend_handles_labels(), strict=True):
            handles, labels = (handles, labels) if label in labels else ([*handles, handle], [*labels, label])
    key_above(figure, handles, labels, **more)


def key_above(figure: Figure, handles: list[Any], labels: list[str], **more: Any) -> None:
    """The same of any handles."""
    _fitting_key(figure, handles, labels, width(), loc="outside upper center", **more)


def key_as_title(ax: Axes, title: str) -> None:
    """A title with the legend of its axes below it, both above the axes."""
    where: dict[str, Any] = {"title": title, "loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}
    place = ax.get_subplotspec()
    abreast = place.get_gridspec().ncols if place else 1
    _fitting_key(ax, *ax.get_legend_handles_labels(), width() / abreast - BESIDE, **where)


def _fitting_key(place: Figure | Axes, handles: list[Any], labels: list[str], room: float, **where: Any) -> None:
    """A legend in as many columns as there is room for, in inches where text has 8 pt."""
    for ncols in range(min(6, len(labels)), 0, -1):
        key = place.legend(handles, labels, ncols=ncols, columnspacing=1.0, **where)
        drawn = key.get_window_extent().width / key.get_figure(root=True).dpi  # type: ignore[union-attr]
        if ncols == 1 or drawn <= room * unit():
            return
        key.remove()


def few_ticks(ax: Axes) -> None:
    """At most five ticks along the horizontal axis, so that numbers of many digits have room."""
    ax.locator_params(axis="x", nbins=4)


def weight_axis(ax: Axes, weights: Iterable[float]) -> None:
    """An axis of guidance weights, doubling from tick to tick."""
    ticks = sorted(weights)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{w:g}" for w in ticks])
    ax.set_xlabel("guidance weight w")
