"""Atlas: figures of what rules give and cost: metrics of the samples against the weight, or a field of a rule."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor, nn

from scorescope.analysis.guidance.sweeps import measure_sweep
from scorescope.probes.guidance import APG, CFG, ICG, TSG, Autoguidance, FrequencyDecoupled, RandomRows, Rule
from scorescope.probes.models.model import Model
from scorescope.probes.sites.modules import site_names
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
    """Every metric of settings, as `over_seed_sets` has them; `rule` is what `rules` calls it."""
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
    found_columns: pd.DataFrame = every[list(table)]
    return found_columns


def _measured(
    material: Material, rules: Mapping[str, Rule], seeds: Sequence[int], *, model: Model | None, **how: Any
) -> pd.DataFrame:
    model = model or material.studied
    settings = material.sweep(rules, seeds=list(seeds), model=model, **how)
    condition = model.conditions(len(seeds))
    labels = condition if getattr(condition, "ndim", 0) == 1 else None
    data = material.data
    table = measure_sweep(
        settings, value_range=model.value_range, labels=labels, features=_features(material),
        reference=None if data is None else data.train, reference_labels=None if data is None else data.labels,
    )  # fmt: skip
    each = len(settings) // len(rules)  # rule after rule, each with as many settings
    named = {setting.name: list(rules)[place // each] for place, setting in enumerate(settings)}
    known: pd.DataFrame = table[np.isfinite(table["value"])].reset_index(drop=True)
    return known.assign(rule=known["setting"].map(named))


def _features(material: Material) -> Callable[[Tensor], Tensor] | None:
    """The material's features, those of its real images computed once."""
    features, data = material.features, material.data
    if features is None or data is None:
        return features
    real = data.train
    known = material.once("features of real images", lambda: features(real))
    return lambda samples: known if samples is real else features(samples)


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
    return Numbers({"metrics": table}, facts=about(material, table) | {"x": x})


def about(material: Material, table: pd.DataFrame | None = None) -> dict[str, Any]:
    """What captions say of metrics: to how many real images, and what the bars are."""
    reference = 0 if material.data is None else len(material.data.train)
    facts = dict[str, Any](reference=reference)
    bands = "95 % intervals, where the samples are enough for one"
    if material.band == "minmax":
        bands = f"least and largest of {material.repeats} sets of seeds"
        facts |= material.first(material.repeats * material.count)
    shown = set() if table is None else {"frechet", "frechet_debiased"} & set(table["metric"])
    if material.band == "interval" and shown == {"frechet"}:
        bands += ", but of the distance, for which the images are too few"
    return facts | {"bands": bands}


def distance_of(table: pd.DataFrame) -> str:
    """The Frechet distance without its bias, or where there is none as measured."""
    return "frechet_debiased" if "frechet_debiased" in set(table["metric"]) else "frechet"


def draw_against(numbers: Numbers, *, metrics: Sequence[str] = FOUR, starred: bool = False, **how: Any) -> Figure:
    """A panel a metric that there is; the least measured Frechet distance of each line with a star."""
    table = numbers.tables["metrics"]
    there = set(table["metric"])
    chosen = [distance_of(table) if name == "frechet_debiased" else name for name in metrics]
    shown = {name: LABELS[name] for name in chosen if name in there}
    best = [distance_of(table)] if starred else []
    return figures.metrics_against(table, shown, x=numbers.facts["x"], starred=best, **how)


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


def weak_numbers(material: Material) -> Numbers:
    """Metrics under CFG and autoguidance."""
    assert material.weak is not None  # the entry needs it
    return against_numbers(material, {"CFG": CFG(1.0), "Autoguidance": Autoguidance(1.0, material.weak.denoiser)})


def independent_numbers(material: Material) -> Numbers:
    """Metrics under CFG and the two rules that need no unconditional branch, time-step guidance where there is one."""
    model = material.studied
    rules: dict[str, Rule] = {"CFG": CFG(1.0), "ICG": ICG(1.0, RandomRows(model.conditions(material.count)))}
    without = lacking_site(model.denoiser, TSG(1.0).site)
    if not without:
        rules["TSG"] = TSG(1.0)
    told = f"TSG is left out: {without}" if without else "TSG adds noise of one standard deviation to the embedding"
    numbers = against_numbers(material, rules)
    return Numbers(numbers.tables, facts={**numbers.facts, "tsg": told})


def lacking_site(denoiser: Any, site: str) -> str:
    """Why a denoiser has no module of that name; "" if it has."""
    has = isinstance(denoiser, nn.Module) and site in site_names(denoiser)
    return "" if has else f"the model has no module {site}"


BANDS = {"low band": (True, False), "high band": (False, True), "both bands": (True, True)}


def band_numbers(material: Material) -> Numbers:
    """Metrics where the lower, the higher or both frequencies are guided."""
    rules = {
        f"{name}, w = {w:g}": FrequencyDecoupled(tuple(w if guided else 1.0 for guided in which))
        for name, which in BANDS.items() for w in material.weights
    }  # fmt: skip
    table = measured(material, rules)
    named = table["rule"].str.split(", w = ", expand=True)
    table = table.assign(rule=named[0], weight=named[1].astype(float))
    return Numbers({"metrics": table}, facts=about(material, table) | {"x": "weight"})


def _metrics_entry(name: str, rules: str, numbers: Callable[[Material], Numbers], *, oracle: str, **more: Any) -> Entry:
    """An entry of four panels against the weight."""
    return Entry(
        name, f"Frechet distance, precision, recall and range of the samples against the weight, {rules}",
        ("model", "conditions", "data", *more.pop("needs", ())), numbers, more.pop("draw", draw_against),
        f"Frechet distance to {{reference}} real images, precision, recall and share of values out of range against "
        f"the guidance weight, {rules} ({{model}}; {{space}}; {{bands}}).{more.pop('says', '')}",
        oracle, refuses=needs_features, **more,
    )  # fmt: skip


ENTRIES = (
    _metrics_entry(
        "apg-metrics-vs-w", "under CFG and APG",
        lambda m: against_numbers(m, {"CFG": CFG(1.0), "APG": APG(1.0)}),
        cites=("sadat2025eliminating",), place="Figure 8", oracle="at w = 1 all rules give the same samples",
        calls={"CFG and APG, range alone": 490}, differs="the paper's fourth panel is saturation",
    ),
    _metrics_entry(
        "autoguidance-fid-vs-w", "under CFG and autoguidance",
        weak_numbers,
        cites=("karras2024guiding",), place="Figure 3", needs=("weak",),
        oracle="a weak model that is the model itself gives a flat line", calls={"CFG and autoguidance": 490},
        draw=partial(draw_against, starred=True),
        says=" Stars: the least measured distance of each line, which is one of several that scatter.",
    ),
    _metrics_entry(
        "icg-metrics-vs-w", "under CFG, independent condition guidance and time-step guidance", independent_numbers,
        cites=("sadat2025no",), place="Figures 4 and 7",
        oracle="of one class alone ICG, and without noise TSG, give the samples of no guidance",
        calls={"CFG, ICG and TSG": 735}, says=" {tsg}.",
        differs="both rules share one panel a metric, and the schedule of TSG is constant",
    ),
    _metrics_entry(
        "fdg-band-metrics", "with the low, the high or both bands of frequency guided", band_numbers,
        cites=("sadat2025guidance",), place="Figure 5", needs=("pictures",),
        oracle="both bands guided alike are CFG", calls={"bands of frequency": 735},
        differs="the paper's fourth panel is saturation",
    ),
)  # fmt: skip
