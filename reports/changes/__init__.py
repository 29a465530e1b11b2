"""What changed: a report on recorded runs, sweeps or reports of several checkpoints, on denoisers, or on EMA lengths.

    from scorescope.reports.changes import compare_denoisers, compare_ema_lengths, compare_reports, compare_runs

    compare_runs(Path("changes"), {"before": Path("runs/a"), "after": Path("runs/b")}, command="my study")
    compare_denoisers(Path("changes"), {"before": before, "after": after}, images, command="my study")
    compare_ema_lengths(Path("changes"), snapshots, (0.03, 0.05, 0.1), denoiser_of, images, command="my study")
    compare_sweeps(Path("changes"), {"before": Path("sweeps/a"), "after": Path("sweeps/b")}, command="my study")
    compare_reports(Path("changes"), {"before": Path("report/a"), "after": Path("report/b")}, command="my study")

Differences are paired, and their intervals hold together over all rows of a table (`analysis.changes`). Most tables of
reports hold no samples: their numbers are set beside each other, which is no test.
"""

from scorescope.reports.changes import figures, readings
from scorescope.reports.changes.ema_lengths import compare_ema_lengths
from scorescope.reports.changes.report import compare_denoisers, compare_runs, compare_sweeps
from scorescope.reports.changes.report_tables import compare_reports

__all__ = [
    "compare_denoisers",
    "compare_ema_lengths",
    "compare_reports",
    "compare_runs",
    "compare_sweeps",
    "figures",
    "readings",
]
