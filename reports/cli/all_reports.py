"""Every report there is, at --quick size: what `scorescope report` makes without a name.

Each is made in a process of its own, with one thread: networks as small as those shipped leave several threads of one
process waiting for each other.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from scorescope.data.threads import threads
from scorescope.data.written_files import alone_in
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


def make_all(out: Path, *, workers: int | None = None) -> list[Outcome]:
    """Make every report and the index page of all, by default as many at once as there are cores.

    What is finished stands, and is on the index page, when another report fails or the run is cut off.

    Raises
    ------
    Exception
        That of the first report that could not be made at all, when the others have been.
    """
    made: dict[str, Outcome] = {}
    errors: list[BaseException] = []
    make_folder(out)
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that it does not copy
    workers = workers or min(os.cpu_count() or 1, len(REPORTS))
    waiting, running = list(FIRST), dict[Future[Outcome], str]()
    with alone_in(out), ProcessPoolExecutor(workers, context) as pool, tqdm(desc="reports", total=len(FIRST)) as bar:
        while waiting or running:
            while waiting and len(running) < workers:  # none in the pool's own queue: it would begin after Ctrl-C
                name = waiting.pop(0)
                running[pool.submit(make, name, out / name)] = name
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(done)
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


def make(name: str, out: Path) -> Outcome:
    """One of them, with one thread."""
    with threads(1):
        return REPORTS[name](out)
