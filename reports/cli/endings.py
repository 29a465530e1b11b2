"""What the commands that write reports have in common: how they were called, and how they end."""

import shlex
import sys
from pathlib import Path

import typer

from scorescope.reports.page.pages import Outcome
from scorescope.reports.page.texts import say


def this_command() -> str:
    """The command line, for manifests."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def finish(outcome: Outcome) -> None:
    """Say where a report is; the exit code is 1 where a part of it is missing."""
    say(f"wrote {outcome.path}")
    exit_unless_complete([outcome])


def exit_unless_complete(outcomes: list[Outcome]) -> None:
    """End with code 1 where a part of a report is missing."""
    if any(outcome.status != "complete" for outcome in outcomes):
        raise typer.Exit(1)
