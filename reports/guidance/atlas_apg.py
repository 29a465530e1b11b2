"""Atlas: adaptive projected guidance: values of samples, gains along a path, its three parts, its fields, its space."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.paths import clip_share, gain_path
from scorescope.analysis.guidance.setting_comparisons import changes
from scorescope.analysis.guidance.sweeps import sample_metrics
from scorescope.probes.guidance import APG, CFG, InSpace, Rule
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
from scorescope.reports.guidance.atlas_update import SWEPT, swept, traces
from scorescope.reports.guidance.sections_paths import clip_norms
from scorescope.reports.guidance.sections_values import densities

BETA = -0.75  # the paper's momentum
MOMENTA = (-0.9, BETA, -0.5, -0.25, 0.0, 0.5)
CHANGED = ("overshoot_share", "saturation", "contrast", "diversity")
RANGE_ALONE = {"CFG and APG, range alone": 490}


def kde_numbers(material: Material) -> Numbers:
    """Densities of element values under both rules at every weight, and of real images where there are some."""
    settings = material.sweep({"CFG": CFG(1.0), "APG": APG(1.0)}, weights=material.weights)
    sets = {(type(setting.rule).__name__, setting.rule.weight): setting.run.samples for setting in settings}
    if material.data is not None:
        sets["data", float("nan")] = material.data.train
    value_range = material.studied.value_range
    shown = {"range": list(value_range or ()), "drawn": list(material.weights)}
    return Numbers({"densities": densities(sets, value_range)}, facts=shown)


def draw_kde(numbers: Numbers, **how: Any) -> Figure:
    """A panel a rule."""
    value_range = tuple(numbers.facts["range"]) or None
    return figures.value_densities(
        numbers.tables["densities"], weights=numbers.facts["drawn"], value_range=value_range, **how
    )


def gain_numbers(material: Material) -> Numbers:
    """Gains along the paths of all runs: of CFG, of APG at the largest weight, or of the traces that were brought."""
    path = gain_path(pd.concat([decompose(trace) for trace in traces(material)], ignore_index=True))
    runs = list(dict.fromkeys(zip(path["rule"], path["weight"], strict=True)))
    if material.model is not None:
        runs = [(rule, weight) for rule, weight in runs if rule == "CFG" or weight == max(material.weights)]
    return Numbers({"path": path}, facts={"runs": [list(run) for run in runs]})


def draw_gain(numbers: Numbers, **how: Any) -> Figure:
    """Gain of a step, and the product so far."""
    return figures.gain_path(numbers.tables["path"], runs=[tuple(run) for run in numbers.facts["runs"]], **how)


def guided_rows(material: Material) -> pd.DataFrame:
    """The decomposition of CFG at the weight of the material: what clips r are told from."""
    runs = {setting.name: setting.run for setting in swept(material)}
    return decompose(runs[f"CFG, w = {material.weight:g}"])


def parts_taken_away(norm: float) -> dict[str, Rule]:
    """APG with all of its parts, without each of them, and without any."""
    return {
        "full APG": APG(1.0, norm=norm, momentum=BETA),
        "no projection": APG(1.0, eta=1.0, norm=norm, momentum=BETA),
        "no clip": APG(1.0, momentum=BETA),
        "no momentum": APG(1.0, norm=norm),
        "none (CFG)": APG(1.0, eta=1.0),
    }


def ablation_numbers(material: Material) -> Numbers:
    """Paired changes from full APG of what each sample has, and every metric of each setting."""
    norm, weights = clip_norms(guided_rows(material))[0], [material.weight]
    model, rules = material.studied, parts_taken_away(norm)
    settings, condition = material.sweep(rules, weights=weights), model.conditions(material.count)
    labels = condition if getattr(condition, "ndim", 0) == 1 else None
    rows = sample_metrics(settings, value_range=model.value_range, labels=labels, features=material.features)
    table = measured(material, rules, weights=weights)
    paired = changes(rows, against=settings[0].name, metrics=CHANGED)
    facts = about(material, table) | {"norm": norm, "beta": BETA}
    return Numbers({"changes": paired, "metrics": table}, facts=facts)


def draw_ablation(numbers: Numbers, **how: Any) -> Figure:
    """Dots with intervals, a panel a metric, beside the Frechet distances."""
    short = {
        name: table.assign(setting=table["setting"].str.split(", w = ").str[0])
        for name, table in numbers.tables.items()
    }
    paired, table = short["changes"], short["metrics"]
    paired = paired.assign(against=paired["against"].str.split(", w = ").str[0])
    there = set(paired["metric"])
    metrics = {name: f"change of {LABELS[name]}" for name in CHANGED if name in there}
    metric = distance_of(table)
    return figures.paired_changes(paired, metrics, levels=table, level=(metric, LABELS[metric]), **how)


def field_numbers(material: Material) -> Numbers:
    """Metrics by clip and by momentum, each alone, and where those clips act."""
    rows, rule = guided_rows(material), {"APG": APG(material.weight)}
    norms = clip_norms(rows)
    table = pd.concat(
        [
            measured(material, rule, over={"norm": [*norms, float("inf")]}),
            measured(material, rule, over={"momentum": MOMENTA}),
        ],
        ignore_index=True,
    )
    return Numbers({"metrics": table, "shares": clip_share(rows, norms=norms)}, facts=about(material, table))


def draw_fields(numbers: Numbers, **how: Any) -> Figure:
    """The Frechet distance against clip and momentum, and the share of steps clipped."""
    table = numbers.tables["metrics"]
    metric = distance_of(table)
    return figures.rule_fields(table, numbers.tables["shares"], metric, label=LABELS[metric], **how)


def space_numbers(material: Material) -> Numbers:
    """Metrics of CFG, and of APG in three prediction spaces."""
    rules: dict[str, Rule] = {"CFG": CFG(1.0), "APG": APG(1.0)}
    rules |= {f"{space}-space APG": InSpace(APG(1.0), space) for space in ("eps", "v")}
    return against_numbers(material, rules)


def draw_spaces(numbers: Numbers, **how: Any) -> Figure:
    """Range, colour and contrast against the weight."""
    return draw_against(numbers, metrics=("overshoot_share", "saturation", "contrast"), **how)


ENTRIES = (
    Entry(
        "apg-value-kde", "densities of the samples' values under CFG and APG at every weight, beside real images",
        ("model", "conditions"), kde_numbers, draw_kde,
        "Gaussian kernel densities (bandwidth 0.03) of the values of samples under CFG and APG at w = {weights}, and "
        "of real images where there are some ({model}); dotted: the range of the data. Densities have no intervals.",
        "a density integrates to the share of values on its axis",
        cites=("sadat2025eliminating",), place="Figure 7", calls=RANGE_ALONE,
        differs="densities of the saturation are left out",
    ),
    Entry(
        "apg-gain-path", "gain of each step along the prediction, and its product along the path, against σ",
        ("run", "conditions"), gain_numbers, draw_gain,
        "Gain of each step along $D_c$, weighted by the share of the state that the step replaces, and the product of "
        "the gains so far, against the noise level ({model}); bands are 95 % intervals over samples.",
        "1 everywhere at w = 1, and for APG, which moves across $D_c$ alone",
        cites=("sadat2025eliminating",), place="section 4", calls=SWEPT,
    ),
    Entry(
        "apg-ablation-table", "what the samples lose or gain without each of the three parts of APG",
        ("model", "conditions", "data"), ablation_numbers, draw_ablation,
        "Frechet distance to {reference} real images ({space}; {bands}), and paired changes of the same seeds from "
        "full APG (η = 0, r = {norm:g}, β = {beta:g}), at w = {weight:g}, without projection, clip, momentum, or any "
        "of them ({model}); bars of changes are 95 % intervals over pairs. Distances are not paired.",
        "without any of the three parts APG is CFG",
        cites=("sadat2025eliminating",), place="Table 2", refuses=needs_features,
        calls={"APG without its parts": 350} | SWEPT, differs="r is 5 % of the norm of $D_c$ at the end of a path",
    ),
    Entry(
        "apg-clip-and-momentum", "Frechet distance against the clip and the momentum of APG, and where the clip acts",
        ("model", "conditions", "data"), field_numbers, draw_fields,
        "Frechet distance to {reference} real images against the clip r and against the momentum β of APG at "
        "w = {weight:g}, and the share of a sample's steps that each clip acts on at the states of CFG ({model}; "
        "{space}; {bands}; of shares 95 % intervals over samples).",
        "the share of clipped steps falls with r, and without a clip is 0",
        cites=("sadat2025eliminating",), place="Table 9", refuses=needs_features,
        calls={"APG with other clips and momenta": 770} | SWEPT,
        differs="clip and momentum are varied one at a time, with the other off",
    ),
    Entry(
        "apg-space", "range and contrast of the samples against the weight, for projection in three prediction spaces",
        ("model", "conditions"), space_numbers, draw_spaces,
        "Share of values out of range, HSV saturation of colour images and standard deviation within a sample against "
        "the guidance weight, for CFG and APG in denoised, eps and v space ({model}; {bands}).",
        "what is linear in the branches is the same in every space",
        cites=("sadat2025eliminating",), place="Figure 12", calls={"APG in three spaces": 980},
    ),
)  # fmt: skip
