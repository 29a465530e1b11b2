"""The command line for recorded traces: `scorescope trace show PATH`, `scorescope trace verify PATH...`."""

from pathlib import Path
from typing import Annotated

import typer

trace_app = typer.Typer(no_args_is_help=True, help="Look at recorded traces and check them.")

Folder = Annotated[Path, typer.Argument(help="A trace folder.")]

_SHOWN = ["step", "call", "t", "sigma", "rule", "weight", "residual", "evidence", "chained"]


@trace_app.command("show")
def show(path: Folder, rows: Annotated[int, typer.Option(min=1, help="Steps to print.")] = 20) -> None:
    """Say what a trace holds: status, runs, kept arrays, and its first steps."""
    from scorescope.probes.recording.trace import Trace
    from scorescope.reports.cli.trace_lines import describe
    from scorescope.reports.page.texts import say, say_table

    trace = Trace.open(path)
    say(*describe(trace))
    first = trace.scalars.drop_duplicates(["run", "event"])[["run", *_SHOWN]]
    say_table(first.head(rows))
    if len(first) > rows:
        say(f"... {len(first) - rows} more steps")


@trace_app.command("verify")
def verify_trace(paths: Annotated[list[Path], typer.Argument(help="Trace folders.")]) -> None:
    """Check every hash of traces; exit code 1 and one line for each problem where there is one."""
    from scorescope.probes.recording.reading import verify
    from scorescope.probes.recording.trace import Trace
    from scorescope.reports.page.texts import say

    problems = {path: list(verify(path)) for path in paths}
    for path, found in problems.items():
        if not found:
            trace = Trace.open(path)
            found = [", ".join([f"{path}: sound", trace.status, *trace.unfinished])]
        say(*found)
    if any(problems.values()):
        raise typer.Exit(1)
