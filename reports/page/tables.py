"""What a page shows of a table: its first columns and rows as HTML has them, and all of it as data for the script.

shown = shown_table(table, first=("site", "verdict"), room=1_000_000)
shown.columns, shown.rows, shown.data

The script makes a table of the data that sorts and filters; without scripts, and in print, the first rows stand there.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scorescope.reports.page.rendering import as_json
from scorescope.reports.page.texts import writable

MOST_ROWS = 40
MOST_COLUMNS = 8
LONGEST_KEY = 60  # letters of a text that says which row it is
EXACT = 2**53  # whole numbers up to here are the same in every reader of JSON
VERDICTS = ("verdict", "finding", "conclusion", "missing")
VALUES = ("value", "mean", "effect", "accuracy", "low", "high")


@dataclass(frozen=True)
class Column:
    """A column on a page: its name, what it holds ("text", "whole" or "float"), and whether it is not folded away."""

    name: str
    kind: str
    is_first: bool


@dataclass(frozen=True)
class ShownTable:
    """A table on a page.

    Attributes
    ----------
    columns : list of Column
        The first ones, then the others.
    rows : list of list of str
        The first `MOST_ROWS` rows, four digits.
    data : str
        Columns and rows with all digits, as JSON that HTML can hold; of no more rows than there is room for.
    count, kept : int
        Rows of the table, and rows of the data.
    """

    columns: list[Column]
    rows: list[list[str]]
    data: str
    count: int
    kept: int


def shown_table(table: pd.DataFrame, *, first: Sequence[str] = (), room: int) -> ShownTable:
    """What a page shows of a table whose data may take `room` bytes; if they would take more, its first rows alone."""
    leading = first_columns(table, first)
    places = [*leading, *(place for place in range(table.shape[1]) if place not in leading)]
    ordered = table.iloc[:, places]
    columns = [
        Column(writable(str(name)), _kind(ordered.iloc[:, at]), at < len(leading)) for at, name in enumerate(ordered)
    ]
    data, kept = _data(columns, ordered), len(table)
    if len(data) > room:
        data, kept = _data(columns, ordered.head(MOST_ROWS)), min(MOST_ROWS, kept)
    rows = [[format_cell(value) for value in row] for row in ordered.head(MOST_ROWS).itertuples(index=False)]
    return ShownTable(columns, rows, data, len(table), kept)


def first_columns(table: pd.DataFrame, asked: Sequence[str] = ()) -> list[int]:
    """Places of the columns that are not folded away, in the order in which they are shown.

    Those asked for; of a table of up to `MOST_COLUMNS` all; else the texts that tell its rows apart, verdicts, then
    values with their ends and as many others as there is place for, in their own order.
    """
    names = [str(name) for name in table]
    if asked:
        return [names.index(name) for name in asked]
    everything = range(len(names))
    if len(names) <= MOST_COLUMNS:
        return list(everything)
    told = [place for place in everything if names[place] in VERDICTS and any(map(str, table.iloc[:, place]))]
    head = [*_keys(table), *told]
    vary = [name for place, name in enumerate(names) if table.iloc[:, place].astype(str).nunique() > 1]
    chosen = set(head)
    for name in (*(name for name in VALUES if name in names), *vary, *names):
        if len(more := chosen | _with_ends(names, name)) <= MOST_COLUMNS:
            chosen = more
    return [*head, *sorted(chosen - set(head))]


def format_cell(value: Any) -> str:
    """A table cell as text: four significant digits, an en dash for what is missing."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def _keys(table: pd.DataFrame) -> list[int]:
    """Places of the short texts that tell the rows apart, of those before the first number with a fraction."""
    kinds = [_kind(column) for _, column in table.items()]
    before = kinds.index("float") if "float" in kinds else len(kinds)
    texts = [place for place in range(before) if kinds[place] == "text" and table.columns[place] not in VERDICTS]
    found = {place: set(map(str, table.iloc[:, place])) - {"True", "False"} for place in texts}
    return [place for place in texts if len(found[place]) > 1 and max(map(len, found[place])) <= LONGEST_KEY][:3]


def _with_ends(names: list[str], name: str) -> set[int]:
    """A column and those of its interval, of which none is shown without the others."""
    value = name.removesuffix("_low").removesuffix("_high")
    return {names.index(one) for one in (value, f"{value}_low", f"{value}_high") if one in names}


def _kind(column: "pd.Series[Any]") -> str:
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return "text"
    return "float" if pd.api.types.is_float_dtype(column) else "whole"


def _data(columns: Sequence[Column], table: pd.DataFrame) -> str:
    named = [{"name": column.name, "kind": column.kind, "first": column.is_first} for column in columns]
    rows = [[_datum(value) for value in row] for row in table.itertuples(index=False)]
    return as_json({"columns": named, "rows": rows})


def _datum(value: Any) -> Any:
    """A cell as JSON holds it, with all digits: null for what is missing, text for what is no number."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value) if abs(int(value)) <= EXACT else str(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return None if math.isnan(value) else float(value) if math.isfinite(value) else str(float(value))
    return None if value is None or value is pd.NA or value is pd.NaT else writable(str(value))
