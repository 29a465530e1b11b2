"""Section of the guidance report on one recorded trace: what the update did along it, and what a clip would do."""

from dataclasses import replace

import pandas as pd

from scorescope.analysis.guidance.decomposition import summarise
from scorescope.analysis.guidance.run_keys import PATH, run_name
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import findings
from scorescope.reports.guidance.peaks import any_update
from scorescope.reports.guidance.runs import of_path
from scorescope.reports.guidance.sections_paths import (
    clip_figure,
    clip_norms,
    clip_tables,
    gain_figure,
    gain_table,
    momentum_parts,
)
from scorescope.reports.guidance.sections_update import no_update, update_figures
from scorescope.reports.guidance.trace_study import MOST
from scorescope.reports.page.pages import ReportTable, Section


def trace_section(trace: Trace, table: pd.DataFrame, suffix: str, *, drawn: bool = True) -> Section:
    """The update along one trace, its gains and clips; names of figures and tables end in `suffix`.

    Runs of one rule and weight are shown together, those of another apart.

    Parameters
    ----------
    trace : Trace
        What was recorded.
    table : DataFrame
        Its decomposition.
    suffix : str
        End of names.
    drawn : bool
        With figures and findings; tables alone where others show several traces together.
    """
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
        part = _path_section(trace, table, steps, key, suffix if not number else f"{suffix}_{number}", drawn)
        name = "" if len(paths) == 1 and table["run"].nunique() == 1 else f"{_named(table, key)}: "
        texts.append(f"{name}{part.text}")
        whole = Section(
            [*whole.figures, *part.figures], [*whole.tables, *part.tables], findings=[*whole.findings, *part.findings]
        )
    if len(paths) > MOST:
        texts.append(f"{len(paths) - MOST} more rules and weights are in the tables alone.")
    return replace(whole, text=" ".join(texts))


def _path_section(
    trace: Trace, table: pd.DataFrame, steps: pd.DataFrame, key: tuple[str, float, int], suffix: str, drawn: bool
) -> Section:
    """The same of the runs of one rule, weight and scheduler."""
    table, steps, run = of_path(table, *key), of_path(steps, *key), key[:2]
    if not any_update(steps, *run):
        return Section(text=no_update(table))
    gain, clips = gain_table(table, suffix=suffix), clip_tables(table, run, suffix=suffix)
    momentum, momentum_tables = momentum_parts(trace, clip_norms(table), key, suffix=suffix)
    whole = Section(tables=[gain, *clips, *momentum_tables], text=momentum)
    if not drawn:
        return whole
    along = gain_figure(gain.table, [run], suffix=suffix)
    shown = [*update_figures(steps, *run, suffix=suffix), along, clip_figure(clips, steps, run, suffix=suffix)]
    found = findings.rescaling(steps, *run, figure=f"update_parts{suffix}")
    return replace(whole, figures=shown, findings=found)


def _named(table: pd.DataFrame, key: tuple[str, float, int]) -> str:
    """Rule and weight with their runs, and the scheduler where there are several."""
    runs = sorted(set(of_path(table, *key)["run"]))
    listed = ", ".join(str(run) for run in runs)
    which = f"run {listed}" if len(runs) == 1 else f"mean of runs {listed}"
    return f"{run_name(*key[:2])} ({which}{f', scheduler {key[2]}' if table['stream'].nunique() > 1 else ''})"


def _said(trace: Trace) -> str:
    problems = f" Problems: {'; '.join(trace.problems)}." if trace.problems else ""
    return f"Status {trace.status}, {len(trace.samples)} samples.{problems}"
