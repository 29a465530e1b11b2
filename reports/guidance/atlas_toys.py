"""Atlas: figures of guidance on laws of one and two dimensions, in closed form."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
