"""Reports: an ordered set of sections with figures and tables, written as they are made.

    with ReportWriter(out, name="guidance", title="...", question="...", command="...") as writer:
        writer.section("update", "The update", lambda: Section(figures=[...], tables=[...]))

Each section's tables and figures are on disk before the next section starts. A section that fails is named on
the page, and the others stand. Leaving the block writes one self-contained `index.html` and `manifest.json`.
"""

import base64
import hashlib
import io
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import jinja2
import matplotlib as mpl
import pandas as pd
import torch
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.written_files import alone_in, replace_file, write_json
from scorescope.reports.page.findings import RULE, Finding, FirstScreen, first_screen
from scorescope.reports.page.requests import Request, recorded
from scorescope.reports.page.texts import check_name, clean_texts, csv_bytes, encoded, parquet_bytes, say, writable

PACKAGES = ("scorescope", "torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "seaborn")
MOST_ROWS = 40
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
    """

    name: str
    figure: Figure
    reading: str
    caption: str = ""
    wide: bool = False

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
        Show it on the page; at most the first `MOST_ROWS` rows.
    """

    name: str
    table: pd.DataFrame
    caption: str = ""
    shown: bool = True

    def __post_init__(self) -> None:
        check_name("ReportTable.name", self.name)


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
        shown = {"id": name, "title": title, "text": section.text, "links": links}
        self._findings += section.findings
        self._shown.append({**shown, "figures": figures, "tables": tables})

    def fail(self, part: str, error: BaseException | str) -> None:
        """Note that a part is missing, and why."""
        self.failures[part] = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        say(f"{self.name}: {part} is missing: {self.failures[part]}", err=True)

    def _write_figure(self, item: ReportFigure) -> dict[str, Any]:
        clean_texts(item.figure)
        with mpl.rc_context({"svg.hashsalt": item.name, "svg.fonttype": "path"}):
            svg = _render(item.figure, "svg", metadata={"Date": None})
        with _layout_kept(item.figure):
            png = _render(item.figure, "png", dpi=200)
        self._write(f"figures/{item.name}.svg", svg)
        self._write(f"figures/{item.name}.png", png)
        # an image element keeps one figure's ids from meeting another's; pictures of many cells are smaller as PNG
        kind, data = ("svg+xml", svg) if len(svg) < len(png) else ("png", png)
        uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return {"uri": uri, "reading": item.reading, "caption": item.caption, "wide": item.wide, "name": item.name}

    def _write_table(self, item: ReportTable) -> dict[str, Any]:
        self._write(f"tables/{item.name}.csv", csv_bytes(item.table))
        self._write(f"tables/{item.name}.parquet", parquet_bytes(item.table))
        self._tables[item.name] = item.table
        head = item.table.head(MOST_ROWS) if item.shown else item.table.head(0)
        rows = [[_cell(value) for value in row] for row in head.itertuples(index=False)]
        return {
            "name": item.name, "caption": item.caption, "shown": item.shown, "count": len(item.table),
            "columns": [(name, pd.api.types.is_numeric_dtype(item.table[name])) for name in item.table], "rows": rows,
        }  # fmt: skip

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
            "report": self.name, "status": status, "failures": self.failures, "finished": _now(), "seconds": seconds,
            **self.manifest, "request": self._request, **environment(), "files": self._files,
        }  # fmt: skip
        figures = {figure["name"]: figure for part in self._shown for figure in part["figures"]}
        key = next((figures[one.figure] for one in first.shown if one.figure in figures), None)
        page = render(
            "report.html.j2", outcome=self.outcome, sections=self._shown, facts=_flat(facts), key=key, rule=RULE,
            figures=figures,
        )  # fmt: skip
        write_file(path, encoded(page))
        write_json(self.out / "manifest.json", plain(facts), indent=1)


@checked
def write_report(
    out: Path | str,
    sections: Sequence[tuple[str, str, Callable[[T], Section]]],
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

    Other parameters are those of `ReportWriter`.
    """
    how: dict[str, Any] = {"command": command, "manifest": manifest, "request": request}
    with ReportWriter(out, name=name, title=title, question=question, **how) as writer:
        for part, heading, make in sections:
            writer.section(part, heading, partial(make, study))
    return writer.outcome


@checked
def write_index(out: Path | str, outcomes: list[Outcome]) -> Path:
    """Write a page that links to several reports below `out`."""
    out = Path(out)
    make_folder(out)
    rows = [{**vars(o), "href": _href(o.path, out)} for o in outcomes]
    page = render("index.html.j2", reports=rows, facts=_flat(environment()))
    write_file(out / "index.html", encoded(page))
    return out / "index.html"


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; all text is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    templates.filters["subscripts"] = _subscripts
    return templates.get_template(template).render(**values)


def format_cell(value: Any) -> str:
    """A table cell as text: four significant digits, an en dash for what is missing."""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def environment() -> dict[str, Any]:
    """Versions, platform and what the order of sums depends on, for manifests."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {
        "python": platform.python_version(), "platform": platform.platform(), "threads": torch.get_num_threads(),
        "versions": versions,
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as strict JSON holds it: tuples as lists, infinite and missing numbers as text, text as UTF-8 has it."""
    if isinstance(value, dict):
        return {writable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float | bool | None) else writable(str(value))


def make_folder(out: Path) -> None:
    """Make a folder, and raise `InputError` if it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / ".writable", b"")
        (out / ".writable").unlink(missing_ok=True)  # by whoever else asks
    except OSError as error:
        raise InputError("out", found=f"{out} ({error.strerror})", expected="a folder that can be written to") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file, in a folder made if needed: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: temporary.write_bytes(content))


def _href(path: Path, out: Path) -> str:
    """The link from a page in `out`."""
    if not path.is_relative_to(out):
        raise InputError("outcomes", found=f"a report at {path}", expected=f"reports below {out}")
    return quote(os.fsencode(path.relative_to(out).as_posix()))


def _cell(value: Any) -> tuple[str, Any]:
    """A cell's text, and its number for sorting ("" where it is text)."""
    return format_cell(value), value if isinstance(value, int | float) else ""


def _subscripts(text: str) -> Markup:
    """Escaped text with D_c and D_u as subscripts."""
    return Markup(re.sub(r"D_([cu])\b", r"D<sub>\1</sub>", str(escape(text))))


def _render(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, bbox_inches="tight", **options)
    return buffer.getvalue()


@contextmanager
def _layout_kept(figure: Figure) -> Iterator[None]:
    """Leave all where it stands: to lay a figure out takes as long as to draw it, and once is enough."""
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine or "none")


def _flat(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts for the foot of the page: one line each, without the files and what was asked for."""
    left_out = ("files", "request")
    texts = {key: value for key, value in plain(facts).items() if key not in left_out and value not in ({}, [])}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in texts.items()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
