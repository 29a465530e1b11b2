"""Sections of the guidance report on the update at each noise level: its parts, and what they do to the prediction."""

import pandas as pd

from scorescope.analysis.guidance.decomposition import DECOMPOSITION
from scorescope.reports.guidance import figures, findings, readings
from scorescope.reports.guidance.peaks import any_update, why_none
from scorescope.reports.guidance.sections_paths import clip_figure, clip_tables, gain_figure, gain_table
from scorescope.reports.guidance.study import WEIGHT, WEIGHTS, Study
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

HOW = "First call of each step; bands are 95 % intervals of the mean over samples. "


def update_section(study: Study) -> Section:
    """The update, its two parts, and how far the branches point apart."""
    steps = study.steps
    text = (
        "The update is the difference of the conditional and the unconditional denoised prediction, D_c − D_u. Its "
        "part along D_c only scales the prediction; the rest changes what is in it."
    )
    if not any_update(steps, "CFG", WEIGHT):
        return Section(text=f"{text} {no_update(steps)}")
    parts, cosine = update_figures(steps, "CFG", WEIGHT)
    share = ReportFigure(
        "parallel_share",
        figures.parallel_share(steps, study.centred, weights=WEIGHTS, centred_weight=WEIGHT),
        readings.read_share(steps, study.centred, WEIGHT),
        HOW + "1/N: a random direction in N dimensions. Mean removed: without the brightness offset.",
    )
    found = findings.rescaling(steps, "CFG", WEIGHT, figure="parallel_share")
    return Section(text=text, figures=[parts, share, cosine], findings=found)


def no_update(steps: pd.DataFrame) -> str:
    """That there is no update to show, and why."""
    return f"No update is known at any step: {why_none(steps)}."


def update_figures(steps: pd.DataFrame, rule: str, weight: float, *, suffix: str = "") -> list[ReportFigure]:
    """Parts of the update of one run, and how far its branches point apart."""
    return [
        ReportFigure(
            f"update_parts{suffix}", figures.update_parts(steps, rule=rule, weight=weight),
            readings.read_update(steps, weight, rule=rule),
            HOW + "Dotted: the norm that rounding to the dtype gives by itself.",
        ),
        ReportFigure(
            f"branch_cosine{suffix}", figures.branch_cosine(steps, rule=rule, weight=weight),
            readings.read_cosine(steps, weight, rule=rule),
            HOW + "The curves depend on the space: a threshold taken in one is another in the other.",
        ),
    ]  # fmt: skip


def gain_section(study: Study) -> Section:
    """The parallel part as a gain: of a step, along the path, and where a norm clip would limit it."""
    text = (
        "Along D_c a rule acts as a gain: CFG multiplies D_c by 1 + (w − 1) a, with a the coefficient of the update "
        "along D_c; APG, here with eta = 0, no norm clip and no momentum, removes that part."
    )
    if not any_update(study.steps, "CFG", WEIGHT):
        return Section(text=f"{text} {no_update(study.steps)}")
    strongest = max(WEIGHTS)
    path, clips = gain_table(study.rows), clip_tables(study.rows, ("CFG", WEIGHT))
    along = gain_figure(path.table, [("CFG", w) for w in WEIGHTS if w != 1] + [("APG", strongest)])
    clip = clip_figure(clips, study.steps, ("CFG", WEIGHT))
    gain = ReportFigure(
        "applied_gain", figures.applied_gain(study.steps, weights=WEIGHTS),
        readings.read_gain(study.steps, strongest), HOW + "Measured on the guided prediction.",
    )  # fmt: skip
    return Section(text=text, figures=[gain, along, clip], tables=[path, *clips])


def tables_section(study: Study) -> Section:
    """The tables behind the figures."""
    steps = "One row a (rule, weight, step, call, quantity), with intervals."
    return Section(
        tables=[
            ReportTable("decomposition", study.rows, "One row a (rule, weight, sample, step, call).", shown=False),
            ReportTable("steps", study.steps, steps, shown=False),
            ReportTable("steps_centred", study.centred, "The same with channel means removed.", shown=False),
            ReportTable("columns", DECOMPOSITION.describe(), "Columns of the decomposition."),
        ]
    )
