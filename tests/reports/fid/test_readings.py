"""Sentences of the FID report say an order, or sameness, only as far as intervals tell it."""

import math

import numpy as np
import pandas as pd
import pytest
from tests.claims import check_sentences

from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.heatmaps import mask_summary
from scorescope.analysis.fid.matching import class_shares
from scorescope.analysis.fid.optimal_transport import transport
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import classifier_extractor, pixel_extractor
from scorescope.reports.fid import folder_study, readings
from scorescope.reports.fid.comparisons import _folders
from scorescope.reports.fid.sections_distances import _drawn_by_class
from scorescope.reports.fid.sections_sources import _both_ends
from scorescope.reports.fid.study import ImageSet

SPACES = ("first", "second")


def rows(name, space, debiased, half, *, n=100, floor=0.2, value=None):
    ends = {"low": debiased - half, "high": debiased + half}
    common = {"set": name, "space": space, "n_fake": n, "n_real": 300, "floor_kind": "halves"}
    measured = debiased + 0.2 if value is None else value
    return [
        {**common, "metric": "FD", "value": measured, "low": math.nan, "high": math.nan, "floor": floor},
        {**common, "metric": "FD without bias", "value": debiased, **ends, "floor": 0.0},
    ]


def read(*parts):
    return readings.read_distances(pd.DataFrame([row for part in parts for row in part]), SPACES)


def test_one_set_is_not_the_smallest():
    text = read(rows("a", "first", 1.0, 0.1), rows("a", "second", 1.0, 0.1))
    assert text == (
        "a has the distance without bias, 1 (0.9 to 1.1); as measured 1.2, 6 times what real images would at 100 "
        "against 300 images (halves)."
    )


def test_order_is_said_where_the_intervals_tell_it():
    a, b = rows("a", "first", 1.0, 0.1), rows("b", "first", 2.0, 0.1)
    agrees = read(a, b, rows("a", "second", 5.0, 0.1), rows("b", "second", 6.0, 0.1))
    assert "a has the smallest distance without bias" in agrees and "clear of the next, b (2, 1.9 to 2.1)" in agrees
    assert agrees.endswith("the second space agrees.")
    prefers = read(a, b, rows("a", "second", 6.0, 0.1), rows("b", "second", 5.0, 0.1))
    assert prefers.endswith("the second space prefers another set.")
    untold = read(a, b, rows("a", "second", 5.0, 0.6), rows("b", "second", 6.0, 0.6))
    assert untold.endswith("the second space tells no set apart as the smallest.")
    assert "not told apart from all others; next b" in read(rows("a", "first", 1.9, 0.1), b)


def test_measured_values_of_different_numbers_have_no_order():
    missing = [rows(name, "first", math.nan, 0.0, n=n, value=1.0 + n)[0] for name, n in (("a", 30), ("b", 60))]
    assert read(missing) == (
        "As measured: a 31 (n = 30), b 61 (n = 60); at different numbers of images these have no order."
    )
    same = [rows(name, "first", math.nan, 0.0, value=value)[0] for name, value in (("a", 1.0), ("b", 2.0))]
    assert "without intervals that could tell them apart" in read(same)
    unknown = [{**row, "floor": math.nan, "floor_kind": "no floor: few"} for row in same[:1]]
    assert "at 100 against 300 images (no floor: few)" in read(unknown)


def test_sets_of_one_law_are_seldom_told_apart():
    rng, told = np.random.default_rng(0), []
    for _ in range(60):
        real = rng.normal(size=(200, 6))
        found = [frechet_interval(rng.normal(size=(150, 6)) * 1.2, real) for _ in range(3)]
        ranked = pd.DataFrame([(f.debiased, f.low, f.high) for f in found], columns=["value", "low", "high"])
        told.append(readings.is_told(ranked.sort_values("value")))
    assert np.mean(told) <= 0.05


def class_rows(fake, real):
    gap = fake / fake.sum() - real / real.sum()
    columns = {"class_name": np.arange(len(fake)).astype(str), "n_fake": fake, "n_real": real, "gap": gap}
    ends = {"gap_low": gap - 0.01, "gap_high": gap + 0.01}
    return pd.DataFrame({**columns, **ends}).sort_values("gap", key=np.abs, ascending=False)


def test_classes_that_no_image_has_are_no_comparisons():
    """A network of 1000 classes tells what one of four does: the other 996 could not have been told."""
    fake, real = np.array([27, 8, 7, 6]), np.array([11, 14, 12, 11])
    few, many = (readings.read_classes(class_rows(*(np.pad(n, (0, k)) for n in (fake, real)))) for k in (0, 996))
    assert few == many and "not clear" not in few and "of the 4 classes that either set has" in few


@pytest.mark.parametrize("kinds", [4, 20, 100])
def test_the_largest_gap_of_many_classes_is_seldom_more_than_chance(kinds):
    rng = np.random.default_rng(kinds)
    share = rng.dirichlet(np.ones(kinds))
    said = [
        readings.read_classes(class_rows(rng.multinomial(300, share), rng.multinomial(500, share))) for _ in range(300)
    ]
    assert np.mean(["not clear" not in text for text in said]) <= 0.05
    skewed = readings.read_classes(class_rows(np.array([150, 50, 50, 50]), np.array([75, 75, 75, 75])))
    assert "class 0: +25.0%" in skewed and "not clear" not in skewed


def test_other_real_images_are_compared_at_their_number():
    generated = pd.DataFrame([{**row, "metric": row["metric"].replace("FD", "sFID")} for row in rows("a", "k", 1, 0.1)])
    other = generated.assign(set="other real", value=0.3)
    assert "as many other real images (100) have 0.3" in readings.read_spatial(generated, other)
    assert "other real" not in readings.read_spatial(generated, other.assign(n_fake=90))


def test_a_space_is_no_second_opinion_on_itself(tmp_path):
    with pytest.raises(InputError, match="cannot confirm itself"):
        folder_study(tmp_path, tmp_path, pixel_extractor(8))
    with pytest.raises(InputError, match="second"):
        folder_study(tmp_path, tmp_path, classifier_extractor("subject"), classifier_extractor("subject"))


def test_classes_are_those_of_folders_or_feared_by_top_1(monkeypatch):
    assert _folders(["cat/1.png", "dog/1.png", "dog/2.png"]) == ["cat", "dog", "dog"]
    assert _folders(["1.png", "dog/1.png"]) is None and _folders(["dog/1.png", "dog/2.png"]) is None
    features = type("F", (), {"top1": np.arange(200) % 10})()
    made = object.__new__(ImageSet)
    for name, value in (("name", "a"), ("first", features), ("classes", None)):
        object.__setattr__(made, name, value)
    assert "suspiciously even" in _drawn_by_class(made)
    object.__setattr__(made, "classes", np.arange(200) % 10)
    assert "too even for independent draws" in _drawn_by_class(made)
    object.__setattr__(made, "classes", np.random.default_rng(0).integers(0, 10, 200))
    assert _drawn_by_class(made) == ""


def planted(half=0.1):
    table = pd.DataFrame({
        "network": ["accessory", "accessory", "subject", "subject"], "region": ["accessory", "subject"] * 2,
        "sensitivity_share": [0.8, 0.01, 0.2, 0.6],
    })  # fmt: skip
    return table.assign(low=table["sensitivity_share"] - half, high=table["sensitivity_share"] + half)


def test_planted_shares_are_those_of_their_network_and_stand_beside_their_intervals():
    maps, shares = readings.read_planted_maps(planted()), readings.read_planted_shares(planted())
    assert "80.0% (70.0% to 90.0%) of the distance's sensitivity lies on the accessory and 1.0% (-9.0% to" in maps
    assert "20.0% (10.0% to 30.0%) on the accessory, 60.0% (50.0% to 70.0%) on the subject." in shares
    assert check_sentences([maps, shares]) == 4
    one = readings.read_planted_maps(planted(math.nan))  # of one scene
    assert "80.0% of the distance" in one and not check_sentences([one])


def contributions(fake, real):
    plan = transport(fake, real)
    return readings.read_contributions(
        feature_contributions(plan), direction_spectrum(plan).table, (plan.fake.n, plan.real.n)
    )


def test_a_gap_of_means_stands_beside_what_chance_leaves():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(400, 8)), rng.normal(size=(200, 8))
    moved = contributions(fake + 3 * np.eye(8)[0], real)
    assert "the 5 largest of 8 features hold 100%" in moved and "1 of 8 principal directions half of it" in moved
    chance = 8 * (1 / 200 + 1 / 400) / 9
    assert "; 99% is a gap of means, where" in moved and f"would leave {chance:.1%} in the mean" in moved
    plan = transport(fake, real)
    features, spectrum = feature_contributions(plan), direction_spectrum(plan).table
    assert readings.read_contributions(features, spectrum, (200, None)).endswith("is a gap of means.")


def test_of_one_law_the_gap_of_means_is_what_chance_leaves():
    rng, said = np.random.default_rng(1), []
    for _ in range(20):
        text = contributions(rng.normal(size=(100, 4)), rng.normal(size=(100, 4)))
        gap, chance = text.split("half of it; ")[1].split(" is a gap of means, where ")
        said.append((float(gap[:-1]), float(chance.split("leave ")[1].split("%")[0])))
    gap, chance = np.mean(said, axis=0)
    assert gap == pytest.approx(chance, rel=0.25)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_a_set_against_itself_has_no_parts(scale):
    rows = scale * np.random.default_rng(0).normal(size=(50, 6))
    assert contributions(rows, rows) == "There is no distance beyond rounding, and so none of its parts."


def test_images_are_left_out_as_far_as_they_are_shown():
    text = readings.read_extremes(np.array([-0.02, 0.01, 0.03]), 4.0)
    assert text == "FD is 4; leaving out one of the 3 images shown changes it by -0.02 to +0.03."
    few = _both_ends(pd.DataFrame({"image": range(13)}))  # of thirteen none is shown twice
    assert few.tolist() == [0, 1, 2, 3, 4, 5, 12, 11, 10, 9, 8, 7]
    assert len(_both_ends(pd.DataFrame({"image": range(30)}))) == 20


def shares_read(fake, real, **weights):
    weights = {name: np.asarray(each, float) for name, each in weights.items()}
    return readings.read_class_shares(class_shares(np.asarray(fake), np.asarray(real), weights, names=["a", "b", "c"]))


def test_the_largest_class_is_told_from_the_others_or_not():
    fake = [0] * 50 + [1] * 50
    few, many = (shares_read(fake, [0] * 6 * k + [1] * 4 * k + [2] * k) for k in (2, 200))
    assert "called a: 54.5% (34.7% to 73.1%), not told apart from all others." in few
    assert "called a: 54.5% (" in many and "not told" not in many
    assert "called a: 100.0% (" in shares_read(fake, [0] * 20) and "not told" not in shares_read(fake, [0] * 20)


def test_histograms_differ_by_more_than_chance_or_not():
    fake, real = [0] * 60 + [1] * 40, [0] * 30 + [1] * 70
    text = shares_read(fake, real, matched=[0.5] * 60 + [1.75] * 40)
    assert "differ by 30.0% of the images as generated, clear of what chance leaves (1" in text
    assert text.endswith("; 0% matched (worth 73 images).")
    assert "not clear of what chance leaves" in shares_read(fake[::10], real[::10])  # the same shares of ten images
    assert check_sentences([text]) == 1


def test_histograms_of_one_law_seldom_differ_clearly():
    rng, beyond = np.random.default_rng(0), []
    for kinds in (2, 4, 20) * 100:
        fake, real = (rng.multinomial(n, np.full(kinds, 1 / kinds)) for n in (80, 60))
        beyond.append(np.abs(fake / 80 - real / 60).sum() / 2 > readings._apart_by_chance(fake, real))
    assert 0.01 <= np.mean(beyond) <= 0.06


def test_optimised_weights_stand_beside_what_real_images_score_or_why_that_is_not_known():
    row = pd.Series({
        "images": 72, "start": 12.0, "value": 3.0, "effective_size": 40.4, "floor": 2.0, "floor_kind": "halves",
        "floor_effective": 3.5, "floor_effective_kind": "fourth moments",
    })  # fmt: skip
    assert readings.read_optimisation(row) == (
        "Weights alone take FD from 12 to 3; they are worth 40 of 72 images; 72 real images would score 2 in the mean "
        "(halves); 40 real images would score 3.5 in the mean (fourth moments)."
    )
    row["floor_effective"], row["floor_effective_kind"] = math.nan, "no floor: few"
    assert readings.read_optimisation(row).endswith("in the mean (halves); no floor: few.")
    row["floor"], row["floor_kind"] = math.nan, "no floor: few"
    assert readings.read_optimisation(row).endswith("of 72 images; no floor: few.")


@pytest.mark.parametrize(("side", "said"), [
    (8, "7 of 64 cells of each (11% of its area) hold 11% "), (2, "1 of 4 cells of each (25% of its area) hold 25% "),
    (10, "10 of 100 cells of each (10% of its area) hold 10% "),
])  # fmt: skip
def test_a_tenth_of_the_area_is_as_many_cells_as_there_are(side, said):
    """A quarter of a flat map of four cells was called its tenth."""
    flat = np.ones((3, side, side))
    assert said in readings.read_heatmaps(flat)
    flat[:, 0, 0] = 1e9
    assert "hold 100% of the sensitivity" in readings.read_heatmaps(flat)
    assert readings.read_heatmaps(0 * flat) == "The distance is not sensitive to any of the images shown."


def masked(count, share):
    """Maps of which so much lies inside a mask of a quarter of the area, give or take a fifth from image to image."""
    inside = share + 0.2 * np.where(np.arange(count) % 2, 1, -1)
    maps = np.stack([np.full((2, 2), (1 - value) / 3) for value in inside])
    maps[:, 0, 0] = inside
    return mask_summary(maps, np.array([[1, 0], [0, 0]]), region="face")


def test_a_share_inside_a_mask_is_told_from_an_even_one_or_not():
    text = readings.read_mask_shares(masked(100, 0.4))
    assert "(n = 100) 40.0% (36.0% to 44.0%) of the sensitivity lies inside face, which covers 25.0% of" in text
    assert text.endswith(": 1.6 times an even share.")
    few, one = readings.read_mask_shares(masked(4, 0.4)), readings.read_mask_shares(masked(1, 0.4))
    assert few.endswith("1.6 times an even share, not told apart from it.")
    assert "(n = 1) 20.0% of the sensitivity" in one and one.endswith("not told apart from it.")
    maps = readings.read_mask_maps(pd.concat([masked(100, 0.4), masked(1, 0.4).assign(region="hand")]))
    assert maps == (
        "In the mean over images: face 40.0% (36.0% to 44.0%) of the sensitivity in 25.0% of the area (n = 100); hand "
        "20.0% of the sensitivity in 25.0% of the area (n = 1)."
    )
    assert check_sentences([text, few, one, maps]) == 3


def test_occlusion_is_compared_where_both_maps_are_there():
    """One image without a correlation made the median of all of them none."""
    text = readings.read_occlusion(pd.DataFrame({"correlation": [0.9, math.nan, 0.5, 0.8]}), 4)
    assert "covers 4 x 4 pixels" in text and "is 0.80 (0.50 to 0.90) in the median of the 3 of 4 images shown" in text
    assert check_sentences([text]) == 1
    assert "correlation" not in readings.read_occlusion(pd.DataFrame({"correlation": [math.nan]}), 4)
