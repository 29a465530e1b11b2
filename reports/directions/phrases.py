"""Parts of sentences that the readings share: a number with its interval, and what is not told apart from it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd


def number(value: float, spec: str) -> str:
    """A number as it is printed; "not known" where there is none."""
    return "not known" if math.isnan(value) else format(value, spec)


def with_ends(row: "Mapping[Any, Any] | pd.Series[Any]", value: str, spec: str, *, of: str = "", note: str = "") -> str:
    """A number with its interval, in brackets with a note.

    Parameters
    ----------
    row : Series or mapping
        A row of a table.
    value : str
        Column of the number.
    spec : str
        How it and its ends are printed.
    of : str
        What the columns `low` and `high` of its interval begin with.
    note : str
        What else the brackets hold.
    """
    low, high = (float(row[f"{of}_{end}" if of else end]) for end in ("low", "high"))
    ends = "no interval" if math.isnan(low) or math.isnan(high) else f"{low:{spec}} to {high:{spec}}"
    return f"{number(float(row[value]), spec)} ({'; '.join(part for part in (note, ends) if part)})"


def beyond(row: "Mapping[Any, Any] | pd.Series[Any]") -> str:
    """The margin of an effect with its interval, and the bar it is taken from: a control, or the relevant size."""
    ends = [row[f"margin_{end}" if f"margin_{end}" in row else end] for end in ("low", "high")]
    side = "beyond" if row["margin"] > 0 else "from"
    bar = f"the {row['bar']}" if row["bar"] == "relevant size" else f"the largest control ({row['bar']})"
    return f"{row['margin']:+.2g} ({ends[0]:+.2g} to {ends[1]:+.2g}) {side} {bar}"


def alike(rows: pd.DataFrame, name: str, *, of: str = "") -> list[str]:
    """Names of the rows after the first whose intervals overlap that of the first; those without one too."""
    low, high = (f"{of}_{end}" if of else end for end in ("low", "high"))
    first, others = rows.iloc[0], rows.iloc[1:]
    apart = (others[low] > first[high]) | (others[high] < first[low])
    return [str(value) for value in others.loc[~apart, name]]


def not_apart(names: Iterable[str]) -> str:
    """From which others what was named is not told apart."""
    listed = ", ".join(names)
    return f", not told apart from {listed}" if listed else ""


def span(high: float, low: float, spec: str = ".2g") -> str:
    """A range from its high end to its low one, or the one number that both are printed as."""
    first, last = format(high, spec), format(low, spec)
    return first if first == last else f"{first} to {last}"
