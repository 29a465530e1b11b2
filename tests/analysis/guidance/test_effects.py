import numpy as np
import pandas as pd

from scorescope.analysis.guidance.effects import Effect, conclusions, known_effects


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
    assert verdict(0.0, 0, margin=0.05) == "shown" and verdict(0.2, 0, margin=0.05) == "opposite"
    assert verdict(0.0, 0, margin=0.001) == "not shown"  # the interval is wider than the margin


def test_values_are_paired_differences():
    table = rows(0.3)
    found = known_effects(table, [Effect("e", "score", "b", "a", 1)]).iloc[0]
    wide = table.pivot(index="sample", columns="setting", values="score")
    assert found["value"] == (wide["b"] - wide["a"]).mean() and found["n"] == 200
    assert found["high"] - found["low"] < 0.05  # pairing removes the spread of 1 between samples


def test_a_least_change_is_part_of_the_claim():
    assert verdict(-0.5, -1, margin=0.4) == "shown" and verdict(-0.5, -1, margin=0.5) == "not shown"
    assert verdict(-0.5, -1, margin=0.6) == "short" and verdict(0.5, -1, margin=0.6) == "opposite"


def test_no_width_is_no_certainty():
    # every pair agrees: eight pairs cannot tell that shares differ by less than 2 %, 200 can
    def agreeing(count):
        score = {"setting": np.repeat(["a", "b"], count), "sample": np.tile(np.arange(count), 2), "score": 1.0}
        return known_effects(pd.DataFrame(score), [Effect("e", "score", "b", "a", 0, 0.02)]).iloc[0]

    few, many = agreeing(8), agreeing(200)
    assert few["verdict"] == "too few pairs" and few["high"] > 0.3
    assert many["verdict"] == "shown" and 0.018 < many["high"] < 0.02 and many["low"] == -many["high"]


def test_an_effect_is_shown_only_with_all_its_parts():
    parts = [Effect("both", "score", "b", "a", 1), Effect("both", "score", "b", "a", 1, 0.1)]
    split = [Effect("split", "score", "b", "a", 1), Effect("split", "score", "b", "a", 1, 0.5)]
    found = conclusions(known_effects(rows(0.2), [*parts, *split])).set_index("effect")
    assert found.loc["both"].to_dict() == {"parts": 2, "shown": 2, "verdict": "shown"}
    assert found.loc["split"].to_dict() == {"parts": 2, "shown": 1, "verdict": "short"}
    assert conclusions(pd.DataFrame(columns=["effect", "verdict"])).empty


def test_few_pairs_that_agree_are_no_certainty():
    def agreeing(count):
        calls = {"setting": np.repeat(["a", "b"], count), "sample": np.tile(np.arange(count), 2)}
        table = pd.DataFrame(calls | {"calls": np.repeat([70.0, 40.0], count)})
        return known_effects(table, [Effect("e", "calls", "b", "a", -1, 14.0)]).iloc[0]

    assert agreeing(7)["verdict"] == "too few pairs" and agreeing(8)["verdict"] == "shown"
    assert agreeing(7)["value"] == agreeing(8)["value"] == -30
