"""What all reports are made of: pages that are written section by section, and one look for all figures.

    from scorescope.reports.page import ReportFigure, ReportTable, ReportWriter, Section, theme

    def norm_section():
        figure, ax = theme.new_figure()
        theme.with_band(ax, table, y="mean", color=theme.PALETTE[0], label="norm")
        return Section([ReportFigure("norms", figure, "A sentence.")], [ReportTable("norms", table)])

    with ReportWriter(Path("report"), name="norms", title="Norms", question="How large?", command="mine") as page:
        page.section("norms", "Norms at each noise level", norm_section)
    page.outcome.status                                     # "complete"; the page is report/index.html

A section that fails is named on the page, and the others stand. `theme` says what a colour means and how large a figure
is; `to_latex` writes a table for a paper; a `Slider` steps through figures in a notebook.
"""

from scorescope.reports.page import theme
from scorescope.reports.page.findings import Finding
from scorescope.reports.page.index import write_index
from scorescope.reports.page.latex import to_latex
from scorescope.reports.page.pages import (
    Outcome,
    ReportFigure,
    ReportTable,
    ReportWriter,
    Section,
    write_report,
)
from scorescope.reports.page.sliders import Slider

__all__ = [
    "Finding",
    "Outcome",
    "ReportFigure",
    "ReportTable",
    "ReportWriter",
    "Section",
    "Slider",
    "theme",
    "to_latex",
    "write_index",
    "write_report",
]
