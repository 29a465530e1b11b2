"""Section of the directions report on a pipeline: what its labelled images are, and whether the judge can judge."""

from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.prompt_subject import PromptSubject
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

SHOWN = 10  # pairs of images an attribute


def prompt_section(bench: Workbench) -> Section:
    """Images of both ends of every pair, and how often the judge scores one above the other."""
    subject = bench.subject
    assert isinstance(subject, PromptSubject)  # asked for by the report
    rows, shown = {}, {}
    for contrast in bench.contrasts:
        images, high = subject.rows(contrast)
        for end, name in enumerate((contrast.low, contrast.high)):
            shown[f"{contrast.attribute}: {name}"] = images[high == end][:SHOWN]
    for name, places in shown.items():
        rows[name] = subject.pictures(subject.images[places.to(subject.images.device)])
    columns = [""] * min(map(len, rows.values()))
    return Section(
        figures=[
            ReportFigure(
                "prompt_images", figures.picture_rows(rows, columns), readings.read_judge(subject.judged),
                "Images of the pipeline, decoded; the two of a column began with the same noise. Prompts: "
                f"{'; '.join(map(str, subject.prompts))}. Intervals are exact, over pairs of images.", wide=True,
            )
        ],
        tables=[
            ReportTable(
                "judge", subject.judged, "Pairs of images in which the judge scores the high end above the low end."
            )
        ],
        text=" ".join([*subject.doubts, subject.about]),
        findings=findings.told_apart(subject.judged),
    )  # fmt: skip
