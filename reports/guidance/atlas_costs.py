"""Atlas: what rules cost for what they give: a metric against calls, and calls that adaptive guidance saves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.paired_runs import savings
from scorescope.analysis.guidance.setting_comparisons import pareto
from scorescope.probes.guidance import (
    APG,
    CFG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    Interval,
    MagnitudeAware,
    Rescaled,
    Rule,
    TangentialCFG,
)
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_intervals import SUGGESTED, suggested
from scorescope.reports.guidance.atlas_metrics import LABELS, about, distance_of, measured, needs_features
from scorescope.reports.guidance.atlas_update import UNGUIDED, unguided
from scorescope.reports.guidance.study import PAPER_THRESHOLD, THRESHOLDS, look_below


def compared(material: Material) -> dict[str, Rule]:
    """Rules that are weighed against each other, all of one weight."""
    (low, high), below = suggested(material), look_below(unguided(material))
    rules: dict[str, Rule] = {
        "CFG": CFG(1.0),
        "APG": APG(1.0),
        "rescaled": Rescaled(CFG(1.0)),
        "tangential": TangentialCFG(1.0),
        "CFG-Zero*": CFGZeroStar(1.0),
        "magnitude-aware": MagnitudeAware(1.0),
        "adaptive": AdaptiveGuidance(CFG(1.0), threshold=PAPER_THRESHOLD, below=below),
    }
    if np.isfinite(high):
        rules["interval"] = Interval(CFG(1.0), low=low, high=high)
    if material.weak is not None:
        rules["autoguidance"] = Autoguidance(1.0, material.weak.denoiser)
    return rules


def pareto_numbers(material: Material) -> Numbers:
    """Metrics of no guidance and of every rule at one weight, and which of them no other dominates."""
    plain, guided = (
        measured(material, rules, weights=[weight])
        for rules, weight in (({"CFG": CFG(1.0)}, 1.0), (compared(material), material.weight))
    )
    table = pd.concat([plain, guided], ignore_index=True).drop_duplicates(["setting", "metric"], ignore_index=True)
    front = pareto(table, better={distance_of(table): "low", "calls": "low"})
    return Numbers({"metrics": table, "front": front}, facts=about(material, table))


def draw_pareto(numbers: Numbers, **how: Any) -> Figure:
    """The Frechet distance against calls a sample."""
    table, front = numbers.tables["metrics"], numbers.tables["front"]
    metric = distance_of(table)
    return figures.cost_and_quality(table, front, metric=metric, label=LABELS[metric], every=True, **how)


def savings_numbers(material: Material, thresholds: Sequence[float] = THRESHOLDS) -> Numbers:
    """Calls saved and change of the final sample, by threshold."""
    below, weight = look_below(unguided(material)), material.weight
    rules: dict[str, Rule] = {
        f"adaptive, threshold {threshold:g}": AdaptiveGuidance(CFG(weight), threshold=threshold, below=below)
        for threshold in thresholds
    }
    settings = material.sweep({"CFG": CFG(1.0)}, weights=[weight]) + material.sweep(rules)
    table = savings(settings, against=settings[0].name)
    return Numbers({"savings": table}, facts={"below": below})


def draw_savings(numbers: Numbers, **how: Any) -> Figure:
    """Change against calls saved."""
    return figures.threshold_curve(numbers.tables["savings"], **how)


ENTRIES = (
    Entry(
        "rules-pareto", "Frechet distance against denoiser calls a sample, a mark a guidance rule",
        ("model", "conditions", "data"), pareto_numbers, draw_pareto,
        "Frechet distance to {reference} real images against denoiser calls a sample, for no guidance and guidance "
        f"rules at w = {{weight:g}} ({{model}}; {{space}}; bars are {{bands}}); an interval, if there "
        f"is one, is that {SUGGESTED}. "
        "Hollow marks are rules that another dominates, by their values alone: the bars are not looked at.",
        "no guidance takes the fewest calls and is dominated by nothing; a rule that changes nothing at more calls is "
        "dominated by it",
        refuses=needs_features, calls={"rules of one weight": 9 * 70 + 35} | UNGUIDED,
    ),
    Entry(
        "ag-savings", "change of the final sample against calls that adaptive guidance saves, a point a threshold",
        ("model", "conditions"), savings_numbers, draw_savings,
        "RMS change of the final sample from CFG at w = {weight:g} with the same seeds, against the share of denoiser "
        "calls that adaptive guidance saves, a point a threshold of the cosine in eps space, which is looked at from "
        "σ = {below:.3g} downwards ({model}); bars are 95 % intervals over samples.",
        "a threshold that is never reached saves nothing and changes nothing; lower ones save at least as much",
        cites=("castillo2025adaptive",), calls={"adaptive guidance": (len(THRESHOLDS) + 1) * 70} | UNGUIDED,
        differs="there the cosine is looked at from the first step on",
    ),
)  # fmt: skip
