"""Runs in tables, by rule and weight; the weight is NaN where none is known: a pipeline's own rule that no weight fits.

pick(steps, "update_norm", "CFG", 4.0)    # one row a noise level
run_name("CFG", 4.0)                      # "CFG, w = 4"
"""

import math

import pandas as pd


def of_run(rows: pd.DataFrame, rule: str, weight: float) -> pd.DataFrame:
    """Rows of one run."""
    weights = rows["weight"]
    return rows[(rows["rule"] == rule) & (weights.isna() if math.isnan(weight) else weights == weight)]


def pick(summary: pd.DataFrame, quantity: str, rule: str, weight: float) -> pd.DataFrame:
    """Rows of one quantity of one run, first call of each step: one row a noise level."""
    rows = of_run(summary, rule, weight)
    return rows[(rows["quantity"] == quantity) & (rows["call"] == 0)]


def row_of(images: pd.DataFrame, rule: str, weight: float, quantity: str) -> "pd.Series[float] | None":
    """One row of a summary of `image_table`, or None; a NaN weight is that of real data."""
    rows = of_run(images, rule, weight)
    rows = rows[rows["quantity"] == quantity]
    return None if rows.empty else rows.iloc[0]


def run_name(rule: str, weight: float, *, between: str = ", ") -> str:
    """Rule and weight as words, the rule alone where no weight is known."""
    return rule if math.isnan(weight) else f"{rule}{between}w = {weight:g}"
