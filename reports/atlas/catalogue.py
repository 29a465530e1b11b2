"""Every figure of the atlas by its name."""

import difflib

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.directions import atlas as directions
from scorescope.reports.entries import Entry
from scorescope.reports.fid import atlas as fid
from scorescope.reports.gaussian import atlas as gaussian
from scorescope.reports.guidance import atlas as guidance
from scorescope.reports.inside import atlas as inside
from scorescope.reports.trajectories import atlas as trajectories

WINGS: dict[str, tuple[Entry, ...]] = {
    "guidance": guidance.ENTRIES,
    "sampling": trajectories.ENTRIES,
    "fid": fid.ENTRIES,
    "gaussian": gaussian.ENTRIES,
    "directions": directions.ENTRIES,
    "inside": inside.ENTRIES,
}
"""Entries by instrument, in the order of the gallery."""


@checked
def catalogue() -> dict[str, Entry]:
    """All entries by name, instrument after instrument."""
    return {entry.name: entry for entries in WINGS.values() for entry in entries}


@checked
def find_entry(name: str) -> Entry:
    """The entry of a name.

    Raises
    ------
    InputError
        For a name that there is not, with the nearest.
    """
    entries = catalogue()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
        expected = f"one of those that `scorescope atlas` lists{', such as ' if near else ''}{', '.join(near)}"
        raise InputError("name", found=repr(name), expected=expected)
    return entries[name]
