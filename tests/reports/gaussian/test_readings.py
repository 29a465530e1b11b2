"""Sentences of the Gaussian report against tables whose answer is known; wider intervals claim less."""

import math
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.claims import check_sentences

from scorescope.analysis.gaussian.skip import FEWER_CALLS, FINER_STEPS
from scorescope.analysis.gaussian.training import nearest_step
from scorescope.reports.gaussian import readings


def with_ends(table, column, half, of=""):
    low, high = (f"{of}_{end}" if of else end for end in ("low", "high"))
    return table.assign(**{low: table[column] - half, high: table[column] + half})


def scores(half):
    table = pd.DataFrame({
        "metric": ["centred"] * 3 + ["score"], "approximation": "training set", "sigma": [0.04, 0.04, 1.0, 0.04],
        "query": ["held_out", "train", "train", "train"], "ratio_of_sums": [0.5, 0.01, 0.2, 0.9],
    })  # fmt: skip
    return with_ends(table, "ratio_of_sums", half, "ratio_of_sums")


def test_queries_stand_beside_their_intervals():
    text = readings.read_queries(scores(0.005), "training set")
    assert text == (
        "Against the training set at σ = 0.04 the fraction is, by query: held out 0.5 (95 % 0.49 to 0.51), train 0.01 "
        "(95 % 0.005 to 0.015)."
    )
    few = readings.read_queries(scores(math.nan), "training set")  # below 16 images
    assert few.endswith("by query: held out 0.5, train 0.01.") and check_sentences([text, few]) == 2


def test_the_first_sentence_stands_without_intervals():
    """Of few held-out images it said '(95 % nan to nan)'."""
    table = scores(math.nan).assign(approximation="gaussian")
    levels = pd.DataFrame({
        "sigma": [1.0, 0.04], "gaussian_is_best": False, "other_is_better": False, "network_error": False,
        "compared": "gaussian, isotropic", "margin": 0.01, "best": "gaussian", "reason": "network_error: few",
    })  # fmt: skip
    text = readings.read_laws(table, levels, 1.6, "gaussian")
    assert "at σ = 1 the Gaussian leaves 0.2." in text and not check_sentences([text])


def paths(half):
    errors = pd.DataFrame({
        "sigma": [80.0, 80.0, 4.9, 4.9], "quantity": ["state", "denoised"] * 2, "ratio_of_sums": [0.0, 0.0, 0.02, 0.1],
    })  # fmt: skip
    ends = pd.DataFrame({
        "ratio_of_sums": [0.3], "median": [0.2], "flips": [0.1], "flips_low": [0.05], "flips_high": [0.2],
    })  # fmt: skip
    return readings.read_paths(with_ends(errors, "ratio_of_sums", half), with_ends(ends, "ratio_of_sums", half))


def test_a_state_is_off_by_less_where_the_intervals_part():
    text = paths(0.01)
    assert "At σ = 4.9 the closed form's prediction is off by 0.1 (95 % 0.09 to 0.11) and its state by 0.02" in text
    assert "0.03), less; carried all the way, its samples are off by 0.3 (95 % 0.29 to 0.31), in the median" in text
    assert text.endswith("by 0.2, and 10% (95 % 5% to 20%) belong to another mode.") and check_sentences([text]) == 4
    assert all("not shown to be less" in paths(half) for half in (0.05, math.nan))
    assert check_sentences([paths(math.nan)]) == 1


def modes(levels, half=0.01, sizes=None):
    count = len(levels)
    sizes = np.arange(count, 0, -1.0) if sizes is None else sizes
    table = pd.DataFrame({"sqrt_eigenvalue": sizes, "sigma_network": np.asarray(levels, float)})
    return readings.read_emergence(with_ends(table, "sigma_network", half))


def test_modes_of_more_variance_come_earlier_or_are_not_shown_to():
    text = modes([8, 7, 6, 5, 4, 3, 2.2, 1.1])
    assert text == (
        "Modes of more variance appear earlier (Kendall's rank correlation 1.00, p = 2.5e-05) over 8 of 8 modes; they "
        "appear at 1.00 times the closed form's noise level in the median, and 2 of them are shown to appear above or "
        "below it (95 % each)."
    )
    assert "and 0 of them are shown" in modes([8, 7, 6, 5, 4, 3, 2.2, 1.1], 0.5)
    assert "No order by variance is shown (" in modes(np.arange(1, 9)) and "earlier" not in modes(np.arange(1, 9))
    assert "over 6 of 8 modes" in modes([math.nan, math.nan, 6, 5, 4, 3, 2, 1])
    assert "is known of 2 modes only" in modes([math.nan, 2, 1])


@pytest.mark.parametrize("count", [3, 4])
def test_modes_without_an_order_are_seldom_given_one(count):
    """Of three modes one order in six is theirs: it had p = 0."""
    assert np.mean(["appear earlier" in modes(levels) for levels in permutations(range(1, count + 1))]) <= 0.05


def test_modes_of_one_variance_have_no_order():
    for text in (modes([3, 2, 1], sizes=np.ones(3)), modes([2, 2, 2])):
        assert text.startswith("No order by variance is shown, as all") and not check_sentences([text])


def skips(half, *, fewer=1.0, finer=0.6, measured=5e-4):
    """Two jumps, and none, each spent both ways; the ratios of medians are those of the lower jump."""
    table = pd.DataFrame({
        "solver": "Heun", "steps": 18, "spent": [FINER_STEPS, FEWER_CALLS] * 3, "sigma_skip": [80, 80, 20, 20, 8, 8],
        "calls": [35, 35, 35, 29, 35, 25], "against_none": [1, 1, 0.9, 1.5, finer, fewer],
    })  # fmt: skip
    candidates = pd.DataFrame({
        "sigma": [57.0, 20.0], "measured_error": [1e-5, measured], "predicted_error": [2e-5, 2e-4],
        "in_range": [True, False],
    })  # fmt: skip
    candidates = with_ends(candidates, "measured_error", 1e-6)
    within = candidates[candidates["high"] <= 1e-3]
    advice = SimpleNamespace(table=candidates, sigma_skip=within["sigma"].min() if len(within) else 80.0)
    return readings.read_skips(with_ends(table, "against_none", half, "against_none"), advice, 1e-3)


def test_what_a_jump_saves_is_said_by_its_interval():
    text = skips(0.05)
    assert "25 calls do as well as 35 to 10%: median error 1 (95 % 0.95 to 1.05) times that without a skip" in text
    assert "; 35 calls spent below σ = 8 do better: median error 0.6 (95 % 0.55 to 0.65) times" in text
    assert text.endswith("4 intervals of 95 % each were looked at, not corrected for their number.")
    assert "may carry to σ = 20, where 0.0005 (95 % 0.0005 to 0.0005) is measured and the noise is too low" in text
    assert check_sentences([text]) == 3


def test_wider_intervals_save_less():
    text = skips(0.5)
    assert "no saving of calls is shown to cost at most 10% of the median error; 25 of 35 calls come nearest" in text
    assert "no finer steps below a jump are shown to do better; 35 calls spent below σ = 8 come nearest: med" in text
    assert "do as well" not in text and "do better:" not in text and check_sentences([text]) == 3


def test_a_jump_is_predicted_where_a_prediction_holds_and_else_none_is_shown():
    text = skips(0.05, measured=2e-3)
    assert "may carry to σ = 57, where 1e-05 (95 % 9e-06 to 1.1e-05) is measured and 2e-05 is predicted" in text
    none = SimpleNamespace(sigma_skip=80.0, table=pd.DataFrame({
        "sigma": [20.0, 57.0], "measured_error": [0.2, 0.1], "low": 0.05, "high": 0.3,
    }))  # fmt: skip
    assert readings._jump(none, 1e-3) == (
        "no jump is shown to keep the state's error within 0.001: at σ = 57, the highest of 2 levels, it is 0.1 (95 % "
        "0.05 to 0.3)"
    )


def test_gains_are_per_cent_of_each_schedule():
    summary = pd.DataFrame({"solver": ["Heun", "Euler"], "levels": [18, 35], "error": [0.047, 0.21]})
    assert "off by: Heun on 18 levels 4.7 %, Euler on 35 levels 21 % (root mean" in readings.read_gains(summary)


def dynamics(half, late=0.3):
    """At low noise the middle one of three snapshots is nearest; at high noise the last."""
    table = pd.DataFrame({
        "approximation": "gaussian", "metric": "centred", "sigma": [0.1] * 3 + [5.0] * 3,
        "training_step": [100, 400, 2000] * 2, "ratio_of_sums": [0.25, 0.2, late, 0.3, 0.2, 0.1],
    })  # fmt: skip
    return readings.read_dynamics(nearest_step(with_ends(table, "ratio_of_sums", half, "ratio_of_sums")), "gaussian")


def test_a_network_has_moved_away_where_the_intervals_part():
    """'Nearest at step 400' was said of a snapshot that is not told from the one before."""
    assert dynamics(0.04) == (
        "At σ = 0.1 the network was nearer to the Gaussian at step 400 than at the last of 3 snapshots; at σ = 5 none "
        "of 3 snapshots is shown to be nearer than the last (by their intervals it is the nearest)."
    )
    wide = dynamics(0.1)
    assert "At σ = 0.1, 5 none of 3 snapshots is shown to be nearer than the last" in wide
    assert wide.endswith("it is farther by at most 0.3).")  # 0.4 less 0.1
    assert dynamics(math.nan).endswith("than the last (no intervals).")
    assert "was nearer" not in dynamics(0.04, late=0.25)


def test_errors_on_training_and_fresh_points_are_those_of_their_denoiser():
    table = pd.DataFrame({
        "images": ["train", "held out"] * 2, "quantity": "error", "sigma": [0.2, 0.2, 1.0, 1.0],
        "mean": [0.1, 0.2, 9.0, 9.0],
    })  # fmt: skip
    tables = {"net": with_ends(table, "mean", 0.01), "memoriser": with_ends(table, "mean", math.nan)}
    text = readings.read_memory(tables, "net")
    assert "0.1 (95 % 0.09 to 0.11) on training and 0.2 (95 % 0.19 to 0.21) on held-out points for net" in text
    assert text.endswith("and 0.1 on training and 0.2 on held-out points for memoriser.")
    assert check_sentences([text]) == 2
