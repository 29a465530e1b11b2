"""The command line."""

from scorescope.reports.cli.commands import main

__all__ = ["main"]
