"""One look for all figures: column width, colour-blind-safe colours that mean one thing, small marks of measurement.

    from scorescope.reports.page import theme

    @theme.styled
    def norms(table):
        figure, ax = theme.new_figure()
        for rule, look in theme.looks(table["rule"].unique()).items():
            theme.with_band(ax, table[table["rule"] == rule], label=rule, **look.line)
        theme.sigma_axis(ax, yscale="log", ylabel="L2 norm (units of data)")
        theme.legend_above(figure)
        return figure

Nothing global is set: figures are made inside `styled`, and pyplot holds none of them.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")

COLUMN = 3.5  # inches: the width of a column in most papers
PALETTE = sns.color_palette("colorblind").as_hex()
REFERENCE = "#6b7280"  # floors, chance levels and other lines to compare with
HIGHLIGHT = "#882255"  # what a figure is about, where that is no rule, part or space
REAL = "#222222"  # real data
RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}
SIGMA = "noise level σ (units of data)"
SIGMA_LABEL = f"{SIGMA[:-1]}; sampling runs right to left)"


@dataclass(frozen=True)
class Look:
    """How one thing is drawn: with this colour, marker and dash, in every figure."""

    color: str
    marker: str
    linestyle: Any = "-"

    @property
    def line(self) -> dict[str, Any]:
        """Colour and dash, for a line without marks."""
        return {"color": self.color, "linestyle": self.linestyle}


# what a colour means in the figures of guidance: rules, by the first words of a name, parts of an update, and spaces
RULES = {
    "cfg": Look(PALETTE[0], "o", "-"),
    "apg": Look(PALETTE[1], "s", "--"),
    "interval": Look(PALETTE[4], "^", "-."),
    "adaptive": Look("#aa4499", "v", ":"),
    "no guidance": Look(PALETTE[9], "D", ":"),
}
ALIASES = {"negated cfg": "cfg", "adaptiveguidance": "adaptive"}
OTHER_RULES = (Look(PALETTE[5], "D", "-."), Look("#999933", "v", ":"), Look("#661100", "P", "--"))
PARTS = {
    "update": Look("#444444", ""),
    "orthogonal": Look(PALETTE[2], ""),
    "parallel": Look(PALETTE[3], ""),
    "mean removed": Look("#117733", "", "-."),
}
SPACES = {"denoised": Look("#332288", ""), "eps": Look("#44aa99", "", "--")}
# what has no meaning of its own, such as attributes and laws, in the order in which it comes; neighbours far apart
SERIES = tuple(
    Look(PALETTE[place], marker, style)
    for place, marker, style in zip(
        (0, 1, 2, 3, 4, 9, 5, 7, 6, 8),
        "os^DvPXos^",
        ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), "-", "--", "-.", ":"),
        strict=True,
    )
)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """The look of each guidance rule of a figure, by its name; rules without one of their own get different ones.

    Samplers write 'CFG' or 'Interval[CFG]', recorded runs 'cfg', settings 'CFG, w = 4': the first words count.
    """
    others, found = itertools.cycle(OTHER_RULES), dict[str, Look]()
    for name in names:
        key = re.split(r"[\[(,]", name.casefold())[0].strip()
        key = ALIASES.get(key, key)
        found[name] = RULES.get(key) or RULES.get(key.partition(" ")[0]) or next(others)
    return found


def series(place: int) -> Look:
    """The look of one of several things that have no meaning of their own, such as attributes or laws."""
    return SERIES[place % len(SERIES)]


def styled(make: Callable[P, R]) -> Callable[P, R]:
    """Run a figure function under the house style, and leave matplotlib's settings as they were."""

    @functools.wraps(make)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(RC):
            return make(*args, **kwargs)

    return inside


def new_figure(width: float = COLUMN, height: float = 2.6, **grid: Any) -> tuple[Figure, Any]:
    """An empty figure with one axes, or an array of axes for `nrows`, `ncols`."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(**grid)


def panels(count: int) -> tuple[Figure, NDArray[Any]]:
    """A figure of `count` small panels in rows of three, with common axes; the rest of the grid is hidden."""
    columns = min(3, count)
    rows = -(-count // columns)
    size = {"width": max(2.2 * columns + 0.9, 4.6), "height": max(1.85 * rows + 0.5, 2.6)}
    figure, axes = new_figure(**size, nrows=rows, ncols=columns, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, count - columns) : count]:  # the last of its column, perhaps above a hidden one
        ax.tick_params(labelbottom=True)
    return figure, axes


def sigma_axis(ax: Axes, **more: Any) -> None:
    """The usual axis of noise levels, and what else is to be set."""
    ax.set(**{"xscale": "log", "xlabel": SIGMA_LABEL, **more})


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
    ax.axhline(value, color=REFERENCE, linestyle=":", linewidth=1.0, label=label)


def reference_key(ax: Axes, label: str) -> None:
    """An entry of the legend for dotted lines in many colours."""
    ax.plot([], [], color=REFERENCE, linestyle=":", linewidth=1.0, label=label)


def legend_above(figure: Figure, ax: Axes | None = None, *, ncols: int = 4, **more: Any) -> None:
    """A legend over the whole figure: of one axes, or of all of them."""
    entries = () if ax is None else ax.get_legend_handles_labels()
    figure.legend(*entries, ncols=ncols, loc="outside upper center", columnspacing=1.0, **more)


def weight_axis(ax: Axes, weights: Iterable[float]) -> None:
    """An axis of guidance weights, doubling from tick to tick."""
    ticks = sorted(weights)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{w:g}" for w in ticks])
    ax.set_xlabel("guidance weight w")


def sigma_ticks(axis: Any, sigmas: NDArray[np.float64]) -> None:
    """A few noise levels along the columns or rows of a map."""
    places = np.unique(np.linspace(0, len(sigmas) - 1, 4).round().astype(int))
    axis.set_ticks(places, [f"{sigmas[i]:.2g}" for i in places])


def show_picture(ax: Axes, picture: NDArray[Any]) -> None:
    """An image, (y, x) or (y, x, 1 or 3), in [0, 1] or 8 bits, without axes."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    top = 255 if picture.dtype == np.uint8 else 1
    ax.imshow(picture, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    without_axes(ax)


def without_axes(ax: Axes) -> None:
    """No ticks and no frame, but room for a label."""
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_visible(False)


def literal(name: str) -> str:
    """A name that a figure shows letter by letter: its dollars are no formula, and no `_` hides it from a legend."""
    text = name.replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def label_row(ax: Axes, label: str) -> None:
    """A label left of a row of images."""
    ax.set_ylabel(literal(label), rotation=0, ha="right", va="center", fontsize=7)


def shades(color: str, count: int) -> list[str]:
    """`count` shades of one colour, light to full, for an ordered quantity."""
    return list(sns.light_palette(color, count + 2).as_hex())[2:]
