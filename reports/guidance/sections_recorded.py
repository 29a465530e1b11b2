"""Sections of the guidance report on several recorded traces: side by side, replayed, their images, where they part."""

import math
from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from scorescope.analysis.guidance.decomposition import DECOMPOSITION
from scorescope.analysis.guidance.images import image_table
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import figures, findings
from scorescope.reports.guidance.figures_pipeline import GAIN, image_statistic
from scorescope.reports.guidance.pipeline_study import RANGE
from scorescope.reports.guidance.readings_pipeline import read_statistic
from scorescope.reports.guidance.readings_traces import read_gains, read_peaks, read_replayed
from scorescope.reports.guidance.runs import of_path
from scorescope.reports.guidance.sections_paths import TOLERANCE, separation_parts
from scorescope.reports.guidance.sections_pipeline import PICTURES, STATISTICS, smaller
from scorescope.reports.guidance.sections_traces import trace_section
from scorescope.reports.guidance.sections_update import HOW
from scorescope.reports.guidance.trace_study import MOST, TraceStudy
from scorescope.reports.page.findings import Finding
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section


def overview_section(study: TraceStudy) -> Section:
    """One row a line of the figures: whose it is, by which rule, from how many samples, and what was kept."""
    rows = []
    for line, (name, (rule, weight, stream)) in study.lines.items():
        trace, table = study.traces[name], of_path(study.rows[name], *study.lines[line][1])
        prompts = list(dict.fromkeys(str(text) for text in trace.samples["condition"] if text is not None))
        rows.append(
            {
                "trace": line, "status": trace.status, "rule": rule, "weight": weight,
                "scheduler": _scheduler(trace, stream), "steps": int(table["step"].nunique()),
                "samples": int(table.groupby("run")["sample"].nunique().sum()), "runs": int(table["run"].nunique()),
                "prompts": "; ".join(prompts[:2]) + (" ..." if len(prompts) > 2 else ""),
                "arrays": ", ".join(trace.manifest["recording"].get("arrays", [])) or "none",
                "problems": "; ".join(trace.problems), "folder": str(study.folders[name]),
            }
        )  # fmt: skip
    drawn = f" The first {MOST} with an update are drawn." if len(study.guided) == MOST else ""
    without = [f"{line} has no update: {study.why_not(line)}." for line in study.lines if line not in study.guided]
    text = f"A line of the figures is the mean over runs of one rule, weight and scheduler of one trace.{drawn}"
    return Section(
        text=" ".join([text, *(without if len(study.guided) < MOST else ())]),
        tables=[ReportTable("traces", pd.DataFrame(rows), "One row a line of the figures.")],
    )


def together_section(study: TraceStudy) -> Section:
    """The update of all traces in the same axes: its size, its parts, its parallel share, where the branches part."""
    steps = study.steps[study.steps["line"].isin(study.guided)]
    share = read_peaks(steps, "parallel_share", "the parallel share is", against="chance_share")
    drawn = figures.quantity_by_line
    found = [one for line in study.guided for one in _rescaling(study, line)]
    return Section(
        text="The update is the difference of the conditional and the unconditional denoised prediction, D_c − D_u.",
        figures=[
            ReportFigure(
                "update_norms", drawn(steps, "update_norm", label="norm of the update (units of data)", yscale="log",
                floor="norm_floor", against="rounding alone"),
                read_peaks(steps, "update_norm", "the update is"), HOW,
            ),
            ReportFigure(
                "parallel_share", drawn(steps, "parallel_share", label="parallel share of the update's energy",
                floor="chance_share", against="chance, 1/N"), share, HOW + "1/N: a random direction in N "
                "dimensions.",
            ),
            ReportFigure(
                "update_parts", figures.parts_by_line(steps),
                read_peaks(steps, "orthogonal_norm", "the orthogonal part is"), HOW, wide=True,
            ),
            ReportFigure(
                "branch_cosine", drawn(steps, "one_minus_cos_denoised", label="1 − cosine of cond and uncond",
                yscale="log", floor="cos_floor", against="rounding alone"),
                read_peaks(steps, "one_minus_cos_denoised", "1 − cosine of the branches, in denoised space, is"), HOW,
            ),
            ReportFigure(
                "applied_gain", drawn(steps, "applied_gain", label=GAIN, reference=1.0,
                against="no gain"), read_gains(steps), HOW + "Measured on the guided prediction.",
            ),
        ],
        findings=found,
    )  # fmt: skip


def own_section(study: TraceStudy) -> Section:
    """The update of the only trace, its gains and clips, and the columns of its decomposition."""
    ((name, trace),) = study.traces.items()
    own = trace_section(trace, study.rows[name], "0")
    columns = ReportTable("columns", DECOMPOSITION.describe(), "Columns of the decomposition.", shown=False)
    return replace(own, tables=[*own.tables, columns])


def replayed_section(study: TraceStudy) -> Section:
    """What APG, and the interval that an unguided trace suggests, would have done at the same states."""
    table, missing = study.replayed
    if table.empty:
        return Section(text=" ".join(f"{name} is not replayed: {why}." for name, why in missing.items()))
    by = ["trace", "setting", "step", "sigma"]
    steps = summarise_by(table, by=by, quantities=["relative"])
    steps["low"] = steps["low"].clip(lower=0)  # no distance lies below
    how = (
        "At the states that each run visited, at its own weight; one step each, no rollout. First call of each step; "
        "bands are 95 % intervals over samples."
    )
    text = "" if study.interval else "No interval is replayed: no trace is unguided (w = 1) and tells where to guide."
    reading = read_replayed(steps, missing)
    return Section(
        text=text,
        figures=[ReportFigure("replayed", figures.replayed_by_trace(steps), reading, how)],
        tables=[ReportTable("replayed", steps, "One row a (trace, rule, step).", shown=False)],
    )


def pictures_section(study: TraceStudy) -> Section:
    """The images that were made, and their values, of the traces whose images are known; see `TraceStudy.pictures`."""
    sets, without = {}, []
    for name in study.traces:
        try:
            made = study.pictures(name)
        except InputError as error:
            without.append(f"No pictures of {name}: found {error.found}; expected {error.expected}.")
            continue
        if made.ndim == 4 and made.shape[1] in (1, 3):
            sets[name, math.nan] = made
        else:
            without.append(f"No pictures of {name}: its samples are of shape {tuple(made.shape[1:])}.")
    text = " ".join(without)
    if not sets:
        return Section(text=text)
    shown = {key: smaller(images) for key, images in sets.items()}
    columns = min(PICTURES, min(map(len, sets.values())))
    grid = figures.sample_grid(shown, columns=columns, value_range=RANGE)
    tables = [image_table(images, RANGE, rule=name, weight=math.nan) for (name, _), images in sets.items()]
    images = summarise_by(pd.concat(tables, ignore_index=True), by=["rule", "weight"])
    how = f"The first {columns} images of each trace, clipped to the range."
    drawn = [ReportFigure("pictures", grid, f"Images of {', '.join(name for name, _ in sets)}.", how, wide=True)]
    for quantity in ("contrast", "overshoot_share"):
        label = STATISTICS[quantity]
        figure = image_statistic(images, quantity, label=label)
        drawn.append(ReportFigure(quantity, figure, read_statistic(images, quantity, label), "95 % intervals."))
    caption = "One row a (trace, statistic of its images): `rule` is the trace."
    return Section(text=text, figures=drawn, tables=[ReportTable("images", images, caption)])


def parting_section(study: TraceStudy) -> Section:
    """Where recorded paths part from that of the first; what does not pair with it is named."""
    (base, first), *others = study.traces.items()
    tables, missing = {}, []
    for name, trace in others:
        try:
            tables[name] = separation(first, trace, tolerance=TOLERANCE)
        except InputError as error:
            missing.append(f"{name} is not compared with {base}: {error}.")
    if not tables:
        return Section(text=" ".join(missing))
    pairs = max(int(table["n"].max()) for table in tables.values())
    return separation_parts(tables, base=base, pairs=pairs, text=" ".join(missing))


def details_section(study: TraceStudy) -> Section:
    """The tables of every trace: its decomposition, gains, and the steps at which a norm clip would act."""
    parts = [
        trace_section(trace, study.rows[name], str(place), drawn=False)
        for place, (name, trace) in enumerate(study.traces.items())
    ]
    named = [f"{name}: {part.text}" for name, part in zip(study.traces, parts, strict=True)]
    columns = ReportTable("columns", DECOMPOSITION.describe(), "Columns of the decomposition.")
    return Section(text=" ".join(named), tables=[*(table for part in parts for table in part.tables), columns])


def recorded_sections(study: TraceStudy) -> list[tuple[str, str, Callable[[TraceStudy], Section]]]:
    """Name, heading and maker of every section of the page: of one trace its own, of several all side by side."""
    if not study.traces:
        return []
    first = ("traces", "The traces", overview_section)
    common = [
        ("replayed", "Other rules at the same states", replayed_section),
        ("pictures", "Images", pictures_section),
    ]
    if len(study.traces) == 1:
        return [first, ("update", "The update at each noise level", own_section), *common]
    update = [("update", "The update, side by side", together_section)] if study.guided else []
    last = [("separation", "Where the paths part", parting_section), ("tables", "Tables", details_section)]
    return [first, *update, *common, *last]


def _rescaling(study: TraceStudy, line: str) -> list[Finding]:
    _, (rule, weight, _stream) = study.lines[line]
    rows = study.steps[study.steps["line"] == line]
    return findings.rescaling(rows, rule, weight, figure="parallel_share", whose=line)


def _scheduler(trace: Trace, stream: int) -> str:
    """Class of a scheduler, or what else steps."""
    listed = [str(one.get("class", "")) for one in trace.manifest.get("schedulers", {}).values()]
    return listed[stream] if stream < len(listed) else ""
