import numpy as np
import pandas as pd

from scorescope.analysis.effects import Effect, known_effects


def rows(shift, count=200):
    rng = np.random.default_rng(0)
    base = rng.normal(size=count)
    parts = {"a": base, "b": base + shift + 0.1 * rng.normal(size=count)}
    return pd.concat([pd.DataFrame({"setting": k, "sample": np.arange(count), "score": v}) for k, v in parts.items()])


def verdict(shift, sign, margin=0.0):
    return known_effects(rows(shift), [Effect("e", "score", "b", "a", sign, margin)])["verdict"].iloc[0]


def test_verdicts_follow_the_interval():
    assert verdict(0.2, 1) == "shown" and verdict(0.2, -1) == "opposite" and verdict(0.0, 1) == "not shown"
    assert verdict(-0.2, -1) == "shown"
    assert verdict(0.0, 0, margin=0.05) == "shown" and verdict(0.2, 0, margin=0.05) == "not shown"
    assert verdict(0.0, 0, margin=0.001) == "not shown"  # the interval is wider than the margin


def test_values_are_paired_differences():
    table = rows(0.3)
    found = known_effects(table, [Effect("e", "score", "b", "a", 1)]).iloc[0]
    wide = table.pivot(index="sample", columns="setting", values="score")
    assert found["value"] == (wide["b"] - wide["a"]).mean() and found["n"] == 200
    assert found["high"] - found["low"] < 0.05  # pairing removes the spread of 1 between samples
