import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tests.claims import check_page
from typer.testing import CliRunner

from scorescope.data.digits import load_digits
from scorescope.data.scenes import render_scenes
from scorescope.probes.features.extractors import classifier_extractor, pixel_extractor
from scorescope.reports.cli.commands import app
from scorescope.reports.fid import folder_study
from scorescope.reports.fid import report as fid
from scorescope.reports.studies import bibtex


def save(images, folder):
    folder.mkdir(parents=True)
    pixels = ((images + 1) * 127.5).round().byte()
    for number, image in enumerate(pixels):
        array = image.numpy().transpose(1, 2, 0).squeeze()
        Image.fromarray(array).save(folder / f"{number:04d}.png")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    out = tmp_path_factory.mktemp("fid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fid, "PLANTED_QUICK", 450)
        patch.setattr("scorescope.reports.fid.comparisons.WEIGHTS", (1.0, 4.0))
        outcome = fid.build(out, command="test", quick=True, count=72, progress=False)
    return out, outcome


def test_metrics_that_have_a_value_are_cited(shipped):
    entries = bibtex(shipped[1])
    assert "{heusel2017gans," in entries and "{binkowski2018demystifying," in entries
    assert "{parmar2022aliased," not in entries and "{tan2019efficientnet," not in entries


def test_sentences_hold_what_they_owe(shipped):
    out, outcome = shipped
    assert check_page(out, outcome.readings) > 0


def test_report_on_the_shipped_model_is_complete(shipped):
    out, outcome = shipped
    assert outcome.status == "complete" and not outcome.failures
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    assert figures == {
        "planted_maps", "planted_shares", "planted_audit", "distances", "sfid", "contributions", "extremes",
        "classes", "heatmaps", "occlusion", "class_shares", "choice", "audit",
    }  # fmt: skip
    assert all(re.search(r"\d", reading) for reading in outcome.readings)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["images"] == {"held-out digits": 360, "w = 1": 72, "w = 4": 72}


def test_the_planted_section_says_what_was_planted(shipped):
    out, _ = shipped
    shares = pd.read_parquet(out / "tables/planted_shares.parquet").set_index(["network", "region"])
    assert shares.loc[("accessory", "accessory"), "sensitivity_share"] > 0.7
    assert shares.loc[("accessory", "subject"), "sensitivity_share"] < 0.1
    audit = pd.read_parquet(out / "tables/planted_audit.parquet").set_index(["arm", "metric"])["change"]
    assert audit["accessories matched", "FD"] < -0.5
    assert abs(audit["accessories matched", "second FD"]) < 0.15


def test_tables_add_up(shipped):
    out, _ = shipped
    parts = pd.read_parquet(out / "tables/contributions.parquet")
    companions = pd.read_parquet(out / "tables/companions.parquet")
    row = companions.query("metric == 'FD' and set == 'w = 4' and space == 'digits classifier'").iloc[0]
    assert parts["contribution"].sum() == pytest.approx(row["value"], rel=1e-9)
    assert parts["share"].sum() == pytest.approx(1)
    influences = pd.read_parquet(out / "tables/influence.parquet")
    assert abs(influences["influence"].mean()) < 1e-9
    assert not influences["trusted"].any()  # 72 images of 32 features
    groups = pd.read_parquet(out / "tables/groups_asked-for_digit.parquet")
    assert groups["n"].sum() == 72


def test_folders_with_damage_and_labels(tmp_path, unrendered):
    digits = load_digits()
    save(digits.held_out.images[:120], tmp_path / "real")
    save(digits.train.images[:100].flip(3), tmp_path / "fake")
    (tmp_path / "fake" / "bad.png").write_bytes(b"\x89PNG damaged")
    labels = pd.DataFrame({"name": [f"{k:04d}.png" for k in range(100)], "half": ["a"] * 50 + ["b"] * 50})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    arguments = ["report", "fid", str(tmp_path / "real"), str(tmp_path / "fake"), "--out", str(tmp_path / "out")]
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code != 0
    assert "bad.png" in str(failed.exception) and "--skip-bad" in str(failed.exception)
    done = CliRunner().invoke(app, [*arguments, "--skip-bad", "--labels", str(tmp_path / "labels.csv")])
    assert done.exit_code == 0, done.output
    read = pd.read_csv(tmp_path / "out/tables/reading.csv").set_index("set")
    assert read.loc["generated", "left_out"] == 1
    assert read.loc["generated", "first left out"] == "bad.png"
    assert read.loc["real", "grayscale"] == 120
    groups = pd.read_csv(tmp_path / "out/tables/groups_half.csv")
    assert set(groups["group"]) == {"a", "b"}


def test_few_images_are_left_out_one_by_one(tmp_path):
    scenes = render_scenes(40, seed=0)
    np.savez(tmp_path / "fake.npz", ((scenes.images[:20] + 1) * 127.5).round().byte().movedim(1, 3).numpy())
    np.savez(tmp_path / "real.npz", ((scenes.images[20:] + 1) * 127.5).round().byte().movedim(1, 3).numpy())
    second = replace(pixel_extractor(4), name="CLIP")  # a stand-in: CLIP is what gets a CMMD
    sets = tmp_path / "real.npz", tmp_path / "fake.npz"
    study = folder_study(*sets, classifier_extractor("subject"), second, progress=False)
    outcome = fid.build(tmp_path / "out", command="test", study=study, progress=False)
    assert outcome.status == "complete", outcome.failures
    page = outcome.path.read_text()
    assert "wrong in kind at n &lt;= d" in page
    assert len(pd.read_parquet(tmp_path / "out/tables/left_out.parquet")) == 20
    companions = pd.read_parquet(tmp_path / "out/tables/companions.parquet").set_index("metric")
    assert companions.loc["CMMD", "value"] > 0


def save_scenes(folder, count, seed, **shares):
    scenes = render_scenes(count, seed=seed, **shares)
    save(scenes.images, folder)
    return scenes


@pytest.fixture(scope="module")
def scene_folders(tmp_path_factory):
    """Folders of scenes, and masks of the generated ones: a folder for the accessories, boxes for the subjects."""
    folder = tmp_path_factory.mktemp("scenes")
    fake = save_scenes(folder / "fake", 120, 101, accessory_shares=(0.7, 0.1, 0.1, 0.1))
    save_scenes(folder / "real", 130, 100)
    (folder / "accessory").mkdir()
    rows = []
    for k in range(120):
        Image.fromarray(fake.accessory_mask[k].numpy()).save(folder / "accessory" / f"{k:04d}.png")
        y, x = np.nonzero(fake.subject_mask[k].numpy())
        rows.append((f"{k:04d}.png", x.min(), y.min(), x.max() + 1, y.max() + 1))
    boxes = pd.DataFrame(rows, columns=["name", "left", "top", "right", "bottom"])
    boxes.to_csv(folder / "subject.csv", index=False)
    return folder


def test_masks_sfid_and_occlusion_of_folders(scene_folders, tmp_path):
    run = [
        "report", "fid", str(scene_folders / "real"), str(scene_folders / "fake"), "--features", "accessory",
        "--masks", str(scene_folders / "accessory"), "--masks", str(scene_folders / "subject.csv"),
        "--sfid", "--occlusion", "--out", str(tmp_path),
    ]  # fmt: skip
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    shares = pd.read_parquet(tmp_path / "tables/mask_shares.parquet").set_index(["region", "grown"])
    on, off = shares.loc[("accessory", 1)], shares.loc[("subject", 0)]
    assert on["sensitivity_share"] > 0.7 and on["n"] == 120 and on["low"] < on["sensitivity_share"] < on["high"]
    assert off["sensitivity_share"] < 0.1
    assert on["ratio"] == pytest.approx(on["sensitivity_share"] / on["area_share"])
    single = pd.read_parquet(tmp_path / "tables/mask_images.parquet")
    assert set(single["region"]) == {"accessory", "subject"} and len(single) == 240
    spatial = pd.read_parquet(tmp_path / "tables/sfid.parquet")
    assert spatial["metric"].tolist() == ["sFID"] and spatial["space"].tolist() == ["layer_3"]
    assert spatial["value"].iloc[0] > 0
    occlusion = pd.read_parquet(tmp_path / "tables/occlusion.parquet")
    assert occlusion["correlation"].median() > 0.5  # an independent method sees the same corner
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [Path(path).name for path in manifest["masks"]] == ["accessory", "subject.csv"]


def test_options_for_networks_without_maps(scene_folders, tmp_path, unrendered):
    """Pixels: no closed form to fill the masks, and no image to occlude; the page says so and stands."""
    run = [
        "report", "fid", str(scene_folders / "real"), str(scene_folders / "fake"), "--features", "pixels",
        "--masks", str(scene_folders / "accessory"), "--occlusion", "--out", str(tmp_path),
    ]  # fmt: skip
    done = CliRunner().invoke(app, run)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "index.html").read_text()
    assert "No shares inside masks: the features of gray pixels 8 x 8 are no spatial mean" in page
    assert "No occlusion: the input of gray pixels 8 x 8 is no image" in page


def test_errors_of_masks_and_sfid_come_before_the_work(scene_folders, tmp_path, monkeypatch):
    monkeypatch.setattr("scorescope.reports.fid.comparisons.extract", None)  # would fail if it were reached
    sets = [str(scene_folders / "real"), str(scene_folders / "fake")]
    run = lambda *more: str(CliRunner().invoke(app, ["report", "fid", *more]).exception)  # noqa: E731
    some = tmp_path / "some"
    some.mkdir()
    Image.fromarray(np.zeros((40, 40), bool)).save(some / "0000.png")
    plain = [*sets, "--features", "accessory", "--masks"]
    assert "no mask for 0001.png and 118 more of 120 images" in run(*plain, str(some))
    assert "files or folders of different names" in run(*plain, str(some), "--masks", str(some))
    assert "no such file or folder" in run(*plain, str(tmp_path / "none"))
    assert "belong to the images of FAKE" in run("--masks", str(some))
    assert "--features inception, or a shipped classifier" in run(*sets, "--features", "pixels", "--sfid")


def test_a_folder_of_odd_images_as_a_new_user_has_it(tmp_path, unrendered):
    """Gray, alpha, 16 bits, a palette, upper case, a subfolder, hidden files, text, and a damaged file."""
    save_scenes(tmp_path / "real", 60, 100)
    save_scenes(tmp_path / "fake", 60, 101)
    odd = tmp_path / "fake" / "odd"
    odd.mkdir()
    with Image.open(tmp_path / "fake" / "0000.png") as image:
        image.convert("L").save(odd / "gray.png")
        image.convert("RGBA").save(odd / "alpha.PNG")
        image.convert("P").save(odd / "palette.gif")
        Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(odd / "sixteen.png")
    (odd / "damaged.jpg").write_bytes(b"\xff\xd8 cut off")
    (odd / ".hidden.png").write_bytes(b"")
    (odd / "notes.txt").write_text("no image")
    run = ["report", "fid", str(tmp_path / "real"), str(tmp_path / "fake"), "--features", "subject"]
    run += ["--out", str(tmp_path / "out")]
    failed = CliRunner().invoke(app, run)
    assert "odd/damaged.jpg" in str(failed.exception) and "--skip-bad" in str(failed.exception)
    done = CliRunner().invoke(app, [*run, "--skip-bad", "--sfid"])
    assert done.exit_code == 0, done.output
    read = pd.read_csv(tmp_path / "out/tables/reading.csv").set_index("set").loc["generated"]
    assert (read["read"], read["left_out"], read["first left out"]) == (64, 1, "odd/damaged.jpg")
    assert {kind: read[kind] for kind in ("grayscale", "alpha", "16-bit", "palette", "other")} == {
        "grayscale": 1, "alpha": 1, "16-bit": 1, "palette": 1, "other": 0,
    }  # fmt: skip


def test_command_line_errors(tmp_path):
    save(torch.zeros(3, 3, 20, 20), tmp_path / "a")
    run = lambda *arguments: str(CliRunner().invoke(app, ["report", "fid", *arguments]).exception)  # noqa: E731
    assert "both, or none" in run(str(tmp_path / "a"))
    assert "--inception FILE" in run(str(tmp_path / "a"), str(tmp_path / "a"))
    assert "timm:NAME" in run(str(tmp_path / "a"), str(tmp_path / "a"), "--features", "resnet")
    converted = CliRunner().invoke(app, ["weights", "convert", str(tmp_path / "none.pth")])
    assert "pt_inception-2015" in str(converted.exception)
