"""Logarithmic axes whose ticks can be read: 1, 2, 5 below two decades, whole decades above, and few small marks.

    ax.set(xscale=ticks.LOG)

Ticks follow the limits of the axis when it is drawn.
"""

import math
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.scale import LogScale
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter

PLAIN = (1e-3, 1e4)  # numbers in this range are written out
FEW = 0.8  # decades, below which an axis has the ticks of a linear one
SOME, MANY = 2.5, 6.5  # decades, above which there are two marks between decades, and none
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Ticks(LogLocator):
    """Ticks with labels, where there is room for them."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        vmin, vmax = sorted((vmin, vmax))  # an axis may be turned round
        decades = _decades(vmin, vmax)
        room = max(1, self.axis.get_tick_space()) if self.axis is not None else 9
        if decades < FEW:
            return MaxNLocator(min(4, room), steps=[1, 2, 2.5, 5, 10]).tick_values(vmin, vmax)
        for subs in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)) if decades < 2 else ((1.0,),):
            self.set_params(subs=subs)
            found = np.asarray(super().tick_values(vmin, vmax))
            if ((found >= vmin) & (found <= vmax)).sum() <= room:
                break
        return found


class _Marks(LogLocator):
    """Marks without labels between decades: each takes time to draw, and on a wide axis they say nothing."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        vmin, vmax = sorted((vmin, vmax))
        decades = _decades(vmin, vmax)
        if not FEW <= decades <= MANY:
            return np.array([])
        self.set_params(subs=[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0] if decades < SOME else [2.0, 5.0])
        return super().tick_values(vmin, vmax)


class _Numbers(Formatter):
    """0.5, 1, 2: numbers as one writes them; powers of ten where one of the axis is very large or small."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}"

    def format_ticks(self, values: Any) -> list[str]:
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        shown = [value for value in values if 0.999 * low <= value <= 1.001 * high]
        written = all(PLAIN[0] <= value < PLAIN[1] for value in shown)
        return [f"{value:g}" if written else power(value) for value in values]


def power(value: float) -> str:
    """A positive number as a power of ten, times what is left; in letters, which are drawn faster than a formula."""
    exponent = math.floor(math.log10(value) + 1e-9)
    factor = value / 10.0**exponent
    ten = "10" + str(exponent).translate(SUPERSCRIPTS)
    return ten if abs(factor - 1) < 1e-6 else f"{factor:g}·{ten}"


def _decades(low: float, high: float) -> float:
    return math.log10(high) - math.log10(low) if low > 0 else math.inf


class ReadableLog(LogScale):
    """Matplotlib's logarithmic scale with the ticks of this module."""

    def set_default_locators_and_formatters(self, axis: Axis) -> None:
        """Called by matplotlib for each axis that takes this scale."""
        axis.set_major_locator(_Ticks())
        axis.set_major_formatter(_Numbers())
        axis.set_minor_locator(_Marks())
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", label1On=False)  # whose places would be worked out all the same


LOG = ReadableLog(None)  # an axis has to be named before matplotlib 3.11, and none is looked at
