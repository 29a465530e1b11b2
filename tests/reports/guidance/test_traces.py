import json
import re
import shutil
from contextlib import ExitStack

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tests.pipelines import flux_distilled, generator, rescale, sd15

from scorescope.analysis.guidance import separation
from scorescope.analysis.guidance.images import image_table
from scorescope.probes import APG, CFG, FrequencyDecoupled, Trace, guide, record
from scorescope.probes.experiments import replay_all, visits
from scorescope.reports import guidance
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.sections_recorded import pictures_section
from scorescope.reports.guidance.trace_study import open_traces
from scorescope.reports.page.texts import writable


@pytest.fixture(scope="module")
def trace_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "run"
    pipe, arguments = sd15(batch=2)
    with record(pipe, keep="all", path=path) as trace:
        pipe(**arguments)
    return path, trace, arguments["guidance_scale"]


def test_report_on_a_recorded_pipeline(trace_folder, tmp_path):
    path, _, weight = trace_folder
    outcome = guidance.build_from_traces(tmp_path, [path], command="test")
    assert outcome.status == "complete" and len(outcome.readings) == 5
    assert re.match(r"At the states .*: APG for run by .* at σ = [\d.]+\.$", outcome.readings[-1])
    table = pd.read_parquet(tmp_path / "tables/decomposition0.parquet")
    assert table["update_norm"].notna().all() and table["weight"].to_numpy() == pytest.approx(weight, rel=1e-5)
    assert (tmp_path / "figures/update_parts0.svg").exists()


@pytest.mark.parametrize("name", ["unknown", "FrequencyDecoupled"])
def test_report_on_a_rule_that_no_weight_fits(name, tmp_path):
    pipe, arguments = rescale() if name == "unknown" else sd15(batch=2)
    with record(pipe, path=tmp_path / "run", branches=("uncond", "cond")), ExitStack() as stack:
        if name != "unknown":
            stack.enter_context(guide(pipe, FrequencyDecoupled((8.0, 2.0))))
        pipe(**arguments)
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "run"], command="test")
    assert outcome.status == "complete" and len(outcome.readings) == 4
    table = pd.read_parquet(tmp_path / "out/tables/decomposition0.parquet")
    assert set(table["rule"]) == {name} and table["weight"].isna().all() and table["gain"].isna().all()
    assert any(f"under {name}." in text for text in outcome.readings)
    path = pd.read_parquet(tmp_path / "out/tables/gain_path0.parquet")
    assert path.loc[path["quantity"] == "path_gain", "mean"].notna().all()


def test_report_on_two_weights_of_one_trace_shows_each(tmp_path, unrendered):
    pipe, arguments = sd15(batch=2)
    with record(pipe, path=tmp_path / "run"):
        for weight in (3.0, 9.0, 9.0):
            pipe(**arguments | {"guidance_scale": weight, "generator": generator()})
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "run"], command="test")
    assert outcome.status == "complete" and len(outcome.readings) == 8
    assert any("under cfg at w = 3." in text for text in outcome.readings)
    assert any("under cfg at w = 9." in text for text in outcome.readings)
    steps = pd.read_parquet(tmp_path / "out/tables/steps0.parquet")
    assert steps.groupby("weight")["runs"].agg(set).to_dict() == {3.0: {1}, 9.0: {2}}
    page = (tmp_path / "out/index.html").read_text()
    assert "cfg, w = 3 (run 0)" in page and "cfg, w = 9 (mean of runs 1, 2)" in page
    assert (tmp_path / "out/figures/update_parts0_1.svg").exists()


def test_report_on_equal_branches_says_so(tmp_path):
    pipe, arguments = sd15(batch=2)
    same = arguments | {"negative_prompt_embeds": arguments["prompt_embeds"]}
    with record(pipe, path=tmp_path / "run"):
        pipe(**same)
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "run"], command="test")
    assert outcome.status == "complete"
    assert "No update is known at any step: both branches are the same" in (tmp_path / "out/index.html").read_text()


@pytest.fixture(scope="module")
def other_folders(tmp_path_factory):
    """The same pipeline with another weight, and with another seed."""
    folder = tmp_path_factory.mktemp("others")
    for name, more in (("stronger", {"guidance_scale": 12.0}), ("reseeded", {"generator": generator(5)})):
        pipe, arguments = sd15(batch=2)
        with record(pipe, keep="all", path=folder / name):
            pipe(**arguments | more)
    return folder


def test_recorded_paths_are_compared_where_they_pair(trace_folder, other_folders, tmp_path, unrendered):
    folders = [trace_folder[0], other_folders / "stronger", other_folders / "reseeded"]
    outcome = guidance.build_from_traces(tmp_path, folders, command="test")
    assert outcome.status == "complete"
    assert any("From the path of run the others part: stronger by step 1" in text for text in outcome.readings)
    ends = pd.read_parquet(tmp_path / "tables/parting.parquet")
    assert set(ends["setting"]) == {"stronger"} and list(ends["which"]) == ["first", "last"]
    first = Trace.open(folders[0]).arrays, Trace.open(folders[1]).arrays
    assert torch.equal(*(arrays.load("x", 0) for arrays in first)) and ends["step"].iloc[0] == 1
    page = (tmp_path / "index.html").read_text()
    assert "reseeded is not compared with run" in page and "other states at the first step" in page


def test_clips_with_momentum_are_replayed_on_recorded_pipelines(trace_folder, tmp_path, unrendered):
    guidance.build_from_traces(tmp_path, [trace_folder[0]], command="test")
    table = pd.read_parquet(tmp_path / "tables/clip_momentum0.parquet")
    plain = pd.read_parquet(tmp_path / "tables/clip_share0.parquet")
    assert set(table["momentum"]) == {-0.5, -0.75} and set(table["norm"]) == set(plain["norm"])
    assert "With the momentum of earlier steps" in (tmp_path / "index.html").read_text()


def test_traces_without_states_say_so(tmp_path, unrendered):
    for name in ("a", "b"):
        pipe, arguments = sd15()
        with record(pipe, path=tmp_path / name):
            pipe(**arguments)
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "a", tmp_path / "b"], command="test")
    assert outcome.status == "complete"
    page = (tmp_path / "out/index.html").read_text()
    assert "The clip with momentum cannot be told" in page and "b is not compared with a" in page


def test_a_folder_without_a_trace_is_named_and_the_others_are_reported(trace_folder, tmp_path, capsys, unrendered):
    path, _, _ = trace_folder
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "nothing", path], command="test")
    assert outcome.status == "incomplete" and list(outcome.failures) == [str(tmp_path / "nothing")]
    assert "is missing" in capsys.readouterr().err
    assert json.loads((tmp_path / "out/manifest.json").read_text())["status"] == "incomplete"


def test_a_run_without_guidance_says_why_there_is_no_update(tmp_path):
    pipe, arguments = flux_distilled()
    with record(pipe, path=tmp_path / "run"):
        pipe(**arguments)
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "run"], command="test")
    assert outcome.status == "complete"
    assert "No update is known at any step" in (tmp_path / "out/index.html").read_text()


def test_rules_are_replayed_on_a_pipeline_in_denoised_space(trace_folder):
    _path, trace, weight = trace_folder
    same, other = replay_all(trace, [CFG(weight), APG(weight)])
    # the pipeline computed in float32: its own rule comes back to rounding
    assert ((same.scalars["difference_sq"] / same.scalars["guided_sq"]).pow(0.5) < 1e-5).all()
    assert (other.scalars["difference_sq"] > same.scalars["difference_sq"]).all()
    assert (same.scalars["sample"].nunique(), len(same.scalars)) == (2, len(trace.scalars))


def test_folders_of_any_name_are_reported(trace_folder, other_folders, tmp_path):
    names = ["_cost $5 and $x^", "red \x1b[31m"]
    folders = [shutil.copytree(trace_folder[0], tmp_path / "run")]
    folders += [shutil.copytree(other_folders / "stronger", tmp_path / name) for name in names]
    missing = tmp_path / "not utf-8 \udcff"
    outcome = guidance.build_from_traces(tmp_path / "out", [*folders, missing], command="test")
    assert list(outcome.failures) == [str(missing)]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    shown = ["run", names[0], "red \\x1b[31m", "not utf-8 \\udcff"]
    assert [traced.rpartition("/")[2] for traced in manifest["traces"]] == shown
    assert all(name in (tmp_path / "out/index.html").read_text() for name in shown)
    tables = {name: separation(Trace.open(folders[0]), Trace.open(folders[1]), tolerance=0.01) for name in names}
    legend = figures.separation(tables, tolerance=0.01).legends[0].get_texts()
    assert [text.get_text() for text in legend][:2] == ["\u200b_cost \\$5 and \\$x^", writable(names[1])]


@pytest.fixture(scope="module")
def side_by_side(trace_folder, other_folders, tmp_path_factory):
    """A page on three traces: one rule, a stronger weight, and one without guidance that lies beside its images."""
    place = tmp_path_factory.mktemp("side")
    (place / "c/decoded").mkdir(parents=True)
    pipe, arguments = sd15(batch=2)
    with record(pipe, keep="all", path=place / "c/unguided"):
        pipe(**arguments | {"guidance_scale": 1.0})
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for number in range(2):
        save_file({"images": images}, place / f"c/decoded/{number:05d}.safetensors", {"clipped": "False"})
    folders = [trace_folder[0], other_folders / "stronger", place / "c/unguided"]
    return folders, guidance.build_from_traces(place / "out", folders, command="test"), place / "out"


def test_sentences_on_several_traces_name_each(side_by_side):
    _, outcome, out = side_by_side
    assert outcome.status == "complete"
    shown = [text for text in outcome.readings if text.startswith("In the mean")]
    assert len(shown) == 5 and all("run " in text and "stronger " in text for text in shown)
    table = outcome.tables["traces"].set_index("trace")
    assert list(table.index) == ["run", "stronger", "unguided"] and list(table["weight"]) == pytest.approx([5, 12, 1])
    assert (table["steps"] > 1).all() and (table["samples"] == 2).all()
    page = (out / "index.html").read_text()
    assert "unguided has no update: one prediction a step: no guidance was applied." in page
    figures_made = {path.stem for path in (out / "figures").glob("*.svg")}
    assert {"update_norms", "parallel_share", "update_parts", "branch_cosine", "applied_gain"} <= figures_made
    assert {"clip_share0", "clip_share1", "gain_path0", "decomposition2", "columns"} <= set(outcome.tables)


def test_replayed_changes_are_those_of_the_formula(side_by_side):
    """|D_APG - D| / |D| at every first call, from the arrays that were kept."""
    folders, outcome, out = side_by_side
    table = outcome.tables["replayed"]
    assert set(table["setting"]) == {"APG"} and set(table["trace"]) == {"run", "stronger"}
    for folder, weight in zip(folders[:2], (5.0, 12.0), strict=True):
        rows = table[table["trace"] == folder.name].set_index("step")
        for visit in visits(Trace.open(folder)):
            cond, update = visit.cond.double(), visit.cond.double() - visit.uncond.double()
            along = (update * cond).sum((1, 2, 3)) / cond.square().sum((1, 2, 3))
            other = cond + (weight - 1) * (update - along[:, None, None, None] * cond)
            size = visit.guided.double().flatten(1).norm(dim=1)
            apart = (other - visit.guided.double()).flatten(1).norm(dim=1) / size
            assert rows.loc[visit.step, "mean"] == pytest.approx(apart.mean().item(), rel=1e-3, abs=1e-6)
    assert "No interval is replayed" in (out / "index.html").read_text()


def test_images_beside_a_trace_are_shown_and_others_named(side_by_side):
    _, outcome, out = side_by_side
    images = outcome.tables["images"]
    assert set(images["rule"]) == {"unguided"} and images["weight"].isna().all()
    page = (out / "index.html").read_text()
    assert all(f"No pictures of {name}: found no decoded images beside it" in page for name in ("run", "stronger"))
    assert (out / "figures/pictures.svg").exists()


def test_last_states_are_decoded_where_a_decoder_is_given(side_by_side, tmp_path, monkeypatch):
    folders, *_ = side_by_side

    def decoder(states):
        return states[:, :3] / 10

    outcome = guidance.build_from_traces(tmp_path / "out", folders[:2], command="test", decoder=decoder)
    single = outcome.tables["images"]
    assert set(single["rule"]) == {"run", "stronger"}
    for folder in folders[:2]:
        arrays = Trace.open(folder).arrays
        images = arrays.load("x_prev", len(arrays.events) - 1)[:, :3].float() / 10
        by_hand = image_table(images, (-1, 1), rule="", weight=0.0)
        rows = single[single["rule"] == folder.name].set_index("quantity")["mean"]
        for quantity in ("contrast", "saturation"):
            assert rows[quantity] == pytest.approx(by_hand[quantity].mean(), rel=1e-6)
    (tmp_path / "my_decoder.py").write_text("def make():\n    return lambda states: states[:, :3] / 10\n")
    monkeypatch.chdir(tmp_path)
    named = guidance.build_from_traces(tmp_path / "n", folders[:2], command="test", decoder="my_decoder:make")
    pd.testing.assert_frame_equal(named.tables["images"], single)
    request = json.loads((tmp_path / "n/manifest.json").read_text())["request"]
    assert request["options"]["decoder"] == "my_decoder:make" and request["inputs"]["my_decoder:make"]


def test_a_trace_that_kept_no_states_is_named_where_a_decoder_is_given(tmp_path):
    pipe, arguments = sd15()
    with record(pipe, path=tmp_path / "scalars"):
        pipe(**arguments)
    study = open_traces([tmp_path / "scalars"], lambda name, error: pytest.fail(str(error)), lambda states: states)
    text = pictures_section(study).text
    assert text.startswith("No pictures of scalars: found x_prev, not kept in step") and "expected" in text
