"""The oracles of the FID entries of the atlas, on sets of images whose features have known laws."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from tests.atlas_material import EQUAL, OTHER, SCALE, SHIFT, image_set, toy_images, toy_material

from scorescope.analysis.fid import frechet_distance
from scorescope.probes.guidance import CFG
from scorescope.reports.atlas import find_entry, make
from scorescope.reports.fid.atlas_distances import looked_into

SHARED = cache(toy_material)
SHIFTED = {"mean of four copies": 16 * SHIFT**2, "gray pixels 4 x 4": 16 * (2 * SHIFT) ** 2}  # squared lengths


def numbers(name, material=None):
    return find_entry(name).numbers(material or SHARED())


def rows_of(table, name, metric="FD without bias"):
    return table[(table["set"] == name) & (table["metric"] == metric)].set_index("space")


def test_fid_table():
    """A shift of every feature has a known distance; who is best is said only where intervals tell."""
    found = numbers("fid-table")
    table = found.tables["metrics"]
    row = rows_of(table, "brighter").loc["mean of four copies"]
    assert row["low"] < SHIFTED["mean of four copies"] < row["high"] < 1.01 * SHIFTED["mean of four copies"]
    assert not table["best"].any()  # the other two are not told apart
    study = toy_images()
    without = replace(study, fakes=study.fakes[:2])
    paper = numbers("fid-table", toy_material(images=lambda: without)).tables["paper"].set_index("set")
    for name in ("FD without bias ↓", "KID x 1000 ↓", "precision ↑", "recall ↑"):
        assert paper[f"{name}, mean of four copies_best"].to_dict() == {"same law": True, "brighter": False}
    assert not paper["FD ↓, mean of four copies_best"].any()  # as measured it has no interval


def test_fid_two_spaces():
    table = numbers("fid-two-spaces").tables["distances"]
    shifted, same = rows_of(table, "brighter"), rows_of(table, "same law")
    for space, value in SHIFTED.items():
        assert shifted.loc[space, "low"] < value < shifted.loc[space, "high"]
        assert same.loc[space, "low"] < 0 < same.loc[space, "high"]
        assert abs(same.loc[space, "value"]) < 0.01 * value


def test_fid_infinity():
    """One isotropic class of 15 free features: the slope is v (15 + 60), and a shift moves the line alone."""
    one = (1.0, 0.0, 0.0, 0.0)
    fakes = [image_set(f"{seed}", 480, seed, one, shift=SHIFT) for seed in range(10, 16)]
    study = replace(toy_images(), real=image_set("real", 480, 0, one), fakes=fakes)
    fits = numbers("fid-infinity", toy_material(images=lambda: study)).tables["fits"]
    slope = 75 * 0.04 * SCALE**2
    assert fits["slope"].mean() == pytest.approx(slope, rel=0.2)
    assert fits["slope_one_law"].mean() == pytest.approx(slope, rel=0.05)
    assert fits["value"].mean() == pytest.approx(SHIFTED["mean of four copies"] + slope / 480, rel=0.01)  # real set's


def test_fid_error_bars():
    """Intervals hold the known distance, and all floors lie below what is measured."""
    table = numbers("fid-error-bars").tables["distances"]
    shifted, measured = rows_of(table, "brighter"), rows_of(table, "brighter", "FD")
    values = np.array([SHIFTED[space] for space in shifted.index])
    assert ((shifted["low"] < values) & (values < shifted["high"])).all()
    assert (measured["floor"] < 0.01 * values).all() and (measured["floor"] > 0).all()


def looking_into(name, *, count=240):
    """The material in which that generated set is the last."""
    study = toy_images(count)
    fakes = sorted(study.fakes, key=lambda item: item.name == name)
    return toy_material(images=lambda: replace(study, fakes=fakes))


def test_fid_class_gaps():
    """Gaps are those of the counts, hold those of the laws, and sum to 0."""
    table = numbers("fid-class-gaps").tables["classes"].set_index("class_name").loc[list("abcd")]
    gaps = np.array(OTHER) - np.array(EQUAL)
    assert table["gap"].sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(table["gap"], table["n_fake"] / 240 - table["n_real"] / 240)
    assert ((table["gap_low"] < gaps) & (gaps < table["gap_high"])).all()
    assert table.loc["a", "gap_low"] > 0 > table.loc["d", "gap_high"]
    same = numbers("fid-class-gaps", looking_into("same law")).tables["classes"]
    assert ((same["gap_low"] < 0) & (same["gap_high"] > 0)).all()


def test_fid_region_shares():
    """Four equal copies: every map is flat, and half of it is in half of the image."""
    table = numbers("fid-region-shares").tables["regions"].set_index("grown")
    np.testing.assert_allclose(table.loc[0, ["sensitivity_share", "area_share"]].astype(float), 0.5, rtol=1e-6)
    assert table.loc[1, "sensitivity_share"] == pytest.approx(1)


def test_fid_heatmaps():
    """The mean of a signed map is the influence; the squared map has the gradient of the distance by differences."""
    found = numbers("fid-heatmaps")
    table, maps = found.tables["images"], found.pictures
    np.testing.assert_allclose(maps["signed"].mean(dim=(1, 2, 3)), table["influence"], rtol=1e-4, atol=1e-8)
    study = toy_images()
    row, features = int(table["image"][0]), study.fakes[-1].first.features.astype(float)

    def distance(feature, step):
        moved = features.copy()
        moved[row, feature] += step
        return frechet_distance(moved, study.real.first.features).raw

    gradient = np.array([(distance(k, 1e-4) - distance(k, -1e-4)) / 2e-4 for k in range(16)])
    assert float(maps["squared"][0].mean()) == pytest.approx(gradient**2 @ features[row], rel=1e-3)


def test_fid_sources():
    """Parts are not negative and sum to the distance; brightness is one direction, and a gap of means."""
    material = looking_into("brighter")
    features, directions = numbers("fid-sources", material).tables.values()
    assert (features["contribution"] >= 0).all()
    assert features["contribution"].sum() == pytest.approx(SHIFTED["mean of four copies"], rel=0.02)
    assert directions["share"][0] > 0.98
    assert features["mean_part"].sum() > 0.98 * features["contribution"].sum()


def values_of(table, metric="FD"):
    return table[table["metric"] == metric].set_index("arm")


def test_fid_histogram_matching():
    """A set that differs in its classes alone is as near as real images once they are matched, in both spaces."""
    table = numbers("fid-histogram-matching", looking_into("other classes", count=600)).tables["audit"]
    for metric in ("FD", "second FD"):
        rows = values_of(table, metric)
        assert rows.loc["top-1 matched", "change"] < -0.5
        assert rows.loc["top-1 matched", "low"] < 1.5 * rows.loc["other real images", "high"]
    assert values_of(table)["n"].nunique() == 1


def test_fid_fringe_audit():
    """The optimised distance is never above that at equal weights, and choosing by it lowers the judged distance."""
    material = SHARED()
    rows = values_of(numbers("fid-fringe-audit", material).tables["audit"])
    found = looked_into(material).optimised
    assert found.value <= found.start
    assert rows.loc["weights optimised", "value"] < rows.loc["random choice", "value"]
    assert rows.loc["weights optimised", "effective_size"] == pytest.approx(found.effective_size)


def test_fid_topn_curve():
    """One class an image is matched by the weights p / q."""
    study = toy_images()
    fake, real = (np.bincount(item.first.top1, minlength=4) / 240 for item in (study.fakes[-1], study.real))
    weights = (real / fake)[study.fakes[-1].first.top1]
    rows = values_of(numbers("fid-topn-curve").tables["audit"])
    assert rows.loc["top-1", "effective_size"] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert rows.loc["equal weights", "effective_size"] == 240
    assert rows.loc["top-1", "high"] < rows.loc["equal weights", "value"]
    assert set(rows["count"]) == {0, 1, 2, 3} and set(rows["ranks"]) >= {"top", "middle"}


def test_nearest_training_image():
    """Samples that are training images have distance 0; of the exact law as many are near as of held-out images."""
    material = toy_material(count=240, steps=40)
    (setting,) = material.sweep({"CFG": CFG(1.0)})
    found = numbers("nearest-training-image", material)
    assert found.facts["low"] < 0.08 and found.facts["high"] > 0.05
    means = found.tables["summary"].set_index("what")["mean"]
    assert means["samples"] == pytest.approx(means["held out"], rel=0.05)
    copied = replace(material, data=replace(material.data, train=setting.run.samples, labels=None))
    rows = numbers("nearest-training-image", copied).tables["distances"].query("what == 'samples'")
    assert (rows["distance"] == 0).all() and (rows["nearest"] == rows["image"]).all()


def test_fid_page():
    """The tables are those of the figures of one panel; of images without masks the other panels remain."""
    found = numbers("fid-page").tables
    parts = {"distances": "fid-error-bars", "classes": "fid-class-gaps", "regions": "fid-region-shares"}
    for name, entry in parts.items():
        pd.testing.assert_frame_equal(found[name], numbers(entry).tables[name])
    matched = numbers("fid-histogram-matching").tables["audit"]
    pd.testing.assert_frame_equal(
        found["audit"][found["audit"]["arm"].isin(matched["arm"])].reset_index(drop=True), matched
    )
    bare = toy_material(images=lambda: replace(toy_images(), masks=[]))
    made = make(find_entry("fid-page"), bare)
    assert "regions" not in made.numbers.tables and "without masks" in made.figure.axes[2].texts[0].get_text()


def test_what_cannot_be_drawn_says_why():
    """Of a space without classes or places, and images without masks; no caption needs what is not there."""
    study = toy_images()
    spaces = {"extractor": study.second, "second": study.extractor, "masks": []}
    sets = [replace(item, first=item.second, second=item.first) for item in study.fakes]
    real = replace(study.real, first=study.real.second, second=study.real.first)
    other = toy_material(images=lambda: replace(study, **spaces, real=real, fakes=sets, spare=None))
    reasons = {
        "fid-class-gaps": "is no classifier", "fid-region-shares": "without masks", "fid-heatmaps": "no spatial mean",
        "fid-histogram-matching": "not a classifier's", "fid-topn-curve": "not a classifier's",
    }  # fmt: skip
    for name, reason in reasons.items():
        made = make(find_entry(name), other)
        assert reason in made.numbers.why and reason in made.caption
        assert made.table.empty


def test_numbers_are_kept_for_these_images_alone(tmp_path):
    """Of other images under the same settings they are measured again: they were taken from disk."""
    entry, study = find_entry("fid-error-bars"), toy_images()
    values = [
        make(entry, toy_material(images=lambda real=real: replace(study, real=real)), folder=tmp_path).table["value"]
        for real in (study.real, study.real, study.spare)
    ]
    assert values[0].equals(values[1]) and not values[0].equals(values[2])


def test_tables_are_written_for_papers(tmp_path):
    files = {path.name for path in make(find_entry("fid-table"), SHARED()).save(tmp_path)}
    assert {"fid-table.pdf", "fid-table.metrics.csv", "fid-table.paper.tex"} <= files
    text = (tmp_path / "fid-table.paper.tex").read_text()
    assert r"\toprule" in text and r"FD without bias $\downarrow$, mean of four copies" in text
