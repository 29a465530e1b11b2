"""What `scorescope study` runs: every report of every checkpoint, those made already kept, and one page for all.

outcome = run_study("study.toml")        # or a `Study`
outcome.table                            # one row a (subject, report, setting, quantity)
"""

import contextlib
import io
import shutil
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.threads import threads
from scorescope.data.written_files import read_json, write_json
from scorescope.probes.work.executors import as_they_end, lost
from scorescope.reports.cli.endings import this_command
from scorescope.reports.cli.repeatable import run
from scorescope.reports.cli.study_file import Part, Study, read_study
from scorescope.reports.page.files import make_folder
from scorescope.reports.page.index import link_pages
from scorescope.reports.page.pages import Outcome, ReportWriter
from scorescope.reports.page.requests import Request, same_question
from scorescope.reports.page.texts import say
from scorescope.reports.studies.made import MANIFEST, read_made
from scorescope.reports.studies.pages import Making, headline_table, sections

ASKED = "asked.json"  # what was asked for in a folder, from before it is made
RECORDED = "runs"  # of a report's folder: what it goes on from


@displayed
@checked
@dataclass(frozen=True)
class StudyOutcome:
    """How a study ended.

    Attributes
    ----------
    page : Outcome
        Of the index page; its failures are the reports that are missing, and parts of reports.
    table : DataFrame
        Headline numbers, one row a (subject, report, setting, quantity): `value`, 95 % interval `low` to `high`, `n`,
        the `table` of the report that it is from, and why it is `missing`.
    kept : list of str
        Reports that were made already, as subject/report or subject/report/setting.
    """

    page: Outcome
    table: pd.DataFrame = field(repr=False)
    kept: list[str]


@checked
def run_study(study: Study | Path | str, *, executor: Executor | None = None) -> StudyOutcome:
    """Make every report that is not there as it is asked for, then the page; one that fails is named, and others go on.

    A report is there if it is complete, its files are as they were written, and it was asked for the same, of files
    with the same content. What a factory imports or reads, such as weights that its code names, is not compared, and
    that is said: name weights by `edm` or `denoiser`, or take the report's folder away. What a report on a pipeline
    recorded is gone on from.

    Parameters
    ----------
    study : Study or path
        A path is read by `read_study`.
    executor : Executor, optional
        Who makes the reports, several at once: anything with the interface of `concurrent.futures` whose workers are
        processes, see `probes.work`. Each is then made with one thread.

    Raises
    ------
    InputError
        For a study that cannot be what is meant, before anything is made.
    """
    study = study if isinstance(study, Study) else read_study(study)
    parts, kept, makings = study.made, list[str](), list[Making]()
    make_folder(study.out)
    title, question = f"Study: {study.out.name}", "What do the reports say of each checkpoint?"
    how: dict[str, Any] = {"command": this_command(), "request": "a study: it goes on when it is run again"}
    how["manifest"] = {
        "subjects": list(study.subjects),
        "reports": list(study.reports),
        "settings": list(study.settings),
    }
    with ReportWriter(study.out, name="study", title=title, question=question, **how) as page:
        try:
            errors = {} if executor is None else _made_by(executor, parts, study.out)
            for part in parts:
                makings.append(_making(part, study.out, kept, errors))
                if makings[-1].error:
                    page.fail(part.name, makings[-1].error)
        finally:
            table = headline_table(makings)
            for name, heading, make in sections(makings, table):
                page.section(name, heading, make)
    link_pages(study.out / "index.html", title, {study.out / one.folder / "index.html": _title(one) for one in makings})
    return StudyOutcome(page.outcome, table, kept)


def _title(one: Making) -> str:
    return f"{one.report} of {one.name}"


def _made_by(executor: Executor, parts: Sequence[Part], out: Path) -> dict[str, str]:
    """Reports that were not there, made by workers: by name, why one could not be made, or nothing."""
    missing = {(out / part.name).absolute(): part for part in parts if not _is_made(part.request, out / part.name)}
    calls = deque((make_alone, part.request, folder, sys.argv) for folder, part in missing.items())
    errors = {}
    for (_, _, folder, _), future in as_they_end(executor, calls):
        name, lost_by = missing[folder].name, future.exception()
        errors[name] = lost(lost_by) if lost_by else future.result()
        say(f"{name}: {errors[name] or 'made'}", err=True)
    return errors


def make_alone(request: Request, folder: Path, words: Sequence[str]) -> str:
    """What a worker does: make a report with one thread and without bars; why it could not be made, or nothing."""
    sys.argv = list(words)  # for the manifest
    with threads(1), contextlib.redirect_stderr(io.StringIO()):  # bars of several would overwrite each other
        return _make(request, folder)


def _making(part: Part, out: Path, kept: list[str], errors: Mapping[str, str]) -> Making:
    """One report, made if it is not there."""
    folder, error = out / part.name, ""
    if part.name in errors:
        error = errors[part.name]
    elif _is_made(part.request, folder):
        kept.append(part.name)
        left = "".join(f"; what {name} imports and reads is not compared" for name in part.request.factories())
        say(f"{part.name}: made already{left}", err=True)
    else:
        say(f"{part.name}: being made", err=True)
        error = _make(part.request, folder)
    try:
        made = read_made(folder)
    except InputError as damage:
        return Making(part.subject, part.report, part.setting, part.name, None, error or str(damage))
    parts = "; ".join(f"{name} ({why})" for name, why in made.failures.items())
    return Making(part.subject, part.report, part.setting, part.name, made, error or parts)


def _is_made(request: Request, folder: Path) -> bool:
    """Whether a whole report of the same request is in a folder."""
    try:
        return (folder / MANIFEST).is_file() and read_made(folder).answers(request)
    except InputError:
        return False


def _make(request: Request, folder: Path) -> str:
    """Make a report; why it could not be made, or nothing.

    What was recorded for another request is gone on from where it fits this one; where it does not, it goes.
    """
    make_folder(folder)
    (folder / MANIFEST).unlink(missing_ok=True)  # of a report that a failure would leave here as if it were this one
    before, now = _asked(folder), request.recorded()
    if before is None:
        write_json(folder / ASKED, now)
    error = _ran(request, folder)
    if error and before is not None and not same_question(before, now) and (folder / RECORDED).is_dir():
        shutil.rmtree(folder / RECORDED)
        write_json(folder / ASKED, now)  # before anything is recorded, lest a kill leave the earlier request beside it
        error = _ran(request, folder)
    write_json(folder / ASKED, now)
    return error


def _asked(folder: Path) -> dict[str, Any] | None:
    """What was asked for in a folder of a study before, if anything was."""
    try:
        return read_json(folder / ASKED) if (folder / ASKED).is_file() else None
    except InputError:
        return None


def _ran(request: Request, folder: Path) -> str:
    """Run a command; what it raised, in a line."""
    try:
        run(request, folder)
    except (Exception, SystemExit) as error:  # the other reports are made all the same
        return f"{type(error).__name__}: {error}"
    return ""
