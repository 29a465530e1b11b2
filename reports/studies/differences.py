"""What differs between two makings of one report: versions and other facts, and the numbers of its tables.

changed_facts(then.facts, now.facts)        # a line each
changed_tables(then, now)                   # a row each table that differs
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.studies.made import MadeReport

_OF_ONE_RUN = ("status", "failures", "finished", "seconds", "command", "request", "files", "seal")
COLUMNS = ("table", "column", "largest", "cells", "words")


@checked
def changed_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each fact of two manifests that is not the same: versions, platform, model, seeds, arguments."""
    pairs = [(_flat(facts), facts) for facts in (then, now)]
    names = dict.fromkeys([*pairs[0][0], *pairs[1][0]])
    return [
        f"{name}: {_short(pairs[0][0].get(name))} then, {_short(pairs[1][0].get(name))} now"
        for name in names
        if pairs[0][0].get(name) != pairs[1][0].get(name)
    ]


@checked
def changed_inputs(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each file of two requests that is not the same."""
    lines = []
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            lines.append(f"{name}: sha256 {_short(then.get(name))} then, {_short(now.get(name))} now")
    return lines


@checked
def changed_tables(then: MadeReport, now: MadeReport) -> pd.DataFrame:
    """Tables that are not the same, value by value.

    Returns
    -------
    DataFrame
        One row a table: `table`; `column` with the largest difference, and that difference in its units as `largest`
        (NaN where no number differs); `cells` that differ; and all that in `words`.
    """
    rows = []
    for name in dict.fromkeys([*then.tables, *now.tables]):
        if then.tables.get(name) != now.tables.get(name) and (found := _difference(name, then, now)):
            rows.append({"table": name, **found})
    return pd.DataFrame(rows, columns=COLUMNS)


def _difference(name: str, then: MadeReport, now: MadeReport) -> dict[str, Any]:
    """How one table differs; empty where only its bytes do."""
    for one, other, word in ((then, now, "now"), (now, then, "then")):
        if name not in one.tables and name in other.tables:
            return _named(f"it is there {word} alone")
    try:
        before, after = then.table(name), now.table(name)
    except InputError as error:
        return _named(f"it cannot be compared: {error}")
    if list(before) != list(after):
        gone = ", ".join(map(str, {*before} ^ {*after})) or "their order"
        return _named(f"other columns: {gone}")
    if len(before) != len(after):
        return _named(f"{len(before)} rows then, {len(after)} now")
    return _cells(before, after)


def _cells(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any]:
    """How tables of the same rows and columns differ."""
    counts, sizes = dict[str, int](), dict[str, float]()
    for column in before:
        one, other = before[column], after[column]
        differs = ~((one == other) | (one.isna() & other.isna())).to_numpy(bool)
        if differs.any():
            counts[str(column)] = int(differs.sum())
            if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(other):
                gaps = np.abs(other.to_numpy(np.float64, na_value=np.nan) - one.to_numpy(np.float64, na_value=np.nan))
                sizes[str(column)] = float(np.nanmax(gaps)) if np.isfinite(gaps).any() else float("nan")
    if not counts:
        return {}
    cells = f"{sum(counts.values())} of {before.size} cells differ, in {', '.join(counts)}"
    known = {column: size for column, size in sizes.items() if not np.isnan(size)}
    if not known:
        return _named(cells, cells=sum(counts.values()))
    column = max(known, key=lambda name: known[name])
    words = f"{cells}; the largest difference is {known[column]:.3g}, in {column}"
    return {"column": column, "largest": known[column], "cells": sum(counts.values()), "words": words}


def _named(words: str, cells: int = 0) -> dict[str, Any]:
    return {"column": "", "largest": float("nan"), "cells": cells, "words": words}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with those of a mapping inside one each."""
    return dict(_parts({name: value for name, value in facts.items() if name not in _OF_ONE_RUN}, ""))


def _parts(facts: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _parts(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 90 else f"{text[:87]}..."
