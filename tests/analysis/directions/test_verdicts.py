"""Verdicts on directions are wrong as often as they say: simulated directions that are no better than their controls.

Rates are counts of `DRAWS` independent draws; they may exceed the stated level by three of its binomial standard
errors, which one test in 700 does by chance (the draws are fixed).
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control, t

from scorescope.analysis.directions import judge_together
from scorescope.analysis.directions.steering_tables import Responses
from scorescope.analysis.directions.verdicts import false_discovery, holm, margin_of, verdict_table
from scorescope.analysis.statistics.bootstrap import SeedDraws
from scorescope.data import InputError

DRAWS = 1000
WHERE = {"attribute": "a", "method": "m", "site": "s", "sigma_low": 0.0, "sigma_high": 80.0, "log_snr": -8.0}


def names(random, *, shuffled=True):
    return ["direction", *(["shuffled"] * shuffled), *[f"random {k + 1}" for k in range(random)]]


def exchangeable(draws, random, seeds, noise, *, common=0.0):
    """Effects of a direction and its controls, all drawn from one law; (draw, seed, arm)."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(draws, 1, random + 2))
    shared = common * rng.normal(size=(draws, seeds, 1))  # what seeds have in common turns with the arm's sign
    return true * (1 + shared) + noise * rng.normal(size=(draws, seeds, random + 2))


def bound(level, draws=DRAWS):
    return level + 3 * math.sqrt(level * (1 - level) / draws)


def rate(events):
    return float(np.mean(events))


def responses(effects, arms):
    values = np.stack([-effects / 2, np.zeros_like(effects), effects / 2], axis=2)[..., None]
    return Responses(WHERE, arms, np.array([-3.0, 0.0, 3.0]), ["target"], values, np.full(values.shape[:3], 0.1))


def table(effects, arms, relevant=0.0):
    return verdict_table(
        responses(effects, arms), SeedDraws.of(len(effects), resamples=20), budget=1.0, relevant=relevant
    )


@pytest.mark.parametrize(("noise", "common"), [(0.1, 0.0), (1.0, 0.0), (3.0, 0.0), (0.1, 0.5)])
@pytest.mark.parametrize(("random", "seeds"), [(2, 10), (5, 10), (8, 24), (4, 48)])
def test_a_direction_like_its_controls_is_rarely_said_to_move(random, seeds, noise, common):
    arms = names(random)
    found = [margin_of(effects, arms) for effects in exchangeable(DRAWS, random, seeds, noise, common=common)]
    assert rate([margin.p_moves <= 0.05 for margin in found]) <= bound(0.05)


def test_the_law_of_random_directions_is_met_exactly():
    # without seed noise the ratio is Student's t: its p-value is uniform, whatever the number of directions
    for random in (2, 5, 8):
        arms = names(random)
        p = np.array([margin_of(effects, arms).p_random for effects in exchangeable(DRAWS, random, 2, 0.0)])
        for level in (0.01, 0.05, 0.2, 0.5):
            assert rate(p <= level) == pytest.approx(level, abs=3.3 * math.sqrt(level * (1 - level) / DRAWS))


def test_the_tables_verdicts_are_these_rates():
    arms, count = names(2), 200
    found = [table(effects, arms)["verdict"].iloc[0] for effects in exchangeable(count, 2, 10, 0.1)]
    assert 0 < sum(name in ("steerable", "reversed") for name in found) / count <= bound(0.05, count)
    assert set(found) <= {"steerable", "reversed", "undecided", "not steerable"}


@pytest.mark.parametrize("seeds", [8, 24])
def test_seeds_that_scatter_are_not_taken_for_an_effect(seeds):
    # no mean effect, but every seed goes its own way, twenty times as far as under random directions
    rng, arms = np.random.default_rng(1), names(8)
    effects = 0.05 * rng.normal(size=(DRAWS, seeds, len(arms)))
    effects[:, :, 0] = rng.normal(size=(DRAWS, seeds))
    found = [margin_of(given, arms) for given in effects]
    assert rate([margin.p_random <= 0.05 for margin in found]) > 0.5  # what more seeds alone would not catch
    assert rate([margin.p_moves <= 0.05 for margin in found]) <= bound(0.05)


def test_a_map_of_directions_like_their_controls_is_free_of_error_in_95_of_100():
    arms, cells, maps = names(5), 60, 100
    found = exchangeable(cells * maps, 5, 10, 0.3)
    p = np.array([margin_of(effects, arms).p_moves for effects in found]).reshape(maps, cells)
    assert rate((p <= 0.05).any(1)) > 0.8  # uncorrected, nearly every map has a false find
    assert rate([(holm(row) <= 0.05).any() for row in p]) <= bound(0.05, maps)


def test_not_steerable_is_rarely_said_of_what_is_at_the_bar():
    rng, arms = np.random.default_rng(2), names(5)
    noise = 0.5 * rng.normal(size=(DRAWS, 12, len(arms)))
    bars = np.array([1.0, 1.0, 0.2, -0.3, 0.1, 0.0, 0.3])
    at_control = [margin_of(given + bars, arms) for given in noise]
    assert rate([margin.p_below <= 0.05 for margin in at_control]) <= bound(0.05)
    at_size = [margin_of(given + bars * (np.arange(7) == 0), arms, relevant=1.0) for given in noise]
    assert rate([margin.p_below <= 0.05 for margin in at_size]) <= bound(0.05)


def test_intervals_cover_the_margin():
    rng, arms = np.random.default_rng(3), names(3)
    true = np.array([-1.3, 0.8, 0.1, -0.7, 0.2])  # margin 0.5
    found = [margin_of(true + 0.6 * rng.normal(size=(10, 5)), arms) for _ in range(DRAWS)]
    assert rate([not margin.low <= 0.5 <= margin.high for margin in found]) <= bound(0.05)
    assert rate([not margin.effect_low <= -1.3 <= margin.effect_high for margin in found]) <= bound(0.05)
    assert all(margin.low <= margin.value <= margin.high for margin in found)
    # the interval and its p-values say the same
    assert all((margin.low > 0) == (margin.p_above < 0.05) for margin in found)
    assert all((margin.high < 0) == (margin.p_below < 0.05) for margin in found)


def test_clear_cases_are_found():
    rng = np.random.default_rng(4)
    noise, arms = 0.2 * rng.normal(size=(10, 7)), names(5)
    random = np.array([0.0, 0.1, 0.1, -0.1, 0.05, 0.0, -0.1])
    clear = table(noise + random + 3.0 * (np.arange(7) == 0), arms, relevant=0.2).iloc[0]
    assert clear["verdict"] == "steerable" and clear["p"] < 0.001
    assert table(-noise - random - 3.0 * (np.arange(7) == 0), arms)["verdict"].tolist() == ["reversed"]
    small = table(noise / 5 + random / 5, arms, relevant=0.2).iloc[0]
    assert small["verdict"] == "not steerable" and small["bar"] == "relevant size" and small["high"] < 0
    beaten = table(noise + random + 3.0 * (np.arange(7) == 1), arms).iloc[0]
    assert beaten["verdict"] == "not steerable" and beaten["bar"] == "shuffled"
    # above its controls by 2.0 (-0.1 to 4.1): not shown, and not refuted either
    rough = noise + random
    rough[:, 0] += 2.0 + 3.0 * np.linspace(-1.5, 1.5, 10)
    unsure = table(rough, arms).iloc[0]
    assert unsure["low"] < 0 < unsure["margin"] and unsure["verdict"] == "undecided"


def test_verdicts_judged_together_are_corrected():
    rng, arms = np.random.default_rng(5), names(5)
    random = np.array([0.0, 0.1, 0.1, -0.1, 0.05, 0.0, -0.1])
    rows = [table(0.3 * rng.normal(size=(10, 7)) + random + size * (np.arange(7) == 0), arms) for size in (0.0, 0.6, 4)]
    alone = pd.concat(rows, ignore_index=True)
    assert alone["family"].tolist() == [1, 1, 1] and alone["verdict"].tolist()[1:] == ["steerable", "steerable"]
    together = judge_together(rows * 20)
    assert set(together["family"]) == {60} and (together["p_adjusted"] >= together["p"]).all()
    assert together["verdict"].tolist()[:3] == ["undecided", "undecided", "steerable"]
    pd.testing.assert_frame_equal(judge_together(judge_together(rows)), judge_together(alone))


def test_holm_against_its_definition():
    p = np.array([0.01, 0.04, 0.03, 0.005, np.nan])
    # 5 tests: 0.005 * 5, 0.01 * 4, 0.03 * 3, max(that, 0.04 * 2)
    np.testing.assert_allclose(holm(p), [0.04, 0.09, 0.09, 0.025, np.nan])
    drawn = np.random.default_rng(6).uniform(size=50) ** 3
    assert (holm(drawn) >= false_discovery_control(drawn)).all() and (holm(drawn) <= np.minimum(50 * drawn, 1)).all()


def test_a_screening_keeps_the_share_of_wrong_finds():
    # maps of 20 directions that move and 40 that do not: the mean share of the latter among the finds
    arms, maps = names(5), 60
    effects = exchangeable(60 * maps, 5, 10, 0.3).reshape(maps, 60, 10, -1)
    effects[:, :20, :, 0] += 6
    p = np.array([[margin_of(cell, arms).p_moves for cell in cells] for cells in effects])
    finds = np.array([false_discovery(row) <= 0.05 for row in p])
    wrong = finds[:, 20:].sum(1) / np.maximum(finds.sum(1), 1)
    assert wrong.mean() <= 0.05 + 3 * wrong.std() / np.sqrt(maps)
    assert finds[:, :20].mean() > 0.5 > np.mean([holm(row)[:20] <= 0.05 for row in p])


def test_corrections_of_a_table():
    rng, arms = np.random.default_rng(7), names(5)
    random = np.array([0.0, 0.1, 0.1, -0.1, 0.05, 0.0, -0.1])
    rows = [table(0.3 * rng.normal(size=(10, 7)) + random + 0.7 * (np.arange(7) == 0), arms) for _ in range(20)]
    strict, loose = judge_together(rows), judge_together(rows, correction="fdr")
    assert set(strict["correction"]) == {"holm"} and set(loose["correction"]) == {"fdr"}
    np.testing.assert_allclose(loose["p_adjusted"], false_discovery_control(loose["p"]))
    assert (loose["p_adjusted"] <= strict["p_adjusted"]).all()
    assert (loose["verdict"] == "steerable").sum() > (strict["verdict"] == "steerable").sum()
    np.testing.assert_allclose(false_discovery(np.array([0.01, np.nan, 0.02])), [0.03, np.nan, 0.03])
    with pytest.raises(InputError, match="holm or fdr"):
        judge_together(rows, correction="bonferroni")


def test_degenerate_effects():
    arms = names(2, shuffled=False)
    still = margin_of(np.zeros((8, 3)), arms)
    assert still.p_random == 1 and still.p_above == 1 and still.value == 0
    alone = margin_of(np.array([[1.0, 0.0, 0.0]] * 8), arms)
    assert alone.p_random == 0 and alone.p_above == 0 and alone.low == alone.high == 1
    no_arm = margin_of(np.ones((8, 2)) * [1.0, 0.5], ["direction", "shuffled"])
    assert math.isnan(no_arm.p_moves) and math.isnan(no_arm.chance)
    exact = margin_of(np.array([[1.0, 0.5, -0.5]] * 8), arms)
    assert exact.p_random == pytest.approx(2 * t.sf(2.0, 2))
