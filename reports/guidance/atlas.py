"""Atlas: the entries of the guidance instrument."""

from scorescope.reports.guidance import (
    atlas_apg,
    atlas_branches,
    atlas_costs,
    atlas_intervals,
    atlas_metrics,
    atlas_pages,
    atlas_paths,
    atlas_toys,
    atlas_update,
)

ENTRIES = (
    *atlas_update.ENTRIES, *atlas_metrics.ENTRIES, *atlas_apg.ENTRIES, *atlas_intervals.ENTRIES, *atlas_costs.ENTRIES,
    *atlas_branches.ENTRIES, *atlas_paths.ENTRIES, *atlas_toys.ENTRIES, *atlas_pages.ENTRIES,
)  # fmt: skip
