"""The laboratory half of the guidance report: the information curve, the rules compared, known effects tested."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.effects import Effect, known_effects
from scorescope.analysis.guidance import decompose_bands
from scorescope.analysis.guidance_pairs import savings
from scorescope.analysis.information import guidance_information
from scorescope.analysis.quality import class_scorer
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.sweeps import METRICS, measure_sweep, pareto, sample_metrics
from scorescope.data.checkpoints import load_denoiser
from scorescope.probes.guidance import (
    APG,
    CFG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    FrequencyDecoupled,
    Interval,
    MagnitudeAware,
    Rescaled,
    Rule,
    TangentialCFG,
)
from scorescope.probes.models import Model
from scorescope.probes.noise import edm_sigmas
from scorescope.probes.sampling import sample
from scorescope.probes.sweep import Setting
from scorescope.probes.trace import Recording, Trace
from scorescope.reports import lab_figures
from scorescope.reports.page import ReportFigure, ReportTable, Section

Floats = NDArray[np.float64]

WEIGHT = 4.0  # of the rules that are compared with each other
STRONG = 8.0
THRESHOLDS = (0.99, 0.995, 0.998, 0.9999, 0.99999)
BAND_EDGES = (0.125, 0.3)  # cycles a pixel
INFORMATION_STEPS = 60  # of the run that the information is read from: 18 steps move the interval's ends by 8 %


def lab_rules(model: Model, interval: pd.DataFrame) -> dict[str, Rule]:
    """Rules that are compared with CFG and APG, by name; the interval is the one the information curve suggests."""
    low, high = float(interval["low"].iloc[0]), float(interval["high"].iloc[0])
    rules: dict[str, Rule] = {
        f"interval, w = {WEIGHT:g}": Interval(CFG(WEIGHT), low=low, high=high),
        f"interval, w = {STRONG:g}": Interval(CFG(STRONG), low=low, high=high),
        f"interval APG, w = {STRONG:g}": Interval(APG(STRONG), low=low, high=high),
        f"rescaled (v, 0.7), w = {WEIGHT:g}": Rescaled(CFG(WEIGHT), phi=0.7, space="v"),
        f"tangential, w = {WEIGHT:g}": TangentialCFG(WEIGHT),
        f"CFG-Zero*, w = {WEIGHT:g}": CFGZeroStar(WEIGHT),
        f"magnitude-aware, w = {WEIGHT:g}": MagnitudeAware(WEIGHT),
    }
    if len(model.shape) == 3 and min(model.shape[1:]) >= 2:
        rules[f"frequency-decoupled, w = 1, {WEIGHT:g}"] = FrequencyDecoupled((1.0, WEIGHT))
    if model.name == "digits":
        rules["autoguidance, w = 2"] = Autoguidance(2.0, load_denoiser("digits_weak")[0])
    for threshold in THRESHOLDS:
        rules[f"adaptive, threshold {threshold:g}"] = AdaptiveGuidance(CFG(WEIGHT), threshold=threshold)
    return rules


def information_run(model: Model, *, seed: int, count: int, device: str) -> Trace:
    """An unguided run with so many steps that the suggested interval does not depend on them."""
    edges = BAND_EDGES if len(model.shape) == 3 else ()
    trace = sample(
        model.denoiser, seeds=range(seed, seed + count), condition=model.conditions(count), shape=model.shape,
        sigmas=edm_sigmas(INFORMATION_STEPS), record=Recording(all_branches=True, band_edges=edges), device=device,
        progress=False,
    ).trace  # fmt: skip
    assert trace is not None  # it was recorded
    return trace


def information_section(unguided: Trace, interval: pd.DataFrame) -> Section:
    """Where along the noise axis the condition tells something, and the interval it suggests."""
    curve = guidance_information(unguided)
    figure = lab_figures.information(curve, interval)
    figures = [ReportFigure("information", figure, read_information(curve, interval), INFORMATION_HOW)]
    tables = [
        ReportTable("suggested_interval", interval, "Noise levels that hold the central share of the information."),
        ReportTable("information", curve, "One row a noise level.", shown=False),
    ]
    if unguided.manifest["recording"]["band_edges"]:
        by = ["rule", "weight", "band", "low_frequency", "high_frequency", "step", "call", "sigma"]
        bands = summarise_by(decompose_bands(unguided), by=by, quantities=["update_norm", "cond_norm"])
        how = "Unguided run, first call of each step; the lowest band is the mean. 95 % bootstrap intervals."
        figures.append(ReportFigure("bands", lab_figures.band_norms(bands), read_bands(bands), how))
        tables.append(ReportTable("bands", bands, "One row a (band, step, call, quantity).", shown=False))
    return Section(figures, tables)


INFORMATION_HOW = (
    f"E|D_c − D_u|² / σ² along an unguided path of {INFORMATION_STEPS} steps: what the condition is worth there. "
    "Its integral is the mutual information of condition and state; beyond the entropy of the condition the branches "
    "would contradict each other. Intervals are those of drawing samples only, not of the steps."
)


def comparison_section(settings: Sequence[Setting], rows: pd.DataFrame, model: Model, labels: Tensor | None) -> Section:
    """The rules compared: calls, agreement, diversity, Frechet distance; which no other dominates."""
    reference = None if model.digits is None else model.digits.train.images
    table = measure_sweep(
        settings, value_range=model.value_range, labels=labels, scorer=scorer_of(model, labels), reference=reference
    )
    better = {name: way for name, way in BETTER.items() if name in set(table["metric"])}
    front = pareto(table, better=better)
    figures = []
    if reference is not None:
        label = "Frechet distance to the real data, pixels"
        debiased = "frechet_debiased" if "frechet_debiased" in set(table["metric"]) else "frechet"
        figures = [
            ReportFigure(
                "calls_quality", lab_figures.cost_and_quality(table, front, metric="frechet", label=label),
                read_front(front),
                f"Not dominated in {', '.join(better)} together. Pixel features: small differences say little.",
            ),
            ReportFigure(
                "frechet", lab_figures.metric_against_weight(table, debiased, label=label, rules=["CFG", "APG"]),
                read_metric(table, debiased, "The Frechet distance"),
                "Without the bias of order 1/n, so it can fall below 0; 95 % intervals by the jackknife.",
            ),
        ]  # fmt: skip
    if labels is not None:
        label = "diversity: mean distance within a class"
        chart = lab_figures.metric_against_weight(table, "diversity", label=label, rules=["CFG", "APG"])
        reading = read_metric(table, "diversity", "Diversity within a class")
        figures.append(ReportFigure("diversity", chart, reading, "95 % bootstrap intervals over samples."))
    meaning = pd.DataFrame(METRICS.items(), columns=["metric", "meaning"])
    return Section(
        figures,
        [
            ReportTable("front", front, "One row a setting; dominated_by names a setting at least as good in all."),
            ReportTable("sweep", table, "One row a (setting, metric), with intervals.", shown=False),
            ReportTable("sample_metrics", rows, "One row a (setting, sample).", shown=False),
            ReportTable("metrics", meaning, "What the metrics are."),
        ],
    )


BETTER: Mapping[str, Literal["high", "low"]] = {"score": "high", "diversity": "high", "frechet": "low", "calls": "low"}


def effects_section(settings: Sequence[Setting], rows: pd.DataFrame) -> Section:
    """What is known of guidance, tested on this model; and the threshold curve of adaptive guidance."""
    names = {setting.name for setting in settings}
    effects = [e for e in known() if {e.setting, e.against} <= names and rows[e.metric].notna().any()]
    found = known_effects(rows, effects)
    saved = savings(
        [s for s in settings if s.name.startswith(("adaptive", f"CFG, w = {WEIGHT:g}"))], against=f"CFG, w = {WEIGHT:g}"
    )
    figure = lab_figures.threshold_curve(saved)
    return Section(
        text=read_effects(found),
        figures=[
            ReportFigure(
                "thresholds", figure, read_savings(saved),
                "Cosine thresholds in eps space beside the points; compared with CFG of the same weight and seeds.",
            )
        ],
        tables=[
            ReportTable("effects", found, "Paired differences over the same seeds, 95 % bootstrap intervals."),
            ReportTable("savings", saved, "Calls saved by adaptive guidance, and the change of the final sample."),
        ],
    )  # fmt: skip


def known() -> list[Effect]:
    """The effects that papers report, as paired differences between settings of this report."""
    cfg = {w: f"CFG, w = {w:g}" for w in (1.0, WEIGHT, STRONG)}
    adaptive = [f"adaptive, threshold {t:g}" for t in THRESHOLDS]
    found = [
        Effect("overshoot grows with w under CFG", "overshoot_share", cfg[STRONG], cfg[1.0], 1),
        Effect("APG overshoots less than CFG", "overshoot_share", f"APG, w = {STRONG:g}", cfg[STRONG], -1),
        Effect("diversity falls with w under CFG", "diversity", cfg[WEIGHT], cfg[1.0], -1),
        Effect("diversity falls with w under CFG", "diversity", cfg[STRONG], cfg[1.0], -1),
        Effect("an interval restores diversity", "diversity", f"interval, w = {STRONG:g}", cfg[STRONG], 1),
        Effect("an interval keeps class agreement", "score", f"interval, w = {STRONG:g}", cfg[STRONG], 0, 0.02),
    ]
    for name in adaptive:
        found.append(Effect("adaptive guidance needs fewer calls", "calls", name, cfg[WEIGHT], -1))
        found.append(Effect("adaptive guidance keeps class agreement", "score", name, cfg[WEIGHT], 0, 0.02))
    return found


def scorer_of(model: Model, labels: Tensor | None) -> Callable[[Tensor], Floats] | None:
    """Class agreement by a classifier of the real data, where the model is one of the digits."""
    if model.digits is None or labels is None:
        return None
    return class_scorer(labels, train=model.digits.train)


def metrics_of(settings: Sequence[Setting], model: Model, labels: Tensor | None) -> pd.DataFrame:
    """Sample-level metrics of every setting."""
    return sample_metrics(settings, value_range=model.value_range, scorer=scorer_of(model, labels), labels=labels)


def read_information(curve: pd.DataFrame, interval: pd.DataFrame) -> str:
    """Where the information is gained, its total, and the bound."""
    row, last = interval.iloc[0], curve[curve["sigma"] > 0].iloc[-1]
    bound = "" if np.isnan(last["bound"]) else f", against {last['bound']:.3g} that the condition has"
    if last["information_low"] > last["bound"]:
        bound += ": what the branches differ by below the interval is the network's own inconsistency"
    return (
        f"{row['share']:.0%} of what the condition tells is told between σ = {row['high']:.3g} "
        f"({row['high_low']:.3g} to {row['high_high']:.3g}) and {row['low']:.3g} ({row['low_low']:.3g} to "
        f"{row['low_high']:.3g}); in all "
        f"{last['information']:.3g} nats ({last['information_low']:.3g} to {last['information_high']:.3g}){bound}."
    )


def read_bands(bands: pd.DataFrame) -> str:
    """The band with the largest update at the highest and the lowest noise level."""
    rows = bands[(bands["quantity"] == "update_norm") & (bands["call"] == 0)]
    texts = []
    for sigma in (rows["sigma"].max(), rows["sigma"].min()):
        here = rows[rows["sigma"] == sigma]
        top = here.loc[here["mean"] == here["mean"].max()].iloc[0]
        texts.append(f"from {top['low_frequency']:.2g} cycles a pixel up at σ = {sigma:.2g}")
    return f"The update is strongest in the band {texts[0]}, and {texts[1]}."


def read_metric(table: pd.DataFrame, metric: str, name: str) -> str:
    """A metric at the lowest and highest weight under both rules."""
    texts = []
    for rule in ("CFG", "APG"):
        rows = table[(table["metric"] == metric) & (table["rule"] == rule)].sort_values("weight")
        if len(rows) > 1:
            first, last = rows.iloc[0], rows.iloc[-1]
            texts.append(
                f"from {first['value']:.3g} at w = {first['weight']:g} to {last['value']:.3g} "
                f"({last['low']:.3g} to {last['high']:.3g}) at w = {last['weight']:g} under {rule}"
            )
    return f"{name} goes " + ", ".join(texts) + "."


def read_front(front: pd.DataFrame) -> str:
    """How many settings are not dominated, and the cheapest of them."""
    best = front[front["pareto"]]
    cheapest = best.loc[best["calls"] == best["calls"].min()].iloc[0]
    return (
        f"{len(best)} of {len(front)} settings are not dominated; the cheapest of them is {cheapest['setting']} "
        f"with {cheapest['calls']:.3g} calls a sample."
    )


def read_effects(found: pd.DataFrame) -> str:
    """Which effects are shown and which not."""
    texts = []
    for effect, rows in found.groupby("effect", sort=False):
        shown = int((rows["verdict"] == "shown").sum())
        count = f" ({shown} of {len(rows)} settings)" if len(rows) > 1 else ""
        verdict = rows["verdict"].iloc[0] if len(rows) == 1 else ("shown" if shown else "not shown")
        texts.append(f"{effect}: {verdict}{count}")
    return (
        "Known effects on this model, by intervals that exclude zero or lie within a margin: " + "; ".join(texts) + "."
    )


def read_savings(saved: pd.DataFrame) -> str:
    """The largest saving, and the smallest change that saves a fifth of the calls."""
    rows = saved[saved["setting"].str.contains("threshold")]
    most = rows.loc[rows["calls_saved"] == rows["calls_saved"].max()].iloc[0]
    text = (
        f"Adaptive guidance saves up to {most['calls_saved']:.0%} of the calls "
        f"({most['setting']}, RMS change {most['change']:.2g})"
    )
    fifth = rows[rows["calls_saved"] >= 0.2]
    if fifth.empty:
        return text + "; no threshold saves a fifth."
    least = fifth.loc[fifth["change"] == fifth["change"].min()].iloc[0]
    return (
        f"{text}; the least change that saves a fifth is {least['change']:.2g} ({least['low']:.2g} to "
        f"{least['high']:.2g}), at {least['setting']}, which saves {least['calls_saved']:.0%}."
    )
