"""Sentences of the report on a pipeline, of tables whose answer is known."""

import numpy as np
import pandas as pd

from scorescope.reports.guidance.readings_pipeline import read_replayed, read_statistic, read_values


def steps(half):
    gains = {("pipeline", 8.0): 1.5, ("pipeline", 2.0): 1.1, ("apg", 8.0): 1.0, ("apg", 2.0): 1.0}
    rows = [
        {"setting": name, "sigma": sigma, "mean": mean, "low": mean - half, "high": mean + half}
        for (name, sigma), mean in gains.items()
    ]
    return pd.DataFrame(rows).assign(quantity="applied_gain", call=0)


def images(means, half):
    return pd.DataFrame([
        {"rule": name, "weight": 4.0, "quantity": "contrast", "mean": mean, "low": mean - half, "high": mean + half}
        for name, mean in means.items()
    ])  # fmt: skip


def test_the_gain_is_told_where_its_mean_is_furthest_from_1():
    said = read_replayed(steps(0.1))
    assert "most at σ = 8, where it scales it by 1.5 (1.4 to 1.6); at the same states apg by 1." in said
    assert read_replayed(steps(0.1).query("setting == 'apg'")) == "No gain is known at any step."


def test_least_and_largest_are_told_apart_only_by_intervals():
    means = {"cfg": 0.2, "apg": 0.5, "own": 0.3}
    narrow, wide = (read_statistic(images(means, half), "contrast", "contrast: std") for half in (0.1, 0.2))
    assert (
        narrow
        == "The contrast is least with 0.2 (0.1 to 0.3) in cfg, w = 4 and largest with 0.5 (0.4 to 0.6) in apg, w = 4."
    )
    assert wide.endswith("; their intervals overlap, so that these two are not told apart.")
    unknown = images(means, np.nan)
    assert read_statistic(unknown, "contrast", "contrast").endswith("not told apart.") and "nan" not in read_values(
        unknown
    )
    assert (
        read_statistic(images({"cfg": 0.2}, 0.1), "contrast", "contrast")
        == "The contrast is 0.2 (0.1 to 0.3) in cfg, w = 4."
    )
