"""The guidance report of recorded pipelines: what the update did along traces that are on disk.

build(Path("report"), [Path("runs/a"), Path("runs/b")], command="...")
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import figures, paths, readings
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section

HOW = "First call of each step; bands are 95 % bootstrap intervals of the mean over samples. "


def build(out: Path, paths: Sequence[Path], *, command: str) -> Outcome:
    """Write a report on traces; one that cannot be read or decomposed is named on the page.

    Parameters
    ----------
    out : Path
        Folder of the report.
    paths : sequence of Path
        Trace folders.
    command : str
        What the manifest says made it.

    Returns
    -------
    Outcome
    """
    manifest = {"traces": [str(path) for path in paths]}
    title, question = "Guidance along recorded traces", "What did the guidance update do at each noise level?"
    with ReportWriter(
        out, name="guidance", title=title, question=question, command=command, manifest=manifest
    ) as writer:
        for place, path in enumerate(paths):
            writer.section(f"trace{place}", str(path), partial(_trace, path, place))
        if len(paths) > 1:
            writer.section("separation", "Where the paths part", partial(_separation, paths))
    assert writer.outcome is not None  # set on leaving the block
    return writer.outcome


def _trace(path: Path, place: int) -> Section:
    trace = Trace.open(path)
    table = decompose(trace)
    steps = summarise(table)
    rule, weight = str(table["rule"].iloc[0]), float(table["weight"].iloc[0])
    shown = [
        ReportTable(f"decomposition{place}", table, "One row a (sample, step, call).", shown=False),
        ReportTable(f"steps{place}", steps, "One row a (step, call, quantity), with intervals.", shown=False),
    ]
    known = steps[(steps["quantity"] == "update_norm") & (steps["call"] == 0) & (steps["n"] > 0)]
    if known.empty:
        reasons = ", ".join(sorted(set(table["missing"])))
        return Section(tables=shown, text=f"{_said(trace)} No update is known at any step: {reasons}.")
    gain, gain_table = paths.gain_parts(table, [(rule, weight)], suffix=str(place))
    clip, clip_tables = paths.clip_parts(table, steps, (rule, weight), suffix=str(place))
    momentum, momentum_tables = paths.momentum_parts(trace, paths.clips(table), suffix=str(place))
    figures_shown = [*_figures(steps, rule, weight, place), gain, clip]
    tables = [*shown, gain_table, *clip_tables, *momentum_tables]
    return Section(figures=figures_shown, tables=tables, text=f"{_said(trace)} {momentum}")


def _separation(folders: Sequence[Path]) -> Section:
    traces, unread = {}, []
    short = len({folder.name for folder in folders}) == len(folders)
    for folder in folders:
        try:
            traces[folder.name if short else str(folder)] = Trace.open(folder)
        except InputError:
            unread.append(f"{folder} cannot be read.")
    if len(traces) < 2:
        return Section(text=" ".join(["Fewer than two traces can be compared.", *unread]))
    section = paths.recorded_separation_section(traces)
    return replace(section, text=" ".join([section.text, *unread]).strip())


def _figures(steps: pd.DataFrame, rule: str, weight: float, place: int) -> list[ReportFigure]:
    parts = figures.update_parts(steps, rule=rule, weight=weight)
    cosine = figures.branch_cosine(steps, rule=rule, weight=weight)
    return [
        ReportFigure(
            f"update_parts{place}",
            parts,
            readings.read_update(steps, weight, rule=rule),
            HOW + "Dotted: the norm that rounding to the dtype gives by itself.",
        ),
        ReportFigure(f"branch_cosine{place}", cosine, readings.read_cosine(steps, weight, rule=rule), HOW),
    ]


def _said(trace: Trace) -> str:
    problems = f" Problems: {'; '.join(trace.problems)}." if trace.problems else ""
    return f"Status {trace.status}, {len(trace.samples)} samples.{problems}"
