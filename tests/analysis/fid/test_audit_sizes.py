"""What a gaming audit compares has the same numbers of images, or says so and is not compared."""

import math

import numpy as np
import pytest
from tests.analysis.fid.feature_laws import draw_rectified

from scorescope.analysis.fid.frechet import distance_value
from scorescope.analysis.fid.gaming import PLAIN, REAL, FeaturePair, gaming_audit
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.verdicts import verdict
from scorescope.data.errors import InputError

ANY = match_histogram(np.zeros(300, int), np.zeros(1, int))  # keeps all


def pair(n, rng, **changes):
    rows = draw_rectified(n, rng, **changes)
    return FeaturePair(rows, rows[:, :3])


def frechet_row(table, arm):
    return table[(table["arm"] == arm) & (table["metric"] == "FD")].iloc[0]


@pytest.mark.parametrize("size", [110, 60, 220])
def test_halves_of_the_real_set_stand_at_the_sizes_of_the_arms(size):
    rng = np.random.default_rng(size)
    floors, fresh = [], []
    for _ in range(25):
        real, candidates = pair(240, rng), pair(size, rng)
        table = gaming_audit(candidates, real, {}, size=size, draws=2)
        floors.append(frechet_row(table, REAL)["value"])
        fresh += [distance_value(draw_rectified(size, rng), draw_rectified(240, rng)) for _ in range(6)]
    row = frechet_row(table, REAL)
    assert (row["n"], row["n_real"]) == (size, 240) and "scaled by 1/n1 + 1/n2" in row["note"]
    error = math.hypot(*(np.std(values) / math.sqrt(len(values)) for values in (floors, fresh)))
    assert abs(np.mean(floors) - np.mean(fresh)) < 3 * error < 0.25 * np.mean(fresh)
    near = table[(table["arm"] == REAL) & table["metric"].isin(["precision", "recall"])]
    assert near["change"].isna().all() and set(near["n"]) == {120}
    assert near["note"].str.contains("no rule scales").all()


def test_halves_too_small_to_scale_are_not_compared():
    rng = np.random.default_rng(0)
    table = gaming_audit(pair(60, rng), pair(40, rng), {}, size=30, draws=2)
    row = frechet_row(table, REAL)
    assert (row["n"], row["n_real"]) == (20, 20) and math.isnan(row["change"])
    assert "below other real" not in verdict(table, PLAIN).text


def test_arms_of_another_size_have_no_change():
    rng = np.random.default_rng(0)
    match = match_histogram(np.arange(200) % 4, np.array([0, 1]))  # keeps half
    table = gaming_audit(pair(200, rng), pair(200, rng), {"matched": match}, size=180, draws=2)
    row = frechet_row(table, "matched")
    assert row["n"] < 180 and math.isnan(row["change"]) and "other numbers of images" in row["note"]
    assert "in place of 180" in verdict(table, "matched").text
    few_spare = gaming_audit(pair(200, rng), pair(200, rng), {}, spare=pair(90, rng), size=180, draws=2)
    assert math.isnan(frechet_row(few_spare, REAL)["change"])


def test_a_set_below_real_images_is_called_so_and_real_ones_are_not():
    rng = np.random.default_rng(0)
    real = pair(600, rng)
    copies = FeaturePair(real.first[:300], real.second[:300])
    said = verdict(gaming_audit(copies, real, {"copies": ANY}, spare=pair(600, rng), size=290), "copies").text
    assert "below other real images of these numbers" in said and "290 against 600" in said
    above = gaming_audit(pair(300, rng, spread=1.5), real, {"spread": ANY}, size=290)
    assert "below other real" not in verdict(above, "spread").text


@pytest.mark.slow
def test_real_candidates_are_seldom_called_below_real_images():
    rng, called = np.random.default_rng(1), []
    for spare in [None, 320] * 100:
        more = None if spare is None else pair(spare, rng)
        table = gaming_audit(pair(300, rng), pair(320, rng), {"any": ANY}, spare=more, size=140)
        called.append("below other real" in verdict(table, "any").text)
    assert np.mean(called) <= 0.05
    print(f"called below real images: {np.mean(called):.3f} of {len(called)}")


def test_a_space_does_not_judge_itself():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="none confirms itself"):
        gaming_audit(pair(60, rng), pair(60, rng), {}, spaces=("pixels", "pixels"))
    with pytest.raises(InputError, match="audit"):
        verdict(gaming_audit(pair(60, rng), pair(60, rng), {}, draws=2).drop(columns="n_real"), PLAIN)
