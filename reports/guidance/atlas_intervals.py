"""Atlas: guidance in a limited interval of noise levels: either end, the weight, precision and recall, pictures."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.images import image_table
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.statistics.arrays import Floats
from scorescope.probes.guidance import CFG, Interval, Rule
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_metrics import (
    LABELS,
    about,
    against_numbers,
    distance_of,
    draw_against,
    measured,
    needs_features,
)
from scorescope.reports.guidance.atlas_update import UNGUIDED, unguided

PLACES = 6  # of either end that are tried
SHOWN = 8  # seeds of a strip
BY_WEIGHT = {"CFG and the suggested interval": 490}
SUGGESTED = "of the noise levels that hold the central 90 % of the information about the condition"


def suggested(material: Material) -> tuple[float, float]:
    """Ends of the interval that the information along an unguided run suggests: all levels where it suggests none."""
    return material.once("suggested interval", lambda: _suggested(material))


def _suggested(material: Material) -> tuple[float, float]:
    row = suggest_interval(unguided(material)).iloc[0]
    return (0.0, float("inf")) if row["missing"] else (float(row["low"]), float(row["high"]))


def none_suggested(material: Material) -> str:
    """That no interval is suggested, where that is so."""
    known = np.isfinite(suggested(material)[1])
    return "" if known else "the information along an unguided run suggests no interval"


def rules(material: Material) -> dict[str, Rule]:
    """CFG everywhere, and in the suggested interval."""
    low, high = suggested(material)
    return {"CFG": CFG(1.0), "interval": Interval(CFG(1.0), low=low, high=high)}


def ends_numbers(material: Material) -> Numbers:
    """Metrics at several places of either end, the other one fixed; without guidance, and with it at all levels."""
    low, high = suggested(material)
    levels = np.asarray(material.sigmas[:-1])
    ends = {
        "upper end": [{"low": low, "high": float(level)} for level in _spread(levels[levels > low])],
        "lower end": [{"low": float(level), "high": high} for level in _spread(levels[levels < high])],
    }
    rule, weight = {"interval": Interval(CFG(material.weight))}, material.weight
    parts = [measured(material, rule, over=points).assign(varied=name) for name, points in ends.items()]
    for name, w in (("no guidance", 1.0), ("at all levels", weight)):
        parts.append(measured(material, {"CFG": CFG(1.0)}, weights=(w,)).assign(varied=name))
    table = pd.concat(parts, ignore_index=True)
    facts = about(material, table) | {"low": f"{low:.3g}", "high": f"{high:.3g}"}
    return Numbers({"metrics": table}, facts=facts, why=none_suggested(material))


def _spread(levels: Floats) -> Floats:
    """Some of the levels, the first and the last among them."""
    places = np.linspace(0, len(levels) - 1, min(PLACES, len(levels)))
    chosen: Floats = levels[places.round().astype(int)]
    return chosen


def draw_ends(numbers: Numbers, **how: Any) -> Figure:
    """The Frechet distance against either end."""
    table = numbers.tables["metrics"]
    metric = distance_of(table)
    return figures.interval_ends(table, metric, label=LABELS[metric], **how)


def by_weight(material: Material) -> Numbers:
    """Metrics of both rules at every weight."""
    low, high = suggested(material)
    numbers = material.once("interval by weight", lambda: against_numbers(material, rules(material)))
    facts = {**numbers.facts, "low": f"{low:.3g}", "high": f"{high:.3g}"}
    return Numbers(numbers.tables, facts=facts, why=none_suggested(material))


def draw_precision_recall(numbers: Numbers, **how: Any) -> Figure:
    """Precision against recall."""
    return figures.precision_and_recall(numbers.tables["metrics"], **how)


def strip_numbers(material: Material) -> Numbers:
    """The first samples of both rules at every weight."""
    low, high = suggested(material)
    settings = material.sweep(rules(material), weights=material.weights)
    pictures = {setting.name: setting.run.samples[:SHOWN].cpu() for setting in settings}
    value_range = material.studied.value_range
    parts = [
        image_table(setting.run.samples, value_range, rule=setting.name.split(",")[0], weight=setting.rule.weight)
        for setting in settings
    ]
    facts = {
        "range": list(value_range or ()),
        "low": f"{low:.3g}",
        "high": f"{high:.3g}",
        "shown": min(SHOWN, material.count),
    }
    return Numbers({"images": pd.concat(parts, ignore_index=True)}, pictures, facts, none_suggested(material))


def draw_strips(numbers: Numbers, **how: Any) -> Figure:
    """A row a setting."""
    low, high = numbers.facts["range"]
    rows = {(name, float("nan")): images for name, images in numbers.pictures.items()}
    return figures.sample_grid(rows, columns=SHOWN, value_range=(low, high), **how)


_BESIDE = f"CFG and CFG in the interval of σ from {{low}} to {{high}} ({SUGGESTED})"

ENTRIES = (
    Entry(
        "interval-fid-vs-sigma", "Frechet distance against either end of the interval of noise levels that is guided",
        ("model", "conditions", "data"), ends_numbers, draw_ends,
        "Frechet distance to {reference} real images against the upper end of the guided interval of noise levels, "
        "the lower fixed at σ = {low}, and against the lower end, the upper fixed at σ = {high}, under CFG at "
        "w = {weight:g}, beside no guidance and guidance at all levels ({model}; {space}; {bands}). The fixed ends "
        f"are those {SUGGESTED}, not those of least distance; ends that are varied are levels of the sampler.",
        "of two Gaussians of one covariance every sample moves by (w - 1) √λ ((λ + lo²)^-½ − (λ + hi²)^-½) "
        "(m_c − m_u), which the distances follow",
        cites=("kynkaanniemi2024applying",), place="Figure 5", refuses=needs_features,
        calls={"CFG in intervals": (2 * PLACES + 1) * 70 + 35} | UNGUIDED,
        differs="the fixed ends there are the best of a grid search",
    ),
    Entry(
        "interval-fid-vs-w", "metrics of the samples against the weight, guided at all noise levels and in an interval",
        ("model", "conditions", "data"), by_weight, draw_against,
        "Frechet distance to {reference} real images, precision, recall and share of values out of range against the "
        f"guidance weight under {_BESIDE} ({{model}}; {{space}}; {{bands}}).",
        "an interval of all noise levels gives the samples of CFG",
        cites=("kynkaanniemi2024applying",), place="Figure 3", refuses=needs_features, calls=BY_WEIGHT | UNGUIDED,
        differs="the interval is not the best of a grid search",
    ),
    Entry(
        "interval-precision-recall",
        "precision against recall along the weight, guided at all noise levels and in an interval",
        ("model", "conditions", "data"), by_weight, draw_precision_recall,
        "Precision against recall of samples and {reference} real images for "
        f"{_BESIDE}; weights w = {{weights}} stand in the marks ({{model}}; {{space}}; {{bands}}).",
        "samples that are the real images have precision 1 and recall 1",
        cites=("kynkaanniemi2024applying",), place="Figure 4", refuses=needs_features, calls=BY_WEIGHT | UNGUIDED,
    ),
    Entry(
        "interval-strips", "the same seeds at every weight, guided at all noise levels and in an interval",
        ("model", "conditions", "pictures"), strip_numbers, draw_strips,
        f"The first {{shown}} seeds, a column each, at w = {{weights}} under {_BESIDE} ({{model}}); pictures are "
        "clipped to the range.",
        "at w = 1 both rules give the samples of no guidance, bit for bit",
        cites=("kynkaanniemi2024applying",), calls=BY_WEIGHT | UNGUIDED,
    ),
)  # fmt: skip
