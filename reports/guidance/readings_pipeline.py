"""Sentences of the guidance report on a pipeline: rules at its states, and statistics of its images by setting."""

import pandas as pd

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.reports.guidance.pipeline_study import OWN
from scorescope.reports.page.numbers import told


def read_replayed(steps: pd.DataFrame) -> str:
    """The gain of the pipeline's own rule where its mean is furthest from 1, and that of the others there."""
    rows = steps[(steps["quantity"] == "applied_gain") & (steps["call"] == 0)].dropna(subset=["mean"])
    own = rows[rows["setting"] == OWN]
    if own.empty:
        return "No gain is known at any step."
    peak = own.iloc[int((own["mean"] - 1).abs().to_numpy().argmax())]
    there = rows[(rows["sigma"] == peak["sigma"]) & (rows["setting"] != OWN)]
    others = ", ".join(f"{name} by {mean:.3g}" for name, mean in zip(there["setting"], there["mean"], strict=True))
    return (
        f"In the mean the pipeline's rule changes the size of D_c most at σ = {peak['sigma']:.3g}, where it scales it "
        f"by {told(peak)}; at the same states {others}."
    )


def read_values(images: pd.DataFrame) -> str:
    """How far beyond the range the values of each setting lie."""
    rows = images[images["quantity"] == "overshoot_mean"].dropna(subset=["mean"])
    said = [f"{run_name(row['rule'], row['weight'])} {told(row, form='.2g')}" for _, row in rows.iterrows()]
    return f"The mean distance of values from [-1, 1] is, by setting: {', '.join(said)}."


def read_statistic(images: pd.DataFrame, quantity: str, label: str) -> str:
    """The settings with the least and the most of a statistic and whether they are told apart, or the one there is."""
    rows = images[images["quantity"] == quantity].dropna(subset=["mean"]).sort_values("mean")
    ends = rows if len(rows) == 1 else rows.iloc[[0, -1]]
    said = [f"{told(row)} in {run_name(row['rule'], row['weight'])}" for _, row in ends.iterrows()]
    name = label.partition(":")[0]
    if len(said) == 1:
        return f"The {name} is {said[0]}."
    apart = ends["high"].iloc[0] < ends["low"].iloc[1]
    clear = "" if apart else "; their intervals overlap, so that these two are not told apart"
    return f"The {name} is least with {said[0]} and largest with {said[1]}{clear}."
