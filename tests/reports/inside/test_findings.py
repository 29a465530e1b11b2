"""Findings of the inside report on tables whose answer is known."""

import numpy as np
import pandas as pd

from scorescope.reports.inside import findings, readings


def judged(**changed):
    rows = pd.DataFrame(
        {
            "site": "up", "attribute": ["size", "hue"], "feature": [3, 7], "images": 200, "read_at": 1.8,
            "sign": [-1, 1], "value": [0.9, 0.6],
            "value_low": [0.85, 0.45], "value_high": [0.94, 0.74], "p_reads": [1e-9, 1.0], "n": 24,
            "effect": [0.4, 0.1], "effect_low": [0.3, -0.1], "effect_high": [0.5, 0.3], "chance": 0.05,
            "p_adjusted": [0.001, 0.4], "verdict": ["steerable", "undecided"], "within_budget": True,
        }
    )  # fmt: skip
    return rows.assign(**changed)


def sheet(value, low, high):
    row = {"site": "up", "sigma": 0.5, "quantity": "share_of_zero", "n": 128, "value": value, "low": low, "high": high}
    return pd.DataFrame([row, {**row, "quantity": "fvu", "value": 0.2, "low": 0.19, "high": 0.21}])


def test_a_feature_that_steers_is_told_with_its_family():
    (found,) = findings.moved(judged())
    assert (
        found.is_shown and "Feature 3 of up steers what it reads" in found.text and "0.40 (0.30 to 0.50)" in found.text
    )
    assert "1 of the 2 features" in found.text
    assert readings.read_judged(judged()).startswith("1 of 2 chosen features are shown to read")
    assert "1 is judged to steer it: size by feature 3 of up" in readings.read_judged(judged())


def test_one_beyond_its_budget_or_undecided_is_not():
    (found,) = findings.moved(judged(within_budget=[False, True]))
    assert not found.is_shown
    (found,) = findings.moved(judged(p_adjusted=np.nan))
    assert not found.is_shown and "none is shown to" in found.doubt
    assert "none is shown to steer it (all doses of 2 of them" in readings.read_judged(judged(within_budget=False))


def test_reading_the_other_way_round_on_held_out_images_is_no_reading():
    (found,) = findings.read(judged())
    assert found.is_shown and "0.90 (0.85 to 0.94)" in found.text and found.n == 200
    assert "at σ = 1.8: 3 of up is stronger in an image of the low end" in found.text
    (found,) = findings.read(judged(value=[0.3, 0.2], value_low=[0.2, 0.1], value_high=[0.4, 0.3]))
    assert not found.is_shown
    text = readings.read_judged(judged(value=[0.1, 0.6]))
    assert text.startswith("0 of 2")


def test_what_sparse_features_lose_is_held_against_leaving_the_site_out():
    (found,) = findings.kept(sheet(0.1, 0.05, 0.15))
    assert found.is_shown and "10% (5% to 15%)" in found.text
    (found,) = findings.kept(sheet(1.2, 1.1, 1.3))
    assert not found.is_shown
    assert findings.kept(sheet(0.1, 0.05, 0.15).query("quantity == 'fvu'")) == []


def test_attention_that_all_maps_share_is_no_finding():
    rows = pd.DataFrame(
        {
            "word": "blue", "compared": ["influence"] * 2, "sigma": [1.0, 5.0], "n": 12, "mean": [0.5, 0.6],
            "low": [0.4, 0.5], "high": [0.6, 0.7], "excess": [0.3, 0.02], "excess_low": [0.2, -0.1],
            "excess_high": [0.4, 0.14],
        }
    )  # fmt: skip
    (found,) = findings.looked_at(rows)
    assert found.is_shown and "σ = 1" in found.text and "0.30 (0.20 to 0.40)" in found.text
    (found,) = findings.looked_at(rows.assign(excess_low=-0.1))
    assert not found.is_shown
    assert findings.looked_at(rows.assign(excess_low=np.nan)) == []
    assert "0.50 (0.40 to 0.60) at σ = 1 to 0.60" in readings.read_agreement(rows)
