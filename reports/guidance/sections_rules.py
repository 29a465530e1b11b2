"""Sections of the guidance report that compare rules: where the condition tells, what rules cost and give, effects."""

from typing import Literal

import pandas as pd

from scorescope.analysis.guidance.decomposition import decompose_bands
from scorescope.analysis.guidance.effects import EFFECTS, Effect, conclusions, known_effects
from scorescope.analysis.guidance.information import guidance_information
from scorescope.analysis.guidance.paired_runs import savings
from scorescope.analysis.guidance.run_keys import PATH, summarise_runs
from scorescope.analysis.guidance.setting_comparisons import pareto
from scorescope.analysis.guidance.sweeps import METRICS, measure_sweep
from scorescope.reports.guidance import figures, findings, readings
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.guidance.study import (
    INFORMATION_STEPS,
    KEPT,
    PAPER_THRESHOLD,
    SAVED,
    STRONG,
    WEIGHT,
    Study,
)
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

ESTIMATORS = {
    "frechet": "As measured, with the bias of order 1/n; the samples are too few for an interval.",
    "frechet_debiased": "Without the bias of order 1/n, so it can fall below 0; 95 % intervals by the jackknife.",
}
BETTER: dict[str, Literal["high", "low"]] = {"score": "high", "diversity": "high", "calls": "low"}


def information_section(study: Study) -> Section:
    """Where along the noise axis the condition tells something, and the interval it suggests."""
    curve, interval = guidance_information(study.unguided), study.interval
    how = (
        f"E|D_c − D_u|² / σ² along an unguided path of {INFORMATION_STEPS} steps: what the condition is worth there. "
        "Its integral is the mutual information of condition and state, and at most the entropy of the sampled labels, "
        "if the unconditional branch is of the same labels in the same shares. Intervals are those of drawing samples "
        "only, not of the steps."
    )
    figure, reading = figures.information(curve, interval), readings.read_information(curve, interval)
    bands = _bands(study)
    calls = of_run(study.rows, "CFG", WEIGHT)
    return Section(
        [ReportFigure("information", figure, reading, how), *bands.figures],
        [
            ReportTable("suggested_interval", interval, "Noise levels that hold the central share of the information."),
            ReportTable("information", curve, "One row a noise level.", shown=False),
            *bands.tables,
        ],
        bands.text,
        findings=findings.where_to_guide(curve, interval, calls),
    )


def _bands(study: Study) -> Section:
    """The update by frequency, where the data are images."""
    if not study.unguided.manifest["recording"]["band_edges"]:
        return Section()
    by = [*PATH, "band", "low_frequency", "high_frequency", "step", "call", "sigma"]
    bands = summarise_runs(decompose_bands(study.unguided), by=by, quantities=["update_norm", "cond_norm"])
    how = "Unguided run, first call of each step; the lowest band is the mean. 95 % intervals."
    tables = [ReportTable("bands", bands, "One row a (band, step, call, quantity).", shown=False)]
    if not (bands.loc[bands["quantity"] == "update_norm", "mean"] > 0).any():
        return Section(tables=tables, text="There is no update in any band of frequencies.")
    return Section([ReportFigure("bands", figures.band_norms(bands), readings.read_bands(bands), how)], tables)


def comparison_section(study: Study) -> Section:
    """The rules compared: calls, agreement, diversity, Frechet distance; which no other dominates."""
    train = None if study.model.digits is None else study.model.digits.train
    reference, classes = (None, None) if train is None else (train.images, train.labels)
    table = measure_sweep(
        study.compared, rows=study.metrics, reference=reference, labels=study.labels, reference_labels=classes
    )
    metrics = set(table["metric"])
    frechet = "frechet_debiased" if "frechet_debiased" in metrics else "frechet"
    better = {name: way for name, way in (BETTER | {frechet: "low"}).items() if name in metrics}
    front = pareto(table, better=better)
    shown = []
    if reference is not None:
        label = "Frechet distance to the real data, pixels"
        how = (
            f"Not dominated in {', '.join(better)} together, by their values alone: intervals are not looked at, "
            "and other seeds can mark other settings. Pixel features: small differences say little."
        )
        figure = figures.cost_and_quality(table, front, metric=frechet, label=label)
        shown.append(ReportFigure("calls_quality", figure, readings.read_front(front), how))
        figure = figures.against_weight(table, frechet, label=label)
        reading = readings.read_metric(table, frechet, "The Frechet distance")
        shown.append(ReportFigure("frechet", figure, reading, ESTIMATORS[frechet]))
    if "diversity" in metrics:
        figure = figures.against_weight(table, "diversity", label="diversity: mean distance within a class")
        reading = readings.read_metric(table, "diversity", "Diversity within a class")
        how = "95 % intervals: those of jackknife pseudo-values, since each sample is in many of the distances."
        shown.append(ReportFigure("diversity", figure, reading, how))
    meaning = pd.DataFrame(METRICS.items(), columns=["metric", "meaning"])
    return Section(
        shown,
        [
            ReportTable("front", front, "One row a setting; dominated_by names a setting at least as good in all."),
            ReportTable("sweep", table, "One row a (setting, metric), with intervals.", shown=False),
            ReportTable("sample_metrics", study.metrics, "One row a (setting, sample).", shown=False),
            ReportTable("metrics", meaning, "What the metrics are."),
        ],
    )


def effects_section(study: Study) -> Section:
    """What is known of guidance, tested on this model; and the threshold curve of adaptive guidance."""
    rows, names = study.metrics, {setting.name for setting in study.compared}
    effects = published_effects(rows)
    untested = {e.text for e in effects if not {e.setting, e.against} <= names or rows[e.metric].isna().all()}
    tested = [effect for effect in effects if effect.text not in untested]
    found = known_effects(rows, tested) if tested else pd.DataFrame(columns=EFFECTS.names)
    full = f"CFG, w = {WEIGHT:g}"
    saved = savings([s for s in study.compared if s.name.startswith(("adaptive", full))], against=full)
    how = (
        f"Cosine thresholds in eps space beside the points, looked at up to σ = {study.below:.3g}: where the branches "
        "of the unguided run disagree most in the mean, found before any guided run. Above it their cosine is higher, "
        "and the rule could stop before it has guided. Compared with CFG of the same weight and seeds; the claim is "
        f"tested at the paper's threshold of {PAPER_THRESHOLD:g} alone, the others describe."
    )
    parts = "Paired differences over the same seeds; 95 % intervals over pairs, of shares Tango's."
    return Section(
        text=readings.read_effects(found, untested),
        figures=[ReportFigure("thresholds", figures.threshold_curve(saved), readings.read_savings(saved), how)],
        tables=[
            ReportTable("conclusions", conclusions(found), "An effect is shown only if all its parts are."),
            ReportTable("effects", found, parts),
            ReportTable("savings", saved, "Calls saved by adaptive guidance, and the change of the final sample."),
        ],
        findings=[
            *findings.out_of_range(found, STRONG),
            *findings.diversity(found),
            *findings.cheaper(saved, f"adaptive, threshold {PAPER_THRESHOLD:g}"),
        ],
    )


def published_effects(rows: pd.DataFrame) -> list[Effect]:
    """The effects that papers report, as paired differences between settings of this report.

    Parameters
    ----------
    rows : DataFrame
        From `sample_metrics`: a share of the calls is told in the calls of CFG.
    """
    cfg = {w: f"CFG, w = {w:g}" for w in (1.0, WEIGHT, STRONG)}
    interval, adaptive = f"interval, w = {STRONG:g}", f"adaptive, threshold {PAPER_THRESHOLD:g}"
    overshoot = "overshoot grows with w under CFG and less under APG"
    restored = "the suggested interval keeps class agreement while restoring diversity"
    saving = f"adaptive guidance saves at least {SAVED:.0%} of the calls at unchanged class agreement"
    fewer = SAVED * float(rows.loc[rows["setting"] == cfg[WEIGHT], "calls"].mean())
    return [
        Effect(overshoot, "overshoot_share", cfg[STRONG], cfg[1.0], 1),
        Effect(overshoot, "overshoot_share", f"APG, w = {STRONG:g}", cfg[STRONG], -1),
        Effect("diversity falls with w under CFG", "diversity", cfg[WEIGHT], cfg[1.0], -1),
        Effect("diversity falls with w under CFG", "diversity", cfg[STRONG], cfg[1.0], -1),
        Effect(restored, "diversity", interval, cfg[STRONG], 1),
        Effect(restored, "score", interval, cfg[STRONG], 0, KEPT),
        Effect(saving, "calls", adaptive, cfg[WEIGHT], -1, fewer),
        Effect(saving, "score", adaptive, cfg[WEIGHT], 0, KEPT),
    ]
