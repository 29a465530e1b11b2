"""The report on what changed, of recorded pipelines and of denoisers, and from the command line."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.saved_pipelines import saved

from scorescope.analysis.guidance import decompose
from scorescope.data import EDMDenoiser, InputError, PowerEMA, UNetConfig, load_denoiser, load_digits, save_denoiser
from scorescope.probes import CFG, Recording, sample, sweep
from scorescope.probes.experiments import plan_calls, record_calls
from scorescope.probes.models import edm_sigmas, load_model, load_pipeline
from scorescope.reports.changes import (
    compare_denoisers,
    compare_reports,
    compare_runs,
    compare_sweeps,
    ema_lengths,
    readings,
)
from scorescope.reports.cli.compare import compare, compare_ema
from scorescope.reports.page import ReportTable, ReportWriter, Section

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


def test_another_number_of_steps_is_compared_by_its_images(runs, tmp_path, unrendered):
    """What was refused: the steps have no partners, but what was made has."""
    pipe = load_pipeline(str(runs / "sd15"))
    calls = plan_calls(pipe, [{"prompt": "a"}], count=8)
    arguments = {"height": 16, "width": 16, "num_inference_steps": 4, "guidance_scale": 3.0}
    record_calls(pipe, calls, folder=tmp_path / "longer" / "runs" / "own", arguments=arguments, progress=False)
    names = [str(runs / "before"), str(tmp_path / "longer")]
    outcome = compare(tmp_path / "out", names, images=None, size=None, device="cpu", command="c")
    page = (tmp_path / "out" / "index.html").read_text()
    assert outcome.status == "complete" and "Their steps are not compared: 4 steps beside 3." in page
    assert "num_inference_steps 3 and 4" in page and "Of 8 pairs of images" in page
    ends = outcome.tables["ends"].set_index("quantity")
    assert ends.loc["contrast", "of"] == "image" and ends.loc["calls", "value"] == 2  # one step more, of two branches
    assert len(outcome.tables["image_distances"]) == 8 and "differences" not in outcome.tables


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """Two sweeps of two settings, of a denoiser and of a worse one."""
    folder = tmp_path_factory.mktemp("sweeps")
    how = {"seeds": range(8), "condition": torch.arange(8), "sigmas": edm_sigmas(5), "progress": False}
    record = Recording(value_range=(-1, 1))
    for name, rules in (("digits", {"CFG 2": CFG(2.0), "CFG 4": CFG(4.0)}), ("digits_weak", {"CFG 2": CFG(2.0)})):
        sweep(load_denoiser(name)[0], rules, folder=folder / name, record=record, **how)
    return folder


def test_sweeps_by_their_settings_and_settings_of_one_sweep(sweeps, tmp_path, unrendered):
    given = {"images": None, "size": None, "device": "cpu", "command": "c"}
    two = compare(tmp_path / "two", [str(sweeps / "digits"), str(sweeps / "digits_weak")], **given)
    assert two.status == "complete" and two.tables["differences0"]["shown"].any()
    page = (tmp_path / "two" / "index.html").read_text()
    assert "CFG 2: digits_weak beside digits" in page and "8 pairs of one seed" in page and "CFG 4" in page
    one = compare(tmp_path / "one", [str(sweeps / "digits")], **given)
    gain = one.tables["differences"].set_index(["quantity", "step"]).loc[("applied_norm", 0)]
    assert gain["shown"] and gain["value"] / gain["first"] == pytest.approx(3 / 1 - 1, rel=1e-4)
    assert len(one.tables["image_distances"]) == 8
    files = [str(path) for path in sorted((sweeps / "digits").glob("*.json"))]
    alone = compare(tmp_path / "files", files, **given)
    assert alone.tables["differences"]["value"].equals(one.tables["differences"]["value"])
    with pytest.raises(InputError, match="settings of the same names"):
        sweep(
            load_denoiser("digits_weak")[0], {"APG": CFG(2.0)}, folder=tmp_path / "other", seeds=range(2),
            condition=torch.arange(2), sigmas=edm_sigmas(2), progress=False,
        )  # fmt: skip
        compare_sweeps(tmp_path / "out", {"a": sweeps / "digits", "b": tmp_path / "other"}, command="c")
    with pytest.raises(InputError, match="things of one kind"):
        compare(tmp_path / "out", [str(sweeps / "digits"), "digits"], **given)


def report(folder, mean, kind="guidance", seeds=range(8)):
    """A report with a table of means and one of samples."""
    means = pd.DataFrame({"rule": ["CFG"], "mean": [mean], "low": [mean - 0.1], "high": [mean + 0.1], "n": [8]})
    made = sample(
        load_denoiser("digits")[0], seeds=list(seeds), condition=torch.arange(len(seeds)), rule=CFG(mean),
        sigmas=edm_sigmas(3), record=Recording(), progress=False,
    )  # fmt: skip
    samples = decompose(made.trace).assign(path_weight=1.0)
    tables = [ReportTable("steps", means), ReportTable("decomposition", samples), ReportTable("odd", means[["rule"]])]
    with ReportWriter(folder, name=kind, title="t", question="q", command="c") as writer:
        writer.section("a", "A", lambda: Section(tables=tables))
    return str(folder)


def test_reports_by_their_tables(tmp_path, unrendered):
    names = [report(tmp_path / "a", 2.0), report(tmp_path / "b", 3.0)]
    outcome = compare(tmp_path / "out", names, images=None, size=None, device="cpu", command="c")
    page = (tmp_path / "out" / "index.html").read_text()
    assert outcome.status == "complete" and "no paired difference can be had" in page and "are no test" in page
    beside = outcome.tables["beside"].iloc[0]
    assert (beside["table"], beside["difference"], beside["intervals"]) == ("steps", 1.0, "apart")
    assert list(outcome.tables["not_compared"]["table"]) == ["decomposition", "odd"]
    paired = outcome.tables["sample_differences"]
    gain = paired[(paired["quantity"] == "applied_norm") & paired["row"].str.contains("step 0, call 0")].iloc[0]
    assert gain["n"] == 8 and gain["value"] / gain["first"] == pytest.approx(1.0, rel=1e-4)  # (w - 1) |D_c - D_u|
    with pytest.raises(InputError, match=r"other, a fid report; expected reports of one kind, as a: guidance"):
        compare_reports(tmp_path / "c", {"a": names[0], "other": report(tmp_path / "o", 2.0, "fid")}, command="c")
    (tmp_path / "b" / "tables" / "steps.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match="missing, or not what was written"):
        compare_reports(tmp_path / "c", dict(zip("ab", names, strict=True)), command="c")


def test_ema_lengths_of_a_training_run(tmp_path, unrendered, monkeypatch):
    monkeypatch.setattr(ema_lengths, "LEVELS", ema_lengths.LEVELS[::4])  # a fourth of the time
    config = UNetConfig(channels=(8, 8), embedding=16)
    torch.manual_seed(0)
    network = EDMDenoiser(config, 0.75)
    averages = PowerEMA(network)
    for step in range(1, 81):
        with torch.no_grad():  # from a useless network to another one: short averages are further on
            for parameter in network.parameters():
                parameter += 0.002 * torch.randn_like(parameter)
        averages.update(network)
        for length, average in averages.networks.items() if step % 10 == 0 else ():
            about = {"training_step": str(step), "sigma_rel": str(length)}
            save_denoiser(tmp_path / f"{step:03d}-{length}.safetensors", average, {}, metadata=about)
    given = {"images": None, "size": None, "device": "cpu", "command": "c"}
    outcome = compare_ema(tmp_path / "out", tmp_path, "0.05,0.15", **given)
    assert outcome.status == "complete" and set(outcome.tables["lowest"]["lowest"]) <= {"0.05", "0.15"}
    made = outcome.tables["ema_lengths"].set_index("length")
    assert made.loc[0.05, "error"] < 1e-6 and 0.01 < made.loc[0.15, "error"] < 0.1
    assert len(outcome.tables["above_lowest"]) == 2 * 4 and outcome.readings[0]
    for lengths, said in (("0.05,x", "--ema"), ("0.05", "two or more"), ("0.05,0.25", "length 0.25 at step 80")):
        with pytest.raises(InputError, match=said):
            compare_ema(tmp_path / "out", tmp_path, lengths, **given)
    with pytest.raises(InputError, match=r"length 0.15 at step 80, .* at most 0.001"):
        compare_ema(tmp_path / "out", tmp_path, "0.05,0.15", at_most=1e-3, **given)


def test_the_sentence_on_ema_lengths():
    rows = [("a", 0.1, False), ("a", 1.0, False), ("b", 0.1, True), ("b", 1.0, False)]
    above = pd.DataFrame(
        [{"denoiser": {"a": "0.05", "b": "0.1"}[name], "sigma": sigma, "shown": shown} for name, sigma, shown in rows]
    )
    best = pd.DataFrame({"sigma": [0.1, 1.0], "lowest": ["0.05", "0.05"], "also": ["", "0.1"]})
    assert readings.read_ema(above, best) == (
        "Of 2 noise levels one EMA length is shown to be the best at 1: 0.05 at σ = 0.1; at the others two or more are "
        "not told apart. Shown to be worse than the lowest: 0.1 at σ = 0.1; at no level: 0.05."
    )
    fewer = readings.read_ema(above.assign(shown=[False, False, True, False]), best.assign(also="0.1"))
    assert fewer.startswith("Of 2 noise levels one EMA length is shown to be the best at 0. Shown to be worse")


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
    place = {"quantity": "gain", "stream": 0, "schedule": 0}
    row = {**place, "step": 1, "sigma": 2.0, "first": 1.0, "value": 0.2, "detectable": 0.1, "missing": ""}
    narrow = pd.DataFrame([{**row, "low": 0.1, "high": 0.3, "shown": True}])
    wide = narrow.assign(low=-0.1, high=0.5, shown=False, detectable=0.4)
    ranges = pd.DataFrame([{**place, "from_sigma": 2.0, "to_sigma": 2.0}])
    assert "gain at σ = 2 (clearest at σ = 2, by 0.2, 0.1 to 0.3, beside 1)" in readings.read_runs(narrow, ranges)
    both = [table.assign(quantity="contrast") for table in (narrow, ranges)]
    assert "contrast of the guided prediction at σ = 2 (clearest" in readings.read_runs(*both)
    told = readings.read_runs(wide, ranges.iloc[:0])
    assert told.startswith("None of 1 quantities at 1 steps is shown to differ; a difference of 40.0%")


def test_ends_that_do_not_differ_say_how_small_a_difference_would_have_been_seen():
    rows = {"quantity": ["contrast", "saturation"], "value": 0.0, "low": -0.1, "high": 0.1, "first": [2.0, 1.0],
            "detectable": [0.2, 0.3], "shown": False, "of": "image"}  # fmt: skip
    said = readings.read_ends(pd.DataFrame(rows))
    assert "nothing is shown to differ; a difference of 20.0% of a mean, in the median over them, would" in said
    some = readings.read_ends(pd.DataFrame({**rows, "shown": [True, False]}))
    assert "contrast of the image by 0" in some and "would have been" not in some


def test_skewed_differences_are_doubted():
    rows = pd.DataFrame({"low": [0.0, 0.0, None], "skewness": [-2.0, 0.5, 3.0]})
    assert readings.read_skewed(rows).startswith("1 of 2 differences are skewed beyond ±1")
    assert readings.read_skewed(rows.iloc[1:]) == ""
