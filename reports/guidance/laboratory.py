"""The laboratory half of the guidance report: the information curve, the rules compared, known effects tested."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.decomposition import decompose, decompose_bands
from scorescope.analysis.guidance.effects import EFFECTS, Effect, conclusions, known_effects
from scorescope.analysis.guidance.information import guidance_information
from scorescope.analysis.guidance.paired_runs import savings
from scorescope.analysis.guidance.quality import class_scorer
from scorescope.analysis.guidance.sweeps import METRICS, measure_sweep, pareto, sample_metrics
from scorescope.analysis.statistics.intervals import pairs_needed
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.data.checkpoints import load_denoiser
from scorescope.probes.experiments.sweep import Setting
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
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import sample
from scorescope.reports.guidance import lab_figures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

Floats = NDArray[np.float64]

WEIGHT = 4.0  # of the rules that are compared with each other
STRONG = 8.0
PAPER_THRESHOLD = 0.991  # of adaptive guidance (arXiv 2312.12487): the one that the claim is tested at
THRESHOLDS = (0.98, PAPER_THRESHOLD, 0.995, 0.998, 0.9999)
SAVED = 0.2  # share of the calls that adaptive guidance is said to save
KEPT = 0.02  # largest change of class agreement that counts as none
BAND_EDGES = (0.125, 0.3)  # cycles a pixel
INFORMATION_STEPS = 60  # of the run that the information is read from: 18 steps move the interval's ends by 8 %


def lab_rules(model: Model, interval: pd.DataFrame, *, below: float) -> dict[str, Rule]:
    """Rules that are compared with CFG and APG, by name.

    Parameters
    ----------
    interval : DataFrame
        The one that the information curve suggests.
    below : float
        Largest noise level at which adaptive guidance looks at the cosine, from `look_below`.
    """
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
        rules[f"adaptive, threshold {threshold:g}"] = AdaptiveGuidance(CFG(WEIGHT), threshold=threshold, below=below)
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


def look_below(unguided: Trace) -> float:
    """Noise level at which the branches disagree most in eps space, in the mean of an unguided run.

    Adaptive guidance supposes that the cosine rises along the path. It does from here on; above it the branches agree
    because both are the noise, and a rule that looks there stops before it has guided.
    """
    rows = decompose(unguided)
    means = rows[rows["call"] == 0].groupby("sigma")["one_minus_cos_eps"].mean()
    return float(means.index[int(means.to_numpy().argmax())]) * (1 + 1e-6)  # the level itself is looked at


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
    table = measure_sweep(settings, rows=rows, reference=reference)
    metrics = set(table["metric"])
    debiased = "frechet_debiased" if "frechet_debiased" in metrics else "frechet"
    better = {name: way for name, way in (BETTER | {debiased: "low"}).items() if name in metrics}
    front = pareto(table, better=better)
    figures = []
    if reference is not None:
        label = "Frechet distance to the real data, pixels"
        figures = [
            ReportFigure(
                "calls_quality", lab_figures.cost_and_quality(table, front, metric=debiased, label=label),
                read_front(front),
                f"Not dominated in {', '.join(better)} together, by their values alone: intervals are not looked at, "
                "and other seeds can mark other settings. Pixel features: small differences say little.",
            ),
            ReportFigure(
                "frechet", lab_figures.metric_against_weight(table, debiased, label=label, rules=["CFG", "APG"]),
                read_metric(table, debiased, "The Frechet distance"),
                "Without the bias of order 1/n, so it can fall below 0; 95 % intervals by the jackknife.",
            ),
        ]  # fmt: skip
    if "diversity" in metrics:
        label = "diversity: mean distance within a class"
        chart = lab_figures.metric_against_weight(table, "diversity", label=label, rules=["CFG", "APG"])
        reading = read_metric(table, "diversity", "Diversity within a class")
        figures.append(ReportFigure("diversity", chart, reading, DIVERSITY_HOW))
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


BETTER: dict[str, Literal["high", "low"]] = {"score": "high", "diversity": "high", "calls": "low"}
DIVERSITY_HOW = "95 % intervals: bootstrap of jackknife pseudo-values, since each sample is in many of the distances."


def effects_section(settings: Sequence[Setting], rows: pd.DataFrame, *, below: float) -> Section:
    """What is known of guidance, tested on this model; and the threshold curve of adaptive guidance."""
    names = {setting.name for setting in settings}
    effects = known(rows)
    untested = {e.text for e in effects if not {e.setting, e.against} <= names or rows[e.metric].isna().all()}
    tested = [effect for effect in effects if effect.text not in untested]
    found = known_effects(rows, tested) if tested else pd.DataFrame(columns=EFFECTS.names)
    full = f"CFG, w = {WEIGHT:g}"
    saved = savings([s for s in settings if s.name.startswith(("adaptive", full))], against=full)
    how = (
        f"Cosine thresholds in eps space beside the points, looked at up to σ = {below:.3g}: where the branches of the "
        "unguided run disagree most, found before any guided run. Above it both predictions are the noise, and the "
        "rule would stop before it has guided. Compared with CFG of the same weight and seeds; the claim is tested "
        f"at the paper's threshold of {PAPER_THRESHOLD:g} alone, the others describe."
    )
    parts = "Paired differences over the same seeds; 95 % intervals, bootstrap over pairs or, for shares, Tango's."
    return Section(
        text=read_effects(found, untested),
        figures=[ReportFigure("thresholds", lab_figures.threshold_curve(saved), read_savings(saved), how)],
        tables=[
            ReportTable("conclusions", conclusions(found), "An effect is shown only if all its parts are."),
            ReportTable("effects", found, parts),
            ReportTable("savings", saved, "Calls saved by adaptive guidance, and the change of the final sample."),
        ],
    )


def known(rows: pd.DataFrame) -> list[Effect]:
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
        least = last["information_low"] - last["bound"]
        bound += f": at least {least:.2g} nats are no information, but the network's own inconsistency"
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
    """How many settings are not dominated by values, and the cheapest of them."""
    best = front[front["pareto"]]
    cheapest = best.loc[best["calls"] == best["calls"].min()].iloc[0]
    return (
        f"{len(best)} of {len(front)} settings are not dominated by the values; the cheapest of them is "
        f"{cheapest['setting']} with {cheapest['calls']:.3g} calls a sample."
    )


def read_effects(found: pd.DataFrame, untested: Collection[str] = ()) -> str:
    """Which effects are shown and which not, with what speaks against those."""
    texts = []
    for _, row in conclusions(found).iterrows():
        against = found[(found["effect"] == row["effect"]) & (found["verdict"] != "shown")]
        why = "; ".join(_read_part(part) for _, part in against.iterrows())
        texts.append(f"{row['effect']}: " + (f"not shown ({why})" if why else "shown"))
    texts += [f"{text}: not tested, for a metric or a setting of it is missing" for text in sorted(untested)]
    return "Known effects on this model, each shown only if all its parts are. " + ". ".join(texts) + "."


def _read_part(row: pd.Series) -> str:
    name = {"score": "class agreement", "overshoot_share": "overshoot"}.get(row["metric"], row["metric"])
    text = (
        f"{name} of {row['setting']} less {row['against']} is {row['value']:.3g} "
        f"({row['low']:.3g} to {row['high']:.3g}), claimed {row['claimed']}: {row['verdict']}"
    )
    if row["verdict"] != "too few pairs":
        return text
    return f"{text}, {row['n']} where even without a single difference it takes {pairs_needed(KEPT)}"


def read_savings(saved: pd.DataFrame) -> str:
    """The largest saving with its interval, the paper's, and whether any threshold saves the share claimed."""
    rows = saved[saved["setting"].str.contains("threshold")]
    most = rows.sort_values("calls_saved").iloc[-1]
    text = (
        f"Adaptive guidance saves up to {_saved(most)} of the calls, at {most['setting']}, where the samples change by "
        f"{most['change']:.2g} RMS ({most['low']:.2g} to {most['high']:.2g})"
    )
    name = f"adaptive, threshold {PAPER_THRESHOLD:g}"
    paper = rows[rows["setting"] == name]
    if len(paper) and most["setting"] != name:
        text += f", and {_saved(paper.iloc[0])} at the paper's {PAPER_THRESHOLD:g}"
    enough = [str(name).split()[-1] for name in rows.loc[rows["saved_low"] >= SAVED, "setting"]]
    text += f". {SAVED:.0%} or more: " + (f"at {', '.join(enough)}." if enough else "at none of the thresholds.")
    once = [str(name).split()[-1] for name in rows.loc[rows["first_look"] == 1, "setting"]]
    if once:
        text += (
            f" At {', '.join(once)} every sample stops at the first look: where one looks decides, not the threshold."
        )
    return text


def _saved(row: pd.Series) -> str:
    return f"{row['calls_saved']:.1%} ({row['saved_low']:.1%} to {row['saved_high']:.1%})"
