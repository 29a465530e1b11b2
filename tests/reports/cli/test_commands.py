import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest
import threadpoolctl
import torch

from scorescope.data import InputError
from scorescope.data.threads import threads
from scorescope.reports.cli import all_reports, reruns
from scorescope.reports.cli import commands as cli


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scorescope", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_version_is_that_of_the_installed_package(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"scorescope {metadata.version('scorescope')}\n"


def test_report_guidance_of_a_factory(tmp_path, monkeypatch, unrendered, capsys):
    (tmp_path / "mine.py").write_text(
        "class Net:\n"
        "    shape, classes, value_range = (1, 4, 4), 3, (-1, 1)\n"
        "    def __call__(self, x, sigma, condition):\n"
        "        shift = 0 if condition is None else condition[:, None, None, None] * 0.2\n"
        "        return shift + x / (1 + sigma[:, None, None, None] ** 2)\n"
        "def make():\n"
        "    return Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert (
        run(monkeypatch, "report", "guidance", "--denoiser", "mine:make", "--count", 6, "--out", tmp_path / "out") == 0
    )
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert "guidance: 6 samples a setting: the network takes about " in capsys.readouterr().err
    assert manifest["model"] == "mine:make" and "--denoiser mine:make" in manifest["command"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--denoiser", "nothing"], "denoiser: found 'nothing'; expected one of ['digits', 'digits_weak', 'shapes']"),
        (["--denoiser", "no.such.module:make"], "No module named 'no'"),
        (["--denoiser", "json:dumps_"], "has no attribute 'dumps_'"),
        (["--denoiser", "sys:maxsize"], "a function that returns a denoiser"),
        (["--denoiser", "builtins:dict"], "found a dict; expected a Model, or a callable denoiser"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, "report", "guidance", "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("error: ")


def test_unwritable_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "report", "guidance", "--out", tmp_path / "file/out", "--count", 4) == 2
    assert "a folder that can be written to" in capsys.readouterr().err


@pytest.fixture
def stand_ins(monkeypatch):
    """Reports that are made at once, in threads of this process; the names of those made, in order."""
    made = []

    def fake(name):
        def build(out):
            from scorescope.reports.page.pages import ReportWriter

            with ReportWriter(out, name=name, title=name, question="?", command="test") as writer:
                made.append(name)
                if (out / "fails").exists():
                    raise InputError("fake", found="nothing", expected="something")
            return writer.outcome

        return build

    monkeypatch.setattr(all_reports, "REPORTS", {name: fake(name) for name in all_reports.REPORTS})
    monkeypatch.setattr("scorescope.reports.cli.work.process_pool", lambda workers: ThreadPoolExecutor(1))
    return made


def test_report_without_a_name_makes_all_with_an_index(tmp_path, monkeypatch, stand_ins):
    assert run(monkeypatch, "report", "--out", tmp_path) == 0
    assert stand_ins == list(all_reports.FIRST)
    page = (tmp_path / "index.html").read_text()
    places = [page.index(f'href="{name}/index.html"') for name in all_reports.REPORTS]
    assert places == sorted(places)


def test_a_report_that_cannot_be_made_costs_no_other(tmp_path, monkeypatch, capsys, stand_ins):
    (tmp_path / "gaussian").mkdir()
    (tmp_path / "gaussian/fails").touch()
    assert run(monkeypatch, "report", "--out", tmp_path) == 2
    assert "fake: found nothing" in capsys.readouterr().err and len(stand_ins) == 6
    page = (tmp_path / "index.html").read_text()
    assert [f'href="{name}/index.html"' in page for name in all_reports.FIRST] == [False, *[True] * 5]


@pytest.mark.slow
def test_reports_in_processes_of_their_own_stop_when_told_to(tmp_path):
    """Ctrl-C: every process ends, and each report that had begun says on its page that it was interrupted."""
    command = [sys.executable, "-m", "scorescope.reports", "report", "--out", str(tmp_path)]
    child = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/figures/*.png")) and time.monotonic() < deadline:
        time.sleep(0.5)
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(60) != 0
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("*/manifest.json")]
    assert statuses and set(statuses) <= {"interrupted", "complete"}


def test_card_measures_quality(tmp_path, monkeypatch, capsys):
    from scorescope.data import EDMDenoiser, UNetConfig, save_denoiser

    monkeypatch.setattr("scorescope.reports.cli.card.SAMPLES", 200)
    path = tmp_path / "net.safetensors"
    save_denoiser(path, EDMDenoiser(UNetConfig(channels=(8, 8), embedding=16), 0.75), {"seed": 1})
    assert run(monkeypatch, "card", path) == 0
    card = json.loads(path.with_suffix(".json").read_text())
    # an untrained network: samples have nothing to do with their labels
    assert card["quality"]["class_agreement"][0]["agreement"] < 0.3 and card["seed"] == 1
    assert "samples" in capsys.readouterr().out
    written = path.with_suffix(".json").stat()
    assert run(monkeypatch, "card", path) == 0 and path.with_suffix(".json").stat() == written  # nothing changed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "pairs.txt"], "--pairs: found no --pipeline; expected --pipeline beside it"),
        (["--pipeline", "x", "--score", "m:make"], "found --pipeline, --score alone"),
        (["--pipeline", "x", "--pairs", "pairs.txt", "--score", "my.py:make"], "package.module:factory, as my:make"),
        (["--pipeline", "x", "--pairs", "none.txt", "--score", "m:make"], "none.txt: found no such file"),
        (["--subject", "digits", "--count", 9999], "count, seed: found 9999, 0; expected an image or more of 1797"),
    ],
)  # fmt: skip
def test_directions_options_that_do_not_fit_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.txt").write_text("a red car | a blue car\n")
    assert run(monkeypatch, "report", "directions", "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_pairs_options_reach_the_report(tmp_path, monkeypatch):
    from scorescope.reports import directions
    from scorescope.reports.cli.pipeline_inputs import PipelineOptions
    from scorescope.reports.page.pages import Outcome

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pairs.txt").write_text("a red car | a blue car\n")
    (tmp_path / "judging.py").write_text("def make():\n    return len\n")
    heard = {}

    def build(out, pipe, pairs, score, **given):
        heard.update(given, pairs=pairs, score=score)
        return Outcome("directions", "", "", "complete", tmp_path, {}, [], 0.0)

    monkeypatch.setattr(PipelineOptions, "load", lambda self: object())
    monkeypatch.setattr(PipelineOptions, "arguments", lambda self, pipe: {"scale": self.scale, "steps": self.steps})
    monkeypatch.setattr(directions, "build_from_pipeline", build)
    options = [
        "--sites",
        "mid_block, up_blocks.1",
        "--steps",
        3,
        "--scale",
        2,
        "--count",
        40,
        "--seed",
        7,
        "--batch",
        5,
    ]
    given = ["--pipeline", "a/sd15", "--pairs", "pairs.txt", "--score", "judging:make", "--quick", *options]
    assert run(monkeypatch, "report", "directions", "--out", tmp_path / "out", *given) == 0
    assert heard.pop("pairs")[0].attribute == "red/blue" and heard.pop("score") is len
    assert heard.pop("command").startswith("scorescope report directions")
    assert heard == {
        "sites": ["mid_block", "up_blocks.1"], "arguments": {"scale": 2.0, "steps": 3}, "images": 40, "seed": 7,
        "batch": 5, "quick": True, "name": "sd15",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report gaussian --scale 3", "--scale: found no --pipeline"),
        ("report gaussian --size 8", "--size: found no --data"),
        ("report gaussian --pipeline p --images i --data d", "--data: found --pipeline beside it"),
        ("report directions --sites a", "--sites: found no --pipeline"),
        ("report directions --pipeline p --subject digits", "--subject: found --pipeline beside it"),
        ("report guidance --trace t --count 4", "--count: found --trace beside it"),
        ("report guidance --pipeline p --edm digits_weak", "--denoiser: found --pipeline beside it"),
        ("report fid a b --quick", "--quick: found REAL beside it"),
        ("compare digits digits_weak --at-most 0.3", "--at-most: found no --snapshots"),
    ],
)
def test_options_that_would_say_nothing_are_refused(tmp_path, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments.split(), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_threads_are_set_within_the_block_alone():
    before = torch.get_num_threads()
    with threads(1):
        assert torch.get_num_threads() == 1
        assert all(pool["num_threads"] == 1 for pool in threadpoolctl.threadpool_info())
        with threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("recorded", [None, "two", 0, -1, 10**9, True, 1.5])
def test_a_number_of_threads_that_there_cannot_be_is_not_taken(recorded):
    assert reruns._threads(recorded) == torch.get_num_threads() and reruns._threads(3) == 3
