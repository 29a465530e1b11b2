"""Runs in tables, by rule and weight; the weight is NaN where none is known: a pipeline's own rule that no weight fits.

pick(steps, "update_norm", "CFG", 4.0)    # one row a noise level
"""

import math

import pandas as pd


def of_run(rows: pd.DataFrame, rule: str, weight: float) -> pd.DataFrame:
    """Rows of the runs of one rule and weight: that of their paths, where a table has that of each row too."""
    weights = rows["path_weight" if "path_weight" in rows else "weight"]
    return rows[(rows["rule"] == rule) & (weights.isna() if math.isnan(weight) else weights == weight)]


def of_path(rows: pd.DataFrame, rule: str, weight: float, stream: int) -> pd.DataFrame:
    """Rows of the same of one scheduler."""
    rows = of_run(rows, rule, weight)
    return rows[rows["stream"] == stream]


def pick(summary: pd.DataFrame, quantity: str, rule: str, weight: float) -> pd.DataFrame:
    """Rows of one quantity of one run, first call of each step: one row a noise level."""
    rows = of_run(summary, rule, weight)
    return rows[(rows["quantity"] == quantity) & (rows["call"] == 0)]


def row_of(images: pd.DataFrame, rule: str, weight: float, quantity: str) -> "pd.Series[float] | None":
    """One row of a summary of `image_table`, or None; a NaN weight is that of real data."""
    rows = of_run(images, rule, weight)
    rows = rows[rows["quantity"] == quantity]
    return None if rows.empty else rows.iloc[0]
