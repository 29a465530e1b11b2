"""Atlas: the entries on sampling: solvers, noise levels, checkpoints along training."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
