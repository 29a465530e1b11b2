"""What changed: between two recorded runs, step by step, and between denoisers at the same noisy points.

    found = run_changes(Trace.open("runs/before"), Trace.open("runs/after"))
    found.table                                    # largest first; intervals hold together over all rows
    shown_ranges(found.table)                      # between which noise levels each quantity differs

    table = denoiser_changes(bank, {"before": before, "after": after}, condition=labels)
    lowest(table)                                  # whose loss is lowest at which noise level

Along a path a difference is carried on to the steps that follow; on a bank it stays where it is.
"""

from scorescope.analysis.changes.denoisers import denoiser_changes, lowest
from scorescope.analysis.changes.runs import RunChanges, run_changes, shown_ranges

__all__ = ["RunChanges", "denoiser_changes", "lowest", "run_changes", "shown_ranges"]
