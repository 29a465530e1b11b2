"""Sections of the guidance report on a pipeline: what it is, other rules at its states, what its images are like."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.images import image_table, value_density
from scorescope.analysis.guidance.information import guidance_information, suggest_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import figures, findings, readings, readings_pipeline
from scorescope.reports.guidance.figures_pipeline import image_statistic, replayed_rules, set_densities
from scorescope.reports.guidance.pipeline_study import RANGE, PipelineStudy
from scorescope.reports.guidance.sections_traces import trace_section
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

PICTURES = 8  # of one setting that are shown
SIDE = 160  # pixels of a picture on the page
GRID = np.linspace(-1.6, 1.6, 321)
STATISTICS = {
    "saturation": "mean HSV saturation of an image",
    "overshoot_share": "share of elements outside [-1, 1]",
    "contrast": "contrast: std within an image",
}


def pipeline_section(study: PipelineStudy) -> Section:
    """What a run of two steps shows, what is made here and what it takes, and which sections there are not."""
    found = study.described
    sizes = found.memory.rename(columns={"bytes": "bytes a step and sample"})
    text = f"A {found.pipeline}: {study.cost()}. " + " ".join(absent(study))
    said = "; ".join(found.problems)
    return Section(
        text=text + (f" Problems: {said}." if said else ""),
        tables=[
            ReportTable("denoisers", found.denoisers, "Networks whose calls are recorded."),
            ReportTable("schedulers", found.schedulers, "Schedulers; noise levels of a run of two steps."),
            ReportTable("branches", found.branches, "Branches as two steps prove them."),
            ReportTable("sites", found.sites, "Blocks by the name that sites= takes, and which output is the image."),
            ReportTable("memory", sizes, "What keep= takes."),
        ],
    )


def absent(study: PipelineStudy) -> list[str]:
    """What this report has not, of what has no place of its own on the page."""
    told = []
    if not study.guided:
        told.append(f"The update, its gains and replayed rules are missing: {study.why_not}.")
    if not study.settings_asked:
        told.append("Rules are not sampled: name them, and weights, to compare images (--rules, --weights).")
    told.append("Frechet distances and class agreement are missing: a pipeline brings no real images and no judge.")
    return told


def why_not_replayed(study: PipelineStudy) -> str:
    """Why other rules are not replayed, of a run whose update is known; empty where they are."""
    if study.keep == "scalars":
        return "no arrays were kept"
    return "the pipeline's own guidance has not one weight that is known" if math.isnan(study.weight) else ""


def unguided_run(study: PipelineStudy) -> Trace | None:
    """The trace of the run at w = 1, if there is one."""
    traces = {setting.name: setting.run.trace for setting in study.swept}
    return traces.get("cfg, w = 1")


def own_section(study: PipelineStudy) -> Section:
    """The update along the pipeline's own runs, its gains and clips."""
    return trace_section(study.recorded.trace, study.rows, "")


def replayed_section(study: PipelineStudy) -> Section:
    """What other rules of the same weight would have predicted at the recorded states."""
    steps = study.replayed_steps
    how = (
        f"At the states that the pipeline visited, every rule at its own w = {study.weight:g}; one step each, no "
        "rollout. First call of each step; bands are 95 % intervals over samples."
    )
    figure = replayed_rules(steps)
    return Section(
        figures=[ReportFigure("replayed", figure, readings_pipeline.read_replayed(steps), how)],
        tables=[ReportTable("replayed", steps, "One row a (setting, step, call, quantity).", shown=False)],
    )


def information_section(study: PipelineStudy) -> Section:
    """Where along the noise axis the condition tells something, along the unguided run."""
    trace = unguided_run(study)
    assert trace is not None  # else there is no such section
    curve, interval = guidance_information(trace), suggest_interval(trace)
    how = (
        "E|D_c − D_u|² / σ² along the unguided run: what the prompt is worth there, in nats per halving of σ. "
        "Intervals are those of drawing samples only, not of the steps."
    )
    figure, reading = figures.information(curve, interval), readings.read_information(curve, interval)
    return Section(
        [ReportFigure("information", figure, reading, how)],
        [
            ReportTable("suggested_interval", interval, "Noise levels that hold the central share of the information."),
            ReportTable("information", curve, "One row a noise level.", shown=False),
        ],
        findings=findings.where_to_guide(curve, interval, decompose(trace)),
    )


def images_section(study: PipelineStudy) -> Section:
    """Values, overshoot, saturation and contrast of the images of every setting, and the images themselves."""
    if not study.sets:
        return Section(text="The calls made images of several shapes, or none that is finite: none are compared.")
    tables = [image_table(images, RANGE, rule=rule, weight=weight) for (rule, weight), images in study.sets.items()]
    images = summarise_by(pd.concat(tables, ignore_index=True), by=["rule", "weight"])
    density = pd.concat(
        [value_density(one, rule=rule, weight=weight, grid=GRID) for (rule, weight), one in study.sets.items()],
        ignore_index=True,
    )
    where = (
        "results, which the pipeline clips" if study.recorded.clipped else "what the decoder puts out, before clipping"
    )
    figure, reading = set_densities(density, RANGE), readings_pipeline.read_values(images)
    shown = [ReportFigure("values", figure, reading, f"Of {where}; dotted: the range.")]
    for quantity, label in STATISTICS.items():
        if images.loc[images["quantity"] == quantity, "mean"].notna().any():
            drawn = image_statistic(images, quantity, label=label)
            how = "Mean over images, 95 % intervals; the same seeds and prompts in every setting."
            shown.append(ReportFigure(quantity, drawn, readings_pipeline.read_statistic(images, quantity, label), how))
    pictures, text = _pictures(study)
    if study.not_finite:
        text = f"{study.not_finite} images with values that are not finite are left out. {text}".rstrip()
    return Section(
        text=text,
        figures=[*shown, *pictures],
        tables=[
            ReportTable("images", images, "One row a (setting, statistic of its images), with intervals."),
            ReportTable("value_density", density, "Densities as drawn.", shown=False),
        ],
        findings=[
            one
            for quantity, label in STATISTICS.items()
            for one in findings.between_settings(images, quantity, label, figure=quantity)
        ],
    )


def _pictures(study: PipelineStudy) -> tuple[list[ReportFigure], str]:
    """The first images of every setting, or why none are shown."""
    first = next(iter(study.sets.values()))
    frames = {key: _picture(images) for key, images in study.sets.items()}
    if any(one is None for one in frames.values()):
        return (
            [],
            f"Samples of shape {tuple(first.shape[1:])} are no pictures of one or three channels: none are shown.",
        )
    shown = {key: images for key, images in frames.items() if images is not None}
    columns = min(PICTURES, min(len(images) for images in shown.values()))
    grid = figures.sample_grid(shown, columns=columns, value_range=RANGE)
    how = f"The first {columns} calls, a column each, clipped to the range" + (
        "; of a video its middle frame." if first.ndim == 5 else "."
    )
    prompts = [call.get("prompt") for call in study.calls[:columns]]
    reading = "Prompts, from the left: " + "; ".join(map(str, prompts)) + "." if any(prompts) else "The images."
    return [ReportFigure("pictures", grid, reading, how, wide=True)], ""


def _picture(images: Tensor) -> Tensor | None:
    """Pictures of at most `SIDE` pixels; None for what is none."""
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    return smaller(images) if images.ndim == 4 and images.shape[1] in (1, 3) else None


def smaller(images: Tensor) -> Tensor:
    """Images, (n, channel, y, x), of at most `SIDE` pixels a side."""
    factor = SIDE / max(images.shape[2:])
    return images if factor >= 1 else torch.nn.functional.interpolate(images, scale_factor=factor, mode="area")


def sections(study: PipelineStudy) -> Sequence[tuple[str, str, Callable[[PipelineStudy], Section] | str]]:
    """Name, heading and maker of every section, or why there is none."""
    why = why_not_replayed(study) if study.guided else study.why_not
    untold = "Where the condition tells is missing: it needs an unguided run (--rules cfg --weights 1)."
    return [
        ("update", "The update along its own runs", own_section),
        (
            "replayed", "Other rules at the same states",
            f"Replayed rules are missing: {why}." if why else replayed_section,
        ),
        (
            "information", "Where the condition tells",
            untold if unguided_run(study) is None else information_section,
        ),
        ("images", "What the images are like", images_section),
    ]  # fmt: skip
