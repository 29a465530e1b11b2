"""The guidance report: what guidance did at every noise level.

    outcome = build(Path("report/guidance"), load_model("digits"), command="...")

Records CFG and APG at several weights from the same seeds, then makes tables, figures and a page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from scorescope.analysis.guidance.decomposition import DECOMPOSITION, decompose, decompose_centred, summarise
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.data.errors import InputError
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.guidance import APG, CFG, Rule
from scorescope.probes.models.model import Model
from scorescope.probes.recording.trace import Recording
from scorescope.probes.sampling.sample import sample
from scorescope.reports.guidance import figures, paths, readings, values
from scorescope.reports.guidance import laboratory as lab
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section

WEIGHTS = (1.0, 2.0, 4.0, 8.0)
FULL, QUICK = 256, 96
SHOWN = 4.0  # the weight of figures that show one run
SEED = 0
HOW = "First call of each step; bands are 95 % bootstrap intervals of the mean over samples. "


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
        writer.section(
            "values", "Values and range of the samples", lambda: values.values_section(runs, model, weights=WEIGHTS)
        )
        writer.section(
            "samples", "The same seeds under every rule", lambda: values.samples_section(runs, model, weights=WEIGHTS)
        )
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
    try:
        unguided = lab.information_run(model, seed=SEED, count=count, device=device)
    except Exception as error:
        writer.fail("the comparison of rules", error)
        return
    interval = suggest_interval(unguided)
    writer.section("information", "Where the condition tells", lambda: lab.information_section(unguided, interval))
    writer.section(
        "paths",
        "Where the paths of two rules part",
        lambda: paths.separation_section(model, interval, weight=SHOWN, count=count, device=device),
    )
    below = lab.look_below(unguided)
    settings = settings + _record(writer, model, lab.lab_rules(model, interval, below=below), count, device, progress)
    condition = model.conditions(count)
    labels = condition if isinstance(condition, Tensor) and condition.ndim == 1 else None
    rows = lab.metrics_of(settings, model, labels)
    writer.section("rules", "The rules compared", lambda: lab.comparison_section(settings, rows, model, labels))
    writer.section("effects", "Known effects, tested", lambda: lab.effects_section(settings, rows, below=below))


def _tables(runs: values.Runs) -> _Tables:
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
    guided = [("CFG", w) for w in WEIGHTS if w != 1] + [("APG", max(WEIGHTS))]
    path, path_table = paths.gain_parts(tables.rows, guided)
    clip, clip_tables = paths.clip_parts(tables.rows, tables.steps, ("CFG", SHOWN))
    return Section(
        text="Along D_c a rule acts as a gain: CFG multiplies D_c by 1 + (w − 1) a, with a the coefficient of the "
        "update along D_c; APG, here with eta = 0, no norm clip and no momentum, removes that part.",
        figures=[
            ReportFigure(
                "applied_gain",
                figures.applied_gain(tables.steps, weights=WEIGHTS),
                readings.read_gain(tables.steps, max(WEIGHTS)),
                HOW + "Measured on the guided prediction.",
            ),
            path,
            clip,
        ],
        tables=[path_table, *clip_tables],
    )


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
