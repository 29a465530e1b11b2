"""Sentences of the FID report say an order, or sameness, only as far as intervals tell it."""

import math

import numpy as np
import pandas as pd
import pytest

from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import classifier_extractor, pixel_extractor
from scorescope.reports.fid import folder_study, readings
from scorescope.reports.fid.comparisons import _folders
from scorescope.reports.fid.sections_distances import _drawn_by_class
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
