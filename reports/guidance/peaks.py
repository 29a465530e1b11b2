"""Where along the noise axis the mean of a quantity is largest, and what its intervals leave open of that."""

import numpy as np
import pandas as pd

from scorescope.data.errors import InputError
from scorescope.reports.guidance.runs import pick
from scorescope.reports.page.numbers import between


def any_update(steps: pd.DataFrame, rule: str, weight: float) -> bool:
    """Whether the branches of a run are known to differ at any level."""
    return bool((pick(steps, "update_norm", rule, weight)["mean"] > 0).any())


def why_none(rows: pd.DataFrame) -> str:
    """What a table says of the numbers that it lacks."""
    return "; ".join(sorted(set(rows["missing"]) - {""}))


def above_rounding(
    steps: pd.DataFrame, quantity: str, rule: str, weight: float, *, judged: str, floor: str
) -> pd.DataFrame:
    """Known rows of a quantity at the levels where the mean of `judged` is above that of its rounding floor."""
    means = [pick(steps, name, rule, weight)["mean"].to_numpy() for name in (judged, floor)]  # in the same order
    return pick(steps, quantity, rule, weight)[means[0] > means[1]].dropna(subset="mean")


def peak_of(rows: pd.DataFrame) -> "pd.Series[float]":
    """The row with the largest mean."""
    rows = rows.dropna(subset="mean")
    if rows.empty:
        raise InputError("summary", found="no value of the run that this reads", expected="a run that was recorded")
    return rows.iloc[int(rows["mean"].to_numpy().argmax())]


def row_at(rows: pd.DataFrame, sigma: float) -> "pd.Series[float]":
    """The row of the nearest level."""
    return rows.iloc[int((rows["sigma"] - sigma).abs().to_numpy().argmin())]


def elsewhere(rows: pd.DataFrame) -> str:
    """Where else the largest mean may be: levels whose interval is not wholly below that of the peak."""
    rows = rows.dropna(subset="mean")
    levels = rows.loc[~(rows["high"] < peak_of(rows)["low"]), "sigma"]
    return "" if len(levels) == 1 else f", by its intervals somewhere within σ = {between(levels.min(), levels.max())}"


def half_of_peak(rows: pd.DataFrame) -> str:
    """Levels around the peak at which the mean is at least half of the largest, whatever the intervals leave open."""
    rows = rows.dropna(subset="mean").sort_values("sigma")
    enough, peak = (rows["low"] >= rows["high"].max() / 2).to_numpy(), int(rows["mean"].to_numpy().argmax())
    if not enough[peak]:
        return "where it is at least half of that is left open by its intervals"
    run = np.cumsum(np.diff(enough, prepend=False))
    levels = rows.loc[run == run[peak], "sigma"]
    where = between(levels.min(), levels.max())
    return f"at least half of that {'at' if len(levels) == 1 else 'within'} σ = {where}"
