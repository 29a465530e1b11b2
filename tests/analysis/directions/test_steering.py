"""Steering: a planted unit moves the attribute and its decoy does not; the better reader is the worse mover."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from tests.planted import Nuisance, Planted, gain_of, scores, unit_direction

from scorescope.analysis import steer_curve
from scorescope.analysis.directions import delays, steering_effect, windows
from scorescope.analysis.directions.steering_tables import spearman
from scorescope.data.errors import InputError
from scorescope.probes import CFG, Direction, Interval
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Heun, Sampling
from scorescope.probes.sites import random_directions, shuffled_direction

SIGMAS = edm_sigmas(8)
FAST = Sampling(solver=Euler(), sigmas=SIGMAS)
LABELS = torch.arange(16) % 2


def steer(denoiser, direction, **more):
    given = {"target": "attribute", "seeds": range(16), "sampling": FAST, "progress": False, "resamples": 300}
    return steer_curve(denoiser, direction, scores, **(given | more))


def arm(curve, quantity, name="direction"):
    table = curve.arms
    return table[(table["arm"] == name) & (table["quantity"] == quantity)].iloc[0]


def test_the_planted_unit_moves_the_attribute_and_the_decoy_does_not():
    wide, given = Planted(idle=61), {"condition": LABELS, "strengths": (-2, -1, 1, 2)}
    gate, decoy = (steer(wide, unit_direction(unit, idle=61), **given) for unit in (0, 1))
    verdict = gate.verdicts.iloc[0]
    assert verdict["verdict"] == "steerable" and verdict["low"] > 0 and verdict["effect"] > 0
    assert verdict["p"] < 1e-3 and verdict["random"] == 8
    # a coordinate of a random direction in 64 dimensions has the standard deviation 1/8
    assert verdict["chance"] == pytest.approx(verdict["effect"] / 8, rel=0.6)
    # the linear denoiser forgets the start noise up to its gain, and takes the mean for the rest
    slope = arm(gate, "slope")
    assert slope["value"] == pytest.approx(1.0, abs=0.02) and slope["low"] <= slope["value"] <= slope["high"]
    assert arm(gate, "spearman")["value"] == pytest.approx(1.0)
    assert arm(gate, "disentanglement")["value"] > 0.97
    assert decoy.verdicts["verdict"].tolist() == ["not steerable"]
    assert arm(decoy, "slope")["value"] == 0 and arm(decoy, "spearman")["value"] == 0
    assert decoy.verdicts["high"].iloc[0] < 0  # random directions hold a part of the gate


def test_a_direction_pushed_the_other_way_is_reversed():
    given = {"condition": LABELS, "strengths": (-1, 1)}
    other_way = Direction(-torch.eye(64)[0], "units", "attribute", "planted", scale=1.0)
    verdict = steer(Planted(idle=61), other_way, **given).verdicts.iloc[0]
    assert verdict["verdict"] == "reversed" and verdict["effect"] < 0 < verdict["low"]


def test_few_dimensions_or_directions_show_little():
    # each of three dimensions is a third of any random direction's effect: too large a share to tell from chance
    given = {"condition": LABELS, "strengths": (-1, 1)}
    assert steer(Planted(), unit_direction(0), random=4, **given).verdicts["verdict"].tolist() == ["undecided"]
    alone = steer(Planted(idle=61), unit_direction(0, idle=61), random=0, shuffled=unit_direction(1, idle=61), **given)
    row = alone.verdicts.iloc[0]
    assert row["verdict"] == "undecided" and row["low"] > 0 and math.isnan(row["p"]) and math.isnan(row["p_adjusted"])


def test_a_relevant_size_counts_as_a_bar():
    given = {"condition": LABELS, "strengths": (-1, 1), "natural": {"attribute": 1.0, "other": 1.0}}
    found = {
        relevant: steer(Planted(idle=61), unit_direction(0, idle=61), relevant=relevant, **given).verdicts.iloc[0]
        for relevant in (0.0, 1.0, 3.0)
    }  # its effect is 2
    assert [row["verdict"] for row in found.values()] == ["steerable", "steerable", "not steerable"]
    assert found[3.0]["bar"] == "relevant size" and found[3.0]["margin"] == pytest.approx(-1.0, abs=0.02)
    assert found[1.0]["margin"] == pytest.approx(1.0, abs=0.02)
    decoy = steer(Planted(idle=61), unit_direction(1, idle=61), relevant=0.2, **given).verdicts
    assert decoy["verdict"].tolist() == ["not steerable"]


def test_intervals_of_one_curve_are_a_family():
    found = steer(
        Planted(idle=61), unit_direction(0, idle=61), condition=LABELS, strengths=(-1, 1), intervals=windows(SIGMAS, 3)
    ).verdicts
    assert found["family"].tolist() == [3, 3, 3] and (found["p_adjusted"] >= found["p"]).all()
    smallest = found["p"].idxmin()
    assert found.loc[smallest, "p_adjusted"] == pytest.approx(min(1, 3 * found.loc[smallest, "p"]))


@pytest.mark.parametrize("rule", [None, CFG(1.0), Interval(CFG(3.0), low=0.5, high=5.0)], ids=["none", "1", "interval"])
def test_a_branch_that_is_never_called_is_refused(rule):
    given = {"condition": LABELS, "strengths": (-1, 1), "intervals": [(5.0, math.inf)]}
    sampling = Sampling(solver=Euler(), sigmas=SIGMAS, rule=rule)
    with pytest.raises(InputError, match=r"'uncond', never called for 5 < sigma <= 80"):
        steer(Planted(), unit_direction(0), branch="uncond", sampling=sampling, **given)


def test_the_unconditional_branch_is_steered_where_it_is_called():
    sampling = Sampling(solver=Euler(), sigmas=SIGMAS, rule=CFG(2.0))
    curve = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-1, 1), branch="uncond", sampling=sampling)
    assert arm(curve, "slope")["value"] == pytest.approx(-1.0, abs=0.02)  # 2 c - u


def test_an_exact_solver_gives_the_closed_form():
    fine = Sampling(solver=Heun(), sigmas=edm_sigmas(40))
    curve = steer(Planted(), unit_direction(0, scale=0.5), condition=LABELS, sampling=fine, strengths=(-1, 1))
    assert arm(curve, "slope")["value"] == pytest.approx(0.5 * (1 - gain_of(80.0)), abs=5e-4)


def test_the_better_reader_is_the_worse_mover():
    # notes: a unit step along LDA moves the attribute by 1.25 and the nuisance by -0.73, 35.7 degrees off
    model = Nuisance()
    reader, mover = (steer(model, way, strengths=(-1, 1), budget=9.0) for way in (model.reader(), model.mover()))
    angle = math.degrees(math.acos(float(model.reader().unit @ model.mover().unit)))
    assert angle == pytest.approx(35.7, abs=0.1)
    for curve, attribute, nuisance in ((reader, 1.25, -0.73), (mover, 1.0, 0.0)):
        table = curve.curve[(curve.curve["arm"] == "direction") & (curve.curve["strength"] == 1)].set_index("score")
        assert table.loc["attribute", "value"] == pytest.approx(attribute, abs=0.02)
        assert table.loc["other", "value"] == pytest.approx(nuisance, abs=0.02)
        assert curve.verdicts["verdict"].iloc[0] == "steerable"
    assert arm(mover, "disentanglement")["low"] > 0.95 > 0.7 > arm(reader, "disentanglement")["high"]


def test_tables_hold_what_they_say():
    curve = steer(
        Planted(), unit_direction(0), condition=LABELS, strengths=(-1, 1, 3), intervals=((0, math.inf), (0.5, 5.0)),
        shuffled=unit_direction(1), random=2, natural={"attribute": 2.0, "other": 0.5},
    )  # fmt: skip
    assert list(curve.controls) == ["shuffled", "random 1", "random 2"] and curve.controls["shuffled"] == 0
    samples = curve.samples
    assert len(samples) == 2 * 16 * 2 * (4 * 3 + 1)
    assert (samples[samples["arm"] == "none"][["change", "distance"]] == 0).all(axis=None)
    # the curve is the mean of the samples, and the natural SDs divide
    group = ["sigma_low", "arm", "strength", "score"]
    mean = samples[samples["arm"] != "none"].groupby(group)["change"].mean()
    drawn = curve.curve[curve.curve["strength"] != 0].set_index(group)["value"]
    pd.testing.assert_series_equal(drawn.sort_index(), mean.sort_index(), check_names=False)
    assert ((curve.curve["low"] <= curve.curve["value"] + 1e-12) & (curve.curve["n"] == 16)).all()
    assert arm(curve, "slope")["value"] == pytest.approx(0.5, abs=0.02)
    assert curve.verdicts["sigma_high"].tolist() == [80.0, 5.0]
    assert curve.verdicts["log_snr"].tolist() == pytest.approx([-2 * math.log(80), -2 * math.log(5)])


def test_arms_share_start_and_noise_and_do_not_depend_on_batches():
    given = {"condition": LABELS, "strengths": (-1, 1), "random": 2}
    churned = Sampling(solver=Heun(churn=30.0), sigmas=SIGMAS)
    whole, small = (
        steer(
            Planted(), unit_direction(0), **given, sampling=Sampling(solver=churned.solver, sigmas=SIGMAS, batch=batch)
        )
        for batch in (256, 3)
    )
    for name in ("curve", "arms", "verdicts"):
        a, b = (getattr(curve, name).select_dtypes("number") for curve in (whole, small))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    # with the same noise in all arms the effect of a linear denoiser is the same in every seed
    change = whole.samples.query("arm == 'direction' and strength == 1 and score == 'attribute'")["change"]
    assert change.std() < 0.01 < whole.samples.query("arm == 'none' and score == 'attribute'")["value"].std()


def test_a_delay_scan_falls_with_the_delay():
    starts = delays(SIGMAS, 4)
    assert starts[0] == (0.0, 80.0) and [high for _, high in starts] == sorted((h for _, h in starts), reverse=True)
    curve = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-1, 1), intervals=starts, random=1)
    slopes = curve.arms.query("arm == 'direction' and quantity == 'slope'")["value"].to_numpy()
    # Euler on dx = (x - D) / s: acting from level k on moves the sample by 1 - prod of what is left of the rest
    expected = [_euler_share(high) for _, high in starts]
    np.testing.assert_allclose(slopes, expected, atol=0.01)
    assert (np.diff(slopes) < 0).all()
    parts = windows(SIGMAS, 3)
    assert parts[0][1] == 80.0 and parts[-1][0] == 0.0
    assert all(before[0] == after[1] for before, after in itertools.pairwise(parts))
    whole = sum(
        steer(Planted(), unit_direction(0), condition=LABELS, strengths=(1,), intervals=[part], random=1)
        .arms.query("arm == 'direction' and quantity == 'slope'")["value"]
        .iloc[0]
        for part in parts
    )
    assert whole == pytest.approx(_euler_share(80.0), abs=0.01)  # a linear sampler adds up over windows


def _euler_share(high: float) -> float:
    shift = 0.0
    for sigma, after in itertools.pairwise(SIGMAS):
        gain = 0.04 / (0.04 + sigma**2)
        denoised = gain * shift + (1 - gain) * (sigma <= high)
        shift += (after - sigma) / sigma * (shift - denoised)
    return shift


def test_distance_budget_bounds_the_strengths():
    far = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-4, -1, 1, 4), budget=0.3)
    assert far.verdicts[["strength_low", "strength_high"]].iloc[0].tolist() == [-1, 1]  # one step is 1/4 a pixel
    assert arm(far, "distance")["value"] == pytest.approx(0.25, abs=0.01)
    assert arm(far, "dynamic_range")["value"] == pytest.approx(2.0, abs=0.05)
    none = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-4, 4), budget=0.1)
    assert not none.verdicts["within_budget"].iloc[0]
    doubled = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-4, 4), budget=1.9, distance=_doubled)
    assert not doubled.verdicts["within_budget"].iloc[0]


def _doubled(a, b):
    return 2 * (a - b).flatten(1).square().mean(1).sqrt()


def test_saturation_is_found_inside_the_grid_only():
    def saturating(images):
        found = scores(images)
        return found | {"attribute": torch.tanh(3 * found["attribute"])}

    ones = torch.zeros(16, dtype=torch.int64)  # from -1 up
    given = {
        "target": "attribute",
        "seeds": range(16),
        "sampling": FAST,
        "progress": False,
        "condition": ones,
        "random": 1,
    }
    curve = steer_curve(Planted(), unit_direction(0), saturating, strengths=(0.5, 1, 2, 3, 4), **given)
    assert arm(curve, "saturation")["value"] == 2.0
    straight = steer_curve(Planted(), unit_direction(0), scores, strengths=(0.5, 1, 2, 3, 4), **given)
    assert math.isnan(arm(straight, "saturation")["value"])


def test_an_imported_direction_works_like_any_other(tmp_path):
    path = unit_direction(0).save(tmp_path / "mine.safetensors")
    a = steer(Planted(), Direction.load(path), condition=LABELS, strengths=(-1, 1))
    b = steer(Planted(), unit_direction(0), condition=LABELS, strengths=(-1, 1))
    pd.testing.assert_frame_equal(a.curve, b.curve)


def test_rank_correlation_against_scipy():
    from scipy.stats import spearmanr

    values = np.random.default_rng(0).normal(size=(5, 2, 7)).round(1)
    strengths = np.arange(7.0)
    expected = [[spearmanr(row, strengths).statistic for row in arms] for arms in values]
    np.testing.assert_allclose(spearman(values, strengths), expected, atol=1e-12)
    assert spearman(np.ones((1, 1, 7)), strengths)[0, 0] == 0


def test_a_control_holds_nothing_of_the_direction():
    # labels in any order give the largest variation of a site, which may be the attribute's
    tilted = Direction(torch.tensor([0.9, 0.4, 0.0]), "units", "attribute", "shuffled", scale=7.0)
    given = {"condition": LABELS, "strengths": (-1, 1), "random": 0}
    curve = steer(Planted(), unit_direction(0), shuffled=tilted, **given)
    assert curve.controls == {"shuffled": pytest.approx(0.9 / math.hypot(0.9, 0.4))}
    assert arm(curve, "effect", "shuffled")["value"] == pytest.approx(0, abs=1e-6)
    assert curve.verdicts["low"].iloc[0] > 0 and curve.verdicts["bar"].tolist() == ["shuffled"]
    assert math.isnan(curve.verdicts["selectivity"].iloc[0])  # there is no random arm
    with pytest.raises(InputError, match="the direction itself"):
        steer(Planted(), unit_direction(0), shuffled=unit_direction(0, scale=3.0), **given)


def test_controls_are_matched():
    direction = unit_direction(0, scale=2.5)
    for control in random_directions(direction, 3):
        assert control.step(1.0).norm() == pytest.approx(2.5, rel=1e-5) and control.site == "units"
    inside = random_directions(direction, 1, within=torch.eye(3)[1:])[0]
    assert abs(float(inside.vector[0])) < 1e-6
    h = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    labels = (h[:, 0] > 0).long()
    shuffled = shuffled_direction(direction, 10 * torch.nn.functional.one_hot(labels, 3) + h, labels)
    assert abs(float(shuffled.vector[0])) < 1.5 and shuffled.step(1.0).norm() == pytest.approx(2.5, rel=1e-5)
    with pytest.raises(InputError, match="both 0 and 1"):
        shuffled_direction(direction, h, torch.ones(400))
    with pytest.raises(InputError, match=r"\(n, 3\)"):
        shuffled_direction(direction, h[:, :2], labels)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seeds": range(4)}, "at least 8"),
        ({"seeds": [1] * 16}, "all different"),
        ({"strengths": (0,)}, "beside 0"),
        ({"intervals": [(90.0, 100.0)]}, "a noise level in it"),
        ({"intervals": []}, "an interval"),
        ({"relevant": -0.1}, "not negative"),
        ({"branch": "uncond"}, "'uncond', never called"),
        ({"random": 0}, "at least one control"),
        ({"target": "hue"}, "attribute, other"),
        ({"natural": {"attribute": 1.0}}, "a positive number for each"),
        ({"branch": "cond", "condition": None}, "no call is conditional"),
        ({"shuffled": Direction(torch.ones(2), "units", "a", "b", 1.0)}, "3 at 'units'"),
    ],
)
def test_bad_input(more, words):
    with pytest.raises(InputError, match=words):
        steer(Planted(), unit_direction(0), **({"condition": LABELS} | more))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"natural": {"attribute": -1.0, "other": 1.0}}, "natural"),
        ({"budget": -1.0}, "budget"),
        ({"budget": math.nan}, "budget"),
        ({"resamples": 0}, "resamples"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_judged_by_is_refused_before_anything_is_sampled(more, named):
    def denoiser(*_):
        raise AssertionError("sampled")

    with pytest.raises(InputError) as error:
        steer(denoiser, unit_direction(0), **({"condition": LABELS} | more))
    assert error.value.argument == named


def test_bad_directions_and_scores():
    for broken in (lambda x: x.flatten(1)[:, 0], lambda x: {"a": [0.0] * len(x)}):
        given = {"seeds": range(8), "condition": LABELS[:8], "sampling": FAST}
        with pytest.raises(InputError, match=r"^scores: .*mapping of names to torch tensors"):
            steer_curve(Planted(), unit_direction(0), broken, target="a", progress=False, **given)
        with pytest.raises(InputError, match=r"^scores: .*mapping of names to torch tensors"):
            steering_effect(Planted(), broken, **given)(unit_direction(0))
    with pytest.raises(InputError, match="units"):
        steer(Planted(), Direction(torch.ones(3), "unit", "a", "b", 1.0), condition=LABELS)
    with pytest.raises(InputError, match="expected 3, its channels"):
        steer(Planted(), Direction(torch.ones(4), "units", "a", "b", 1.0), condition=LABELS)
    with pytest.raises(InputError, match="not finite"):
        steer_curve(
            Planted(), unit_direction(0), lambda x: {"a": x.flatten(1)[:, 0] * math.nan}, target="a", seeds=range(8),
            condition=LABELS[:8], sampling=FAST, progress=False,
        )  # fmt: skip
