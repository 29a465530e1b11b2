"""The oracles of the FID entries of the atlas, on sets of images whose features have known laws."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.atlas_material import SCALE, SHIFT, image_set, toy_images, toy_material

from scorescope.reports.atlas import find_entry, make

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
