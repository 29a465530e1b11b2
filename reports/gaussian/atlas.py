"""Atlas: the entries of the Gaussian instrument."""

from scorescope.reports.gaussian import atlas_memory, atlas_paths, atlas_scores

ENTRIES = (*atlas_scores.ENTRIES, *atlas_paths.ENTRIES, *atlas_memory.ENTRIES)
