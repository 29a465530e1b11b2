"""Every report there is, at --quick size: what `scorescope report` makes without a name."""

from collections.abc import Callable
from pathlib import Path

from scorescope.data.written_files import alone_in
from scorescope.probes.models.model import load_model
from scorescope.reports import directions, fid, gaussian, guidance
from scorescope.reports.cli.endings import this_command
from scorescope.reports.directions import load_subject
from scorescope.reports.page.files import make_folder
from scorescope.reports.page.index import write_index
from scorescope.reports.page.pages import Outcome

# in the order of the index page
REPORTS: dict[str, Callable[[Path], Outcome]] = {
    "guidance": lambda out: guidance.build(out, load_model("digits"), quick=True, command=this_command()),
    "gaussian": lambda out: gaussian.build(out, load_model("digits"), quick=True, command=this_command()),
    "fid": lambda out: fid.build(out, quick=True, command=this_command()),
    "directions": lambda out: directions.build(out, load_subject("shapes"), quick=True, command=this_command()),
}


def make_all(out: Path) -> list[Outcome]:
    """Make every report and the index page of all."""
    outcomes: list[Outcome] = []
    make_folder(out)
    with alone_in(out):
        for name, build in REPORTS.items():
            try:
                outcomes.append(build(out / name))
            finally:
                write_index(out, outcomes)  # after each one, so that a run cut off leaves an index of what it made
    return outcomes
