"""The report on two reports: their tables beside each other, as far as tables can tell what changed.

compare_reports(Path("report/changes"), {"before": Path("report/a"), "after": Path("report/b")}, command="...")
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from scorescope.analysis.changes import decomposition_changes, table_changes
from scorescope.data.checkpoints import sha256
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_parquet
from scorescope.data.written_files import read_json
from scorescope.reports.page.pages import Outcome, ReportTable, ReportWriter, Section

NO_TEST = (
    "These tables hold means and intervals, no values of single samples: no paired difference can be had. Each "
    "interval was made for its own number, not for all together, and both reports may rest on the same seeds; so "
    "intervals that are apart, or overlap, are no test."
)
SAMPLES = "decomposition"  # the table of single samples that a guidance report keeps
Tables = dict[str, pd.DataFrame]


@checked
def compare_reports(out: Path | str, reports: Mapping[str, Path | str], *, command: str) -> Outcome:
    """Compare the tables of reports of one kind with those of the first, and write the report.

    Parameters
    ----------
    out : path
        Folder of the report.
    reports : mapping of str to path
        Folders of two or more reports. Those on pipelines hold their runs, which `compare_runs` compares.
    command : str
        What the manifest says made it.

    Raises
    ------
    InputError
        For fewer than two reports, those of two kinds, and damaged ones.
    """
    if len(reports) < 2:
        raise InputError("reports", found=f"{len(reports)} of them", expected="at least two")
    opened = {name: _open(Path(folder)) for name, folder in reports.items()}
    (base, (kind, mine)), *others = opened.items()
    if other := [f"{name}, a {theirs} report" for name, (theirs, _) in others if theirs != kind]:
        raise InputError("reports", found=other[0], expected=f"reports of one kind, as {base}: {kind}")
    title, question = f"What changed since {base}?", f"Which numbers of the {kind} report are other ones?"
    manifest = {"reports": {name: str(folder) for name, folder in reports.items()}}
    with ReportWriter(out, name="changes", title=title, question=question, command=command, manifest=manifest) as page:
        for place, (name, (_, theirs)) in enumerate(others):
            suffix = "" if len(others) == 1 else str(place)
            heading = f"{name} beside {base}"
            if SAMPLES in mine and SAMPLES in theirs:
                make = partial(_samples_section, mine, theirs, suffix)
                page.section(f"samples{suffix}", f"{heading}: samples", make)
            page.section(f"tables{suffix}", f"{heading}: tables", partial(_tables_section, mine, theirs, suffix))
    return page.outcome


def _open(folder: Path) -> tuple[str, Tables]:
    """The kind of a report, and its tables, whose hashes are checked."""
    facts: dict[str, Any] = read_json(folder / "manifest.json")
    files = facts.get("files")
    if not isinstance(facts.get("report"), str) or not isinstance(files, dict):
        raise InputError(str(folder), found="a manifest of something else", expected="a report")
    tables = {}
    for name, digest in files.items():
        if name.endswith(".parquet"):
            path = folder / name
            if not path.is_file() or sha256(path) != digest:
                raise InputError(str(path), found="missing, or not what was written", expected="an undamaged report")
            tables[path.stem] = read_parquet(path, expected="a table of a report")
    return facts["report"], tables


def _samples_section(mine: Tables, theirs: Tables, suffix: str) -> Section:
    table = decomposition_changes(mine[SAMPLES], theirs[SAMPLES])
    shown = int(table["shown"].sum())
    text = (
        f"{int(table['n'].max())} pairs of one seed are compared; of {len(table)} numbers {shown} are shown to differ, "
        "by intervals that hold together over all of them. Whether their conditions were the same is not in the table."
    )
    caption = "One row a (quantity, rule, step), those that are shown to differ first."
    return Section(text=text, tables=[ReportTable(f"sample_differences{suffix}", table, caption)])


def _tables_section(mine: Tables, theirs: Tables, suffix: str) -> Section:
    found, why = list[pd.DataFrame](), dict[str, str]()
    for name in sorted(set(mine) | set(theirs)):
        try:
            if name not in mine or name not in theirs:
                raise InputError(name, found="in one report alone", expected="in both")
            found.append(table_changes(mine[name], theirs[name]).assign(table=name))
        except InputError as error:
            why[name] = f"{error.argument}: {error.found}; needed: {error.expected}"
    left = pd.DataFrame({"table": list(why), "why": list(why.values())})
    tables = [ReportTable(f"not_compared{suffix}", left, "Tables that are not compared.")]
    if not found:
        return Section(text="No table of both holds means with intervals.", tables=tables)
    whole = pd.concat(found, ignore_index=True)
    counts = whole["intervals"].value_counts()
    text = (
        f"Of {len(whole)} numbers in {len(found)} tables the intervals of {counts.get('apart', 0)} are apart, those of "
        f"{counts.get('overlap', 0)} overlap, and of {counts.get('unknown', 0)} one is not known. {NO_TEST}"
    )
    caption = "Numbers of both reports with their own intervals, those that are apart first in each table."
    ordered = whole[["table", *(name for name in whole if name != "table")]]
    return Section(text=text, tables=[ReportTable(f"beside{suffix}", ordered, caption), *tables])
