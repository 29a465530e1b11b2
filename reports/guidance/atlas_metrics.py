"""Atlas: figures of what rules give and cost: metrics of the samples against the weight, or a field of a rule."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.sweeps import measure_sweep
from scorescope.probes.guidance import APG, CFG, Autoguidance, Rule
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures

LABELS = {
    "frechet_debiased": "Frechet distance, debiased",
    "frechet": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "saturation": "HSV saturation",
    "overshoot_share": "share out of range",
    "contrast": "standard deviation within a sample (units of data)",
    "diversity": "mean distance within a condition",
}
FOUR = ("frechet_debiased", "precision", "recall", "overshoot_share")


def measured(
    material: Material,
    rules: Mapping[str, Rule],
    *,
    weights: Sequence[float] | None = None,
    over: Any = None,
    model: Model | None = None,
    **how: Any,
) -> pd.DataFrame:
    """Every metric of settings, as `over_seed_sets` has them; columns are those of `measure_sweep`."""
    return over_seed_sets(
        material, lambda seeds: _measured(material, rules, seeds, weights=weights, over=over, model=model, **how)
    )


def over_seed_sets(material: Material, measure: Callable[[Sequence[int]], pd.DataFrame]) -> pd.DataFrame:
    """What is measured of the material's seeds with its intervals, or mean and ends over repeats with other seeds."""
    if material.band == "interval":
        return measure(material.seeds)
    firsts = [material.seed + again * material.count for again in range(material.repeats)]
    table = pd.concat([measure(range(first, first + material.count)) for first in firsts], ignore_index=True)
    keys = [name for name in table if name not in ("n", "value", "low", "high")]
    found = table.groupby(keys, sort=False, dropna=False, as_index=False)
    every = found.agg(n=("n", "sum"), value=("value", "mean"), low=("value", "min"), high=("value", "max"))
    return every[list(table)]


def _measured(
    material: Material, rules: Mapping[str, Rule], seeds: Sequence[int], *, model: Model | None, **how: Any
) -> pd.DataFrame:
    model = model or material.studied
    settings = material.sweep(rules, seeds=list(seeds), model=model, **how)
    condition = model.conditions(len(seeds))
    labels = condition if getattr(condition, "ndim", 0) == 1 else None
    data = material.data
    table = measure_sweep(
        settings, value_range=model.value_range, labels=labels, features=material.features,
        reference=None if data is None else data.train, reference_labels=None if data is None else data.labels,
    )  # fmt: skip
    return table[np.isfinite(table["value"])].reset_index(drop=True)


def against_numbers(
    material: Material,
    rules: Mapping[str, Rule],
    *,
    x: str = "weight",
    over: Any = None,
    weights: Sequence[float] | None = None,
    **how: Any,
) -> Numbers:
    """Metrics of settings, and what a caption says of them; of the swept weights where nothing else is varied."""
    if over is None and weights is None:
        weights = material.weights
    table = measured(material, rules, weights=weights, over=over, **how)
    return Numbers({"metrics": table}, facts=about(material) | {"x": x})


def about(material: Material) -> dict[str, Any]:
    """What captions say of metrics: to how many real images, and what the bars are."""
    reference = 0 if material.data is None else len(material.data.train)
    bands = "95 % intervals" if material.band == "interval" else f"least and largest of {material.repeats} seed sets"
    return {"reference": reference, "bands": bands}


def draw_against(numbers: Numbers, *, metrics: Sequence[str] = FOUR, **how: Any) -> Figure:
    """A panel a metric that there is."""
    table = numbers.tables["metrics"]
    there = set(table["metric"])
    chosen = ["frechet" if name == "frechet_debiased" and name not in there else name for name in metrics]
    shown = {name: LABELS[name] for name in chosen if name in there}
    return figures.metrics_against(table, shown, x=numbers.facts["x"], **how)


def needs_features(material: Material) -> str:
    """A Frechet distance needs more real images than features."""
    if material.data is None:
        return ""
    sample = material.data.train[:2]
    width = material.features(sample).shape[1] if material.features else sample[0].numel()
    if len(material.data.train) > width:
        return ""
    return (
        f"{len(material.data.train)} real images are no more than the {width} features; a Frechet distance needs more"
    )


def _metrics_entry(
    name: str, rules: str, make: Any, *, cites: tuple[str, ...], place: str, oracle: str, **more: Any
) -> Entry:
    """An entry of four panels against the weight."""
    return Entry(
        name, f"Frechet distance, precision, recall and range of the samples against the weight, {rules}",
        ("model", "conditions", "data", *more.pop("needs", ())),
        lambda material: against_numbers(material, make(material)), draw_against,
        f"Frechet distance to {{reference}} real images, precision, recall and share of values out of range against "
        f"the guidance weight, {rules} ({{model}}; {{space}}; {{bands}}).",
        oracle, refuses=needs_features, **more,
    )  # fmt: skip


ENTRIES = (
    _metrics_entry(
        "apg-metrics-vs-w", "under CFG and APG", lambda m: {"CFG": CFG(1.0), "APG": APG(1.0)},
        cites=("sadat2025eliminating",), place="Figure 8", oracle="at w = 1 all rules give the same samples",
        calls={"CFG and APG, range alone": 490}, differs="the paper's fourth panel is saturation",
    ),
    _metrics_entry(
        "autoguidance-fid-vs-w", "under CFG and autoguidance",
        lambda m: {"CFG": CFG(1.0), "autoguidance": Autoguidance(1.0, m.weak.denoiser)},
        cites=("karras2024guiding",), place="Figure 3", needs=("weak",),
        oracle="a weak model that is the model itself gives a flat line", calls={"CFG and autoguidance": 490},
    ),
)  # fmt: skip
