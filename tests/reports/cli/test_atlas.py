"""`scorescope atlas` from the command line: a name, its files; what is lacking said before anything runs."""

import json
import sys

import pytest

from scorescope.reports.cli import commands as cli

MODULE = """
from tests.atlas_material import law, model_of
make = lambda: model_of(law())
broad = lambda: model_of(law(0.16))
"""


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scorescope", "atlas", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    sys.modules.pop("mine", None)
    return tmp_path


SMALL = ("--count", 8, "--grid", 4)


def test_names_are_listed(here, monkeypatch, capsys):
    assert run(monkeypatch) == 0
    assert "  apg-update-parts " in capsys.readouterr().out


def test_a_figure_and_what_goes_with_it(here, monkeypatch, capsys):
    assert run(monkeypatch, "ag-cosine", "--denoiser", "mine:make", *SMALL) == 0
    made = {path.name for path in (here / "atlas").iterdir() if path.is_file()}
    assert made == {f"ag-cosine.{kind}" for kind in ("pdf", "steps.csv", "caption.tex", "bib")}
    assert "8 samples a setting, seeds 0 to 7, Heun, 4 steps" in capsys.readouterr().out


def test_again_in_another_style_nothing_is_sampled(here, monkeypatch, capsys):
    one = ("ag-cosine", "--denoiser", "mine:make", *SMALL)
    assert run(monkeypatch, *one) == 0
    capsys.readouterr()
    assert run(monkeypatch, *one, "--style", "cvpr") == 0
    assert "sweep" not in capsys.readouterr().err


def test_checkpoints_are_small_multiples(here, monkeypatch):
    two = ("--checkpoint", "early=mine:broad", "--checkpoint", "late=mine:make")
    assert run(monkeypatch, "apg-update-parts", *two, *SMALL) == 0
    table = (here / "atlas/apg-update-parts.steps.csv").read_text()
    assert "checkpoint" in table.splitlines()[0] and "early" in table and "late" in table
    assert "checkpoints early, late, a panel each" in (here / "atlas/apg-update-parts.caption.tex").read_text()


def test_features_are_of_checkpoints_too(here, monkeypatch, capsys):
    two = ("--checkpoint", "early=mine:broad", "--checkpoint", "late=mine:make")
    assert run(monkeypatch, "apg-update-parts", *two, *SMALL, "--features", "nonsense") == 2
    assert "features: found 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["apg-update-part"], "such as apg-update-parts"),
        (["autoguidance-fid-vs-w", "--denoiser", "mine:make"], "a weaker model to guide with (--weak)"),
        (["ag-cosine", "--denoiser", "mine:make", "--trace", "somewhere"], "beside that it says nothing"),
        (["ag-cosine", "--checkpoint", "mine:make"], "NAME=MODEL"),
        (["ag-cosine", "--denoiser", "mine:make", "--weights", "1,2"], "weight 4, of 1, 2"),
        (["ag-cosine", "--denoiser", "mine:make", "--style", "poster"], "expected a Style, or one of notebook"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_runs(here, monkeypatch, capsys, arguments, said):
    assert run(monkeypatch, *arguments) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1
    assert not (here / "atlas/runs").exists()


@pytest.mark.slow
def test_all_are_made_or_refused_by_name(here, monkeypatch):
    assert run(monkeypatch, "--all", "--denoiser", "mine:make", *SMALL) == 0
    manifest = json.loads((here / "atlas/manifest.json").read_text())
    assert manifest["status"] == "complete"
    page = (here / "atlas/index.html").read_text()
    assert "Not made: it needs" in page
