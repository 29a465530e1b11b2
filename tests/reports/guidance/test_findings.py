"""What a guidance report can begin with: shown where the answer is known, open where intervals leave it so."""

import numpy as np
import pandas as pd
import pytest
from tests.claims import check_sentences
from tests.reports.guidance.test_readings import SIGMAS, curve, steps, update

from scorescope.reports.guidance import findings


def share(half):
    known = curve("parallel_share", [0.2, 0.3, 0.5, 0.3, 0.2], half).assign(n=50)
    return pd.concat([update(np.full(5, 3.0)), known], ignore_index=True)


def test_rescaling_is_shown_only_where_it_is_told_from_chance():
    (shown,) = findings.rescaling(share(0.05), "CFG", 4.0, figure="f")
    assert shown.is_shown and shown.text.startswith("Up to 50% (95 % interval 45% to 55%) of the squared update")
    assert "σ = 5: 5 times what chance gives" in shown.text  # chance is 0.1
    (open_,) = findings.rescaling(share(0.5), "CFG", 4.0, figure="f")
    assert not open_.is_shown and "not told from the 10.00% that chance gives" in open_.doubt
    # the largest of five levels: an interval that just leaves chance out is not enough
    assert not findings.rescaling(share(0.39), "CFG", 4.0, figure="f")[0].is_shown


def test_where_to_guide_counts_the_calls_outside():
    interval = pd.DataFrame(
        [{"share": 0.9, "information": 2.0, "low": 1.0, "low_low": 0.8, "low_high": 1.2, "high": 6.0, "high_low": 5.0,
          "high_high": 7.0, "missing": ""}]
    )  # fmt: skip
    known = {"information": 2.0, "information_low": 1.5, "information_high": 2.5, "bound": 2.3, "n": 64}
    information = pd.DataFrame([{"sigma": 0.01, **known}, {"sigma": 0.0, **known}])
    calls = pd.DataFrame({"sigma": [80, 20, 5, 5, 1.5, 0.2], "step": [0, 1, 2, 2, 3, 4], "call": [0, 0, 0, 1, 0, 0]})
    calls = pd.concat([calls, calls])  # two samples: the calls of one are counted
    (found,) = findings.where_to_guide(information, interval, calls)
    assert "90% of what the condition tells is told between σ = 6 (5 to 7) and 1 (0.8 to 1.2); 3 of the 6" in found.text
    assert found.strength == pytest.approx(4) and "differ by more" not in found.text
    beyond = information.assign(information=4.0, information_low=3.0)
    (found,) = findings.where_to_guide(beyond, interval, calls)
    assert "of the 2 nats that the labels hold" in found.text and "differ by more than labels can tell" in found.text
    assert findings.where_to_guide(information, interval.assign(missing="no information"), calls) == []


def effect(metric, setting, value, low, high, *, against="CFG, w = 1", claimed="above 0", verdict="shown"):
    return {
        "metric": metric, "setting": setting, "against": against, "value": value, "low": low, "high": high, "n": 40,
        "claimed": claimed, "verdict": verdict,
    }  # fmt: skip


def test_overshoot_that_grows_falls_and_is_open():
    rows = [
        effect("overshoot_share", "CFG, w = 8", 0.3, 0.2, 0.4),
        effect("overshoot_share", "APG, w = 8", -0.2, -0.25, -0.1, against="CFG, w = 8"),
    ]
    (found,) = findings.out_of_range(pd.DataFrame(rows), 8.0)
    assert "puts 30 percentage points (20 to 40) more" in found.text
    assert "APG at the same weight 20 percentage points (10 to 25) fewer" in found.text and found.is_shown
    rows[1]["high"] = 0.05
    assert "APG" not in findings.out_of_range(pd.DataFrame(rows), 8.0)[0].text
    fell = pd.DataFrame([effect("overshoot_share", "CFG, w = 8", -0.3, -0.4, -0.2)])
    assert "changes by -30 percentage points (-40 to -20)." in findings.out_of_range(fell, 8.0)[0].text
    assert not findings.out_of_range(pd.DataFrame([{**rows[0], "low": -0.1}]), 8.0)[0].is_shown
    assert findings.out_of_range(pd.DataFrame(rows[1:]), 8.0) == []


def test_diversity_that_is_not_restored_is_said():
    row = effect(
        "diversity", "interval, w = 8", -0.4, -0.5, -0.3, against="CFG, w = 8", claimed="above 0", verdict="opposite"
    )
    cfg = effect("diversity", "CFG, w = 8", -0.9, -1.0, -0.8, against="CFG, w = 1", claimed="below 0", verdict="shown")
    found = findings.diversity(pd.DataFrame([row, cfg]))[0]
    assert "is 0.4 lower (95 % 0.3 to 0.5) under interval, w = 8 than under CFG, w = 8. The rule" in found.text
    assert found.text.endswith("reported to restore it, and does not here.")
    unlost = findings.diversity(pd.DataFrame([row, {**cfg, "high": 0.1}]))[0]
    assert "restore" not in unlost.text  # there is no loss to restore
    elsewhere = findings.diversity(pd.DataFrame([row, {**cfg, "high": 0.1}, {**cfg, "setting": "CFG, w = 4"}]))[0]
    assert "restore" not in elsewhere.text  # nor at this weight
    (plain,) = findings.diversity(pd.DataFrame([{**row, "verdict": "shown", "value": 0.4, "low": 0.3, "high": 0.5}]))
    assert "restore" not in plain.text and plain.is_shown


def test_two_settings_are_ordered_only_where_their_intervals_do_not_meet():
    images = pd.DataFrame(
        [
            {"rule": "cfg", "weight": 1.0, "quantity": "contrast", "mean": 0.2, "low": 0.1, "high": 0.3, "n": 9},
            {"rule": "cfg", "weight": 8.0, "quantity": "contrast", "mean": 0.5, "low": 0.4, "high": 0.6, "n": 8},
        ]
    )
    (found,) = findings.between_settings(images, "contrast", "contrast: std", figure="contrast")
    assert found.text == "The contrast is 0.2 (0.1 to 0.3) under cfg, w = 1 and 0.5 (0.4 to 0.6) under cfg, w = 8."
    assert found.strength == pytest.approx(1.5) and found.n == 8
    assert findings.between_settings(images.head(1), "contrast", "contrast", figure="contrast") == []


def test_sentences_hold_their_numbers():
    saved = pd.DataFrame(
        [{"setting": "adaptive, threshold 0.991", "calls_saved": 0.15, "saved_low": 0.149, "saved_high": 0.152,
          "change": 0.04, "low": 0.03, "high": 0.05, "n": 40}]
    )  # fmt: skip
    found = findings.cheaper(saved, "adaptive, threshold 0.991")
    assert check_sentences([found[0].text]) == 2 and found[0].is_shown and findings.cheaper(saved, "none") == []
    assert len(SIGMAS) == 5 and steps().size
