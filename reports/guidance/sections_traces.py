"""Sections of the guidance report on recorded traces: what the update did along each, and where their paths part."""

from collections.abc import Sequence
from pathlib import Path

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance.sections_paths import (
    TOLERANCE,
    clip_norms,
    clip_parts,
    gain_parts,
    momentum_parts,
    separation_parts,
)
from scorescope.reports.guidance.sections_update import update_figures
from scorescope.reports.page.pages import ReportTable, Section


def trace_section(path: Path, suffix: str) -> Section:
    """The update along one trace, its gains and clips; names of figures and tables end in `suffix`."""
    trace = Trace.open(path)
    table = decompose(trace)
    steps = summarise(table)
    run = str(table["rule"].iloc[0]), float(table["weight"].iloc[0])
    tables = [
        ReportTable(f"decomposition{suffix}", table, "One row a (sample, step, call).", shown=False),
        ReportTable(f"steps{suffix}", steps, "One row a (step, call, quantity), with intervals.", shown=False),
    ]
    known = steps[(steps["quantity"] == "update_norm") & (steps["call"] == 0) & (steps["n"] > 0)]
    if known.empty:
        reasons = ", ".join(sorted(set(table["missing"])))
        return Section(tables=tables, text=f"{_said(trace)} No update is known at any step: {reasons}.")
    gain, gain_table = gain_parts(table, [run], suffix=suffix)
    clip, clip_tables = clip_parts(table, steps, run, suffix=suffix)
    momentum, momentum_tables = momentum_parts(trace, clip_norms(table), suffix=suffix)
    return Section(
        figures=[*update_figures(steps, *run, suffix=suffix), gain, clip],
        tables=[*tables, gain_table, *clip_tables, *momentum_tables],
        text=f"{_said(trace)} {momentum}",
    )


def recorded_separation_section(folders: Sequence[Path]) -> Section:
    """Where recorded paths part from that of the first; what cannot be read, or does not pair with it, is named."""
    traces, missing = {}, []
    short = len({folder.name for folder in folders}) == len(folders)
    for folder in folders:
        try:
            traces[folder.name if short else str(folder)] = Trace.open(folder)
        except InputError:
            missing.append(f"{folder} cannot be read.")
    if len(traces) < 2:
        return Section(text=" ".join(["Fewer than two traces can be compared.", *missing]))
    (base, first), *others = traces.items()
    tables = {}
    for name, trace in others:
        try:
            tables[name] = separation(first, trace, tolerance=TOLERANCE)
        except InputError as error:
            missing.append(f"{name} is not compared with {base}: {error}.")
    if not tables:
        return Section(text=" ".join(missing))
    pairs = max(int(table["n"].max()) for table in tables.values())
    return separation_parts(tables, base=base, pairs=pairs, text=" ".join(missing))


def _said(trace: Trace) -> str:
    problems = f" Problems: {'; '.join(trace.problems)}." if trace.problems else ""
    return f"Status {trace.status}, {len(trace.samples)} samples.{problems}"
