"""Atlas: figures of training: the loss that it lowers, and samples of the checkpoints along it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.trajectories import skip_only, weighted_losses
from scorescope.data.power_ema import LONGEST
from scorescope.probes.guidance import CFG, ICG, Autoguidance, RandomRows, Rule
from scorescope.probes.models.conditions import to_device
from scorescope.probes.models.denoiser import Condition
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance.atlas_metrics import FOUR, LABELS, about, measured, needs_features
from scorescope.reports.trajectories import figures

LEVELS = tuple(np.geomspace(80.0, 0.005, 17).tolist())
UNTRAINED, CHECKPOINT = "no network", "checkpoint, as it is named"


def labels_for(model: Model, labels: Tensor | None) -> Condition:
    """Classes of real images as the model's conditions, where those are classes; else no condition."""
    own = model.conditions(1)
    classes = isinstance(own, Tensor) and own.ndim == 1 and not own.is_floating_point()
    return labels if classes else None


def sigma_data(material: Material) -> float:
    """What the model says that it is, else the root mean square of its training images."""
    own = getattr(material.studied.denoiser, "sigma_data", None)
    if isinstance(own, float):
        return own
    assert material.data is not None  # entries that ask for it need data
    return float(material.data.train.double().square().mean().sqrt())


def real_images(material: Material, model: Model) -> dict[str, tuple[Tensor, Condition]]:
    """As many training as held-out images, at most the material's count, each with the model's condition."""
    data, device = material.data, material.device
    assert data is not None  # entries that ask for it need data
    count = min(len(data.train), len(data.held_out), material.count)
    known = data.labels is not None and data.held_out_labels is not None  # of one kind alone they would tell them apart
    labels_of = (data.labels, data.held_out_labels) if known else (None, None)
    kinds = {"train": (data.train, labels_of[0]), "held out": (data.held_out, labels_of[1])}
    found = {}
    for name, (images, labels) in kinds.items():
        own = None if labels is None else labels_for(model, labels[:count])
        found[name] = images[:count].to(device), to_device(own, torch.device(device))
    return found


def loss_numbers(material: Material) -> Numbers:
    """Weighted losses of the model, its checkpoints, and of no network at all, on images of both kinds."""
    model, sd = material.studied, sigma_data(material)
    real = real_images(material, model)
    sets = {name: images for name, (images, _) in real.items()}
    conditions = {name: condition for name, (_, condition) in real.items()}
    earlier = {f"checkpoint {name}": one.denoiser for name, one in material.checkpoints.items()}
    denoisers = {model.name: model.denoiser, **earlier, UNTRAINED: skip_only(sd)}
    levels = material.within(LEVELS, model, *material.checkpoints.values())
    table = weighted_losses(denoisers, sets, levels, sigma_data=sd, conditions=conditions)
    band = "95 % intervals of the mean over images"
    if material.band == "minmax":
        table = table.assign(low=table["mean"] - table["std"], high=table["mean"] + table["std"])
        band = "one standard deviation over images"
    asked = "on their classes" if conditions["held out"] is not None else "unconditional"
    facts = {"shown": model.name, "sigma_data": sd, "images": len(sets["train"]), "asked": asked, "bands": band}
    drawn = "The first {images} images of either kind, with one noise draw each at every level."
    return Numbers({"losses": table}, facts=facts | {"how": drawn})


def draw_losses(numbers: Numbers, **how: Any) -> Figure:
    """Losses against sigma."""
    table = numbers.tables["losses"]
    return figures.weighted_losses(table, shown=numbers.facts["shown"], untrained=UNTRAINED, **how)


def checkpoint_numbers(
    material: Material, rules: Callable[[Model], Mapping[str, Rule]], *, weights: Sequence[float] | None = None
) -> Numbers:
    """Metrics of every checkpoint's samples, from the same seeds, and where it stands on an axis."""
    parts = [
        measured(material, rules(model), weights=weights, model=model).assign(checkpoint=name, position=number_of(name))
        for name, model in material.checkpoints.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    x = "position" if table["position"].notna().all() else "checkpoint"
    return Numbers(
        {"metrics": table}, facts=about(material, table) | {"x": x, "checkpoints": len(material.checkpoints)}
    )


def number_of(name: str) -> float:
    """A checkpoint's name as a finite number; NaN where it is none."""
    try:
        number = float(name)
    except ValueError:
        return np.nan
    return number if np.isfinite(number) else np.nan


def shown_metrics(table: pd.DataFrame, metrics: Sequence[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of those that there are; the Frechet distance as measured, where there is none without bias."""
    there = set(table["metric"])
    names = ["frechet" if name == "frechet_debiased" and name not in there else name for name in metrics]
    return {name: labels[name] for name in names if name in there}


def draw_checkpoints(
    numbers: Numbers, *, line: str = "", metrics: Sequence[str] = FOUR, xlabel: str = CHECKPOINT, **how: Any
) -> Figure:
    """Panels of metrics over checkpoints."""
    table, x = numbers.tables["metrics"], numbers.facts["x"]
    shown = shown_metrics(table, metrics, LABELS)
    scale = "log" if x == "position" and (table["position"] > 0).all() else "linear"
    return figures.metrics_along(table, shown, x=x, xlabel=xlabel, line=line, scale=scale, **how)


def unguided(model: Model) -> Mapping[str, Rule]:
    """Every checkpoint as it is."""
    return {"no guidance": CFG(1.0)}


def icg_numbers(material: Material) -> Numbers:
    """CFG and ICG at one weight; a random condition is a row of those that the samples have."""

    def rules(model: Model) -> dict[str, Rule]:
        others = RandomRows(model.conditions(material.count))
        return {"CFG": CFG(material.weight), "ICG": ICG(material.weight, others)}

    return checkpoint_numbers(material, rules)


def ema_numbers(material: Material) -> Numbers:
    """Every EMA length without guidance and, where there is an unconditional branch, guided."""
    guided = all(model.conditions(1) is not None for model in material.checkpoints.values())
    weights = dict.fromkeys((1.0, material.weight) if guided else (1.0,))
    numbers = checkpoint_numbers(material, unguided, weights=tuple(weights))
    table = numbers.tables["metrics"]
    return Numbers({"metrics": table.assign(line=table["weight"].map("w = {:g}".format))}, facts=numbers.facts)


def autoguidance_ema_numbers(material: Material) -> Numbers:
    """Autoguidance with the EMA length of the model or of its guiding model varied, the other one fixed."""
    model, weak, weight = material.studied, material.weak, material.weight
    assert weak is not None  # among its needs
    main = checkpoint_numbers(material, lambda _: {"main": Autoguidance(weight, weak.denoiser)})
    lengths = material.checkpoints.items()
    guiding = [
        measured(material, {"guiding": Autoguidance(weight, one.denoiser)}).assign(
            checkpoint=name, position=number_of(name), line=f"of the guiding model, {model.name} guided"
        )
        for name, one in lengths
    ]
    table = main.tables["metrics"].assign(line=f"of the model, guided by {weak.name}")
    return Numbers({"metrics": pd.concat([table, *guiding], ignore_index=True)}, facts=main.facts)


def no_lengths(material: Material) -> str:
    """Names of checkpoints have to be EMA lengths, and there have to be features for a Frechet distance."""
    numbers = [number_of(name) for name in material.checkpoints]
    if all(0 < number <= LONGEST for number in numbers):
        return needs_features(material)
    found = ", ".join(list(material.checkpoints)[:3])
    return f"its checkpoints have to be named by their EMA length, such as 0.05, at most {LONGEST:.4f}, not {found}"


draw_ema = partial(draw_checkpoints, line="line", metrics=("frechet_debiased",), xlabel="EMA length $σ_{rel}$")
NO_GUIDANCE_EACH = {"checkpoints without guidance": 35}

ENTRIES = (
    Entry(
        "edm-loss-vs-sigma", "weighted denoising loss against σ, on training and held-out images, over training",
        ("model", "data"), loss_numbers, draw_losses,
        "Denoising loss in denoised space with the weight $(\\sigma^2 + \\sigma_d^2) / (\\sigma \\sigma_d)^2$, "
        "$\\sigma_d$ = {sigma_data:.3g}, against the noise level ({model}, {asked}; {bands}); dash-dotted: what the "
        "skip connection gives without a network.",
        "the skip connection alone has a loss of 1 at every level for data of root mean square σ_d; a Gaussian's exact "
        "denoiser has the mean of λσ² / (λ + σ²) over modes, times the weight",
        cites=("karras2022elucidating",), place="Figure 5a",
        differs="the density of noise levels in training, which a model does not tell, is not drawn",
        calls={"losses of real images at 17 levels": 2 * len(LEVELS)},
        calls_each={"losses of checkpoints at 17 levels": 2 * len(LEVELS)},
    ),
    Entry(
        "fid-during-training", "Frechet distance, precision, recall and range of the samples over training",
        ("checkpoints", "data"), partial(checkpoint_numbers, rules=unguided), draw_checkpoints,
        "Frechet distance to {reference} real images, precision, recall and share of values out of range of "
        "unguided samples of {checkpoints} checkpoints, from the same seeds ({space}; {bands}).",
        "equal checkpoints give equal values; a law nearer to the data's has the smaller distance",
        calls_each=NO_GUIDANCE_EACH, refuses=needs_features,
    ),
    Entry(
        "icg-vs-cfg-training", "Frechet distance, precision, recall and range under CFG and ICG over training",
        ("model", "checkpoints", "conditions", "data"), icg_numbers, partial(draw_checkpoints, line="rule"),
        "Frechet distance to {reference} real images, precision, recall and share of values out of range under CFG "
        "and independent condition guidance at w = {weight:g}, for {checkpoints} checkpoints, from the same seeds "
        "({space}; {bands}).",
        "where the branches of a network agree, as before training, both rules give the samples of no guidance",
        cites=("sadat2025no",), place="Figure 3", calls_each={"checkpoints under CFG and ICG": 140},
        refuses=needs_features, differs="the fourth panel is an inception score",
    ),
    Entry(
        "edm2-ema", "Frechet distance against the length of the weights' moving average",
        ("checkpoints", "data"), ema_numbers, draw_ema,
        "Frechet distance to {reference} real images against the EMA length (standard deviation of its profile, "
        "relative to training), {checkpoints} lengths, from the same seeds ({space}; {bands}).",
        "equal networks at all lengths give a flat line; a profile of exponent 6.94 has the length 0.10",
        cites=("karras2024analyzing",), place="Figure 5",
        calls_each={"checkpoints without guidance and guided": 105}, refuses=no_lengths,
    ),
    Entry(
        "autoguidance-ema", "Frechet distance under autoguidance against the EMA length of either model",
        ("model", "weak", "conditions", "checkpoints", "data"), autoguidance_ema_numbers, draw_ema,
        "Frechet distance to {reference} real images under autoguidance at w = {weight:g} against the EMA length of "
        "the model and of the guiding model, the other one fixed; {checkpoints} lengths ({space}; {bands}).",
        "equal networks at all lengths give flat lines",
        cites=("karras2024guiding",), place="Figure 3c",
        differs="both lines have the lengths of one training run, where the guiding model has one of its own",
        calls_each={"autoguidance over checkpoints, both ways": 140}, refuses=no_lengths,
    ),
)  # fmt: skip
