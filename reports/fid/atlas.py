"""Atlas: the entries of the FID instrument."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
