"""The command line for recorded traces: `scorescope trace show PATH`, `scorescope trace verify PATH`."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from scorescope.analysis.guidance.run_keys import run_name, trace_keys
from scorescope.probes.recording.reading import verify
from scorescope.probes.recording.trace import Trace
from scorescope.reports.page.texts import say, say_table

trace_app = typer.Typer(no_args_is_help=True, help="Look at recorded traces and check them.")

Folder = Annotated[Path, typer.Argument(help="A trace folder.")]

_SHOWN = ["step", "call", "t", "sigma", "rule", "weight", "residual", "evidence", "chained"]
_ONE_RULE = 10  # lines that say which runs had which rule


@trace_app.command("show")
def show(path: Folder, rows: Annotated[int, typer.Option(min=1, help="Steps to print.")] = 20) -> None:
    """Say what a trace holds: status, runs, kept arrays, and its first steps."""
    trace = Trace.open(path)
    say(*describe(trace))
    first = trace.scalars.drop_duplicates(["run", "event"])[["run", *_SHOWN]]
    say_table(first.head(rows))
    if len(first) > rows:
        say(f"... {len(first) - rows} more steps")


@trace_app.command("verify")
def verify_trace(path: Folder) -> None:
    """Check every hash of a trace; exit code 1 and one line for each problem where there is one."""
    problems = list(verify(path))
    say(*problems)
    if problems:
        raise typer.Exit(1)
    trace = Trace.open(path)
    say(", ".join([f"{path}: sound", trace.status, *trace.unfinished]))


def describe(trace: Trace) -> list[str]:
    """What a trace holds, in a few lines."""
    scalars, manifest = trace.scalars, trace.manifest
    schedulers = ", ".join(part["class"] for part in manifest["schedulers"].values())
    lines = [
        f"{manifest['pipeline']} with {schedulers}: {trace.status}",
        f"{scalars['run'].nunique()} runs, {len(trace.samples)} samples, {_steps(scalars)} steps",
        f"arrays: {', '.join(trace.arrays.names()) or 'none (scalars only)'}",
    ]
    if "error" in manifest:
        lines.append(f"ended by {manifest['error']}")
    missing = sorted(set(scalars.loc[scalars["rule"] != "equal", "missing"]) - {""})
    lines += [*_guidance(trace), *(f"missing: {reason}" for reason in missing)]
    return [*lines, *trace.unfinished, *trace.problems]


def _guidance(trace: Trace) -> list[str]:
    """Which rule and weight each run had, who made or replaced its predictions, and where branches were the same."""
    scalars = trace.scalars
    if scalars.empty:
        return []
    keys = trace_keys(trace)
    found = [
        f"{run_name(str(rows['rule'].iloc[0]), float(rows['path_weight'].iloc[0]))}: {_listed(rows['run'])}"
        for _, rows in keys.groupby(["rule", "path_weight"], sort=False, dropna=False)
    ]
    more = [f"... {len(found) - _ONE_RULE} more rules and weights"] if len(found) > _ONE_RULE else []
    lines = [f"guided by {line}" for line in found[:_ONE_RULE]] + more
    for column, words in (("made_by", "prediction made by"), ("replaced_by", "the scheduler received those of")):
        lines += [f"{words} {rule} under guide()" for rule in sorted(set(scalars[column]) - {""})]
    same = scalars[scalars["rule"] == "equal"]
    if len(same):
        lines.append(
            f"both branches are the same in {_steps(same)} of {_steps(scalars)} steps: the condition changes nothing "
            "there (a lost prompt looks like this), and no weight can be told"
        )
    return lines


def _listed(runs: pd.Series) -> str:
    found = sorted(set(runs))
    return f"run {found[0]}" if len(found) == 1 else f"runs {', '.join(str(run) for run in found)}"


def _steps(scalars: pd.DataFrame) -> int:
    return len(scalars.drop_duplicates(["run", "event"]))
