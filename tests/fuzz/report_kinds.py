"""What reports leave: a report and what it was asked for, numbers of the atlas, whatever `verify` is shown."""

from pathlib import Path

import pandas as pd
import torch

from scorescope.data.written_files import write_json
from scorescope.reports.atlas.kept import Kept
from scorescope.reports.changes import report_tables
from scorescope.reports.cli import study
from scorescope.reports.cli.reruns import read_request
from scorescope.reports.cli.verify import look_at
from scorescope.reports.entries import Numbers
from scorescope.reports.page import ReportTable, ReportWriter, Section
from scorescope.reports.page.requests import Request, same_question
from scorescope.reports.studies import bibtex, changed_facts, changed_inputs, changed_tables, read_made
from tests.fuzz import damage
from tests.fuzz.kind import Kind, all_of

TABLE = pd.DataFrame({"setting": ["CFG, w = 4", "APG"], "value": [0.1, 0.2], "low": [0.0, 0.1], "high": [1.0, 0.4]})


def request(folder: Path) -> Request:
    """What the report below was asked for."""
    return Request("report guidance", {"denoiser": "digits", "quick": True, "count": 8}, folder)


def report(folder: Path) -> Path:
    """A report of one table, with what a study asked for beside it."""
    asked = request(folder)
    how = {"title": "T", "question": "?", "command": "c", "request": asked, "manifest": {"methods": []}}
    with ReportWriter(folder, name="guidance", **how) as page:
        page.section("a", "A", lambda: Section(tables=[ReportTable("sweep", TABLE)]))
    write_json(folder / study.ASKED, asked.recorded())
    return folder


def _read_report(path: Path) -> None:
    made, asked = read_made(path), request(path)
    facts = (lambda: (made.status, made.failures, made.inputs), lambda: bibtex(path), lambda: read_request(made))
    tables = (lambda name=name: made.table(name) for name in made.tables)
    beside = (
        lambda: changed_tables(made, made), lambda: changed_facts(made.facts, {}),
        lambda: changed_facts({}, made.facts), lambda: changed_inputs(made.inputs, {}),
        lambda: report_tables._open(path),
    )  # fmt: skip
    going_on = (
        lambda: made.answers(asked), lambda: study._is_made(asked, path),
        lambda: same_question(study._asked(path) or {}, asked.recorded()),
    )  # fmt: skip
    all_of(*facts, *tables, *beside, *going_on)


def atlas(folder: Path) -> Path:
    """Numbers of a figure with a picture."""
    pictures = {"first": torch.zeros(1, 1, 2, 2)}
    Kept(folder, "key").write(Numbers({"levels": TABLE}, pictures, {"n": 3, "name": "x"}, "too few"))
    return folder


def _read_atlas(path: Path) -> None:
    found = Kept(path, "key").read()
    if found is not None:
        assert set(found.tables) and "".join(found.facts) is not None and found.why + "" is not None
        assert all(isinstance(picture, torch.Tensor) for picture in found.pictures.values())


def everything(folder: Path) -> Path:
    """One of every kind of file that says what it is."""
    from tests.fuzz.kinds import KINDS

    for name in VERIFIED:
        place = folder / name.replace(" ", "_")
        place.mkdir()
        next(kind for kind in KINDS if kind.name == name).make(place)
    return folder


def _look(path: Path) -> None:
    assert look_at(path)


VERIFIED = (
    "moments of ours", "direction", "Gaussian", "denoiser and card", "training state", "sparse autoencoder", "trace",
    "activations", "sweep", "chunk of work", "report",
)  # fmt: skip
REPORT_KINDS = (
    Kind("report", report, _read_report, damage.in_folder),
    Kind("numbers of the atlas", atlas, _read_atlas, damage.in_folder),
    Kind("whatever is verified", everything, _look, damage.in_folder),
)
