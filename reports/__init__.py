"""Figures, report pages and the command line: one wing an instrument, and `page`, of which all of them are made.

    from scorescope.probes import load_model
    from scorescope.reports import guidance, page

    outcome = guidance.build(Path("report/guidance"), load_model("digits"), command="my study")
    guidance.figures.update_parts(steps, rule="CFG", weight=4.0)         # a matplotlib Figure, to save or to change
    page.write_index(Path("report"), [outcome])                          # report/index.html links to all

Every instrument has the same files: `report` builds, `study` says what is measured, `sections_*` what is shown of it,
`figures` draws tables, and `readings` says in a sentence what they show.
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face

if TYPE_CHECKING:
    from scorescope.reports import changes, cli, directions, fid, gaussian, guidance, page, studies
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = ["changes", "cli", "directions", "fid", "gaussian", "guidance", "page", "studies"]
