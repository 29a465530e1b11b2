"""The index page of a study: for each report a table over checkpoints, figures, and links to the reports themselves.

table = headline_table(parts)                        # one row a (subject, report, setting, quantity)
for name, title, make in sections(parts, table):
    page.section(name, title, make)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.page.tables import format_cell
from scorescope.reports.studies import figures
from scorescope.reports.studies.headlines import COLUMNS, curve, curve_of, headlines
from scorescope.reports.studies.made import MadeReport

KEYS = ("subject", "report", "setting")
ALONE = (
    "Bars: 95 % intervals of each checkpoint by itself. That two of them overlap, or do not, is no test of a "
    "difference: `scorescope compare` makes one."
)


@dataclass(frozen=True)
class Making:
    """One report of a study, and what came of it.

    Attributes
    ----------
    subject, report, setting : str
        Which.
    folder : str
        Where it lies, from the folder of the study.
    made : MadeReport or None
        What is there.
    error : str
        Why it, or a part of it, is missing; empty for a whole report.
    """

    subject: str
    report: str
    setting: str
    folder: str
    made: MadeReport | None
    error: str = ""

    @property
    def name(self) -> str:
        """What panels and links say, below the heading of the report."""
        return f"{self.subject}, {self.setting}" if self.setting else self.subject


def headline_table(makings: Sequence[Making]) -> pd.DataFrame:
    """One row a (subject, report, setting, quantity): see `headlines`; of a report that is not there, its reason."""
    tables = [_of_one(one).assign(subject=one.subject, report=one.report, setting=one.setting) for one in makings]
    whole = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    return whole.reindex(columns=[*KEYS, *COLUMNS])


def sections(makings: Sequence[Making], table: pd.DataFrame) -> list[tuple[str, str, Callable[[], Section]]]:
    """Name, heading and maker of each section: one a report, then the numbers in one table, then what is missing."""
    reports = dict.fromkeys(one.report for one in makings)
    made = [(name, name.capitalize(), partial(_report_section, name, makings, table)) for name in reports]
    return [*made, ("numbers", "The numbers", partial(_numbers_section, table))]


def _of_one(one: Making) -> pd.DataFrame:
    if one.made is not None:
        return headlines(one.made)
    row = {**dict.fromkeys(("value", "low", "high", "n"), np.nan), "quantity": "", "table": "", "missing": one.error}
    return pd.DataFrame([row], columns=COLUMNS)


def _report_section(name: str, makings: Sequence[Making], table: pd.DataFrame) -> Section:
    """One report of every checkpoint: links, the table over checkpoints, each number and one curve drawn."""
    there = [one for one in makings if one.report == name and one.made is not None]
    rows = table[table["report"] == name]
    links = {one.name: f"{one.folder}/index.html" for one in there}
    if not there:
        return Section(text="None of these reports is there.")
    drawn = []
    if np.isfinite(rows["value"]).any():
        figure = figures.over_checkpoints(rows)
        drawn.append(ReportFigure(f"{name}_over_checkpoints", figure, _reading(rows), ALONE, wide=True))
    shown = ReportTable(
        f"{name}_over_checkpoints", _wide(rows), "A row a checkpoint; in brackets 95 % intervals, – is missing."
    )
    return Section([*drawn, *_curves(name, there)], [shown], _versions(there), links)


def _versions(there: Sequence[Making]) -> str:
    """Which packages' versions are not the same in all reports; empty where all are."""
    found = [one.made.facts.get("versions") or {} for one in there if one.made is not None]
    differ = [name for name in found[0] if len({versions.get(name) for versions in found}) > 1]
    return f"Not all of these reports were made by the same version of {', '.join(differ)}." if differ else ""


def _curves(name: str, there: Sequence[Making]) -> list[ReportFigure]:
    """One curve of each checkpoint, those that have the same one."""
    parts, asked = dict[str, pd.DataFrame](), None
    for one in there:
        assert one.made is not None  # of those that are there
        rows = curve(one.made)
        if rows is not None and len(rows) and asked in (None, curve_of(one.made)):
            asked = curve_of(one.made)
            parts[one.name] = rows
    if asked is None:
        return []
    left = len(there) - len(parts)
    label = asked.label[0].upper() + asked.label[1:]
    reading = f"{label}: the table {asked.table} of each report."
    others = f" Reports without that curve: {left}." if left else ""
    first = f" The first {figures.MOST_PANELS} are drawn." if len(parts) > figures.MOST_PANELS else ""
    how = "The axes are the same in all panels; bands are 95 % intervals, where the table has them."
    return [ReportFigure(f"{name}_curves", figures.curves(parts, asked), reading + others + first, how, wide=True)]


def _numbers_section(table: pd.DataFrame) -> Section:
    missing = table[table["missing"] != ""]
    shown = [ReportTable("missing", missing[[*KEYS, "quantity", "missing"]], "What is missing, and why.")]
    return Section(
        tables=[
            *(shown if len(missing) else []),
            ReportTable("headlines", table, "One row a (subject, report, setting, quantity).", shown=False),
        ]
    )


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a (subject, setting), a column a quantity, cells as text; all dashes where the report is not there."""
    keys = ["subject", "setting"] if rows["setting"].any() else ["subject"]
    quantities = [name for name in dict.fromkeys(rows["quantity"]) if name]
    wide = []
    for key, of_one in rows.groupby(keys, sort=False):
        cells = {row["quantity"]: _cell(row) for row in of_one.to_dict("records")}
        wide.append([*key, *(cells.get(name, "–") for name in quantities)])
    return pd.DataFrame(wide, columns=[*keys, *quantities])


def _cell(row: Mapping[Any, Any]) -> str:
    value, low, high = (row[name] for name in ("value", "low", "high"))
    interval = f" [{format_cell(low)}, {format_cell(high)}]" if np.isfinite([low, high]).all() else ""
    return format_cell(value) + interval


def _reading(rows: pd.DataFrame) -> str:
    """Each number at the first and the last checkpoint that has it, where there is one setting."""
    if rows["setting"].nunique() > 1:
        return f"Numbers of {rows['subject'].nunique()} checkpoints under {rows['setting'].nunique()} settings."
    told = []
    for quantity, known in rows[np.isfinite(rows["value"])].groupby("quantity", sort=False):
        ends = known.to_dict("records")[:: max(1, len(known) - 1)]
        said = [f"{_cell(row)} ({row['subject']})" for row in ends]
        told.append(f"{quantity}: {', '.join(said)}")
    return "; ".join(told) + "."
