"""Runs by rule and weight, where the weight may be unknown (NaN): a pipeline's own rule that no weight fits."""

import math

import pandas as pd


def same_weight(weights: "pd.Series[float]", weight: float) -> "pd.Series[bool]":
    """Which rows are of this weight; NaN is that of the rows without one."""
    return weights.isna() if math.isnan(weight) else weights == weight


def run_name(rule: str, weight: float, *, between: str = ", ") -> str:
    """Rule and weight as words, the rule alone where no weight is known."""
    return f"{rule}" if math.isnan(weight) else f"{rule}{between}w = {weight:g}"
