"""The report on what changed, of recorded pipelines and of denoisers, and from the command line."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.saved_pipelines import saved

from scorescope.data import InputError, load_denoiser, load_digits
from scorescope.probes.experiments import plan_calls, record_calls
from scorescope.probes.models import load_model, load_pipeline
from scorescope.reports.changes import compare_denoisers, compare_runs, readings
from scorescope.reports.cli.compare import compare

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SNAPSHOTS = Path(__file__).parents[3] / "data" / "weights" / "snapshots"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Reports' folders of one pipeline: twice the same, and a stronger guidance with one seed more."""
    folder = tmp_path_factory.mktemp("changes")
    pipe = load_pipeline(saved("sd15", folder)[0])
    shared = {"height": 16, "width": 16, "num_inference_steps": 3}
    for name, scale, count in (("before", 3.0, 8), ("again", 3.0, 8), ("stronger", 6.0, 9)):
        calls = plan_calls(pipe, [{"prompt": "a"}], count=count)
        where = folder / name / "runs" / "own"
        record_calls(pipe, calls, folder=where, arguments={**shared, "guidance_scale": scale}, progress=False)
    return folder


def test_a_stronger_guidance_is_found(runs):
    names = [str(runs / "before"), str(runs / "stronger")]
    outcome = compare(runs / "report", names, images=None, size=None, device="cpu", command="c")
    assert outcome.status == "complete"
    page = (runs / "report" / "index.html").read_text()
    assert "8 pairs of one seed and prompt are compared; 0 of the first and 1 of the second run have no partner" in page
    assert "Their arguments differ: guidance_scale 3.0 and 6.0." in page
    table = pd.read_parquet(runs / "report" / "tables" / "differences.parquet")
    gain = table[(table["quantity"] == "applied_norm") & (table["step"] == 0)].iloc[0]
    assert gain["shown"] and gain["value"] / gain["first"] == pytest.approx(5 / 2 - 1, rel=1e-4)  # (w - 1) |D_c - D_u|
    same = table[(table["quantity"] == "update_norm") & (table["step"] == 0)].iloc[0]
    assert not same["shown"]  # the first states are the same
    assert (runs / "report" / "figures" / "pairs.png").exists() and "Of 8 pairs of images" in page


def test_the_same_again_is_not_shown_to_differ(runs, unrendered):
    compare_runs(runs / "same", {"before": runs / "before", "again": runs / "again"}, command="c")
    page = (runs / "same" / "index.html").read_text()
    assert "None of" in page and "is shown to differ; a difference of" in page and "shown 8 times in 10" in page


def test_checkpoints_by_their_files(tmp_path, unrendered):
    names = [str(SNAPSHOTS / f"step-0{step}.safetensors") for step in ("2000", "0400")]
    outcome = compare(tmp_path, names, images=None, size=None, device="cpu", command="c")
    best = pd.read_parquet(tmp_path / "tables" / "lowest.parquet")
    assert outcome.status == "complete" and set(best["lowest"]) == {"step-02000"}
    assert "step-02000 at" in outcome.readings[0]


def test_one_denoiser_beside_itself_and_few_images(tmp_path, unrendered):
    denoiser, images = load_denoiser("digits")[0], load_digits().held_out.images
    found = compare_denoisers(tmp_path / "a", {"a": denoiser, "b": denoiser}, images[:20], command="c", progress=False)
    assert found.readings[0].startswith("No loss is shown to differ at any of 15 noise levels")
    found = compare_denoisers(tmp_path / "b", {"a": denoiser, "b": denoiser}, images[:3], command="c", progress=False)
    assert found.readings[0] == "Nothing can be told: 3 units, 6 needed."


def test_what_cannot_be_compared(runs, tmp_path):
    cases = [
        (["digits"], "two or more"),
        (["digits", "digits"], "each once"),
        (["digits", str(runs / "before")], "digits beside recorded runs"),
        (["digits", "shapes"], "of shape"),
        (["digits", "my.py:make"], "as my:make"),
        (["digits", str(runs / "sd15")], "--pipeline for it"),
        (["shapes", str(tmp_path / "none.safetensors")], "a safetensors file"),
    ]
    for names, said in cases:
        with pytest.raises(InputError, match=said):
            compare(tmp_path / "out", names, images=None, size=None, device="cpu", command="c")
    with pytest.raises(InputError, match="found 1 of them"):
        compare_runs(tmp_path / "out", {"a": runs / "before"}, command="c")
    shown = load_model(str(SNAPSHOTS / "step-00400.safetensors"))
    assert shown.name == "step-00400" and shown.digits is not None and torch.equal(shown.conditions(3), torch.arange(3))


def test_fewer_runs_claim_less():
    """The sentence of a table whose intervals are wider names nothing that the narrower one does not."""
    row = {
        "quantity": "gain",
        "stream": 0,
        "schedule": 0,
        "step": 1,
        "sigma": 2.0,
        "first": 1.0,
        "value": 0.2,
        "detectable": 0.1,
        "missing": "",
    }
    narrow = pd.DataFrame([{**row, "low": 0.1, "high": 0.3, "shown": True}])
    wide = narrow.assign(low=-0.1, high=0.5, shown=False, detectable=0.4)
    ranges = pd.DataFrame([{**place, "from_sigma": 2.0, "to_sigma": 2.0}])
    assert "gain at σ = 2 to 2 (at σ = 2 by 0.2, 0.1 to 0.3, beside 1)" in readings.read_runs(narrow, ranges)
    told = readings.read_runs(wide, ranges.iloc[:0])
    assert told.startswith("None of 1 quantities at 1 steps is shown to differ; a difference of 40.0%")
