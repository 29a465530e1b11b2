"""What a directions report can begin with: shown where a table's answer is known, open where intervals leave it so."""

from types import SimpleNamespace

import pandas as pd
import pytest

from scorescope.reports.directions import findings


def probe(name, value, low, high, chance=0.5):
    return {
        "attribute": name, "site": "network.up.1", "sigma": 0.3, "value": value, "low": low, "high": high, "n": 90,
        "chance": chance,
    }  # fmt: skip


def test_only_attributes_that_are_read_are_named():
    (found,) = findings.readable(pd.DataFrame([probe("size", 0.9, 0.8, 0.95), probe("hue", 0.55, 0.4, 0.7)]))
    assert found.text == "A linear probe reads size with 90% (80% to 95%) at up.1, σ = 0.3 of the test images right."
    (asked,) = findings.readable(pd.DataFrame([probe("size", 0.9, 0.8, 0.95)]), right="as asked")
    assert asked.text.endswith("of the test images as asked.")
    assert found.strength == pytest.approx(4)
    (none,) = findings.readable(pd.DataFrame([probe("hue", 0.55, 0.4, 0.7)]))
    assert not none.is_shown and none.doubt.endswith(": not told from chance.")


def dose(verdict, margin, low, bar="random 2"):
    row = {"effect": 0.6, "effect_low": 0.2, "effect_high": 1.0, "margin": margin, "low": low, "high": 0.9, "n": 8}
    return SimpleNamespace(verdicts=pd.DataFrame([{**row, "bar": bar, "verdict": verdict}]))


def test_steering_is_shown_only_with_its_verdict():
    (found,) = findings.steered(dose("steerable", 0.4, 0.2), "size at up.1")
    assert found.is_shown and "moves the judge's score by 0.6 (0.2 to 1) standard deviations" in found.text
    assert "+0.4 (+0.2 to +0.9) beyond the largest control (random 2): it can be" in found.text
    (sized,) = findings.steered(dose("steerable", 0.4, 0.2, "relevant size"), "size at up.1")
    assert "beyond the relevant size" in sized.text and "control" not in sized.text
    assert not findings.steered(dose("undecided", 0.4, 0.2), "size")[0].is_shown  # a corrected test does not show it
    (less,) = findings.steered(dose("not steerable", -0.4, -0.6), "size")
    assert not less.is_shown and not less.needs
    assert "-0.4 (-0.6 to +0.9) from the largest control (random 2): not steerable" in less.doubt


def gap(later, value, low, high, defined=1.0):
    return {
        "attribute": "hue", "earlier": "readable_from", "later": later, "gap": value, "low": low, "high": high, "n": 16,
        "defined": defined,
    }  # fmt: skip


def test_readable_before_steerable_no_longer():
    rows = [gap("steerable_until", 5.0, 3.0, 6.0), gap("visible_from", -2.0, -3.0, -1.0), gap("committed_at", 1, -1, 3)]
    (found,) = findings.earlier(pd.DataFrame(rows))
    assert found.is_shown and found.text.startswith("hue is readable 5 (3 to 6) log-SNR before it follows a switched")
    assert findings.earlier(pd.DataFrame(rows[1:2])) == []
    (open_,) = findings.earlier(pd.DataFrame([{**rows[0], "low": 0.6}, *rows[1:]]))
    assert not open_.is_shown  # of three
    assert open_.doubt.endswith(
        "the clearest is hue, 5 (0.6 to 6) log-SNR before it follows a switched condition no longer."
    )


def half(name, sigma, low, high, reached=1.0):
    return {"attribute": name, "metric": "attribute score", "sigma": sigma, "low": low, "high": high, "n": 40,
            "reached": reached}  # fmt: skip


def test_lost_first_is_said_of_intervals_that_do_not_meet():
    (found,) = findings.lost_first(pd.DataFrame([half("hue", 6.0, 5.0, 7.0), half("size", 2.0, 1.5, 3.0)]))
    assert found.is_shown and found.text.startswith(
        "As noise grows, denoised images lose size first, at σ = 2 (1.5 to 3), and hue"
    )
    (open_,) = findings.lost_first(pd.DataFrame([half("hue", 4.0, 2.5, 7.0), half("size", 2.0, 1.5, 3.0)]))
    assert not open_.is_shown
    assert findings.lost_first(pd.DataFrame([half("hue", 6.0, 5.0, 7.0), half("size", 2.0, 1.5, 3.0, 0.5)])) == []


def test_more_than_there_is_to_know():
    row = {"estimator": "log_ratio", "attribute": "size", "nats": 3.0, "low": 2.0, "high": 4.0, "entropy_nats": 0.7}
    (found,) = findings.contradiction(pd.DataFrame([row]))
    assert (
        found.strength == pytest.approx(2.3) and "differ by 3 (2 to 4) nats about size where 0.7 is all" in found.text
    )
    assert findings.contradiction(pd.DataFrame([{**row, "low": 0.5}])) == []
    assert findings.contradiction(pd.DataFrame([{**row, "nats": 0.1, "low": 0.0, "high": 0.2}])) == []


def test_the_site_that_carries_the_condition():
    row = {"form": "sufficiency", "sigma_low": 0.0, "sigma_high": 80.0, "n": 20}
    ends = {"median": 0.9, "median_low": 0.8, "median_high": 1.0}
    table = pd.DataFrame(
        [{**row, **ends, "site": "network.up.1"}, {**row, **ends, "median": 0.1, "site": "network.mid"}]
    )
    (found,) = findings.carried(table)
    assert (
        found.text == "The block 'up.1' alone carries 90% (80% to 100%) of the condition's effect, the most of 2 sites."
    )
    certain = {**row, "median": 1.0, "median_low": 1.0, "median_high": 1.0, "site": "network.last"}
    (beside,) = findings.carried(pd.concat([table, pd.DataFrame([certain])]))
    assert (
        beside.text.endswith("the most of 2 sites; of last (100%) all draws of seeds say the same.") and beside.is_shown
    )
    little = table.assign(median=0.002, median_low=0.001, median_high=0.003)
    assert not findings.carried(little)  # "carries 0% (0% to 0%), the most of 1 sites" was a page's first finding
    (single,) = findings.carried(table.head(1))
    assert "the most of" not in single.text
    assert not findings.carried(table.assign(median_low=-0.1))[0].is_shown


def test_a_judge_that_does_no_better_than_chance():
    judged = pd.DataFrame([{"attribute": "size", "share": 0.6, "low": 0.4, "high": 0.8, "pairs": 20}])
    assert not findings.told_apart(judged)[0].is_shown and findings.told_apart(judged.assign(low=0.55))[0].is_shown
    assert findings.told_apart(judged.head(0)) == []
