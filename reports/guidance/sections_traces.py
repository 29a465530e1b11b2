"""Sections of the guidance report on recorded traces: what the update did along each, and where their paths part."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.analysis.guidance.run_keys import PATH, run_name
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import findings
from scorescope.reports.guidance.peaks import any_update
from scorescope.reports.guidance.runs import of_path
from scorescope.reports.guidance.sections_paths import (
    TOLERANCE,
    clip_norms,
    clip_parts,
    gain_parts,
    momentum_parts,
    separation_parts,
)
from scorescope.reports.guidance.sections_update import no_update, update_figures
from scorescope.reports.page.pages import ReportTable, Section

MOST = 8  # rules and weights of one trace that are drawn


def trace_section(source: Path | Trace, suffix: str) -> Section:
    """The update along one trace, its gains and clips; names of figures and tables end in `suffix`.

    Runs of one rule and weight are shown together, those of another apart.
    """
    trace = source if isinstance(source, Trace) else Trace.open(source)
    table = decompose(trace)
    steps = summarise(table)
    several = "Runs of one rule and weight are averaged, and `runs` says how many."
    tables = [
        ReportTable(f"decomposition{suffix}", table, "One row a (run, sample, step, call).", shown=False),
        ReportTable(
            f"steps{suffix}", steps, f"One row a (step, call, quantity), with intervals. {several}", shown=False
        ),
    ]
    whole, texts = Section(tables=tables), [_said(trace)]
    paths = list(table[PATH].drop_duplicates().itertuples(index=False, name=None))
    for number, key in enumerate(paths[:MOST]):
        part = _path_section(trace, table, steps, key, suffix if not number else f"{suffix}_{number}")
        name = "" if len(paths) == 1 and table["run"].nunique() == 1 else f"{_named(table, key)}: "
        texts.append(f"{name}{part.text}")
        whole = Section(
            [*whole.figures, *part.figures], [*whole.tables, *part.tables], findings=[*whole.findings, *part.findings]
        )
    if len(paths) > MOST:
        texts.append(f"{len(paths) - MOST} more rules and weights are in the tables alone.")
    return replace(whole, text=" ".join(texts))


def _path_section(
    trace: Trace, table: pd.DataFrame, steps: pd.DataFrame, key: tuple[str, float, int], suffix: str
) -> Section:
    """The same of the runs of one rule, weight and scheduler."""
    table, steps, run = of_path(table, *key), of_path(steps, *key), key[:2]
    if not any_update(steps, *run):
        return Section(text=no_update(table))
    gain, gain_table = gain_parts(table, [run], suffix=suffix)
    clip, clip_tables = clip_parts(table, steps, run, suffix=suffix)
    momentum, momentum_tables = momentum_parts(trace, clip_norms(table), key, suffix=suffix)
    return Section(
        figures=[*update_figures(steps, *run, suffix=suffix), gain, clip],
        tables=[gain_table, *clip_tables, *momentum_tables],
        text=momentum,
        findings=findings.rescaling(steps, *run, figure=f"update_parts{suffix}"),
    )


def _named(table: pd.DataFrame, key: tuple[str, float, int]) -> str:
    """Rule and weight with their runs, and the scheduler where there are several."""
    runs = sorted(set(of_path(table, *key)["run"]))
    listed = ", ".join(str(run) for run in runs)
    which = f"run {listed}" if len(runs) == 1 else f"mean of runs {listed}"
    return f"{run_name(*key[:2])} ({which}{f', scheduler {key[2]}' if table['stream'].nunique() > 1 else ''})"


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
