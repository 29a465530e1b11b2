"""What changed: a report on recorded runs of several checkpoints, or on denoisers at the same noisy points.

    from scorescope.reports.changes import compare_denoisers, compare_ema_lengths, compare_runs

    compare_runs(Path("changes"), {"before": Path("runs/a"), "after": Path("runs/b")}, command="my study")
    compare_denoisers(Path("changes"), {"before": before, "after": after}, images, command="my study")
    compare_ema_lengths(Path("changes"), snapshots, (0.03, 0.05, 0.1), denoiser_of, images, command="my study")

Differences are paired, and their intervals hold together over all rows of a table (`analysis.changes`).
"""

from scorescope.reports.changes import figures, readings
from scorescope.reports.changes.ema_lengths import compare_ema_lengths
from scorescope.reports.changes.report import compare_denoisers, compare_runs

__all__ = ["compare_denoisers", "compare_ema_lengths", "compare_runs", "figures", "readings"]
