"""The directions report, its figures and its sentences: where an attribute is readable, where steerable, and when.

    from scorescope.reports.directions import Contrast, Subject, build, figures, load_subject

    build(Path("report"), load_subject("shapes"), command="my study")          # the shipped shapes, or "digits"
    mine = Subject(denoiser, "mine", images, labels, attributes, scorer, sites, [Contrast("size", "small", "large")],
                   conditions=embed, draw_labels=draw)
    build(Path("report"), mine, command="my study")
    build_from_pipeline("report", pipe, read_pairs("pairs.txt"), "my_package.judges:make", command="my study")

    figures.probe_maps(probe_scan(activations, labels).table)                  # a matplotlib Figure
    dose_slider({-6: smaller, 0: same, 6: larger}, steer_curve(...).curve)     # in a notebook, over strengths

`study` says what is asked of which model, `workbench` measures once what several sections need, `sections_*` what is
shown of it, `report` in which order.
"""

from scorescope.reports.directions import figures, readings
from scorescope.reports.directions.dose import dose_slider
from scorescope.reports.directions.judges import load_judge
from scorescope.reports.directions.prompt_report import build_from_pipeline
from scorescope.reports.directions.prompt_subject import PromptSubject, pipeline_subject
from scorescope.reports.directions.report import build
from scorescope.reports.directions.shipped_subjects import digits_subject, load_subject, shapes_subject
from scorescope.reports.directions.study import Contrast, Subject

__all__ = [
    "Contrast",
    "PromptSubject",
    "Subject",
    "build",
    "build_from_pipeline",
    "digits_subject",
    "dose_slider",
    "figures",
    "load_judge",
    "load_subject",
    "pipeline_subject",
    "readings",
    "shapes_subject",
]
