"""Figures, report pages and the command line: one wing an instrument, and `page`, of which all of them are made.

    from scorescope.probes import load_model
    from scorescope.reports import guidance, page, theme, to_latex

    outcome = guidance.build(Path("report/guidance"), load_model("digits"), command="my study")
    figure = guidance.figures.update_parts(steps, rule="CFG", weight=4.0, style="paper-single")
    theme.save(figure, "update.pdf")                                     # 3.3 inches wide, its fonts in it
    to_latex(steps)                                                      # with booktabs, values with intervals
    page.write_index(Path("report"), [outcome])                          # report/index.html links to all

Every instrument has the same files: `report` builds, `study` says what is measured, `sections_*` what is shown of it,
`figures` draws tables, and `readings` says in a sentence what they show.
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face

if TYPE_CHECKING:
    from scorescope.reports import (
        atlas,
        attention,
        changes,
        cli,
        directions,
        entries,
        fid,
        gaussian,
        guidance,
        inside,
        page,
        studies,
        trajectories,
    )
    from scorescope.reports.page import theme, to_latex
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = [
    "atlas", "attention", "changes", "cli", "directions", "entries", "fid", "gaussian", "guidance", "inside", "page",
    "studies", "theme", "to_latex", "trajectories",
]  # fmt: skip
