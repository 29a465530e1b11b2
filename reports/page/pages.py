"""Reports: an ordered set of sections with figures and tables, written as they are made.

    with ReportWriter(out, name="guidance", title="...", question="...", command="...") as writer:
        writer.section("update", "The update", lambda: Section(figures=[...], tables=[...]))

Each section's tables and figures are on disk before the next section starts. A section that fails is named on
the page, and the others stand. Leaving the block writes one self-contained `index.html` and `manifest.json`.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import pandas as pd
from matplotlib.figure import Figure

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.written_files import alone_in, write_json
from scorescope.reports.page.facts import environment, now, plain, told_facts
from scorescope.reports.page.files import make_folder, write_file
from scorescope.reports.page.findings import RULE, Finding, FirstScreen, first_screen
from scorescope.reports.page.hover import spots
from scorescope.reports.page.rendered import data_uri, frame_file, picture_files, smaller_uri
from scorescope.reports.page.rendering import render
from scorescope.reports.page.requests import Request, recorded
from scorescope.reports.page.tables import shown_table
from scorescope.reports.page.texts import check_name, csv_bytes, encoded, parquet_bytes, say, writable

ROOM = 2_500_000  # bytes of a page for the data of its tables
UNASKED = "it was made in Python, by no command"
T = TypeVar("T")


@displayed
@checked
@dataclass(frozen=True)
class ReportFigure:
    """A figure with the sentence that its numbers say.

    Attributes
    ----------
    name : str
        File name without folder and suffix.
    figure : Figure
        The figure.
    reading : str
        One sentence made from the numbers.
    caption : str
        What is drawn, and how it was measured.
    wide : bool
        Take the whole width of the page.
    frames : mapping of str to Figure
        More figures that take its place one after the other, by what a slider says of each: "σ = 0.32". Where scripts
        are off the figure stands alone.
    """

    name: str
    figure: Figure
    reading: str
    caption: str = ""
    wide: bool = False
    frames: Mapping[str, Figure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("ReportFigure.name", self.name)


@displayed
@checked
@dataclass(frozen=True)
class ReportTable:
    """A table: written whole as Parquet and CSV, and shown on the page if `shown`.

    The Parquet file holds every text as it is. In the CSV file a text that a spreadsheet would take for a formula
    begins with one apostrophe more; `column.str.replace(r"^'(?='*[=+\\-@\\t\\r\\n])", "", regex=True)` takes it away.

    Attributes
    ----------
    name : str
        File name without folder and suffix.
    table : DataFrame
        Its rows.
    caption : str
        What a row is.
    shown : bool
        Show it on the page: whole, where the page has room for it.
    first : tuple of str
        Columns that are shown before any is asked for; by default see `tables.first_columns`.
    """

    name: str
    table: pd.DataFrame
    caption: str = ""
    shown: bool = True
    first: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("ReportTable.name", self.name)
        if unknown := sorted(set(self.first) - {str(name) for name in self.table}):
            raise InputError("ReportTable.first", found=str(unknown), expected=f"columns of {list(self.table)}")


@displayed
@checked
@dataclass(frozen=True)
class Section:
    """What one section holds.

    Attributes
    ----------
    figures, tables : list
        Its parts.
    text : str
        Above them.
    findings : list
        Of these the first screen of the page is chosen.
    links : dict of str to str
        What links say, and the pages that they lead to, from the folder of this one.
    """

    figures: list[ReportFigure] = field(default_factory=list)
    tables: list[ReportTable] = field(default_factory=list)
    text: str = ""
    links: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


@displayed
@checked
@dataclass(frozen=True)
class Outcome:
    """How a report ended.

    Attributes
    ----------
    name, title, question, status : str
        `status` is "complete", "incomplete" (a part failed) or "interrupted".
    path : Path
        Its index.html.
    failures : dict
        Part to error message.
    readings : list of str
        The sentences of its figures.
    seconds : float
        Wall time.
    tables : dict
        Its tables by name, as they were written.
    first : FirstScreen
        What its page begins with.
    """

    name: str
    title: str
    question: str
    status: str
    path: Path
    failures: dict[str, str]
    readings: list[str]
    seconds: float
    tables: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    first: FirstScreen = field(default_factory=FirstScreen)


@checked
class ReportWriter:
    """Writes a report into a folder, section by section.

    Parameters
    ----------
    out : Path or str
        Folder of the report, made if needed.
    name, title, question : str
        Short name, heading, and the question that the report answers.
    command : str
        What made it, for the manifest.
    manifest : dict
        More for the manifest: settings, seeds, hashes, device.
    request : Request or str
        What `scorescope rerun` is to ask for, where no command runs that says so itself; a text is why it cannot.

    Raises
    ------
    InputError
        If the folder cannot be written to, and on entering the block where another report is being written there.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        name: str,
        title: str,
        question: str,
        command: str,
        manifest: dict[str, Any] | None = None,
        request: Request | str = UNASKED,
    ) -> None:
        self.out, self.name, self.title, self.question = Path(out), name, title, question
        self.manifest: dict[str, Any] = {"command": command, **(manifest or {})}
        self.outcome: Outcome  # on leaving the block
        self._shown: list[dict[str, Any]] = []
        self._findings: list[Finding] = []
        self._room = ROOM
        self.failures: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        self._started = time.perf_counter()
        self._request = recorded(request)
        make_folder(self.out)
        self._alone = alone_in(self.out)

    def __enter__(self) -> "ReportWriter":
        self._alone.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.fail("the rest of the report", error or kind())
        interrupted = kind is not None and not issubclass(kind, Exception)
        try:
            self._close("interrupted" if interrupted else "incomplete" if self.failures else "complete")
        finally:
            self._alone.__exit__(None, None, None)

    def section(self, name: str, title: str, make: Callable[[], Section]) -> None:
        """Make a section and write its parts; if that fails, note it and go on."""
        try:
            section = make()
            figures = [self._write_figure(figure) for figure in section.figures]
            tables = [self._write_table(table) for table in section.tables]
        except Exception as error:
            self.fail(title, error)
            return
        links = {words: quote(os.fsencode(page)) for words, page in section.links.items()}
        bare = not (figures or tables or links)  # one line alone
        shown = {"id": name, "title": title, "text": section.text, "links": links, "bare": bare}
        self._findings += section.findings
        self._shown.append({**shown, "figures": figures, "tables": tables})

    def absent(self, name: str, title: str, why: str) -> None:
        """Put one line in the place of a section that cannot be made, or was not asked for: the reason."""
        self.section(name, title, lambda: Section(text=why))

    def fail(self, part: str, error: BaseException | str) -> None:
        """Note that a part is missing, and why."""
        self.failures[part] = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        say(f"{self.name}: {part} is missing: {self.failures[part]}", err=True)

    def _write_figure(self, item: ReportFigure) -> dict[str, Any]:
        svg, png, box = picture_files(item.figure, item.name)
        self._write(f"figures/{item.name}.svg", svg)
        self._write(f"figures/{item.name}.png", png)
        frames = [self._write_frame(item, place) for place in range(len(item.frames))]
        return {
            "name": item.name, "uri": smaller_uri(svg, png), "spots": spots(item.figure, box), "frames": frames,
            "reading": item.reading, "caption": item.caption, "wide": item.wide,
        }  # fmt: skip

    def _write_frame(self, item: ReportFigure, place: int) -> dict[str, str]:
        label, figure = list(item.frames.items())[place]
        png = frame_file(figure)
        self._write(f"figures/{item.name}.{place}.png", png)
        return {"label": writable(label), "uri": data_uri("png", png)}

    def _write_table(self, item: ReportTable) -> dict[str, Any]:
        self._write(f"tables/{item.name}.csv", csv_bytes(item.table))
        self._write(f"tables/{item.name}.parquet", parquet_bytes(item.table))
        self._tables[item.name] = item.table
        about = {"name": item.name, "caption": item.caption, "shown": item.shown, "count": len(item.table)}
        if not item.shown:
            return about
        shown = shown_table(item.table, first=item.first, room=self._room)
        self._room -= len(shown.data)
        return {**about, **vars(shown)}

    def _write(self, relative: str, content: bytes) -> None:
        if relative.casefold() in map(str.casefold, self._files):
            raise InputError("name", found=f"{relative!r} a second time", expected="another name for each file")
        write_file(self.out / relative, content)
        self._files[relative] = hashlib.sha256(content).hexdigest()

    def _close(self, status: str) -> None:
        seconds = time.perf_counter() - self._started
        readings = [figure["reading"] for part in self._shown for figure in part["figures"]]
        path = self.out / "index.html"
        first = first_screen(self._findings)
        self.outcome = Outcome(
            self.name, self.title, self.question, status, path, dict(self.failures), readings, seconds, self._tables,
            first,
        )  # fmt: skip
        facts = {
            "report": self.name, "status": status, "failures": self.failures, "finished": now(), "seconds": seconds,
            **self.manifest, "request": self._request, **environment(), "files": self._files,
        }  # fmt: skip
        figures = {figure["name"]: figure for part in self._shown for figure in part["figures"]}
        key = next((figures[one.figure] for one in first.shown if one.figure in figures), None)
        page = render(
            "report.html.j2", tables=any(table["shown"] for part in self._shown for table in part["tables"]),
            outcome=self.outcome, sections=self._shown, facts=told_facts(facts), key=key, rule=RULE, figures=figures,
        )  # fmt: skip
        write_file(path, encoded(page))
        write_json(self.out / "manifest.json", plain(facts), indent=1)


@checked
def write_report(
    out: Path | str,
    sections: Sequence[tuple[str, str, Callable[[T], Section] | str]],
    study: T,
    *,
    name: str,
    title: str,
    question: str,
    command: str,
    manifest: dict[str, Any],
    request: Request | str = UNASKED,
) -> Outcome:
    """Write a report whose sections are functions of one study: (name, heading, function), in order.

    In place of a function may stand why there is no such section: one line on the page. Other parameters are those of
    `ReportWriter`.
    """
    how: dict[str, Any] = {"command": command, "manifest": manifest, "request": request}
    with ReportWriter(out, name=name, title=title, question=question, **how) as writer:
        for part, heading, make in sections:
            if isinstance(make, str):
                writer.absent(part, heading, make)
            else:
                writer.section(part, heading, partial(make, study))
    return writer.outcome
