"""Parts and sections of the guidance report on whole paths: gains, norm clips, and where the paths of two runs part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.paired_runs import parting, separation
from scorescope.analysis.guidance.paths import clip_activity, clip_share, gain_path, momentum_updates
from scorescope.analysis.guidance.run_keys import run_name
from scorescope.data.errors import InputError
from scorescope.probes.guidance import APG, CFG, Interval, Rule
from scorescope.probes.models.model import Model
from scorescope.probes.recording.trace import Trace
from scorescope.reports.guidance import figures, readings
from scorescope.reports.guidance.along_path import along_path
from scorescope.reports.guidance.runs import of_path, of_run, pick
from scorescope.reports.guidance.sections_values import spread
from scorescope.reports.guidance.study import WEIGHT, Study
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

TOLERANCE = 0.01  # RMS distance of two states, in units of sigma, from which they count as apart
CLIPS = (0.05, 0.1, 0.2, 0.5)  # in units of the norm of D_c at the last step with an update
MOMENTA = (-0.5, -0.75)  # the paper's
PAIRS = 64  # paired samples whose states are held
HELD_BYTES = 2**29  # for the states and branches of one rule


def gain_table(rows: pd.DataFrame, *, suffix: str = "") -> ReportTable:
    """Gain of each step and its product along the path."""
    caption = "One row a (rule, weight, step, quantity)."
    return ReportTable(f"gain_path{suffix}", gain_path(rows), caption, shown=False)


def gain_figure(path: pd.DataFrame, runs: Sequence[tuple[str, float]], *, suffix: str = "") -> ReportFigure:
    """That of the runs named by (rule, weight)."""
    how = (
        "A step from σ to σ′ takes over the share 1 − σ′/σ of the prediction, so a gain g acts as 1 + (1 − σ′/σ)(g − "
        "1). The product is what the gains would come to if nothing answered them. First call of each step; bands are "
        "95 % intervals."
    )
    figure, reading = figures.gain_path(path, runs=runs), readings.read_gain_path(path, runs)
    return ReportFigure(f"gain_path{suffix}", figure, reading, how)


def clip_tables(rows: pd.DataFrame, run: tuple[str, float], *, suffix: str = "") -> list[ReportTable]:
    """Shares of steps at which a norm clip r would act along one run, and where, for several r."""
    chosen = of_run(rows[rows["call"] == 0], *run)
    norms = clip_norms(chosen)
    shares = clip_share(chosen, norms=norms)
    activity = _stacked({norm: clip_activity(chosen, norm=norm) for norm in norms}, "norm")
    caption = "Share of its steps at which a sample's update would be clipped."
    return [
        ReportTable(f"clip_share{suffix}", shares, caption),
        ReportTable(f"clip_activity{suffix}", activity, "One row a (r, step, quantity).", shown=False),
    ]


def clip_figure(
    tables: Sequence[ReportTable], steps: pd.DataFrame, run: tuple[str, float], *, suffix: str = ""
) -> ReportFigure:
    """Where those clips would act."""
    shares, activity = (one.table for one in tables)
    ratio = pick(steps, "update_ratio", *run)
    how = (
        f"At the states of {run_name(*run)}: a clip acts where the update's norm exceeds r. r is in units of "
        "the data and grows with the square root of the number of elements; published ones are 4 % to 6 % of ‖D_c‖."
    )
    figure = figures.clip({norm: activity[activity["norm"] == norm] for norm in shares["norm"].tolist()}, ratio)
    return ReportFigure(f"clip{suffix}", figure, readings.read_clip(shares), how)


def clip_norms(rows: pd.DataFrame) -> list[float]:
    """Clips r for one run, from the norm of D_c at the last step of its path that has an update."""
    rows = rows[(rows["call"] == 0) & (rows["update_ratio"] > 0)]
    last = rows[rows["step"] == rows["step"].max()]
    end = float((last["update_norm"] / last["update_ratio"]).median())
    return [float(f"{share * end:.2g}") for share in CLIPS]


def momentum_parts(
    trace: Trace, norms: Sequence[float], path: tuple[str, float, int], *, suffix: str = ""
) -> tuple[str, list[ReportTable]]:
    """What momentum makes of the shares of clipped steps of one rule, weight and scheduler; a sentence and a table, or
    why there is none."""
    try:
        updates = {beta: of_path(momentum_updates(trace, momentum=beta), *path) for beta in MOMENTA}
    except InputError as error:
        return f"The clip with momentum cannot be told: {error}.", []
    table = _stacked({beta: clip_share(rows, norms=norms) for beta, rows in updates.items()}, "momentum")
    about = "Share of its steps at which a sample's update with momentum would be clipped, replayed on the run."
    text = readings.read_momentum(table, norms[len(norms) // 2])
    return text, [ReportTable(f"clip_momentum{suffix}", table, about)]


def separation_section(study: Study) -> Section:
    """Where the paths of other rules part from those of CFG, from the same seeds."""
    rules: dict[str, Rule] = {f"APG, w = {WEIGHT:g}": APG(WEIGHT), "no guidance": CFG(1.0)}
    if not study.interval["missing"].iloc[0]:
        low, high = (float(study.interval[end].iloc[0]) for end in ("low", "high"))
        rules[f"interval, w = {WEIGHT:g}"] = Interval(CFG(WEIGHT), low=low, high=high)
    count = min(study.count, most_pairs(study.model))
    base = study.path(CFG(WEIGHT), count)
    tables = {name: separation(base, study.path(rule, count), tolerance=TOLERANCE) for name, rule in rules.items()}
    section = separation_parts(tables, base=f"CFG at w = {WEIGHT:g}", pairs=count)
    return replace(section, figures=[*section.figures, *_images_along(study, base)])


def _images_along(study: Study, base: Trace) -> list[ReportFigure]:
    """What the branches of a path predict, of samples that are pictures."""
    shape = study.model.shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return []
    value_range = study.model.value_range or spread([run.samples for run in study.runs.values()])
    return [along_path(base, value_range=value_range, name=f"CFG at w = {WEIGHT:g}")]


def separation_parts(tables: Mapping[str, pd.DataFrame], *, base: str, pairs: int, text: str = "") -> Section:
    """What the distances of paired states say, by name of the run that is compared with `base`."""
    ends = _stacked({name: parting(table) for name, table in tables.items()}, "setting")
    how = (
        f"{pairs} pairs of the same seeds; states at the first call of each step, in units of σ; marks: the first step "
        f"whose interval lies above {TOLERANCE:g}. 95 % intervals over pairs, each for its step alone: the "
        "first of several is passed a little early."
    )
    reading, distances = readings.read_parting(ends, tables, base, TOLERANCE), _stacked(tables, "setting")
    shown = [
        ReportTable("parting", ends, "First and last separated step of each pair of rules."),
        ReportTable("separation", distances, "One row a (setting, step).", shown=False),
    ]
    if not (distances["mean"] > 0).any():  # a logarithmic axis has no place for them
        return Section(tables=shown, text=f"{text} {reading}".strip())
    return Section(
        [ReportFigure("separation", figures.separation(tables, tolerance=TOLERANCE), reading, how)], shown, text
    )


def _stacked(tables: Mapping[float, pd.DataFrame] | Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Tables below each other, their names in a column."""
    return pd.concat([table.assign(**{column: name}) for name, table in tables.items()], ignore_index=True)


def most_pairs(model: Model) -> int:
    """How many pairs to hold: four tensors at each of the 35 evaluations of 18 Heun steps, float32."""
    return int(np.clip(HELD_BYTES // (4 * 35 * 4 * int(np.prod(model.shape))), 2, PAIRS))
