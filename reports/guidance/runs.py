"""Runs in tables, by rule and weight; the weight is NaN where none is known: a pipeline's own rule that no weight fits.

pick(steps, "update_norm", "CFG", 4.0)    # one row a noise level
"""

import math

import pandas as pd

from scorescope.data.errors import InputError


def of_run(rows: pd.DataFrame, rule: str, weight: float, *, needed: bool = False) -> pd.DataFrame:
    """Rows of the runs of one rule and weight: that of their paths, where a table has that of each row too.

    Where they are needed there has to be one: a figure of none would look like one of a rule that does nothing.
    """
    by = "path_weight" if "path_weight" in rows else "weight"
    found = rows[(rows["rule"] == rule) & (rows[by].isna() if math.isnan(weight) else rows[by] == weight)]
    if needed and found.empty:
        known = rows[["rule", by]].drop_duplicates().itertuples(index=False, name=None)
        runs = ", ".join(f"{name!r} at {at:g}" for name, at in known) or "some"
        raise InputError("rule, weight", found=f"{rule!r} at {weight:g}, of which no row is in the table",
                         expected=f"one of its runs: {runs}")  # fmt: skip
    return found


def of_path(rows: pd.DataFrame, rule: str, weight: float, stream: int) -> pd.DataFrame:
    """Rows of the same of one scheduler."""
    rows = of_run(rows, rule, weight)
    return rows[rows["stream"] == stream]


def pick(summary: pd.DataFrame, quantity: str, rule: str, weight: float) -> pd.DataFrame:
    """Rows of one quantity of one run, first call of each step: one row a noise level.

    Raises
    ------
    InputError
        For a run or a quantity of which there is no row: nothing would look like a rule that does nothing.
    """
    rows = of_run(summary, rule, weight, needed=True)
    found = rows[(rows["quantity"] == quantity) & (rows["call"] == 0)]
    if found.empty:
        known = ", ".join(map(str, rows["quantity"].unique()))
        raise InputError("quantity", found=repr(quantity), expected=f"one of its quantities: {known}")
    return found


def row_of(images: pd.DataFrame, rule: str, weight: float, quantity: str) -> "pd.Series[float] | None":
    """One row of a summary of `image_table`, or None; a NaN weight is that of real data."""
    rows = of_run(images, rule, weight)
    rows = rows[rows["quantity"] == quantity]
    return None if rows.empty else rows.iloc[0]
