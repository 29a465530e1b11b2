"""Atlas: figures of what branches say at a state: weights of one step, other references, what a rule comes to."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.changes.updates import update_agreement
from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.information.optimal_weights import optimal_weights
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.trajectories.step_weights import effective_weights
from scorescope.probes.bank import Arm, Bank, compare_arms, log_snr_grid
from scorescope.probes.guidance import (
    CFG,
    CFGPP,
    ICG,
    Autoguidance,
    CosineWeight,
    GuidanceState,
    Interval,
    RandomRows,
    Rule,
    Scheduled,
)
from scorescope.probes.guidance.combination import Combination
from scorescope.probes.guidance.wrappers import Wrapper
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording.trace import Recording
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.entries.material import is_picture
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_update import summarise_bands
from scorescope.reports.guidance.figures_panels import Panel, lettered
from scorescope.reports.guidance.sections_paths import most_pairs
from scorescope.reports.guidance.study import BAND_EDGES
from scorescope.reports.page import theme

LEVELS = log_snr_grid(-7.0, 7.0, 15)  # from sigma 33 to 0.03
DRAWS = 2
STRENGTH, STEPS = 0.6, (10, 25, 50)  # of CFG++: the paper's lambda, and numbers of steps
INTERVAL = (0.28, 5.42)  # the published one, for large images
POOL = 200  # conditions that a random one is drawn from
NAMES = {"CFG": "the unconditional branch", "autoguidance": "the weak model"}
NORM = "L2 norm (units of data)"
ONE_STEP = {"three arms at noisy held-out images": 3 * len(LEVELS) * DRAWS}


def labels_of(material: Material) -> Tensor | None:
    """Classes of held-out images, where they are what the model is conditioned on."""
    if material.data is None or material.model is None:
        return None
    asked = material.model.conditions(1)
    return material.data.held_out_labels if isinstance(asked, Tensor) and asked.ndim == 1 else None


def no_rival(material: Material) -> str:
    """There is something to guide away from: a weak model, or no condition where the condition is known."""
    if material.weak is not None or labels_of(material) is not None:
        return ""
    return "it needs a weaker model to guide with (--weak), or held-out images whose classes are the model's conditions"


def one_step_numbers(material: Material) -> Numbers:
    """Weights of least one-step error on held-out images, away from each model or branch that there is."""
    assert material.data is not None  # `needs` has seen to it
    images, labels, model = material.data.held_out[: material.count], labels_of(material), material.studied
    labels = None if labels is None else labels[: len(images)]
    arms = [Arm(model.name, model.denoiser, labels)]
    if material.weak is not None:
        arms.append(Arm(f"weak: {material.weak.name}", material.weak.denoiser, labels))
    if labels is not None:
        arms.append(Arm("without condition", model.denoiser))
    pairs = [(arm.name, model.name) for arm in arms[1:]]
    levels = material.within(LEVELS, material.studied, material.weak)
    bank = Bank(images.to(material.device), levels, draws=DRAWS, seed=material.seed)
    table = optimal_weights(compare_arms(bank, arms, pairs=pairs))
    facts = {"images": len(images), "draws": DRAWS, "of": material.data.name, "how": "No sampling: one call a point."}
    why = "" if table["weight"].notna().any() else f"at no noise level is there a weight: {table['missing'].iloc[0]}"
    return Numbers({"weights": table}, facts=facts, why=why)


def draw_one_step(numbers: Numbers, **how: Any) -> Figure:
    """Weights above, alignment of errors below."""
    return figures.one_step_weights(numbers.tables["weights"], **how)


@dataclass(frozen=True)
class Watched(Wrapper):
    """Computes the branches of a rule and goes on with the conditional prediction: another one sees the same states."""

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The conditional prediction."""
        return cond

    def combination(self, products: Any, state: GuidanceState) -> Combination | None:
        """None that replays need."""
        return None


def agreement_numbers(material: Material) -> Numbers:
    """Updates of CFG and of a random condition, at the states of unguided paths."""
    count = min(material.count, most_pairs(material.studied))
    drawn = RandomRows(material.studied.conditions(POOL))
    one, other = (material.path(Watched(rule), count=count) for rule in (CFG(2.0), ICG(2.0, drawn)))
    rows = update_agreement(one, other)
    first = rows[rows["call"] == 0]
    table = summarise_by(first, by=["step", "sigma"], quantities=["cosine", "norm_ratio"])
    known = table["mean"].notna().any()
    why = "" if known else f"at no noise level is there an agreement: {rows['missing'].iloc[0]}"
    same = float((first["missing"] != "").mean())
    return Numbers({"agreement": table, "rows": rows}, facts=material.first(count) | {"same": same}, why=why)


def draw_agreement(numbers: Numbers, **how: Any) -> Figure:
    """Cosine above, ratio of norms below."""
    return figures.update_agreement(numbers.tables["agreement"], **how)


def weight_numbers(material: Material) -> Numbers:
    """Weights of CFG++ at several numbers of steps, of an interval and of a schedule."""
    weight, most = material.weight, STEPS[-1]
    rules: dict[str, tuple[Rule, int]] = {f"CFG++, {steps} steps": (CFGPP(STRENGTH), steps) for steps in STEPS}
    rules["CFG in an interval"] = Interval(CFG(weight), *INTERVAL), most
    rules["cosine schedule"] = Scheduled(CFG(weight), CosineWeight(weight, 1.0)), most
    tables = [effective_weights(rule, edm_sigmas(steps)).assign(setting=name) for name, (rule, steps) in rules.items()]
    facts = {"strength": STRENGTH, "low": INTERVAL[0], "high": INTERVAL[1]}
    return Numbers({"weights": pd.concat(tables, ignore_index=True)}, facts=facts)


def draw_weights(numbers: Numbers, **how: Any) -> Figure:
    """A line a rule and number of steps."""
    return figures.effective_weights(numbers.tables["weights"], **how)


def weak_numbers(material: Material) -> Numbers:
    """Updates of CFG and of autoguidance at the same states, those of unguided paths."""
    assert material.weak is not None  # `needs` has seen to it
    model = material.studied
    edges = BAND_EDGES if is_picture(model) else ()
    rules = {"CFG": Watched(CFG(2.0)), "autoguidance": Watched(Autoguidance(2.0, material.weak.denoiser))}
    runs = {
        setting.name: setting.run
        for setting in material.sweep(rules, record=Recording(model.value_range, band_edges=edges))
    }
    tables = {"steps": [summarise(decompose(run)).assign(line=NAMES[name]) for name, run in runs.items()]}
    if edges:
        tables["bands"] = [summarise_bands(run).assign(line=NAMES[name]) for name, run in runs.items()]
    stacked = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return Numbers(stacked, facts={"weak": material.weak.name})


@theme.styled
def draw_weak(numbers: Numbers) -> Figure:
    """Norms of the update, its parts and its bands, two panels a reference."""
    panels: list[Panel] = []
    for line in NAMES.values():
        steps, *bands = (table[table["line"] == line] for table in numbers.tables.values())
        run = {"rule": steps["rule"].iloc[0], "weight": steps["weight"].iloc[0]}
        panels.append((f"from {line}", NORM, partial(figures.update_parts, steps, **run)))
        panels += [(f"its bands, from {line}", NORM, partial(figures.band_norms, rows)) for rows in bands]
    return lettered(panels)


ENTRIES = (
    Entry(
        "optimal-weight-vs-sigma", "guidance weight of least one-step error against σ, away from a weak model or from "
        "the unconditional branch", ("model", "data"), one_step_numbers, draw_one_step,
        "Above, the weight $w$ for which $D_0 + w (D_1 - D_0)$ is nearest to the clean image in the mean square, "
        "against the noise level, $D_1$ of {model} and $D_0$ as named; dotted, no guidance, which is best for an "
        "exact $D_1$. Below, the cosine of the error of $D_1$ and $D_0 - D_1$. Denoised space, {images} held-out "
        "images of {of} with {draws} draws of noise a level; bands are 95 % bootstrap intervals over images. It is a "
        "weight of least squares in one step, not that of the best Frechet distance.",
        "an exact strong model has w = 1 at all σ; errors e and k e have 1 + 1/(k − 1)",
        calls=ONE_STEP, refuses=no_rival,
    ),
    Entry(
        "icg-update-agreement", "agreement of the updates of ICG and CFG at the same states against σ",
        ("model", "conditions"), agreement_numbers, draw_agreement,
        "Cosine, and ratio of norms, of the guidance updates of a random condition (ICG) and of none (CFG) at the "
        "states of unguided paths, denoised space, against the noise level ({model}); dotted, full agreement. Bands "
        "are 95 % intervals of the mean over samples; in {same:.0%} of evaluations an update is zero, as where the "
        "random condition is the sample's own, and there is no cosine.",
        "a rule agrees with itself: cosine and ratio are 1; of one class alone both updates are zero, and missing",
        cites=("sadat2025no",), calls={"updates of CFG and ICG along unguided paths": 140},
        differs="the paper compares samples, not updates",
    ),
    Entry(
        "cfgpp-effective-weight", "weight of CFG that each step of CFG++ comes to, beside an interval and a schedule",
        (), weight_numbers, draw_weights,
        "The weight w of CFG that each first-order step comes to, against its noise level, on EDM grids: CFG++ at "
        "λ = {strength:g} for several numbers of steps, CFG at w = {weight:g} in {low:g} < σ ≤ {high:g}, and a cosine "
        "schedule from {weight:g} to 1. Exact: no model is called and there is nothing random.",
        "CFG++ has λσ/(σ − σ′), which more steps make larger; CFG has its weight",
        cites=("chung2025cfg",), differs="the paper has DDIM grids",
    ),
    Entry(
        "autoguidance-update", "norm of the update from a weak model, its parts and bands, beside CFG's, against σ",
        ("model", "conditions", "weak"), weak_numbers, draw_weak,
        "Norm of the update, of its parts along and orthogonal to $D_c$, and, of images, in bands of spatial "
        "frequency, in denoised space, away from the unconditional branch (CFG) and away from {weak} (autoguidance), "
        "at the states of unguided paths of {model}. Shaded, 95 % intervals over samples.",
        "of two Gaussians of one mean m the update is [S(S + σ²)⁻¹ − S₀(S₀ + σ²)⁻¹](x − m)",
        cites=("karras2024guiding",), calls={"updates of CFG and autoguidance along unguided paths": 140},
    ),
)  # fmt: skip
