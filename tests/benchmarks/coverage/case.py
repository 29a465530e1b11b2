"""What a simulation of coverage is, and what comes of running one."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

Ends = tuple[ArrayLike, ArrayLike]
"""Lower and upper end; arrays of them hold if all of them do."""
LEAST, MOST = 0.92, 0.98
"""Shares that intervals of 95 % may cover."""


@dataclass(frozen=True)
class Case:
    """One simulation: a population, what is true of it, and how one sample of it becomes intervals.

    Attributes
    ----------
    name : str
        Wing and a few words; no two cases share one. It seeds the draws.
    estimator : str
        How the intervals are made.
    n : str
        Size of a sample.
    population : str
        What is drawn, in words.
    truth : callable
        () -> {quantity: value}; asked once.
    draw : callable
        (generator) -> {quantity: (low, high)} of one sample; NaN where no interval is given.
    ends : tuple of str
        Columns of declared tables that these intervals stand for: "table" for `low` and `high`, "table:of" for
        `of_low` and `of_high`.
    wide : str
        Why it may cover more than 98 %; empty where it may not.
    short : mapping of str to str
        Why the intervals of a quantity cover less than 92 %, and where that is said; none that may not.
    """

    name: str
    estimator: str
    n: str
    population: str
    truth: Callable[[], Mapping[str, ArrayLike]]
    draw: Callable[[np.random.Generator], Mapping[str, Ends]]
    ends: tuple[str, ...] = ()
    wide: str = ""
    short: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Covered:
    """How often the intervals of a quantity held its truth.

    Attributes
    ----------
    held, given, repeats : int
        Intervals that held it, intervals that were given, samples drawn.
    """

    held: int
    given: int
    repeats: int

    @property
    def share(self) -> float:
        """Of the intervals that were given."""
        return self.held / self.given if self.given else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Its exact 95 % interval."""
        found = binomtest(self.held, self.given).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def verdict(self, case: Case) -> str:
        """Empty where the share may lie within the rule, `short` or `wide` where it is shown not to."""
        if not self.given:
            return "never given"
        low, high = self.interval
        return "short" if high < LEAST else "wide" if low > MOST and not case.wide else ""


def simulate(case: Case, *, repeats: int, seed: int) -> Iterator[dict[str, Covered]]:
    """Draw again and again; after each sample what has been found so far, by quantity."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    truth = {name: np.asarray(value, np.float64) for name, value in case.truth().items()}
    held, given = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for repeat in range(repeats):
        found = case.draw(rng)
        assert found.keys() == truth.keys(), f"{case.name}: intervals of {list(found)}, truths of {list(truth)}"
        for name, ends in found.items():
            low, high = (np.asarray(end, np.float64) for end in ends)
            if np.isnan(low).any() or np.isnan(high).any():
                continue
            slack = 1e-9 * np.abs(truth[name])  # intervals without width, of sums in another order
            given[name] += 1
            held[name] += bool(((low <= truth[name] + slack) & (truth[name] - slack <= high)).all())
        yield {name: Covered(held[name], given[name], repeat + 1) for name in truth}


def shown_outside(case: Case) -> dict[str, Covered]:
    """Quantities that cover less or more than they may, in 60 samples and then in 500 others.

    There are hundreds of quantities: 60 samples alone would show a few of them outside that are not.
    """
    first = _outside(case, repeats=60, seed=1)
    second = _outside(case, repeats=500, seed=2) if first else {}
    return {name: second[name] for name in first if name in second}


def _outside(case: Case, *, repeats: int, seed: int) -> dict[str, Covered]:
    *_, found = simulate(case, repeats=repeats, seed=seed)
    fine = {name: ("", "short") if name in case.short else ("",) for name in found}
    return {name: one for name, one in found.items() if one.verdict(case) not in fine[name]}


def pick(row: Mapping[str, float], *names: str) -> dict[str, Ends]:
    """Ends of some quantities from a row of a table: `of_low` and `of_high`, of "" `low` and `high`."""
    return {name: (row[f"{name}_low" if name else "low"], row[f"{name}_high" if name else "high"]) for name in names}
