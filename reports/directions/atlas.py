"""Atlas: the entries of the directions instrument."""

from scorescope.reports.directions import atlas_attributes, atlas_information, atlas_steering

ENTRIES = (*atlas_attributes.ENTRIES, *atlas_steering.ENTRIES, *atlas_information.ENTRIES)
