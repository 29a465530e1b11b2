"""Atlas: the entries of the FID instrument."""

from scorescope.reports.entries import Entry
from scorescope.reports.fid import atlas_distances

ENTRIES: tuple[Entry, ...] = (*atlas_distances.ENTRIES,)
