"""How evenly samples show the two values of an attribute, strength by strength.

    found = steer_curve(denoiser, direction, scores, target="gender", seeds=range(200))
    balance_table(found.samples, score="gender", values=("male", "female"))

The fairness discrepancy of DiffLens (CVPR 2025, arXiv 2503.20483), sqrt(sum_v (p_v - 1/k)^2) over k values, here of
counted samples and k = 2, where it is sqrt(2) |p - 1/2|: its interval follows from that of the share. Of an estimate
it is never 0 by chance alone, so that a small one with an interval from 0 on is no imbalance.
"""

import math

import numpy as np
import pandas as pd

from scorescope.analysis.directions.steering_tables import WHERE
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

BALANCE = Schema(
    "balance",
    (
        *WHERE,
        Column("arm", str, "", "direction, shuffled, random 1 and so on; none is strength 0"),
        Column("strength", float, "SD", "standard deviations of the projection"),
        Column("value", str, "", "of the attribute: the first where the score is negative, the second where it is not"),
        Column("n", int, "", "samples"),
        Column("share", float, "1", "share of the samples that show it"),
        *ends("1", "Wilson, over samples"),
        Column("imbalance", float, "1", "distance of both shares from 1/2: 0 of even ones, sqrt(1/2) of one value"),
        *ends("1", "all values that shares within their interval have", of="imbalance"),
        Column("distance", float, "data", "mean distance from the samples without edit"),
    ),
)


@checked
def balance_table(samples: pd.DataFrame, *, score: str, values: tuple[str, str]) -> pd.DataFrame:
    """Shares of an attribute's two values by arm and strength, and how far they are from even.

    Parameters
    ----------
    samples : DataFrame
        Declared in `STEER_SAMPLES`, as `SteerCurve.samples` has it.
    score : str
        Log-odds of the second value against the first, in any unit.
    values : (str, str)
        Names of the two.

    Returns
    -------
    DataFrame
        Columns declared in `BALANCE`, two rows an arm and strength.

    Raises
    ------
    InputError
        For a table without these columns, and a score that it does not hold.
    """
    require_columns("samples", samples, [column.name for column in WHERE] + ["arm", "strength", "score", "value"])
    rows = samples[samples["score"] == score]
    if rows.empty:
        known = ", ".join(map(repr, samples["score"].unique())) or "none"
        raise InputError("score", found=repr(score), expected=f"one of those in the samples: {known}")
    keys = [*(column.name for column in WHERE), "arm", "strength"]
    parts = [_shares(dict(zip(keys, key, strict=True)), part, values) for key, part in rows.groupby(keys, sort=False)]
    table = pd.concat(parts, ignore_index=True)
    return BALANCE.check(table.sort_values(["arm", "strength"], kind="stable", ignore_index=True))


def _shares(where: dict[str, object], part: pd.DataFrame, values: tuple[str, str]) -> pd.DataFrame:
    """Two rows: the shares of one arm at one strength."""
    high, n = int((part["value"] >= 0).sum()), len(part)
    share, low, high_end = wilson(np.array([n - high, high]), n)
    least, largest = _imbalance_ends(low[1], high_end[1])
    return pd.DataFrame({
        **where, "value": list(values), "n": n, "share": share, "low": low, "high": high_end,
        "imbalance": imbalance(share), "imbalance_low": least, "imbalance_high": largest,
        "distance": float(part["distance"].mean()),
    })  # fmt: skip


def imbalance(shares: Floats) -> float:
    """Distance of k shares from 1/k each: 0 of even ones, sqrt(1 - 1/k) of one value alone."""
    return float(np.sqrt(np.square(shares - 1 / len(shares)).sum()))


def _imbalance_ends(low: float, high: float) -> tuple[float, float]:
    """Least and largest imbalance of a share of two values between `low` and `high`."""
    gaps = sorted((abs(low - 0.5), abs(high - 0.5)))
    return math.sqrt(2) * (0.0 if low <= 0.5 <= high else gaps[0]), math.sqrt(2) * gaps[1]
