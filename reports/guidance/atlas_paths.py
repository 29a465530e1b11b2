"""Atlas: figures of whole paths under guidance, and of what branches say along them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.changes.updates import update_agreement
from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.analysis.guidance.information import suggest_interval
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.analysis.information.optimal_weights import optimal_weights
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.trajectories.step_weights import effective_weights
from scorescope.probes.bank import Arm, Bank, compare_arms, log_snr_grid
from scorescope.probes.experiments.replay import replay_all
from scorescope.probes.guidance import (
    APG,
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
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_update import UNGUIDED, unguided
from scorescope.reports.guidance.sections_paths import TOLERANCE, most_pairs
from scorescope.reports.page.strips import strips

LEVELS = log_snr_grid(-7.0, 7.0, 15)  # from sigma 33 to 0.03
DRAWS = 2
SHOWN = 7  # noise levels in a row of pictures
STRENGTH, STEPS = 0.6, (10, 25, 50)  # of CFG++: the paper's lambda, and numbers of steps
INTERVAL = (0.28, 5.42)  # the published one, for large images
POOL = 1000  # conditions that a random one is drawn from
NAMES = {"CFG": "the unconditional branch", "autoguidance": "the weak model"}
PATH = {"a path under CFG, states kept": 70}
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
    bank = Bank(images.to(material.device), LEVELS, draws=DRAWS, seed=material.seed)
    table = optimal_weights(compare_arms(bank, arms, pairs=pairs))
    facts = {"images": len(images), "draws": DRAWS, "of": material.data.name, "how": "No sampling: one call a point."}
    why = "" if table["weight"].notna().any() else f"at no noise level is there a weight: {table['missing'].iloc[0]}"
    return Numbers({"weights": table}, facts=facts, why=why)


def draw_one_step(numbers: Numbers, **how: Any) -> Figure:
    """Weights above, alignment of errors below."""
    return figures.one_step_weights(numbers.tables["weights"], **how)


def compared_rules(material: Material) -> dict[str, Rule]:
    """Rules that are set beside CFG, with an interval where the information suggests one."""
    weight = material.weight
    rules: dict[str, Rule] = {f"APG, w = {weight:g}": APG(weight), "no guidance": CFG(1.0)}
    interval = suggest_interval(unguided(material)).iloc[0]
    if not interval["missing"]:
        low, high = float(interval["low"]), float(interval["high"])
        rules[f"interval, w = {weight:g}"] = Interval(CFG(weight), low=low, high=high)
    return rules


def part_numbers(material: Material) -> Numbers:
    """Distances of paired states of other rules from those of CFG."""
    count = min(material.count, most_pairs(material.studied))
    base = material.path(CFG(material.weight), count=count)
    tables = [
        separation(base, material.path(rule, count=count), tolerance=TOLERANCE).assign(setting=name)
        for name, rule in compared_rules(material).items()
    ]
    return Numbers({"separation": pd.concat(tables, ignore_index=True)}, facts={"n": count, "tolerance": TOLERANCE})


def draw_part(numbers: Numbers, **how: Any) -> Figure:
    """RMS distances in units of sigma."""
    tables = dict(iter(numbers.tables["separation"].groupby("setting", sort=False)))
    return figures.separation(tables, tolerance=numbers.facts["tolerance"], **how)


def sigma_numbers(material: Material) -> Numbers:
    """What each rule predicts for one sample at the states of a path under CFG."""
    count, weight = min(material.count, most_pairs(material.studied)), material.weight
    rules = {f"CFG, w = {weight:g}": CFG(weight)} | compared_rules(material)
    replays = replay_all(material.path(CFG(weight), count=count), list(rules.values()), keep=True)
    firsts = [visit for visit in replays[0].kept if visit.call == 0 and visit.first == 0]
    places = np.unique(np.linspace(0, len(firsts) - 1, SHOWN).round().astype(int)).tolist()
    steps = [firsts[place].step for place in places]
    pictures, tables = {}, []
    for name, trace in zip(rules, replays, strict=True):
        guided = {visit.step: visit.guided[0] for visit in trace.kept if visit.call == 0 and visit.first == 0}
        pictures[name] = torch.stack([guided[step] for step in steps]).float()
        tables.append(summarise(decompose(trace)).assign(setting=name))
    table = pd.concat(tables, ignore_index=True)
    facts = {
        "levels": [firsts[place].sigma for place in places],
        "range": list(material.studied.value_range or (-1, 1)),
    }
    return Numbers({"steps": table}, pictures, facts | {"n": count})


def draw_sigma(numbers: Numbers, **how: Any) -> Figure:
    """A row a rule, a column a noise level."""
    low, high = numbers.facts["range"]
    rows = {
        name: ((images - low) / (high - low)).clamp(0, 1).movedim(1, -1) for name, images in numbers.pictures.items()
    }
    return strips(
        {name: row.numpy() for name, row in rows.items()}, [f"{s:.2g}" for s in numbers.facts["levels"]], **how
    )


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
    return Numbers({"agreement": table, "rows": rows}, facts={"n": count, "same": same}, why=why)


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
    record = Recording(material.studied.value_range)
    rules = {"CFG": Watched(CFG(2.0)), "autoguidance": Watched(Autoguidance(2.0, material.weak.denoiser))}
    traces = {setting.name: setting.run.trace for setting in material.sweep(rules, record=record)}
    steps = [
        summarise(decompose(trace)).assign(line=NAMES[name]) for name, trace in traces.items() if trace is not None
    ]
    return Numbers({"steps": pd.concat(steps, ignore_index=True)}, facts={"weak": material.weak.name})


def draw_weak(numbers: Numbers, **how: Any) -> Figure:
    """Norms of the update and its parts, a panel a reference."""
    return figures.parts_by_line(numbers.tables["steps"], **how)


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
        "rules-part", "distance of the states of other rules from those of CFG, from the same noise, against σ",
        ("model", "conditions"), part_numbers, draw_part,
        "RMS distance of paired states, in units of σ, of each rule's path from that of CFG at w = {weight:g} from the "
        "same noise, against the noise level ({model}); marks, the first step whose interval lies above "
        "{tolerance:g}. Bands are 95 % intervals over pairs, at each step alone.",
        "one rule twice is at distance 0; of two Gaussians of one covariance the states of CFG at two weights part by "
        "a known vector", calls=UNGUIDED | PATH | {"paths of other rules": 175},
    ),
    Entry(
        "rules-by-sigma", "what each rule predicts for one sample at the same states, a row a rule, a column a σ",
        ("model", "conditions", "pictures"), sigma_numbers, draw_sigma,
        "Guided predictions of the first sample at the states of a path under CFG at w = {weight:g} ({model}), a row "
        "a rule; columns, falling noise levels. No rule but CFG goes on from its own prediction.",
        "at w = 1 all rows are the same", calls=UNGUIDED | PATH,
    ),
    Entry(
        "icg-update-agreement", "agreement of the updates of ICG and CFG at the same states against σ",
        ("model", "conditions"), agreement_numbers, draw_agreement,
        "Cosine, and ratio of norms, of the guidance updates of a random condition (ICG) and of none (CFG) at the "
        "states of unguided paths, denoised space, against the noise level ({model}); dotted, full agreement. Bands "
        "are 95 % intervals of the mean over samples; in {same:.0%} of evaluations an update is zero, as where the "
        "random condition is the sample's own, and there is no cosine.",
        "a rule agrees with itself: cosine and ratio are 1; of one class alone both updates are zero, and missing",
        cites=("sadat2025no",), calls={"unguided paths with two branches each": 140},
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
        "autoguidance-update", "norm of the update from a weak model, and of its parts, beside that of CFG, against σ",
        ("model", "conditions", "weak"), weak_numbers, draw_weak,
        "Norm of the update, and of its parts along and orthogonal to $D_1$, in denoised space, away from the "
        "unconditional branch (CFG) and away from {weak} (autoguidance), at the states of unguided paths of {model}. "
        "Bands are 95 % intervals over samples.",
        "of two Gaussians of one mean m the update is [S(S + σ²)⁻¹ − S₀(S₀ + σ²)⁻¹](x − m)",
        cites=("karras2024guiding",), calls={"unguided paths with two branches each": 140},
    ),
)  # fmt: skip
