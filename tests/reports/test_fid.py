import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from scorescope.data.digits import load_digits
from scorescope.data.scenes import render_scenes
from scorescope.probes.features import classifier_extractor, pixel_extractor
from scorescope.reports import fid
from scorescope.reports.cli import app
from scorescope.reports.fid_study import folder_study


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
        patch.setattr("scorescope.reports.fid_study.WEIGHTS", (1.0, 4.0))
        outcome = fid.build(out, command="test", quick=True, count=72, progress=False)
    return out, outcome


def test_report_on_the_shipped_model_is_complete(shipped):
    out, outcome = shipped
    assert outcome.status == "complete" and not outcome.failures
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    assert figures == {
        "planted_maps", "planted_shares", "planted_audit", "distances", "contributions", "extremes", "classes",
        "heatmaps", "audit",
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


def test_folders_with_damage_and_labels(tmp_path):
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
    study = folder_study(
        tmp_path / "real.npz",
        tmp_path / "fake.npz",
        classifier_extractor("subject"),
        pixel_extractor(4),
        progress=False,
    )
    outcome = fid.build(tmp_path / "out", command="test", study=study, progress=False)
    assert outcome.status == "complete", outcome.failures
    page = outcome.path.read_text()
    assert "wrong in kind at n &lt;= d" in page
    assert len(pd.read_parquet(tmp_path / "out/tables/left_out.parquet")) == 20


def test_command_line_errors(tmp_path):
    save(torch.zeros(3, 3, 20, 20), tmp_path / "a")
    run = lambda *arguments: str(CliRunner().invoke(app, ["report", "fid", *arguments]).exception)  # noqa: E731
    assert "both, or none" in run(str(tmp_path / "a"))
    assert "--inception FILE" in run(str(tmp_path / "a"), str(tmp_path / "a"))
    assert "timm:NAME" in run(str(tmp_path / "a"), str(tmp_path / "a"), "--features", "resnet")
    converted = CliRunner().invoke(app, ["weights", "convert", str(tmp_path / "none.pth")])
    assert "pt_inception-2015" in str(converted.exception)
