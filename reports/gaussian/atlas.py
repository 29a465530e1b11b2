"""Atlas: the entries of the Gaussian instrument."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
