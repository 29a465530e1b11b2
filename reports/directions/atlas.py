"""Atlas: the entries of the directions instrument."""

from scorescope.reports.directions import atlas_information

ENTRIES = (*atlas_information.ENTRIES,)
