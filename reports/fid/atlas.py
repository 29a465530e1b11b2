"""Atlas: the entries of the FID instrument."""

from scorescope.reports.entries import Entry
from scorescope.reports.fid import atlas_choice, atlas_distances, atlas_nearest, atlas_page, atlas_sources

ENTRIES: tuple[Entry, ...] = (
    *atlas_distances.ENTRIES,
    *atlas_sources.ENTRIES,
    *atlas_choice.ENTRIES,
    *atlas_page.ENTRIES,
    *atlas_nearest.ENTRIES,
)
