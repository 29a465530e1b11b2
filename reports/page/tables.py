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

    Those asked for; of a table of up to `MOST_COLUMNS` all; else what tells its rows apart, verdicts, values with their
    ends, and as many others as there is place for.
    """
    names = [str(name) for name in table]
    if asked:
        return [names.index(name) for name in asked]
    everything = range(len(names))
    if len(names) <= MOST_COLUMNS:
        return list(everything)
    keys = [place for place in everything if _tells_rows_apart(table.iloc[:, place])][:3]
    told = [place for place in everything if names[place] in VERDICTS]
    values = [names.index(name) for name in VALUES if name in names]
    return list(dict.fromkeys([*keys, *told, *values, *everything]))[:MOST_COLUMNS]


def format_cell(value: Any) -> str:
    """A table cell as text: four significant digits, an en dash for what is missing."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def _tells_rows_apart(column: "pd.Series[Any]") -> bool:
    """Whether it holds short texts that are not all the same."""
    if _kind(column) != "text" or column.name in VERDICTS:
        return False
    texts = set(map(str, column))
    return len(texts) > 1 and max(map(len, texts)) <= LONGEST_KEY


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
