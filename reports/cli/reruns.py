"""What `scorescope rerun` runs: a report is asked for again as its manifest says, and its tables are compared.

    rerun("report/guidance/manifest.json").lines      # what differs, a line each
    rerun("report/guidance", Path("again")).is_same

A request may name a factory, which is then imported and called, or weights that are pickles: ask only for what
manifests say that you trust.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.threads import threads
from scorescope.reports.cli.repeatable import request_of, run
from scorescope.reports.page.requests import Request
from scorescope.reports.studies.differences import changed_facts, changed_inputs, changed_tables
from scorescope.reports.studies.made import MadeReport, read_made

MOST_THREADS = 1024


@displayed
@checked
@dataclass(frozen=True)
class Rerun:
    """How a report that was made again compares with what it was.

    Attributes
    ----------
    changed : list of str
        What it was made of that is another: versions, models, files; a line each.
    tables : DataFrame
        Its tables that differ, as `changed_tables` has them.
    count : int
        How many tables there are.
    statuses : (str, str)
        Then and now.
    """

    changed: list[str]
    tables: pd.DataFrame
    count: int
    statuses: tuple[str, str]

    @property
    def is_same(self) -> bool:
        """Whether it ended alike, with the same tables."""
        return self.tables.empty and self.statuses[0] == self.statuses[1]

    @property
    def lines(self) -> list[str]:
        """All of that for the terminal."""
        then, now = self.statuses
        ended = [] if then == now else [f"status: {then} then, {now} now"]
        tables = [f"table {row.table}: {row.words}" for row in self.tables.itertuples()]
        same = f"{self.count - len(self.tables)} of {self.count} tables are the same, value by value"
        return [*(f"changed: {line}" for line in self.changed), *ended, *tables, same]


@checked
def rerun(manifest: Path | str, out: Path | None = None) -> Rerun:
    """Make a report again from its manifest, and compare.

    Parameters
    ----------
    manifest : path
        A report's `manifest.json`, or its folder.
    out : Path, optional
        Folder that the new report is kept in, new or empty; by default none is kept.

    Raises
    ------
    InputError
        For a manifest that cannot be read, one that says that its report cannot be asked for again, a folder with
        something in it, and what the command refuses.
    """
    then = read_made(manifest)
    request = read_request(then)
    with _folder(out) as folder, threads(_threads(then.facts.get("threads"))):
        run(request, folder)
        now = read_made(folder)
        inputs = changed_inputs(then.inputs, now.inputs)
        names = dict.fromkeys([*then.tables, *now.tables])
        return Rerun(
            [*inputs, *changed_facts(then.facts, now.facts)], changed_tables(then, now), len(names),
            (then.status, now.status),
        )  # fmt: skip


def read_request(made: MadeReport) -> Request:
    """What a report was asked for, checked as the command line would check it.

    Raises
    ------
    InputError
        For a manifest without a request that can be asked again.
    """
    asked, source = made.request, str(made.folder / "manifest.json")
    command, options, folder = (asked.get(name) for name in ("command", "options", "folder"))
    if not isinstance(command, str) or not isinstance(options, dict) or not isinstance(folder, str):
        missing = asked.get("missing", "it is of an earlier version, which kept no request")
        raise InputError(source, found=f"nothing to ask for again: {missing}", expected="the report of a command")
    return request_of(command, options, Path(folder), source=source)


def _threads(recorded: Any) -> int:
    """As many threads as then, as far as a manifest says a number that there can be."""
    sound = type(recorded) is int and 1 <= recorded <= MOST_THREADS
    return recorded if sound else torch.get_num_threads()


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder to write to: a given one that holds nothing, or one that goes when it has been compared."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="scorescope-rerun-") as folder:
            yield Path(folder)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out", found=f"{out}, with something in it", expected="a new folder, or an empty one")
    yield out
