"""The guidance report: what guidance did at every noise level.

    outcome = build(Path("report/guidance"), load_model("digits"), command="...")

Records CFG and APG at several weights from the same seeds, then makes tables, figures and a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm import tqdm

from scorescope.analysis.guidance import DECOMPOSITION, decompose, decompose_centred, summarise
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.information import suggest_interval
from scorescope.analysis.quality import class_agreement
from scorescope.analysis.summaries import summarise_by
from scorescope.data.errors import InputError
from scorescope.probes.guidance import APG, CFG, Rule
from scorescope.probes.models import Model
from scorescope.probes.sampling import Run, sample
from scorescope.probes.sweep import Setting
from scorescope.probes.trace import Recording
from scorescope.reports import figures, readings
from scorescope.reports import guidance_lab as lab
from scorescope.reports.page import Outcome, ReportFigure, ReportTable, ReportWriter, Section

WEIGHTS = (1.0, 2.0, 4.0, 8.0)
FULL, QUICK = 256, 96
SHOWN = 4.0  # the weight of figures that show one run
SEED = 0
HOW = "First call of each step; bands are 95 % bootstrap intervals of the mean over samples. "

Runs = dict[tuple[str, float], Run]


def build(
    out: Path,
    model: Model,
    *,
    command: str,
    quick: bool = False,
    count: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Record, analyse and write the guidance report.

    Parameters
    ----------
    out : Path
        Folder of the report.
    model : Model
        What to sample from.
    command : str
        What the manifest says made it.
    quick : bool
        96 samples a setting in place of 256: wider intervals, nothing else changed.
    count : int, optional
        Samples a setting, in place of both.
    device : str
        Where to sample.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.
    """
    count = count or (QUICK if quick else FULL)
    manifest = {
        "model": model.name,
        "model_source": model.source,
        "device": device,
        "samples_per_setting": count,
        "seeds": f"{SEED} to {SEED + count - 1}",
        "weights": list(WEIGHTS),
        "rules": ["CFG", "APG with eta = 0, no norm clip, no momentum"],
        "sampler": "Heun, 18 steps on the EDM grid from sigma 80 to 0.002",
    }
    title, question = f"Guidance: {model.name}", "What does the guidance update do at each noise level?"
    with ReportWriter(
        out, name="guidance", title=title, question=question, command=command, manifest=manifest
    ) as writer:
        base = {f"{kind.__name__}, w = {w:g}": kind(w) for kind in (CFG, APG) for w in WEIGHTS}
        settings = _record(writer, model, base, count, device, progress)
        if not settings:
            cause = next(iter(writer.failures.values()))
            raise InputError("model", found=f"no setting that could be sampled ({cause})", expected="at least one")
        runs = {(type(setting.rule).__name__, setting.rule.weight): setting.run for setting in settings}
        tables = _tables(runs)
        writer.section("update", "The update at each noise level", lambda: _update(tables))
        writer.section("saturation", "The parallel part as a gain", lambda: _gain(tables))
        writer.section("values", "Values and range of the samples", lambda: _values(runs, model))
        writer.section("samples", "The same seeds under every rule", lambda: _samples(runs, model))
        _laboratory(writer, model, settings, count, device, progress)
        writer.section("tables", "Tables", lambda: _files(tables))
    assert writer.outcome is not None  # set on leaving the block
    return writer.outcome


@dataclass(frozen=True)
class _Tables:
    rows: pd.DataFrame
    steps: pd.DataFrame
    centred: pd.DataFrame


def _record(
    writer: ReportWriter, model: Model, rules: Mapping[str, Rule], count: int, device: str, progress: bool
) -> list[Setting]:
    """Sample every setting; one that fails is noted, and the others go on."""
    settings: list[Setting] = []
    edges = lab.BAND_EDGES if len(model.shape) == 3 else ()
    recording = Recording(value_range=model.value_range, all_branches=True, centred=True, band_edges=edges)
    for name, rule in tqdm(rules.items(), desc="recording guidance", disable=not progress):
        try:
            run = sample(
                model.denoiser, seeds=range(SEED, SEED + count), condition=model.conditions(count), shape=model.shape,
                rule=rule, record=recording, device=device, progress=False,
            )  # fmt: skip
        except Exception as error:
            writer.fail(name, error)
            continue
        settings.append(Setting(name, rule, run))
    return settings


def _laboratory(
    writer: ReportWriter, model: Model, settings: list[Setting], count: int, device: str, progress: bool
) -> None:
    """The information curve, and the rules that it leads to compared with CFG and APG."""
    unguided = next((s.run.trace for s in settings if s.name == "CFG, w = 1"), None)
    if unguided is None:
        writer.fail("the comparison of rules", InputError("settings", found="no unguided run", expected="one at w = 1"))
        return
    interval = suggest_interval(unguided)
    writer.section("information", "Where the condition tells", lambda: lab.information_section(unguided, interval))
    settings = settings + _record(writer, model, lab.lab_rules(model, interval), count, device, progress)
    condition = model.conditions(count)
    labels = condition if isinstance(condition, Tensor) and condition.ndim == 1 else None
    rows = lab.metrics_of(settings, model, labels)
    writer.section("rules", "The rules compared", lambda: lab.comparison_section(settings, rows, model, labels))
    writer.section("effects", "Known effects, tested", lambda: lab.effects_section(settings, rows))


def _tables(runs: Runs) -> _Tables:
    traces = [run.trace for run in runs.values() if run.trace is not None]
    rows = pd.concat([decompose(trace) for trace in traces], ignore_index=True)
    centred = pd.concat([decompose_centred(trace) for trace in traces], ignore_index=True)
    by = ["rule", "weight", "step", "call", "sigma"]
    return _Tables(rows, summarise(rows), summarise_by(centred, by=by))


def _update(tables: _Tables) -> Section:
    steps = tables.steps
    return Section(
        text="The update is the difference of the conditional and the unconditional denoised prediction, D_c − D_u. "
        "Its part along D_c only scales the prediction; the rest changes what is in it.",
        figures=[
            ReportFigure(
                "update_parts",
                figures.update_parts(steps, rule="CFG", weight=SHOWN),
                readings.read_update(steps, SHOWN),
                HOW + "Dotted: the norm that rounding to the dtype gives by itself.",
            ),
            ReportFigure(
                "parallel_share",
                figures.parallel_share(steps, tables.centred, weights=WEIGHTS, centred_weight=SHOWN),
                readings.read_share(steps, tables.centred, SHOWN),
                HOW + "1/N: a random direction in N dimensions. Mean removed: without the brightness offset.",
            ),
            ReportFigure(
                "branch_cosine",
                figures.branch_cosine(steps, rule="CFG", weight=SHOWN),
                readings.read_cosine(steps, SHOWN),
                HOW + "The curves depend on the space: a threshold taken in one means nothing in the other.",
            ),
        ],
    )


def _gain(tables: _Tables) -> Section:
    return Section(
        text="Along D_c a rule acts as a gain: CFG multiplies D_c by 1 + (w − 1) a, with a the coefficient of the "
        "update along D_c; APG, here with eta = 0, no norm clip and no momentum, removes that part.",
        figures=[
            ReportFigure(
                "applied_gain",
                figures.applied_gain(tables.steps, weights=WEIGHTS),
                readings.read_gain(tables.steps, max(WEIGHTS)),
                HOW + "Measured on the guided prediction.",
            )
        ],
    )


def _values(runs: Runs, model: Model) -> Section:
    real = None if model.digits is None else model.digits.train.images
    tables = [image_table(run.samples, model.value_range, rule=rule, weight=w) for (rule, w), run in runs.items()]
    if real is not None:
        tables.append(image_table(real, model.value_range, rule="data", weight=np.nan))
    images = summarise_by(pd.concat(tables, ignore_index=True), by=["rule", "weight"])
    density = _densities(runs, real, model)
    shown = [
        ReportFigure(
            "value_density",
            figures.value_densities(density, weights=WEIGHTS, value_range=model.value_range),
            readings.read_density(images, max(WEIGHTS)),
            "Gaussian kernel of the same bandwidth (0.03) for every curve; dotted: the range of the data. "
            + ("" if real is None else "The real digits have 17 grey levels, which show as peaks."),
        )
    ]
    if model.value_range is not None:
        shown.append(
            ReportFigure(
                "overshoot",
                figures.against_weight(images, "overshoot_share", label="share of elements outside the range"),
                readings.read_overshoot(images, min(WEIGHTS), max(WEIGHTS)),
                "Final samples before clipping, by more than half an 8-bit level; 95 % bootstrap intervals.",
            )
        )
    reference = readings.row_of(images, "data", np.nan, "contrast")
    contrast = figures.against_weight(
        images,
        "contrast",
        label="contrast: std within a sample (units of data)",
        reference=None if reference is None else float(reference["mean"]),
    )
    how = "Final samples; 95 % bootstrap intervals over samples."
    shown.append(ReportFigure("contrast", contrast, readings.read_contrast(images, max(WEIGHTS)), how))
    return Section(
        figures=shown,
        tables=[
            ReportTable("settings", _headline(images, runs, model), "Final samples of each setting, 95 % intervals."),
            ReportTable("images", images, "Statistics of the final samples, long form.", shown=False),
            ReportTable("value_density", density, "Densities as drawn.", shown=False),
        ],
    )


def _densities(runs: Runs, real: Tensor | None, model: Model) -> pd.DataFrame:
    low, high = model.value_range or _spread([run.samples for run in runs.values()])
    margin = 0.6 * (high - low) / 2
    grid = np.linspace(low - margin, high + margin, 321)
    sets = [(rule, w, run.samples) for (rule, w), run in runs.items()]
    if real is not None:
        sets.append(("data", float("nan"), real))
    parts = [value_density(images, rule=rule, weight=w, grid=grid) for rule, w, images in sets]
    return pd.concat(parts, ignore_index=True)


def _headline(images: pd.DataFrame, runs: Runs, model: Model) -> pd.DataFrame:
    rows = []
    for (rule, weight), run in runs.items():
        row: dict[str, object] = {"rule": rule, "w": weight, "n": len(run.samples)}
        for quantity in ("overshoot_share", "contrast", "saturation"):
            found = readings.row_of(images, rule, weight, quantity)
            if found is not None and not np.isnan(found["mean"]):
                row[quantity] = found["mean"]
                row[f"{quantity} 95 %"] = f"{found['low']:.3g} to {found['high']:.3g}"
        if model.digits is not None:
            labels, samples = model.conditions(len(run.samples)), run.samples.cpu()
            table = class_agreement(samples, labels, train=model.digits.train, held_out=model.digits.held_out)
            found = table[table["what"] == "samples"].iloc[0]
            row["class agreement"] = found["agreement"]
            row["class agreement 95 %"] = f"{found['low']:.3g} to {found['high']:.3g}"
        rows.append(row)
    return pd.DataFrame(rows)


def _samples(runs: Runs, model: Model) -> Section:
    if len(model.shape) != 3 or model.shape[0] not in (1, 3):
        return Section(text=f"Samples of shape {model.shape} are no pictures of one or three channels: none shown.")
    shown = {key: run.samples for key, run in runs.items()}
    columns = min(20, *(len(images) for images in shown.values()))
    value_range = model.value_range or _spread(list(shown.values()))
    grid = figures.sample_grid(shown, columns=columns, value_range=value_range)
    reading = readings.read_samples(shown, min(WEIGHTS), max(WEIGHTS))
    how = f"Seeds {SEED} to {SEED + columns - 1}, one column a seed, clipped to the range."
    return Section(figures=[ReportFigure("samples", grid, reading, how, wide=True)])


def _files(tables: _Tables) -> Section:
    return Section(
        tables=[
            ReportTable("decomposition", tables.rows, "One row a (rule, weight, sample, step, call).", shown=False),
            ReportTable(
                "steps", tables.steps, "One row a (rule, weight, step, call, quantity), with intervals.", shown=False
            ),
            ReportTable("steps_centred", tables.centred, "The same with channel means removed.", shown=False),
            ReportTable("columns", DECOMPOSITION.describe(), "Columns of the decomposition.", shown=True),
        ]
    )


def _spread(sets: Sequence[Tensor]) -> tuple[float, float]:
    """Range of unbounded data for drawing: the 1 % and 99 % quantiles of the first set."""
    values = sets[0].double().flatten().cpu().numpy()
    low, high = np.quantile(values, [0.01, 0.99])
    return float(low), float(high)
