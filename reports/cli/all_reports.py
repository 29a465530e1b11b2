"""Every report there is, at --quick size: what `scorescope report` makes without a name.

Each is made with one thread, several at once by processes or on a cluster: networks as small as those shipped leave
several threads of one process waiting for each other.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from scorescope.data.threads import threads
from scorescope.data.written_files import alone_in
from scorescope.probes.work.executors import as_they_end
from scorescope.reports.cli.endings import this_command
from scorescope.reports.page.files import make_folder
from scorescope.reports.page.index import write_index
from scorescope.reports.page.pages import Outcome

QUIETLY: dict[str, Any] = {"quick": True, "progress": False}  # bars of several processes would overwrite each other


def _guidance(out: Path) -> Outcome:
    from scorescope.probes.models.model import load_model
    from scorescope.reports import guidance

    return guidance.build(out, load_model("digits"), command=this_command(), **QUIETLY)


def _gaussian(out: Path) -> Outcome:
    from scorescope.probes.models.model import load_model
    from scorescope.reports import gaussian

    return gaussian.build(out, load_model("digits"), command=this_command(), **QUIETLY)


def _fid(out: Path) -> Outcome:
    from scorescope.reports import fid

    return fid.build(out, command=this_command(), **QUIETLY)


def _trajectories(out: Path) -> Outcome:
    from scorescope.probes.models.model import load_model
    from scorescope.reports import trajectories

    return trajectories.build(out, load_model("digits"), command=this_command(), **QUIETLY)


def _inside(out: Path) -> Outcome:
    from scorescope.reports import directions, inside

    return inside.build(out, directions.load_subject("shapes"), command=this_command(), **QUIETLY)


def _directions(out: Path) -> Outcome:
    from scorescope.reports import directions

    return directions.build(out, directions.load_subject("shapes"), command=this_command(), **QUIETLY)


# in the order of the index page; each imports its own instrument alone, in its own process
REPORTS: dict[str, Callable[[Path], Outcome]] = {
    "guidance": _guidance, "gaussian": _gaussian, "fid": _fid, "directions": _directions,
    "trajectories": _trajectories, "inside": _inside,
}  # fmt: skip
# a short one, that there is soon something to look at; then the long ones, that all processes end at about one time
FIRST = ("gaussian", "inside", "directions", "guidance", "trajectories", "fid")


def usual_workers(workers: int | None) -> int:
    """So many processes, by default as many as there are cores, and no more than reports."""
    return workers or min(os.cpu_count() or 1, len(REPORTS))


def make_all(out: Path, executor: Executor) -> list[Outcome]:
    """Make every report and the index page of all, as many at once as there are workers.

    What is finished stands, and is on the index page, when another report fails or the run is cut off.

    Raises
    ------
    Exception
        That of the first report that could not be made at all, when the others have been.
    """
    made: dict[str, Outcome] = {}
    errors: list[BaseException] = []
    make_folder(out)
    out = out.absolute()  # workers may be in other folders
    calls = deque((make, name, out / name, sys.argv) for name in FIRST)
    with alone_in(out), tqdm(desc="reports", total=len(FIRST)) as bar:
        for (_, name, *_), done in as_they_end(executor, calls):
            bar.update()
            if error := done.exception():
                errors.append(error)
                continue
            made[name] = done.result()
            write_index(out, [made[one] for one in REPORTS if one in made])
            bar.write(f"wrote {made[name].path}", file=sys.stderr)
    if errors:
        raise errors[0]
    return [made[name] for name in REPORTS]


def make(name: str, out: Path, words: Sequence[str]) -> Outcome:
    """One of them, with one thread, by the command of these words."""
    sys.argv = list(words)  # for the manifest
    with threads(1):
        return REPORTS[name](out)
