"""What a FID report can begin with: shown where a table's answer is known, open where its intervals leave it so."""

import math

import pandas as pd
import pytest
from tests.reports.fid.test_readings import rows

from scorescope.reports.fid import findings


def table(*parts):
    return pd.DataFrame([{"note": "too few", **row} for part in parts for row in part])


def test_distance_of_the_set_that_is_looked_into_and_who_is_nearest():
    found = findings.distances(table(rows("a", "first", 1.0, 0.5), rows("b", "first", 3.0, 0.5)), "first", "b")
    assert [one.is_shown for one in found] == [True, True]
    assert found[0].text == (
        "The images of b are 3 (2.5 to 3.5) from the real ones by FD without the bias of few images (as measured 3.2, "
        "16 times what as many real images would measure)."
    )
    assert found[0].strength == pytest.approx(6) and found[1].strength == pytest.approx(2)
    assert found[1].text.startswith(
        "The images of a are nearest to the real ones: FD without bias 1 (0.5 to 1.5), next b"
    )
    close = findings.distances(table(rows("a", "first", 1.0, 0.5), rows("b", "first", 1.5, 0.5)), "first", "a")
    assert not close[1].is_shown and close[1].doubt.endswith("the two are not told apart.")


def test_a_distance_without_an_interval_is_open_with_its_reason():
    (one,) = findings.distances(table(rows("a", "first", math.nan, math.nan, value=2.0)), "first", "a")
    assert not one.is_shown and one.doubt == "No FD without bias: too few."


def classes(fake, real):
    counts = pd.DataFrame({"class_name": ["cat", "dog", "eel"], "n_fake": fake, "n_real": real})
    shares = {f"share_{side}": counts[f"n_{side}"] / counts[f"n_{side}"].sum() for side in ("fake", "real")}
    counts = counts.assign(**shares, gap=shares["share_fake"] - shares["share_real"])
    return counts.sort_values("gap", key=abs, ascending=False, kind="stable")


def test_the_largest_gap_of_classes_is_corrected_for_their_number():
    (clear,) = findings.largest_gap(classes([60, 20, 20], [20, 40, 40]))
    assert clear.is_shown and clear.text.startswith("40.0% more of the generated images than of the real ones")
    (chance,) = findings.largest_gap(classes([30, 36, 34], [44, 28, 28]))  # p = 0.057 of one, 0.17 of three
    assert not chance.is_shown and "no more than chance leaves" in chance.doubt


def audit(*parts):
    columns = ("arm", "metric", "value", "low", "high", "n", "n_real", "draws", "effective_size")
    rows = pd.DataFrame([dict(zip(columns, part, strict=True)) for part in parts])
    return rows.assign(space="s", change=0.0, note="")


PLAIN = ("random choice", "FD", 2.0, 1.8, 2.2, 100, 300, 5, 400.0)
SECOND = ("random choice", "second FD", 4.0, 3.8, 4.2, 100, 300, 5, 400.0)


def test_choice_that_lowers_the_distance():
    arm = [("matched", "FD", 1.0, 0.9, 1.1, 100, 300, 5, 350.0), ("matched", "second FD", 4.4, 4, 5, 100, 300, 5, 350)]
    real = [("other real images", "FD", 0.5, 0.4, 0.6, 100, 300, 5, math.nan)]
    (found,) = findings.by_choice(audit(PLAIN, SECOND, *arm, *real))
    assert found.text.startswith(
        "Choosing among the images alone (matched, worth 350 of 400) takes FD from 2 (1.8 to 2.2) to 1 (0.9 to 1.1) in "
        "draws of 100 images, while that of a second feature space is measured 10% higher"
    )
    assert found.strength == pytest.approx(1.0 / 0.3) and found.own_data
    worse = [("matched", "FD", 2.5, 2.4, 2.6, 100, 300, 5, 350.0), arm[1]]
    assert findings.by_choice(audit(PLAIN, SECOND, *worse)) == []
    other_size = [(*arm[0][:5], 50, 300, 5, 350.0), arm[1]]
    assert findings.by_choice(audit(PLAIN, SECOND, *other_size)) == []  # another number of images has another bias


def test_groups_and_masks():
    groups = pd.DataFrame(
        {"group": ["a", "b"], "influence": [3.0, 1.0], "low": [1.0, -1], "high": [5.0, 3], "total_share": [0.6, 0.1],
         "n": [10, 12]}
    )  # fmt: skip
    (found,) = findings.strongest_group(groups, "place")
    assert found.is_shown and "Images of place a raise FD most: each by an influence of 3 (1 to 5)" in found.text
    assert not findings.strongest_group(groups.assign(low=0.2), "place")[0].is_shown  # not as the larger of two
    mask = {"region": "sky", "sensitivity_share": 0.5, "low": 0.4, "high": 0.6, "area_share": 0.2, "n": 30}
    (inside,) = findings.inside_mask(pd.DataFrame([mask]))
    assert inside.strength == pytest.approx(3) and "50.0% (40.0% to 60.0%)" in inside.text
    (even,) = findings.inside_mask(pd.DataFrame([{**mask, "area_share": 0.45}]))
    assert not even.is_shown


def test_the_self_test_is_told_as_one():
    row = {"network": "accessory", "region": "accessory", "sensitivity_share": 0.9, "low": 0.8, "high": 0.95}
    (found,) = findings.planted(pd.DataFrame([{**row, "area_share": 0.2, "n": 100}]))
    assert not found.own_data and found.is_shown and found.text.startswith("Self-test with a known answer: 90.0%")
