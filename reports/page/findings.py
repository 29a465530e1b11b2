"""What a page begins with: at most five findings, chosen by one rule, and what the data do not show.

    finding = Finding(f"Overshoot grows by {told(row)}.", strength_of(row), figure="overshoot", n=row["n"])
    first_screen([finding, ...]).shown

The rule: a finding is shown if nothing, the value that would say nothing, is outside of its 95 % interval. Those on the
user's own data come before self-tests, those far from nothing for the width of their interval before those near to it,
and a figure gives one.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import scipy

from scorescope.data.doors import checked

OUT_OF_REACH = 100  # times the data that there are: a number of those is no advice
MOST = 5
RULE = (
    "At most five findings whose 95 % interval excludes that there is nothing, the clearest first: by the distance "
    "from nothing in half-widths of the interval, which is widened where the number is the largest of several. At most "
    "one a figure; self-tests come last."
)


@checked
@dataclass(frozen=True)
class Finding:
    """One sentence that a page can begin with.

    Attributes
    ----------
    text : str
        The sentence: the number, its interval, and what it means for who reads it.
    strength : float
        How far the number is from nothing, in half-widths of its 95 % interval: above 1 it is shown. NaN if there is
        no number or no interval.
    figure : str
        Name of the figure that shows it.
    n : float
        Samples, images, pairs, ... that the interval is over; 0 if more of them would not make it narrower.
    unit : str
        What these are.
    doubt : str
        The sentence if it is not shown; without it `text`.
    own_data : bool
        Whether it is about the user's data, not a self-test of the instrument.
    """

    text: str
    strength: float
    figure: str = ""
    n: float = 0
    unit: str = "samples"
    doubt: str = ""
    own_data: bool = True

    @property
    def is_shown(self) -> bool:
        """Whether the interval excludes that there is nothing."""
        return self.strength > 1

    @property
    def needs(self) -> str:
        """How much data it would take to show it, or why that cannot be said."""
        if not self.n:
            return ""
        if not self.strength > 0:
            return f"How many {self.unit} it would take cannot be said from {self.n:g}."
        least = self.n / self.strength**2
        if least > OUT_OF_REACH * self.n:
            more = f"more than {OUT_OF_REACH} times these {self.n:g} {self.unit}"
            return f"If there is such a difference, it would take {more}."
        return f"If it is as large as measured, about {_rounded_up(least)} {self.unit} would show it, not {self.n:g}."


@dataclass(frozen=True)
class FirstScreen:
    """What a page begins with: what is `shown`, at most `MOST` findings, and what is `open`, as many at most."""

    shown: tuple[Finding, ...] = ()
    open: tuple[Finding, ...] = ()


def strength(value: float, low: float, high: float, *, nothing: float = 0.0, of_several: int = 1) -> float:
    """Distance of a value from nothing, in half-widths of its 95 % interval on that side; NaN if there is no interval,
    or one of no width: samples that agree are no certainty.

    Where the value is the largest `of_several`, the interval is widened for their number, as Bonferroni's correction
    widens one of a normal law.
    """
    distance = abs(value - nothing)
    width = value - low if value > nothing else high - value
    if value > nothing and low == 0:  # cut there, as that of a share or a norm: its width is the other side's
        width = max(value - low, high - value)
    return distance / (width * _half_width(0.05 / of_several) / _half_width(0.05)) if width > 0 else math.nan


def strength_of(
    row: "pd.Series[Any]", value: str = "mean", *, of: str = "", nothing: float = 0.0, of_several: int = 1
) -> float:
    """That of a row of a table: `value`, and `<of>_low` to `<of>_high`, without `of` `low` to `high`."""
    low, high = (float(row[f"{of}_{end}" if of else end]) for end in ("low", "high"))
    return strength(float(row[value]), low, high, nothing=nothing, of_several=of_several)


def strength_of_p(p: float, *, of_several: int = 1) -> float:
    """That of a two-sided p value, of the smallest of several: above 1 where the corrected one is below 0.05."""
    corrected = min(1.0, p * of_several)
    return math.inf if corrected == 0 else _half_width(corrected) / _half_width(0.05)


def strength_apart(one: "pd.Series[Any]", other: "pd.Series[Any]", value: str = "mean", *, of: str = "") -> float:
    """That of the gap between two numbers: above 1 where their two intervals do not meet."""
    low, high = sorted((one, other), key=lambda row: float(row[value]))
    ends = [f"{of}_{end}" if of else end for end in ("low", "high")]
    gap = float(high[value] - low[value])
    width = float(low[ends[1]] - low[value] + high[value] - high[ends[0]])
    return gap / width if width > 0 else math.nan


def _half_width(error: float) -> float:
    """Of an interval of a standard normal law that leaves out `error`."""
    return float(scipy.special.ndtri(1 - error / 2))


@checked
def first_screen(findings: Iterable[Finding], most: int = MOST) -> FirstScreen:
    """Choose by the rule that this module states."""
    ranked = sorted(findings, key=_place)
    named: set[str] = set()
    shown, left = [], []
    for finding in ranked:
        if not finding.is_shown:
            left.append(replace(finding, text=finding.doubt or finding.text))
        elif not finding.figure or finding.figure not in named:
            named.add(finding.figure)
            shown.append(finding)
    return FirstScreen(tuple(shown[:most]), tuple(left[:most]))


def _place(finding: Finding) -> tuple[bool, float]:
    """Own data first, then what is strongest; what has no strength last."""
    return not finding.own_data, math.inf if math.isnan(finding.strength) else -finding.strength


def _rounded_up(number: float) -> str:
    """With two significant digits, so that no more is said than an estimate of an estimate is worth."""
    if not math.isfinite(number):
        return "infinitely many"
    digits = max(0, math.floor(math.log10(number)) - 1) if number > 0 else 0
    return f"{math.ceil(number / 10**digits) * 10**digits:,d}".replace(",", " ")
