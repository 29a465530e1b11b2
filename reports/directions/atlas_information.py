"""Atlas: figures of what a condition says about an image, by the losses of the denoiser."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.information.classify import paired_classify
from scorescope.analysis.information.log_snr import LogSNRLevels, grid_levels
from scorescope.analysis.information.loss_tables import EVERY, win_rates
from scorescope.analysis.information.pairwise import PairwiseInformation, information_of_each, pairwise_information
from scorescope.analysis.information.partial_information import overlap
from scorescope.analysis.statistics.splits import stratified_halves
from scorescope.data.display import displayed
from scorescope.probes.bank.compare import Arm, compare_arms
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.models.denoiser import sigma_range
from scorescope.reports.directions import figures
from scorescope.reports.directions.study import Subject
from scorescope.reports.entries import Entry, Material, Numbers

CLASSES = 10  # at most, so that what it takes does not grow with the model's
FEWEST = 16  # images
LEVELS = 12  # of the curve by noise level
INTEGRATED = 25  # levels of an integral over log-SNR
FEWEST_POINTS = 4  # of each class, that a paired test takes
BUDGETS = (2, 4, 8)  # levels of the classifier, one noise each
SHOWN = 8  # images in the maps
NAMED = 3  # attributes of which pairs are made
PAIR_LEVELS = 11
LOW, HIGH = math.exp(-1.5), math.exp(4.5)  # noise levels of integrals, as far as the denoiser has them
ASKED = "{n} images, one noise draw each, seed {seed}."
RULES: dict[str, dict[str, Any]] = {
    "uniform": {"weights": "uniform", "error": None},
    "likelihood": {"weights": "likelihood", "error": None},
    "fitted": {"weights": "fitted", "error": None},
    "likelihood, elimination": {"weights": "likelihood", "error": 0.01},
}


@displayed
@dataclass(frozen=True)
class Classes:
    """Images of a few classes: those held out where their classes are known, else training images."""

    images: Tensor
    labels: Tensor  # position among the names
    names: list[str]
    which: str

    @property
    def conditions(self) -> dict[str, Tensor]:
        """Of each class, for all images."""
        return {name: torch.tensor([int(name)], device=self.images.device) for name in self.names}

    @property
    def own(self) -> Tensor:
        """The condition that names each image's class."""
        return torch.tensor([int(name) for name in self.names], device=self.images.device)[self.labels]

    @property
    def entropy(self) -> float:
        """Of the classes as often as they are among the images, in nats."""
        shares = torch.bincount(self.labels).double() / len(self.labels)
        return float(-(shares * shares.log()).nansum())


def classes_of(material: Material) -> Classes:
    """The first images of at most `CLASSES` classes."""
    data = material.data
    assert data is not None and data.labels is not None  # entries that come here need labels
    held = data.held_out_labels is not None
    images, labels = (data.held_out, data.held_out_labels) if held else (data.train, data.labels)
    assert labels is not None
    values = sorted(labels.unique().tolist())[:CLASSES]
    rows = torch.isin(labels, torch.tensor(values)).nonzero()[: material.count, 0]
    found = torch.searchsorted(torch.tensor(values), labels[rows])
    return Classes(
        images[rows].float().to(material.device), found, [str(value) for value in values],
        f"{'held-out' if held else 'training'} images of {data.name}",
    )  # fmt: skip


def unnamed(material: Material) -> str:
    """Why the model's conditions are no classes, or images too few of them; "" where they are."""
    condition = material.studied.conditions(1)
    if not (isinstance(condition, Tensor) and condition.ndim == 1 and not condition.is_floating_point()):
        return "the model's conditions are no classes, so that labels of images do not name them"
    found = classes_of(material)
    if len(found.names) < 2 or len(found.images) < FEWEST:
        return f"it takes {FEWEST} images of two classes, and there are {len(found.images)} of {len(found.names)}"
    return ""


def facts_of(material: Material, found: Classes, **more: Any) -> dict[str, Any]:
    """What captions say of the images."""
    said = {"n": len(found.images), "classes": len(found.names), "which": found.which, "seed": material.seed}
    return {**said, "how": ASKED, **more}


def level_numbers(material: Material) -> Numbers:
    """How often the true class denoises best, at each noise level alone."""
    found, model = classes_of(material), material.studied
    least, most = sigma_range(model.denoiser, low=0.1, high=30.0)
    bank = Bank(found.images, log_snr_grid(-2 * math.log(most), -2 * math.log(least), LEVELS), seed=material.seed)
    arms = [Arm(name, model.denoiser, condition) for name, condition in found.conditions.items()]
    rates = win_rates(compare_arms(bank, arms, pairs=[], progress=material.progress), found.labels)
    best = rates[rates["foil"] == EVERY].sort_values("rate").iloc[-1]
    facts = facts_of(material, found, best=float(best["rate"]), at=float(best["sigma"]))
    return Numbers({"win_rates": rates}, facts=facts)


def draw_levels(numbers: Numbers, **how: Any) -> Figure:
    """The true class against every other one."""
    rates = numbers.tables["win_rates"]
    shown = rates[rates["foil"] == EVERY].assign(attribute="true class against all others")
    return figures.win_rate_curves(shown, chance=1 / numbers.facts["classes"], **how)


def budget_numbers(material: Material) -> Numbers:
    """Accuracy of every rule at every number of noise levels, on images that no weight was fitted on."""
    found, model = classes_of(material), material.studied
    fit, test = stratified_halves(found.labels, seed=material.seed)
    least, most = sigma_range(model.denoiser, low=0.1, high=30.0)
    parts = []
    for levels, (rule, asked) in itertools.product(BUDGETS, RULES.items()):
        if asked["error"] is not None and levels < FEWEST_POINTS:
            continue
        bank = Bank(found.images, log_snr_grid(-2 * math.log(most), -2 * math.log(least), levels), seed=material.seed)
        decided = paired_classify(
            model.denoiser, bank, found.conditions, found.labels, test_rows=test,
            fit_rows=fit if rule == "fitted" else None, progress=material.progress, **asked,
        )  # fmt: skip
        row = decided.summary
        parts.append(row.assign(rule=rule, levels=levels, evaluations_an_image=row["evaluations"] / row["n"]))
    facts = facts_of(material, found, test=len(test), fit=len(fit))
    return Numbers({"classification": pd.concat(parts, ignore_index=True)}, facts=facts)


def draw_budget(numbers: Numbers, **how: Any) -> Figure:
    """A line a rule."""
    return figures.accuracy_by_calls(numbers.tables["classification"], chance=1 / numbers.facts["classes"], **how)


def levels_of(denoiser: Any, count: int) -> LogSNRLevels:
    """Of an integral over log-SNR, as far as the denoiser has them."""
    least, most = sigma_range(denoiser, low=LOW, high=HIGH)
    return grid_levels(-2 * math.log(most), -2 * math.log(least), count=count)


def information_of(material: Material, found: Classes) -> PairwiseInformation:
    """What the class says of each image, beyond the unconditional branch."""
    denoiser = material.studied.denoiser
    return pairwise_information(
        denoiser, found.images, found.own, levels=levels_of(denoiser, INTEGRATED), entropy=found.entropy,
        seed=material.seed, progress=material.progress,
    )  # fmt: skip


def curve_numbers(material: Material) -> Numbers:
    """Information about the class from high noise down, by both estimators."""
    found = classes_of(material)
    information = information_of(material, found)
    ends = {
        f"{row['estimator']}": f"{row['nats']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        for row in information.expected.to_dict("records")
    }
    levels = information.levels.sigmas
    facts = facts_of(material, found, entropy=found.entropy, low=levels[-1], high=levels[0], **ends)
    return Numbers({"integrand": information.integrand, "expected": information.expected}, facts=facts)


def draw_curves(numbers: Numbers, **how: Any) -> Figure:
    """A panel an estimator."""
    curves = numbers.tables["integrand"].assign(attribute="class")
    return figures.information_curves(curves, {"class": numbers.facts["entropy"]}, **how)


def map_numbers(material: Material) -> Numbers:
    """Where the true class, and the next one, change the prediction."""
    found, denoiser = classes_of(material), material.studied.denoiser
    images = found.images[:SHOWN]
    next_ = found.own.new_tensor([int(name) for name in found.names])[(found.labels + 1) % len(found.names)]
    information = information_of_each(
        denoiser, images, {"true class": found.own[:SHOWN], "next class": next_[:SHOWN]}, maps=True,
        levels=levels_of(denoiser, INTEGRATED), seed=material.seed, progress=material.progress,
    )  # fmt: skip
    tables = [part.pointwise.assign(condition=name) for name, part in information.items()]
    maps = {name: part.influence_map[:, None] for name, part in information.items() if part.influence_map is not None}
    low, high = material.studied.value_range or (-1.0, 1.0)
    pictures = {"image": 2 * (images.cpu() - low) / (high - low) - 1, **maps}
    facts = {**facts_of(material, found), "n": len(images)}
    return Numbers({"pointwise": pd.concat(tables, ignore_index=True)}, pictures, facts)


def draw_maps(numbers: Numbers, **how: Any) -> Figure:
    """A row a condition below the images."""
    maps = {name: found[:, 0] for name, found in numbers.pictures.items() if name != "image"}
    return figures.influence_maps(numbers.pictures["image"], maps, **how)


def pair_numbers(material: Material) -> Numbers:
    """What every two of the first attributes that the condition names do to a prediction, alone and together."""
    assert material.subject is not None  # the entry needs one
    subject: Subject = material.once("subject", material.subject)
    told = [contrast for contrast in subject.contrasts if subject.is_told(contrast.attribute)][:NAMED]
    known = (subject.labels[:, [subject.column(contrast.attribute) for contrast in told]] >= 0).all(1)
    rows = known.nonzero()[: material.count, 0]
    facts = {"model": subject.name, "n": len(rows), "images": subject.images_are, "seed": material.seed, "how": ASKED}
    if len(told) < 2 or not len(rows):
        why = f"the condition names {len(told)} of the attributes, {len(rows)} images have labels of all"
        return Numbers({"overlap": pd.DataFrame()}, facts=facts, why=why)
    tables = [_pair(material, subject, first, second, rows) for first, second in itertools.combinations(told, 2)]
    return Numbers({"overlap": pd.concat(tables, ignore_index=True)}, facts=facts)


def _pair(material: Material, subject: Subject, first: Any, second: Any, rows: Tensor) -> pd.DataFrame:
    labels = subject.labels[rows]
    alone = [subject.opened(labels, second), subject.opened(labels, first)]
    conditions = [subject.conditions(part) for part in (*alone, labels)]
    found = overlap(
        subject.denoiser, subject.images[rows], *conditions,
        baseline=subject.conditions(subject.opened(alone[0], first)), levels=levels_of(subject.denoiser, PAIR_LEVELS),
        seed=material.seed, batch=subject.batch, progress=material.progress,
    )  # fmt: skip
    return found.summary.assign(pair=f"{first.attribute}, {second.attribute}")


def draw_overlap(numbers: Numbers, **how: Any) -> Figure:
    """A panel an aggregate, a group of bars a pair."""
    return figures.overlap_parts(numbers.tables["overlap"], **how)


CLASSIFIER = ("model", "conditions", "data", "labels")
ENTRIES = (
    Entry(
        "classifier-vs-sigma", "how often an image's true class denoises it best, at each noise level alone",
        CLASSIFIER, level_numbers, draw_levels,
        "Share of images whose true class, of {classes}, has the lowest denoising loss of all at one noise level, the "
        "same noise for all classes, against that level ({model}; {which}); highest {best:.2f} at σ = {at:.3g}. Bands "
        "are 95 % Wilson intervals; dotted: a guess.",
        "for classes of one isotropic Gaussian each the winner follows from image and noise in closed form: at high "
        "noise it is the class of the nearest mean",
        cites=("li2023your",), calls={"losses of classes at noise levels": CLASSES * LEVELS}, refuses=unnamed,
        differs="each level is asked by itself; there a decision is taken over many at once",
    ),
    Entry(
        "classifier-budget", "accuracy of the denoiser as a classifier against evaluations an image, by its rule",
        CLASSIFIER, budget_numbers, draw_budget,
        "Accuracy of the class of the lowest weighted denoising loss, of {classes}, against denoiser evaluations an "
        "image ({model}; {which}): weights that are uniform, those of the likelihood, or fitted on {fit} other images, "
        "and elimination of classes by paired tests, from four levels on (an image loses its winner with a chance of "
        "at most 1 %). On {test} images, with 95 % Wilson intervals; dotted: a guess.",
        "without elimination the decision is that of all losses at their weights, and the evaluations are classes "
        "times levels",
        cites=("li2023your",), refuses=unnamed,
        calls={"losses of classes by rule and budget": CLASSES * 3 * sum(BUDGETS)},
    ),
    Entry(
        "information-curves", "information about the class, summed from high noise down, by two estimators",
        CLASSIFIER, curve_numbers, draw_curves,
        "Information about the class ({classes} of them) against the noise level, integrated over log-SNR from "
        "σ = {high:.3g} down ({model}; {which}): by the difference of losses, in all {log_ratio} nats, and by the "
        "squared distance of the two predictions, in all {influence} nats, 95 % intervals over images, down "
        "to σ = {low:.3g}. Curves are estimates without bands. Dotted: entropy of the classes, {entropy:.3g} nats, "
        "which an exact denoiser does not exceed.",
        "of a mixture whose classes lie apart both end at the entropy of the classes",
        cites=("kong2024interpretable",), calls={"losses with and without the class": 2 * INTEGRATED},
        refuses=unnamed,
    ),
    Entry(
        "information-maps", "where in each image the true class, and another one, change the prediction",
        (*CLASSIFIER, "pictures"), map_numbers, draw_maps,
        "Squared distance of the conditional and the unconditional eps prediction, half its integral over log-SNR, "
        "pixel by pixel, summed over channels, on one scale, for the true class and for the next one ({model}; {n} "
        "{which}). This is influence of the condition, no evidence that it is true; no interval can be had of one "
        "image.",
        "the pixels of a map sum to the pointwise influence of the image",
        cites=("kong2024interpretable",), calls={"maps of eight images": 3 * INTEGRATED}, refuses=unnamed,
    ),
    Entry(
        "pid-bars", "influence that two conditions share, have alone, and have only together",
        ("subject",), pair_numbers, draw_overlap,
        "Influence on the prediction that two attributes of the condition share (redundancy), have each alone (unique) "
        "and have only together (synergy, which may be negative), by the partial-information reading ({model}; {n} "
        "{images}, all other attributes named), with the smaller one taken pixel by pixel or of the sums over pixels. "
        "Bars are means with 95 % intervals over images.",
        "the four parts sum to the influence of both conditions together",
        cites=("dewan2024diffusion",),
        calls=lambda material: {"pairs of attributes": 3 * 4 * PAIR_LEVELS * material.count},
        differs="pairs of attributes in place of pairs of words",
    ),
)  # fmt: skip
