"""The guidance report, its figures and its sentences: what guidance does at every noise level.

    from scorescope.data import read_prompts
    from scorescope.probes import Trace, load_model
    from scorescope.analysis.guidance import decompose, summarise
    from scorescope.reports.guidance import build, build_from_pipeline, build_from_traces, figures, readings

    build(Path("report"), load_model("digits"), command="my study")              # samples, and writes the whole report
    build_from_traces(Path("recorded"), [Path("runs/a")], command="my study")    # of traces that `record` has written
    build_from_pipeline(Path("mine"), pipe, read_prompts("prompts.txt"), command="my study")   # records it first

    steps = summarise(decompose(Trace.open("runs/a")))
    figures.update_parts(steps, rule="cfg", weight=7.5)                          # a matplotlib Figure
    readings.read_update(steps, 7.5, rule="cfg")                                 # the sentence under it
    update_slider(run.trace, value_range=(-1, 1))                                # in a notebook, over noise levels

`study` says what is sampled, `sections_*` what is shown of it, `report` in which order.
"""

from scorescope.reports.guidance import figures, readings
from scorescope.reports.guidance.along_path import update_slider
from scorescope.reports.guidance.report import build, build_from_pipeline, build_from_traces
from scorescope.reports.guidance.study import compared_rules, look_below

__all__ = [
    "build",
    "build_from_pipeline",
    "build_from_traces",
    "compared_rules",
    "figures",
    "look_below",
    "readings",
    "update_slider",
]
