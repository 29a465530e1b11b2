"""Studies and reruns of reports that cost seconds: of a factory's denoiser, and of recorded traces."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scorescope.data import InputError
from scorescope.data.written_files import write_json
from scorescope.probes import load_model
from scorescope.reports import guidance
from scorescope.reports.cli import Study, read_study, rerun, run_study, study
from scorescope.reports.cli import commands as cli
from scorescope.reports.cli.repeatable import COMMANDS, options_of
from scorescope.reports.page import ReportTable, ReportWriter, Section
from scorescope.reports.page.requests import recorded
from scorescope.reports.studies import changed_tables, read_made

MODULE = """
class Net:
    shape, classes, value_range = (1, 2, 2), 3, (-1, 1)
    def __init__(self, shift):
        self.shift = shift
    def __call__(self, x, sigma, condition):
        shift = 0 if condition is None else condition[:, None, None, None] * self.shift
        return shift + x / (1 + sigma[:, None, None, None] ** 2)
def make():
    return Net(0.2)
def other():
    return Net(0.3)
"""
STUDY = """
[subjects]
first = "tiny_nets:make"
second = { denoiser = "tiny_nets:other" }
broken = "tiny_nets:nothing"
[reports.guidance]
count = 6
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, unrendered):
    (tmp_path / "tiny_nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tiny_nets", raising=False)
    return tmp_path


@pytest.fixture
def made(monkeypatch):
    """Reports that a study asks for, which are one small table each: the count times two, of a file what is in it."""
    asked = []

    def fake(request, out):
        asked.append(out.name)
        count, path = request.options.get("count"), request.options.get("denoiser")
        if count == 13:
            raise KeyboardInterrupt
        if count == 11:
            raise ValueError("eleven")
        rows = {"setting": ["CFG, w = 4"], "metric": ["score"], "value": [count / 10], "low": [0.0], "high": [1.0]}
        how = {"title": "T", "question": "?", "command": "c", "request": request, "manifest": {"model": str(path)}}
        with ReportWriter(out, name="guidance", **how) as page:
            page.section("a", "A", lambda: Section(tables=[ReportTable("sweep", pd.DataFrame(rows))]))

    monkeypatch.setattr(study, "run", fake)
    return asked


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scorescope", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.slow  # four whole reports; their parts are tested one by one below
def test_a_study_and_a_rerun_from_the_command_line(folder, monkeypatch, capsys):
    """A checkpoint that fails is named and the others are made, once; each can be made again with the same tables."""
    (folder / "mine.toml").write_text(STUDY)
    assert run(monkeypatch, "study", "mine.toml") == 1
    manifest = json.loads((folder / "mine/manifest.json").read_text())
    assert list(manifest["failures"]) == ["broken/guidance"]
    assert "has no attribute 'nothing'" in manifest["failures"]["broken/guidance"]
    page = (folder / "mine/index.html").read_text()
    assert 'href="first/guidance/index.html"' in page and "broken/guidance" in page
    table = pd.read_parquet(folder / "mine/tables/headlines.parquet")
    value = table[(table["subject"] == "second") & (table["quantity"] == "overshoot share, CFG at w = 4")].iloc[0]
    sweep = pd.read_parquet(folder / "mine/second/guidance/tables/sweep.parquet")
    own = sweep[(sweep["setting"] == "CFG, w = 4") & (sweep["metric"] == "overshoot_share")].iloc[0]
    assert (value["value"], value["low"], value["high"], value["n"]) == (own["value"], own["low"], own["high"], 6)
    assert table.loc[table["subject"] == "broken", "missing"].str.contains("nothing").all()
    scores = table[table["quantity"] == "class agreement, CFG at w = 4"]
    assert scores["value"].isna().all() and (scores["missing"] != "").all()  # there is no judge: said, not made up
    capsys.readouterr()
    assert run(monkeypatch, "rerun", folder / "mine/first/guidance/manifest.json") == 0
    said = capsys.readouterr().out.strip()
    assert said.endswith("tables are the same, value by value") and "\n" not in said
    (folder / "tiny_nets.py").write_text(MODULE.replace("0.2", "0.25"))
    del sys.modules["tiny_nets"]
    assert run(monkeypatch, "rerun", folder / "mine/first/guidance", "--out", folder / "again") == 1
    said = capsys.readouterr().out
    assert "changed: tiny_nets:make: sha256" in said and "table steps: " in said and "largest difference is" in said
    assert run(monkeypatch, "rerun", folder / "mine/first/guidance", "--out", folder / "again") == 2
    assert "with something in it" in capsys.readouterr().err


def test_what_is_made_is_not_made_again(folder, made):
    subjects, reports = {"a": "digits", "b": "digits_weak"}, {"guidance": {"count": 4}}
    first = run_study(Study(folder / "s", subjects, reports))
    assert len(made) == 2 and first.page.status == "complete" and not first.kept
    again = run_study(Study(folder / "s", subjects, reports))
    assert len(made) == 2 and again.kept == ["a/guidance", "b/guidance"]
    pd.testing.assert_frame_equal(first.table, again.table)
    below = (folder / "s/a/guidance/index.html").read_text()
    assert below.count('href="../../index.html"') == 1 and 'href="../../b/guidance/index.html"' in below
    (folder / "s/b/guidance/tables/sweep.csv").write_text("damaged")
    assert run_study(Study(folder / "s", subjects, reports)).kept == ["a/guidance"] and len(made) == 3
    assert not run_study(Study(folder / "s", subjects, {"guidance": {"count": 5}})).kept and len(made) == 5


def test_workers_make_what_is_missing(folder, made):
    subjects, reports = {"a": "digits", "b": "digits_weak"}, {"guidance": {"count": 4}}
    expected = run_study(Study(folder / "s", subjects, reports)).table
    with ThreadPoolExecutor(1) as executor:  # of this process, where the report is a stand-in
        first = run_study(Study(folder / "t", subjects, reports), executor=executor)
        (folder / "t/b/guidance/tables/sweep.csv").write_text("damaged")
        again = run_study(Study(folder / "t", subjects, reports), executor=executor)
    assert len(made) == 2 + 2 + 1 and not first.kept and again.kept == ["a/guidance"]
    pd.testing.assert_frame_equal(first.table, expected)
    pd.testing.assert_frame_equal(again.table, expected)


@pytest.mark.slow
def test_processes_make_the_same_study(folder, monkeypatch, capsys):
    for name in ("here", "there"):
        (folder / f"{name}.toml").write_text(f'out = "{name}"\n{STUDY}')
    assert run(monkeypatch, "study", folder / "here.toml") == 1
    assert run(monkeypatch, "study", folder / "there.toml", "--workers", 2) == 1
    assert "broken/guidance: InputError: denoiser: found 'tiny_nets:nothing'" in capsys.readouterr().err
    for name in ("first", "second"):
        here, there = (read_made(folder / place / name / "guidance") for place in ("here", "there"))
        manifest = json.loads((folder / "there" / name / "guidance/manifest.json").read_text())
        assert manifest["command"].endswith("there.toml --workers 2")
        assert changed_tables(here, there).empty


def test_a_kill_after_recordings_were_cleared_leaves_the_request_that_they_are_of(folder, monkeypatch):
    """Recordings of C beside the request of B would be taken for B's for good."""
    out, tried = folder / "s", []

    def make(request, where):
        tried.append(request.options["count"])
        if len(tried) == 2:  # C does not fit what B recorded
            return "another"
        if len(tried) == 3:
            raise KeyboardInterrupt
        (where / study.RECORDED).mkdir(exist_ok=True)
        return "" if len(tried) == 1 else "not reached"

    monkeypatch.setattr(study, "_ran", make)
    run_study(Study(out, {"a": "digits"}, {"guidance": {"count": 4}}))
    with pytest.raises(KeyboardInterrupt):
        run_study(Study(out, {"a": "digits"}, {"guidance": {"count": 5}}))
    assert json.loads((out / "a/guidance" / study.ASKED).read_text())["options"]["count"] == 5


def test_a_study_that_is_stopped_goes_on(folder, made):
    subjects = {"a": {"denoiser": "digits", "count": 4}, "b": {"denoiser": "digits", "count": 13}}
    with pytest.raises(KeyboardInterrupt):
        run_study(Study(folder / "s", subjects, {"guidance": {}}))
    assert json.loads((folder / "s/manifest.json").read_text())["status"] == "interrupted"
    subjects["b"]["count"] = 6
    assert run_study(Study(folder / "s", subjects, {"guidance": {}})).kept == ["a/guidance"]


def test_settings_and_a_failure_that_leaves_nothing_old(folder, made):
    settings = {"weak": {"count": 4}, "strong": {"count": 6}}
    outcome = run_study(Study(folder / "s", {"a": "digits"}, {"guidance": {}}, settings))
    known = outcome.table[outcome.table["missing"] == ""].set_index("setting")["value"]
    assert dict(known) == {"weak": 0.4, "strong": 0.6}
    failed = run_study(Study(folder / "s", {"a": "digits"}, {"guidance": {}}, {**settings, "strong": {"count": 11}}))
    assert failed.page.failures == {"a/guidance/strong": "ValueError: eleven"} and failed.kept == ["a/guidance/weak"]
    assert failed.table[failed.table["setting"] == "strong"]["value"].isna().all()  # not that of count = 6


def test_a_file_of_another_content_is_asked_again(folder, made):
    from scorescope.data import EDMDenoiser, UNetConfig, save_denoiser

    path = folder / "net.safetensors"
    save_denoiser(path, EDMDenoiser(UNetConfig(channels=(8, 8), embedding=16), 0.75), {"seed": 1})
    here = Study(folder / "s", {"a": "net.safetensors"}, {"guidance": {"count": 4}}, folder=folder)
    run_study(here), run_study(here)
    assert len(made) == 1
    save_denoiser(path, EDMDenoiser(UNetConfig(channels=(8, 8), embedding=16), 0.5), {"seed": 2})
    run_study(here)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[subject]\na = 'digits'", "s.toml: found 'subject'.*did you mean subjects"),
        ("[subjects]\na = 'digits'\n[reports.guidence]", "s.toml, reports: found 'guidence'.*did you mean guidance"),
        ("[subjects]\na = 'digits'\n[reports.guidance]\nqick = true", "found 'qick'.*did you mean quick"),
        ("[subjects]\na = 'digits'\n[reports.guidance]\nquick = 1", "quick: found 1; expected true or false"),
        ("[subjects]\na = 'digits'\n[reports.guidance]\ncount = 1", "report guidance refuses"),
        ("[subjects]\na = 'no.safetensors'\n[reports.guidance]", "denoiser: found no no.safetensors"),
        ("[subjects]\na = {trace = 'no'}\n[reports.guidance]", "trace: found no no in"),
        ("[subjects]\na = 'digits'\n[reports.guidance]\n[settings.w]\nscale = 2.0", "--scale: found no --pipeline"),
        ("[subjects]\na = 'digits'\n[reports.guidance]\n[settings.w]\nscal = 2.0", "settings.w: found 'scal'"),
        ("[subjects]\na = 'digits'\n[reports.fid]", "found 'denoiser'; expected an option of fid"),
        ("[subjects]\ntables = 'digits'\n[reports.guidance]", "subjects: found 'tables'"),
        ("[subjects]\n'../a' = 'digits'\n[reports.guidance]", "s.toml, subjects: found '../a'"),
        ("[reports.guidance]", "s.toml, subjects: found nothing in it"),
        ("subjects = 3", "s.toml, subjects: found 3"),
        ("subjects", "s.toml: found no TOML"),
    ],
)
def test_a_study_that_cannot_be_meant_is_one_error(tmp_path, text, said):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        run_study(tmp_path / "s.toml")
    assert not (tmp_path / "s").exists()


def test_keys_are_those_of_the_command_line(tmp_path):
    (tmp_path / "s.toml").write_text(
        "subjects.a = {pipeline = 'p/q', set = {height = 16}, steps = 3}\nreports = ['guidance', 'directions', 'fid']\n"
        "subjects.b = {subject = 'shapes', denoiser = 'digits'}\n"
    )
    with pytest.raises(InputError, match="a / fid: found none of pipeline, set, steps"):
        _ = read_study(tmp_path / "s.toml").made
    request = Study(tmp_path, {"a": {"pipeline": "p/q", "set": {"height": 16}}}, {"guidance": {"weights": [1, 2.5]}})
    plain = request.made[0].request.plain
    assert (plain["set"], plain["weights"]) == (["height=16"], "1,2.5")
    directions = Study(tmp_path, {"a": "shapes"}, {"directions": {}}).made[0].request.plain
    assert directions["subject"] == "shapes" and "denoiser" not in directions


def test_calls_from_python_are_asked_again_where_a_command_says_the_same(folder):
    model = load_model("tiny_nets:make")
    guidance.build(folder / "one", model, command="mine", count=6, progress=False)
    assert rerun(folder / "one").is_same
    assert replace(model, shape=(1, 2, 2)).loaded_as == ""  # a changed model is none that a command names


@pytest.mark.slow
def test_a_comparison_is_made_again(folder, monkeypatch):
    assert run(monkeypatch, "compare", "digits", "digits_weak", "--out", "changes") == 0
    assert rerun(folder / "changes").is_same


def test_what_builders_ask_for_is_what_commands_take():
    for command in COMMANDS:
        assert options_of(command) == list(dict.fromkeys(options_of(command)))
    assert {"denoiser", "quick", "count", "device", "trace"} <= set(options_of("report guidance"))
    assert {"quick", "count", "sfid", "occlusion", "device"} <= set(options_of("report fid"))
    assert {"denoiser", "quick"} <= set(options_of("report gaussian")) and "subject" in options_of("report directions")


def hostile(place, request):
    write_json(place / "manifest.json", {"report": "guidance", "files": {}, "request": request})
    return place


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "nothing to ask for again: it is of an earlier version"),
        ({"missing": "an object"}, "nothing to ask for again: an object"),
        ({"command": "card", "options": {}, "folder": "/"}, "found 'card'"),
        ({"command": "report guidance", "options": {"out": "/tmp"}, "folder": "/"}, "found 'out'"),
        ({"command": "report guidance", "options": {"device": {"a": 1}}, "folder": "/"}, "device: found a dict"),
        ({"command": "report guidance", "options": {"trace": [[1]]}, "folder": "/"}, "trace: found a list"),
        ({"command": "report guidance", "options": {"count": "--help"}, "folder": "/"}, "refuses"),
        ({"command": "report guidance", "options": {}, "folder": "/no/such"}, "no folder /no/such"),
        ({"command": ["report guidance"], "options": {}, "folder": "/"}, "nothing to ask for again"),
    ],
)
def test_a_hostile_manifest_is_wrong_input(tmp_path, request_, said):
    with pytest.raises(InputError, match=said):
        rerun(hostile(tmp_path, request_))


def test_a_manifest_reads_no_file_outside_its_folder(tmp_path):
    write_json(tmp_path / "manifest.json", {"report": "x", "files": {"tables/../../a.parquet": "0"}, "request": []})
    made = read_made(tmp_path)
    assert made.request == {} and made.inputs == {}
    with pytest.raises(InputError, match="a file name without folder"):
        made.table("../../a")
    write_json(tmp_path / "manifest.json", {"report": "x", "files": [1]})
    with pytest.raises(InputError, match=r"the manifest\.json of a report"):
        read_made(tmp_path)


def test_differences_are_named_by_table_and_column(tmp_path):
    from scorescope.reports.studies import changed_tables

    base = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": ["x", "y", "z"]})
    tables = {"same": base, "number": base, "text": base, "rows": base, "columns": base, "gone": base}
    others = {
        "same": base, "number": base.assign(a=[1.5, np.nan, 3.0]), "text": base.assign(b=["x", "y", "w"]),
        "rows": base.head(2), "columns": base.rename(columns={"a": "c"}), "new": base,
    }  # fmt: skip
    for name, parts in (("then", tables), ("now", others)):
        with ReportWriter(tmp_path / name, name="r", title="R", question="?", command="c") as page:
            page.section("s", "S", lambda parts=parts: Section(tables=[ReportTable(*one) for one in parts.items()]))
    found = changed_tables(read_made(tmp_path / "then"), read_made(tmp_path / "now")).set_index("table")
    assert "same" not in found.index
    assert (found.loc["number", "column"], found.loc["number", "largest"], found.loc["number", "cells"]) == (
        "a",
        0.5,
        1,
    )
    assert found.loc["text", "words"] == "1 of 6 cells differ, in b"
    assert found.loc["rows", "words"] == "3 rows then, 2 now" and "a, c" in found.loc["columns", "words"].replace(
        "c, a", "a, c"
    )
    assert (
        found.loc["gone", "words"] == "it is there then alone" and found.loc["new", "words"] == "it is there now alone"
    )


def test_what_no_command_made_says_so(tmp_path):
    assert recorded("why")["missing"] == "why"
    with ReportWriter(tmp_path, name="r", title="R", question="?", command="c"):
        pass
    with pytest.raises(InputError, match="made in Python, by no command"):
        rerun(tmp_path)
