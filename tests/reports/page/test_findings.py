"""Which findings a page begins with, by the rule it states."""

import math

import numpy as np
import pandas as pd
import pytest

from scorescope.reports.page.findings import (
    Finding,
    first_screen,
    strength,
    strength_apart,
    strength_of,
    strength_of_p,
)


@pytest.mark.parametrize(
    ("value", "low", "high", "nothing", "expected"),
    [
        (3.0, 2.0, 5.0, 0.0, 3.0),  # the side of nothing counts
        (-3.0, -5.0, -2.0, 0.0, 3.0),
        (1.5, 1.0, 2.0, 1.0, 1.0),  # an end that touches is not beyond
        (0.2, -0.2, 0.6, 0.0, 0.5),
        (0.0, -1.0, 1.0, 0.0, 0.0),
        (0.4, 0.0, 0.45, 0.5, 2.0),  # but on the other side of nothing the end that counts is not cut
        (0.1, 0.0, 0.5, 0.0, 0.25),  # cut at 0, which tells nothing of its width
    ],
)
def test_strength_is_the_distance_in_half_widths(value, low, high, nothing, expected):
    assert strength(value, low, high, nothing=nothing) == pytest.approx(expected, rel=1e-12)


def test_without_an_interval_there_is_no_strength():
    row = pd.Series({"saved": 0.3, "saved_low": math.nan, "saved_high": 0.4})
    assert math.isnan(strength_of(row, "saved", of="saved"))
    assert not Finding("", math.nan).is_shown
    assert math.isnan(strength(0.3, 0.3, 0.3)) and math.isnan(strength(0.0, 0.0, 0.0))  # agreement is no certainty


def test_own_data_come_first_then_the_strongest_and_a_figure_gives_one():
    findings = [
        Finding("self-test", 90.0, "planted", own_data=False),
        Finding("weak", 1.5, "a"),
        Finding("strong", 9.0, "b"),
        Finding("strong too", 8.0, "b"),
        Finding("not enough", 0.5, "c", n=50),
        Finding("no figure", 2.0),
        Finding("none either", 1.2),
    ]
    found = first_screen(findings)
    assert [one.text for one in found.shown] == ["strong", "no figure", "weak", "none either", "self-test"]
    assert [one.text for one in found.open] == ["not enough"]
    assert [one.text for one in first_screen(findings, most=2).shown] == ["strong", "no figure"]


def test_what_is_open_is_said_with_its_doubt_and_the_data_it_would_take():
    (open_,) = first_screen([Finding("It falls.", 0.5, n=96, doubt="It may fall.")]).open
    assert open_.text == "It may fall."
    assert open_.needs == "If it is as large as measured, about 390 samples would show it, not 96."  # 96 / 0.5 ** 2
    assert Finding("", 0.0, n=8, unit="pairs").needs == "How many pairs it would take cannot be said from 8."
    assert Finding("", 0.1).needs == ""
    assert "about 1 000 000 samples" in Finding("", 0.1, n=10_000).needs
    assert "such a difference, it would take more than 100 times these 100 samples." in Finding("", 0.05, n=100).needs


def test_the_largest_of_several_is_corrected_for_their_number():
    """Of 20 normal numbers without an effect the largest is shown in 5 % of draws at most (Bonferroni), not in 64 %."""
    z = np.random.default_rng(0).standard_normal((4000, 20))
    most = np.abs(z).max(axis=1)
    shown = [strength(value, value - 1.96, value + 1.96, of_several=20) > 1 for value in most]
    assert 0.03 < np.mean(shown) < 0.06 and np.mean(most > 1.96) > 0.5


def test_strength_of_p_is_one_at_five_percent():
    assert strength_of_p(0.05) == pytest.approx(1) and strength_of_p(0.005, of_several=10) == pytest.approx(1)
    assert strength_of_p(0.2, of_several=10) == 0 and strength_of_p(0.0) == math.inf


def test_two_numbers_are_apart_where_their_intervals_do_not_meet():
    one, other = pd.Series({"mean": 1.0, "low": 0.5, "high": 2.0}), pd.Series({"mean": 4.0, "low": 2.0, "high": 9.0})
    assert strength_apart(one, other) == strength_apart(other, one) == 1.0  # they touch
    assert math.isnan(strength_apart(one, other.replace(2.0, math.nan)))
