"""What rules do along whole paths, for the guidance report: gains, norm clips, and where two rules part."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.paired_runs import parting, separation
from scorescope.analysis.guidance.paths import clip_activity, clip_share, gain_path, momentum_updates
from scorescope.data.errors import InputError
from scorescope.probes.guidance import APG, CFG, Interval, Rule
from scorescope.probes.models.model import Model
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import sample
from scorescope.reports.guidance import path_figures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.page.run_names import run_name, same_weight

TOLERANCE = 0.01  # RMS distance of two states, in units of sigma, from which they count as apart
CLIPS = (0.05, 0.1, 0.2, 0.5)  # in units of the norm of D_c at the end of the path
MOMENTA = (-0.5, -0.75)  # the paper's
PAIRS = 64  # paired samples whose states are held
HELD_BYTES = 2**29  # for the states and branches of one rule

GAIN_HOW = (
    "A step from σ to σ′ takes over the share 1 − σ′/σ of the prediction, so a gain g acts as 1 + (1 − σ′/σ)(g − 1). "
    "The product is what the gains would come to if nothing answered them. "
)


def gain_parts(
    rows: pd.DataFrame, runs: Sequence[tuple[str, float]], *, suffix: str = ""
) -> tuple[ReportFigure, ReportTable]:
    """Gain of each step and its product along the path, of the runs named by (rule, weight)."""
    path = gain_path(rows)
    ends = path[path["quantity"] == "path_gain"].sort_values("step").groupby(["rule", "weight"], dropna=False).tail(1)
    texts = []
    for rule, weight in runs:
        end = ends[(ends["rule"] == rule) & same_weight(ends["weight"], weight)]
        name = run_name(rule, weight, between=" at ")
        texts += [f"{r['mean']:.3g} ({r['low']:.3g} to {r['high']:.3g}) under {name}" for _, r in end.iterrows()]
    reading = "Along the whole path the gains multiply up to " + ", ".join(texts) + "."
    figure = path_figures.gain_path(path, runs=runs)
    how = GAIN_HOW + "First call of each step; bands are 95 % bootstrap intervals."
    table = ReportTable(f"gain_path{suffix}", path, "One row a (rule, weight, step, quantity).", shown=False)
    return ReportFigure(f"gain_path{suffix}", figure, reading, how), table


def clip_parts(
    rows: pd.DataFrame, steps: pd.DataFrame, run: tuple[str, float], *, suffix: str = ""
) -> tuple[ReportFigure, list[ReportTable]]:
    """Where a norm clip r would act along one run, for several r."""
    chosen = rows[(rows["rule"] == run[0]) & same_weight(rows["weight"], run[1]) & (rows["call"] == 0)]
    norms = clips(chosen)
    activity = {norm: clip_activity(chosen, norm=norm) for norm in norms}
    shares = clip_share(chosen, norms=norms)
    mask = (steps["rule"] == run[0]) & same_weight(steps["weight"], run[1]) & (steps["call"] == 0)
    ratio = steps[mask & (steps["quantity"] == "update_ratio")]
    texts = [
        f"r = {row['norm']:g} ({row['relative_norm']:.0%} of ‖D_c‖) at {row['mean']:.0%} "
        f"({row['low']:.0%} to {row['high']:.0%})"
        for _, row in shares.iterrows()
    ]
    how = (
        f"At the states of {run_name(*run)}: a clip acts where the update's norm exceeds r. r is in units of "
        "the data and grows with the square root of the number of elements; published ones are 4 % to 6 % of ‖D_c‖."
    )
    figure = path_figures.clip(activity, ratio)
    reading = "APG's norm clip would act at this share of the steps of a sample: " + ", ".join(texts) + "."
    table = pd.concat([table.assign(norm=norm) for norm, table in activity.items()], ignore_index=True)
    tables = [
        ReportTable(f"clip_share{suffix}", shares, "Share of its steps at which a sample's update would be clipped."),
        ReportTable(f"clip_activity{suffix}", table, "One row a (r, step, quantity).", shown=False),
    ]
    return ReportFigure(f"clip{suffix}", figure, reading, how), tables


def clips(rows: pd.DataFrame) -> list[float]:
    """Clips r for one run, from the norm of D_c at the end of its path."""
    rows = rows[rows["call"] == 0].dropna(subset=["update_norm"])
    last = rows[rows["step"] == rows["step"].max()]
    end = float((last["update_norm"] / last["update_ratio"]).median())
    return [float(f"{share * end:.2g}") for share in CLIPS]


def momentum_parts(trace: Trace, norms: Sequence[float], *, suffix: str = "") -> tuple[str, list[ReportTable]]:
    """What momentum makes of the shares of clipped steps; a sentence and a table, or why there is none."""
    try:
        tables = {beta: momentum_updates(trace, momentum=beta) for beta in MOMENTA}
    except InputError as error:
        return f"The clip with momentum cannot be told: {error}.", []
    shares = [clip_share(table, norms=norms).assign(momentum=beta) for beta, table in tables.items()]
    table = pd.concat(shares, ignore_index=True)
    middle = norms[len(norms) // 2]
    rows = table[table["norm"] == middle]
    told = ", ".join(
        f"{row['mean']:.0%} ({row['low']:.0%} to {row['high']:.0%}) at β = {row['momentum']:g}"
        for _, row in rows.iterrows()
    )
    about = "Share of its steps at which a sample's update with momentum would be clipped, replayed on the run."
    text = f"With the momentum of earlier steps a clip at r = {middle:g} would act at this share of the steps: {told}."
    return text, [ReportTable(f"clip_momentum{suffix}", table, about)]


def recorded_separation_section(traces: Mapping[str, Trace]) -> Section:
    """Where recorded paths part from that of the first; runs that do not pair with it are named."""
    (base, first), *others = traces.items()
    tables, unpaired = {}, []
    for name, trace in others:
        try:
            tables[name] = separation(first, trace, tolerance=TOLERANCE)
        except InputError as error:
            unpaired.append(f"{name} is not compared with {base}: {error}.")
    text = " ".join(unpaired)
    if not tables:
        return Section(text=text)
    pairs = max(int(table["n"].max()) for table in tables.values())
    return replace(_separation(tables, base=base, pairs=pairs), text=text)


def separation_section(model: Model, interval: pd.DataFrame, *, weight: float, count: int, device: str) -> Section:
    """Where the paths of other rules part from those of CFG, from the same seeds."""
    low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
    rules: dict[str, Rule] = {
        f"APG, w = {weight:g}": APG(weight),
        f"interval, w = {weight:g}": Interval(CFG(weight), low=low, high=high),
        "no guidance": CFG(1.0),
    }
    count = min(count, _pairs(model))
    base = _path(model, CFG(weight), count, device)
    tables = {name: separation(base, _path(model, rule, count, device), tolerance=TOLERANCE)
              for name, rule in rules.items()}  # fmt: skip
    return _separation(tables, base=f"CFG at w = {weight:g}", pairs=count)


def _separation(tables: Mapping[str, pd.DataFrame], *, base: str, pairs: int) -> Section:
    ends = pd.concat([parting(table).assign(setting=name) for name, table in tables.items()], ignore_index=True)
    whole = pd.concat([table.assign(setting=name) for name, table in tables.items()], ignore_index=True)
    how = (
        f"{pairs} pairs of the same seeds; states at the first call of each step, in units of σ; marks: the first step "
        f"whose interval lies above {TOLERANCE:g}. 95 % bootstrap intervals over pairs, each for its step alone: the "
        "first of several is passed a little early."
    )
    reading = _read_parting(ends, tables, base)
    figure = path_figures.separation(tables, tolerance=TOLERANCE)
    return Section(
        [ReportFigure("separation", figure, reading, how)],
        [
            ReportTable("parting", ends, "First and last separated step of each pair of rules."),
            ReportTable("separation", whole, "One row a (setting, step).", shown=False),
        ],
    )


def _read_parting(ends: pd.DataFrame, tables: Mapping[str, pd.DataFrame], base: str) -> str:
    texts = []
    for name, table in tables.items():
        rows = ends[ends["setting"] == name].set_index("which")
        if rows.empty:
            texts.append(f"{name} does not by more than {TOLERANCE:g} σ")
            continue
        first, most = rows.loc["first"], table.sort_values("mean").iloc[-1]
        texts.append(
            f"{name} by step {first['step']:d} (σ = {first['sigma']:.3g}), at most {most['mean']:.3g} σ "
            f"({most['low']:.3g} to {most['high']:.3g}), at step {most['step']:.0f} (σ = {most['sigma']:.2g})"
        )
    return f"From the path of {base} the others part: " + "; ".join(texts) + "."


def _path(model: Model, rule: Rule, count: int, device: str) -> Trace:
    trace = sample(
        model.denoiser, seeds=range(count), condition=model.conditions(count), shape=model.shape, rule=rule,
        record=Recording(keep=True), device=device, progress=False,
    ).trace  # fmt: skip
    assert trace is not None  # it was asked for
    return trace


def _pairs(model: Model) -> int:
    """How many pairs to hold: four tensors at each of the 35 evaluations of 18 Heun steps, float32."""
    return int(np.clip(HELD_BYTES // (4 * 35 * 4 * int(np.prod(model.shape))), 2, PAIRS))
