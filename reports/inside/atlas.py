"""Atlas: the entries of the instrument on the inside."""

from scorescope.reports.inside import atlas_groups, atlas_sparse, atlas_units

ENTRIES = (*atlas_sparse.ENTRIES, *atlas_units.ENTRIES, *atlas_groups.ENTRIES)
