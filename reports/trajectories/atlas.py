"""Atlas: the entries on sampling: solvers, noise levels, checkpoints along training."""

from scorescope.reports.entries import Entry
from scorescope.reports.trajectories import (
    atlas_checkpoints,
    atlas_paths,
    atlas_solvers,
    atlas_steps,
    atlas_training,
)

ENTRIES: tuple[Entry, ...] = (
    *atlas_training.ENTRIES, *atlas_steps.ENTRIES, *atlas_solvers.ENTRIES, *atlas_paths.ENTRIES,
    *atlas_checkpoints.ENTRIES,
)  # fmt: skip
