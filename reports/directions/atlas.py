"""Atlas: the entries of the directions instrument."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
