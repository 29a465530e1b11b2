"""Sentences against tables whose answer is known; and fewer samples, that is wider intervals, never claim more."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from tests.claims import check_sentences

from scorescope.analysis.guidance.effects import EFFECTS
from scorescope.data.errors import InputError
from scorescope.reports.guidance import readings
from scorescope.reports.guidance.runs import pick

SIGMAS = (80.0, 20.0, 5.0, 1.0, 0.2)
FLOORS = {"norm_floor": 1e-6, "cos_floor": 1e-9, "cos_eps_floor": 1e-9, "chance_share": 0.1}


def curve(quantity, means, half=0.1, *, rule="CFG", weight=4.0, missing=""):
    """A summary of one quantity; intervals reach `half` to either side."""
    means = np.broadcast_to(np.asarray(means, float), len(SIGMAS))
    keys = {
        "rule": rule,
        "weight": weight,
        "call": 0,
        "step": range(len(SIGMAS)),
        "sigma": SIGMAS,
        "quantity": quantity,
    }
    unknown = np.where(np.isnan(means), missing, "")
    return pd.DataFrame(keys | {"mean": means, "low": means - half, "high": means + half, "missing": unknown})


def steps(*curves):
    floors = [curve(name, value, 0.0) for name, value in FLOORS.items()]
    return pd.concat([*curves, *floors], ignore_index=True)


def update(means, half=0.1):
    parts = [curve(f"{part}_norm", 0.5 * np.asarray(means), half) for part in ("orthogonal", "parallel")]
    return steps(curve("update_norm", means, half), *parts)


def levels(text, words):
    """The two ends of a range of noise levels, or the one level, after some words."""
    found = re.search(rf"{words} σ = ([\d.]+)(?: to ([\d.]+))?", text)
    return None if found is None else (float(found[1]), float(found[2] or found[1]))


def test_the_largest_update_is_placed_as_far_as_its_intervals_tell():
    text = readings.read_update(update([1.0, 2.0, 9.0, 8.5, 1.0], half=0.2), 4.0)
    assert "largest at σ = 5 (norm 9, 95 % interval 8.8 to 9.2)" in text and "somewhere" not in text
    assert levels(text, "half of that within") == (1.0, 5.0) and "orthogonal part has norm 4.5 (4.3 to 4.7)" in text
    assert levels(readings.read_update(update([1, 2, 9, 8.5, 1], 0.4), 4.0), "somewhere within") == (1.0, 5.0)
    alone = readings.read_update(update([1.0, 2.0, 9.0, 1.0, 1.0]), 4.0)
    assert levels(alone, "half of that at") == (5.0, 5.0)


def test_a_range_stops_at_the_first_level_below_half():
    text = readings.read_update(update([8.0, 1.0, 9.0, 8.5, 1.0]), 4.0)
    assert levels(text, "half of that within") == (1.0, 5.0)  # not up to 80, where it is large again


def test_wider_intervals_place_the_update_less():
    means, half, where = [3.0, 6.0, 9.0, 8.5, 1.0], [], []
    for width in (0.01, 0.2, 0.5, 1.0, 2.0, 6.0):
        text = readings.read_update(update(means, width), 4.0)
        half.append(levels(text, "half of that (?:within|at)"))
        where.append(levels(text, "somewhere within") or (5.0, 5.0))
        check_sentences([text])
    spans = [0 if ends is None else SIGMAS.index(ends[0]) - SIGMAS.index(ends[1]) + 1 for ends in half]
    assert spans == sorted(spans, reverse=True) and spans[0] == 3 and spans[-1] == 0
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(where))
    assert where[0] == (5.0, 5.0) and where[-1] == (0.2, 80.0)
    one = readings.read_update(update(means, np.nan), 4.0)  # of one sample
    assert levels(one, "somewhere within") == (0.2, 80.0) and "left open by its intervals" in one


def test_an_update_within_rounding_is_not_shown():
    text = readings.read_update(update(5e-7, 1e-8), 4.0)
    assert text.startswith("No update is shown") and "rounding alone gives 1e-06" in text


def share(means, half=0.01, *, norms=1.0, centred=0.3, left=1.0, missing=""):
    table = steps(
        curve("update_norm", norms), curve("parallel_share", means, half, missing="both branches are the same")
    )
    without = [curve("centred_parallel_share", centred, half, missing=missing), curve("centred_update_norm", left)]
    return readings.read_share(table, pd.concat(without, ignore_index=True), 4.0)


def test_the_share_is_set_against_chance_where_it_is_known():
    text = share([0.1, 0.2, np.nan, 0.4, np.nan])
    assert "peaks at 0.4 (95 % interval 0.39 to 0.41) at σ = 1, 4 times the chance level 0.1;" in text
    assert (
        "removed it is 0.3 (0.29 to 0.31) there; at 2 of 5 levels none is known (both branches are the same)." in text
    )
    assert "does not tell it" in share([0.1, 0.2, 0.1, 0.4, 0.1], half=0.31)
    assert "does not tell it" not in share(0.05)  # told from chance, below it
    assert "nothing" not in text and check_sentences([text]) == 2


@pytest.mark.parametrize(("means", "norms", "why"), [
    (np.nan, 0.0, "both branches are the same"), (0.4, 5e-7, "no update beyond rounding"),
])  # fmt: skip
def test_a_share_of_nothing_is_not_known(means, norms, why):
    text = share(means, norms=norms)
    assert text == f"Under CFG at w = 4 no parallel share is known at any noise level: {why}."


def test_levels_within_rounding_have_no_share():
    text = share([0.9, 0.2, 0.3, 0.1, 0.1], norms=[5e-7, 1.0, 1.0, 1.0, 1.0])
    assert "peaks at 0.3 " in text and "at 1 of 5 levels none is known (no update beyond rounding)" in text


def test_a_share_without_the_mean_says_why_there_is_none():
    assert "removed it has no value (D_c is its channel means alone) there" in share(
        0.4, centred=np.nan, missing="D_c is its channel means alone"
    )
    assert "removed no update is left beyond rounding there" in share(0.4, left=1e-7)


def test_branches_point_apart_only_beyond_rounding():
    table = steps(
        curve("one_minus_cos_denoised", [0.1, 0.5, 0.2, 0.1, 0.0], 0.05), curve("one_minus_cos_eps", 1e-10, 0)
    )
    text = readings.read_cosine(table, 4.0)
    assert "with 0.5 (0.45 to 0.55) at σ = 20, in denoised space, and nowhere beyond rounding in eps space" in text


def test_a_gain_is_read_beside_a_rule_that_is_not_there():
    gains = curve("applied_gain", [1, 2, 3, 2, 1], weight=8.0)
    assert "up to 3 (95 % interval 2.9 to 3.1), at σ = 5." in readings.read_gain(gains, 8.0)
    both = pd.concat([gains, curve("applied_gain", 1.0, 0.0, rule="APG", weight=8.0)])
    assert "APG scales it by 1 (1 to 1) there" in readings.read_gain(both, 8.0)


def test_a_product_of_gains_is_told_as_far_as_it_is_known():
    path = curve("path_gain", [1.0, 2.0, 3.0, np.nan, np.nan])
    assert "3 (2.9 to 3.1) under CFG at w = 4 (known down to σ = 5)." in readings.read_gain_path(path, [("CFG", 4.0)])
    whole = curve("path_gain", [1.0, 2.0, 3.0, 4.0, 5.0])
    assert readings.read_gain_path(whole, [("CFG", 4.0)]).endswith("comes to 5 (4.9 to 5.1) under CFG at w = 4.")
    assert "nothing that is known" in readings.read_gain_path(curve("path_gain", np.nan), [("CFG", 4.0)])


def parting(means, half):
    table = curve("distance", means, half)
    table = table.assign(separated=table["low"] > 0.01)
    rows = table[table["separated"]].head(1).assign(which="first", setting="other")
    return readings.read_parting(rows, {"other": table}, "base", 0.01)


def test_paths_part_stay_together_or_neither_is_shown():
    assert "other by step 2 (σ = 5), in the mean up to 4 (3.9 to 4.1) σ, at step 4" in parting([0, 0, 1, 2, 4], 0.1)
    assert "other by no more than 0.01 σ at any step" in parting(0.001, 0.005)
    assert "other not shown by more than 0.01 σ" in parting(0.001, 0.1)
    assert "other not shown by more than 0.01 σ" in parting(0.001, np.nan)  # one pair
    # what is shown of few pairs is shown of many
    claims = [parting(0.05, half).split("other ")[1].split(",")[0] for half in (0.01, 0.03, 0.05, 0.5)]
    assert claims == ["by step 0 (σ = 80)"] * 2 + ["not shown by more than 0.01 σ"] * 2


def information(total, half, *, bound=0.6931, missing=""):
    low, high = total - half, total + half
    curve = pd.DataFrame({"sigma": [1.0], "information": total, "information_low": low, "information_high": high})
    ends = {f"{end}{part}": [1.0 if end == "low" else 9.0] for end in ("low", "high") for part in ("", "_low", "_high")}
    interval = pd.DataFrame(ends | {"share": [0.9], "information": [0.693], "missing": [missing]})
    return readings.read_information(curve.assign(bound=bound), interval)


def test_information_beyond_the_entropy_is_told_only_of_its_interval():
    assert "against 0.693 that the sampled labels have." in information(0.6, 0.1)
    beyond = "by its interval at least 0.21 nats more than labels in these shares can tell"
    assert beyond in information(1.0, 0.1) and "more than" not in information(1.0, 0.4)
    assert information(0.6, 0.1).startswith("90% of what the condition tells is told")
    # the interval is of what the labels can tell, not of the whole
    assert information(1.0, 0.1).startswith(
        "90% of the first 0.693 nats, which are all that the sampled labels have, is"
    )
    assert information(1.0, 0.1, bound=np.nan).endswith("in all 1 (0.9 to 1.1) nats.")
    assert "told between σ = 9 (9 to 9) and 1 (1 to 1)" in information(0.6, 0.1)
    assert information(0.6, 0.1, missing="few").startswith("No interval is suggested (few); in all 0.6 (0.5 to 0.7)")


def test_a_strongest_band_is_told_from_the_others_or_not():
    def text(half, mean=(1.0, 2.0)):
        parts = [
            curve("update_norm", value, half).assign(band=band, low_frequency=0.25 * band, high_frequency=1.0)
            for band, value in enumerate(mean)
        ]
        return readings.read_bands(pd.concat(parts))

    assert "at σ = 80 in the band from 0.25 cycles a pixel up, and" in text(0.1)
    assert all("up (not told from all others)" in text(half) for half in (0.6, np.nan))
    assert "at σ = 80 in none, and at σ = 0.2 in none" in text(0.0, (0.0, 0.0))


def test_a_metric_without_an_interval_stands_alone():
    table = pd.DataFrame({
        "metric": "frechet", "rule": "CFG", "weight": [1.0, 8.0], "value": [3.0, 5.0], "low": np.nan, "high": np.nan,
    })  # fmt: skip
    text = readings.read_metric(table, "frechet", "The distance")
    assert text == "The distance goes from 3 at w = 1 to 5 at w = 8 under CFG."
    assert "nothing is compared" in readings.read_metric(table.head(1), "frechet", "The distance")


def test_images_are_compared_where_both_weights_are_there():
    keys = {"rule": "CFG", "weight": [1.0, 8.0], "low": [0.01, 0.2], "high": [0.03, 0.4]}
    images = pd.DataFrame(keys | {"quantity": "overshoot_share", "mean": [0.02, 0.3]})
    assert "under CFG from 2.0% (1.0% to 3.0%) at w = 1 to 30.0% (20.0% to 40.0%) at w = 8." in readings.read_overshoot(
        images, 1.0, 8.0
    )
    assert "nothing is compared" in readings.read_overshoot(images.tail(1), 1.0, 8.0)
    assert "contrast is not known." in readings.read_contrast(images, 8.0)
    assert "0.3 (0.2 to 0.4) under CFG." in readings.read_contrast(images.assign(quantity="contrast"), 8.0)
    samples = {("CFG", 1.0): torch.zeros(2, 3), ("CFG", 8.0): torch.ones(2, 3)}
    assert "move by an RMS of 1 under CFG." in readings.read_samples(samples, 1.0, 8.0)
    assert "nothing is compared" in readings.read_samples({("CFG", 1.0): torch.zeros(2, 3)}, 1.0, 8.0)


def test_the_cheapest_of_the_front_are_all_named():
    front = pd.DataFrame({"setting": ["a", "b", "c"], "calls": [10.0, 10.0, 5.0], "pareto": [True, True, False]})
    assert "2 of 3 settings are not dominated by the values; with the fewest calls of them, 10 a sample: a; b." in (
        readings.read_front(front)
    )
    assert readings.read_front(front.head(0)) == "No setting has all of the values that are compared."


def savings(half, n=30, first_look=0.0):
    saved = np.array([0.1, 0.3])
    return readings.read_savings(pd.DataFrame({
        "setting": [f"adaptive, threshold {value}" for value in (0.98, 0.991)], "n": n, "calls_saved": saved,
        "saved_low": saved - half, "saved_high": saved + half, "first_look": first_look, "change": 0.4, "low": 0.3,
        "high": 0.5,
    }))  # fmt: skip


def test_a_saving_is_shown_by_its_interval_and_of_enough_samples():
    assert "saves up to 30.0% (25.0% to 35.0%) of the calls" in savings(0.05) and "shown at 0.991." in savings(0.05)
    assert "shown at none of the thresholds" in savings(0.15) and "shown at none of the thresholds" in savings(np.nan)
    assert "shown at none of the thresholds" in savings(0.0, n=6)  # six that agree are no certainty
    assert "first look" not in savings(0.05) and "at the first look" in savings(0.05, first_look=1.0)


def test_effects_say_what_is_shown_and_how_few_are_too_few():
    values = ("e", "calls", "a", "b", "below -1", 6, -2.0, -2.0, -2.0, "too few pairs")
    found = pd.DataFrame([values], columns=EFFECTS.names)
    text = readings.read_effects(found, ["f"])
    assert "e: not shown (calls of a less b is -2 (-2 to -2), claimed below -1: too few pairs, 6 where" in text
    assert "an interval takes 8" in text and text.endswith("f: not tested, for a metric or a setting of it is missing.")
    assert "e: shown" in readings.read_effects(found.assign(verdict="shown"))
    within = readings.read_effects(found.assign(claimed="within ±0.02", metric="score"))
    assert "class agreement of a" in within and "even without a single difference it takes 189" in within


def test_a_run_or_a_quantity_that_is_not_there_is_no_empty_table():
    steps = pd.DataFrame({"rule": "CFG", "weight": 4.0, "quantity": "update_norm", "call": [0, 1], "mean": 1.0})
    assert len(pick(steps, "update_norm", "CFG", 4.0)) == 1
    for words, run in (("'APG' at 4", ("update_norm", "APG", 4.0)), ("'CFG' at 2", ("update_norm", "CFG", 2.0))):
        with pytest.raises(InputError, match=f"{words}, of which no row is in the table; expected .*'CFG' at 4"):
            pick(steps, *run)
    with pytest.raises(InputError, match="quantity: found 'gain'; expected one of its quantities: update_norm"):
        pick(steps, "gain", "CFG", 4.0)
