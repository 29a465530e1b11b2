"""What a trajectories report can begin with: shown where the answer is known, open where intervals leave it so."""

import pandas as pd
import pytest

from scorescope.reports.trajectories import findings, readings


def steps(shares, *, half=0.02):
    rows = [
        {"solver": "2M", "step": k, "sigma": 10.0 / (k + 1), "sigma_next": 10.0 / (k + 2), "quantity": quantity,
         "n": 24, "value": value, "low": value - half, "high": value + half}
        for quantity, values in (("share", shares), ("cumulative_share", pd.Series(shares).cumsum()))
        for k, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def groups(held=0.95, near=300):
    rows = [("near", near, held), ("apart", 4, 1 - held), ("all", near + 4, 1.0)]
    return pd.DataFrame(rows, columns=["samples", "n", "squared_share"]).assign(solver="2M")


def test_the_fewest_neighbouring_steps_that_make_most():
    table = steps([0.0, 0.05, 0.5, 0.4, 0.05, 0.0])
    assert readings.most_of_the_error(table)["step"].tolist() == [2, 3]
    (found,) = findings.where_errors_are_made(table, groups())
    assert found.is_shown and "2M makes 90% of its end error in 2 of 6 steps, between σ = 3.33 and 2, of" in found.text
    (wide,) = findings.where_errors_are_made(steps([0.0, 0.05, 0.5, 0.4, 0.05, 0.0], half=0.6), groups())
    assert not wide.is_shown
    assert findings.where_errors_are_made(steps([0.2] * 5), groups()) == []  # of even shares nothing is to be said
    assert readings.most_of_the_error(steps([0.1, 0.1])).empty


def test_parts_that_cancel_or_leave_most_out_say_nothing():
    """Two steps that made 127 % were told, and two whose samples held 26 % of the squared error."""
    assert findings.where_errors_are_made(steps([0.0, -0.3, 0.8, 0.5, 0.0, 0.0]), groups()) == []
    assert findings.where_errors_are_made(steps([0.0, 0.05, 0.5, 0.4, 0.05, 0.0]), groups(held=0.26)) == []
    assert findings.where_errors_are_made(steps([0.0, 0.05, 0.5, 0.4, 0.05, 0.0]), groups(near=60)) == []


def walks(typical, low, high, **mean):
    rows = [("2M", "ρ = 7", 8, 96, 1.0, 1.0, 1.0), ("2M", "tuned", 8, 96, typical, low, high)]
    names = ("solver", "schedule", "calls", "n", "typical_ratio", "typical_ratio_low", "typical_ratio_high")
    table = pd.DataFrame(rows, columns=names)
    return table.assign(**{name.removeprefix("typical_"): table[name] for name in names[4:]} | mean)


def test_tuned_levels_are_better_only_where_the_interval_says_so():
    (better,) = findings.tuned_levels(walks(0.5, 0.4, 0.6), "ρ = 7")
    assert better.strength == pytest.approx(5.0) and "0.5 (0.4 to 0.6) times as far" in better.text
    (open_,) = findings.tuned_levels(walks(0.9, 0.7, 1.2), "ρ = 7")
    assert not open_.is_shown and open_.doubt.startswith("That tuned levels beat ρ = 7 at 8 calls")
    (mean,) = findings.tuned_levels(walks(0.5, 0.4, 0.6, ratio=0.9, ratio_high=1.3, ratio_low=0.6), "ρ = 7")
    assert not mean.is_shown  # a few samples that go elsewhere hold most of the mean


def damages(values, *, half=0.01):
    return pd.DataFrame([
        {"kind": "damage", "name": "prediction repeated", "step": k, "sigma": 10.0 / (k + 1), "n": 24, "mean": value,
         "low": value - half, "high": value + half}
        for k, value in enumerate(values)
    ])  # fmt: skip


def test_the_step_that_matters_most():
    (found,) = findings.worst_step(damages([0.1, 0.4, 0.1, 0.12]))
    assert (
        found.is_shown
        and "in that from σ = 5 moves the end" in found.text
        and "3.6 times as far as the median" in found.text
    )
    (flat,) = findings.worst_step(damages([0.1, 0.105, 0.1, 0.1]))
    assert not flat.is_shown
    assert findings.worst_step(damages([0.1, 0.2])) == []


def levels(n, sigma=1.3):
    rows = [("whole", 24, 0, sigma, 0.9 * sigma, 1.1 * sigma), ("class", n, 24 - n, 4.0, 0.01, 900.0)]
    names = ("quantity", "n", "from_start", "sigma", "low", "high")
    return pd.DataFrame(rows, columns=names).assign(low_frequency=float("nan"), high_frequency=float("nan"))


def test_few_samples_whose_class_changed_give_no_level():
    """Of two samples a level from 0.027 to 5700 was told."""
    assert "the class ever changed on 2 of 24 paths alone" in readings.read_decided(levels(2))
    assert "the class stays from σ = 4" in readings.read_decided(levels(10))
