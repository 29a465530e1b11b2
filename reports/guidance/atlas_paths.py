"""Atlas: figures of whole paths under guidance, and of what branches say along them."""

from scorescope.reports.entries import Entry

ENTRIES: tuple[Entry, ...] = ()
