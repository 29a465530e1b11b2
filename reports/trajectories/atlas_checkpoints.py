"""Atlas: figures that hold checkpoints against each other without samples' metrics: laws, sizes, noise levels."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.gaussian import compare_scores
from scorescope.analysis.guidance import guidance_information
from scorescope.analysis.trajectories import block_sites, divergence, site_magnitudes
from scorescope.data.errors import InputError
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.guidance import CFG
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.model import Model
from scorescope.probes.recording.trace import Recording
from scorescope.probes.sites.modules import site_names
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.trajectories import figures
from scorescope.reports.trajectories.atlas_paths import LARGEST
from scorescope.reports.trajectories.atlas_training import loss_numbers, number_of, real_images

LEVELS = tuple(np.geomspace(80.0, 0.01, 25).tolist())
MAGNITUDE_LEVEL = 1.0
PANELS = {
    "loss": "weighted loss, held out",
    "fraction": "not the Gaussian's (share of squares)",
    "information": "nats per halving of σ",
}


def samples_of(material: Material, model: Model) -> Tensor:
    """Unguided samples of a model from the material's seeds, as `fid-during-training` has them."""
    (one,) = material.sweep({"no guidance": CFG(1.0)}, model=model)
    return one.run.samples


def divergence_numbers(material: Material) -> Numbers:
    """Every checkpoint against the one before it, at noised samples of the later one."""
    names, models = list(material.checkpoints), list(material.checkpoints.values())
    parts = []
    for place in range(1, len(names)):
        later, earlier = models[place], models[place - 1]
        samples = samples_of(material, later).to(material.device)
        condition = to_device(later.conditions(len(samples)), torch.device(material.device))
        table = divergence(
            later.denoiser, earlier.denoiser, samples, material.within(LEVELS, later, earlier), condition=condition
        )
        parts.append(table.assign(pair=f"{names[place]} against {names[place - 1]}"))
    return Numbers({"divergence": pd.concat(parts, ignore_index=True)}, facts={"pairs": len(parts)})


def draw_divergence(numbers: Numbers, **how: Any) -> Figure:
    """Density and sum."""
    return figures.divergences(numbers.tables["divergence"], **how)


def magnitude_numbers(material: Material) -> Numbers:
    """Sizes at the blocks of the last checkpoint's network, for every checkpoint."""
    models = material.checkpoints
    last = list(models.values())[-1]
    images, condition = real_images(material, last)["held out"]
    first = None if condition is None else select_rows(condition, slice(0, 2))
    sites = block_sites(last.denoiser, images[:2], MAGNITUDE_LEVEL, condition=first)
    parts = [
        site_magnitudes(one.denoiser, sites, images, [MAGNITUDE_LEVEL], condition=condition).assign(
            checkpoint=name, position=number_of(name)
        )
        for name, one in models.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    facts = {"level": MAGNITUDE_LEVEL, "images": len(images), "checkpoints": len(models)}
    return Numbers({"magnitudes": table}, facts=facts | {"how": "{images} held-out images, one noise draw each."})


def draw_magnitudes(numbers: Numbers, **how: Any) -> Figure:
    """Activations and weights."""
    return figures.magnitudes(numbers.tables["magnitudes"], **how)


def no_sites(material: Material) -> str:
    """Sizes are of modules, so every checkpoint has to be a network."""
    try:
        for model in material.checkpoints.values():
            site_names(model.denoiser)
    except InputError:
        return "every checkpoint has to be a torch.nn.Module with modules inside"
    return ""


def grid_numbers(material: Material) -> Numbers:
    """What each checkpoint has learnt, level by level: its loss, what is not the Gaussian's, what a condition says."""
    loss = loss_numbers(replace(material, band="interval")).tables["losses"]  # all curves have one kind of band
    parts = [_losses(loss, name) for name in material.checkpoints]
    parts += _each(material, _fraction)
    parts += _each(material, _information)
    table = pd.concat(parts, ignore_index=True)
    shown = {name: label for name, label in PANELS.items() if name in set(table["quantity"])}
    return Numbers({"curves": table}, facts={"shown": shown, "checkpoints": len(material.checkpoints)})


def _each(material: Material, measure: Callable[[Material, Model], pd.DataFrame | None]) -> list[pd.DataFrame]:
    """One table a checkpoint, without those that cannot be made."""
    made = {name: measure(material, model) for name, model in material.checkpoints.items()}
    return [table.assign(checkpoint=name) for name, table in made.items() if table is not None]


def _losses(table: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = table[(table["images"] == "held out") & (table["denoiser"] == f"checkpoint {name}")]
    return rows[["sigma", "n", "mean", "low", "high"]].assign(quantity="loss", checkpoint=name)


def _fraction(material: Material, model: Model) -> pd.DataFrame | None:
    """Centred unexplained fraction of a Gaussian with the moments of the data."""
    data = material.data
    if data is None or data.train[0].numel() > LARGEST:
        return None
    law = material.once("gaussian of the data", lambda: fit_gaussian(data.train.double().cpu(), name="gaussian"))
    held = data.held_out[: material.count].to(material.device)
    found = compare_scores(model.denoiser, [law], held, material.within(LEVELS, model))
    rows = found[found["metric"] == "centred"]
    names = {"ratio_of_sums": "mean", "ratio_of_sums_low": "low", "ratio_of_sums_high": "high"}
    return rows[["sigma", "n", *names]].rename(columns=names).assign(quantity="fraction")


def _information(material: Material, model: Model) -> pd.DataFrame | None:
    """Nats per octave of the condition along the checkpoint's own unguided path."""
    if model.conditions(1) is None:
        return None
    record = Recording(model.value_range, all_branches=True)
    (one,) = material.sweep({"no guidance": CFG(1.0)}, model=model, record=record)
    assert one.run.trace is not None  # a sweep records
    rows = guidance_information(one.run.trace)[["sigma", "n", "density", "low", "high"]]
    return rows.rename(columns={"density": "mean"}).assign(quantity="information")


def draw_grid(numbers: Numbers, **how: Any) -> Figure:
    """A panel a quantity, a shade a checkpoint."""
    return figures.by_checkpoint(numbers.tables["curves"], numbers.facts["shown"], **how)


ENTRIES = (
    Entry(
        "edm2-magnitudes", "sizes of activations and weights, block by block, over training",
        ("checkpoints", "data"), magnitude_numbers, draw_magnitudes,
        "Root mean square of what blocks of the network put out at σ = {level:g}, with 95 % intervals of the mean over "
        "images, and of their weights, for {checkpoints} checkpoints.",
        "a layer that keeps the mean square of what it gets reads 1, and twice that layer 2",
        cites=("karras2024analyzing",), place="Figure 3", refuses=no_sites,
        calls_each={"activations at one level": 1},
        differs="blocks are shown one by one, not by resolution",
    ),
    Entry(
        "checkpoint-kl", "divergence of each checkpoint from the one before, by noise level",
        ("checkpoints",), divergence_numbers, draw_divergence,
        "Kullback-Leibler divergence of each checkpoint's law from that of the checkpoint before, from "
        "$E|D_p - D_q|^2 / \\sigma^2$ at noised samples of the later one: gained per octave of the noise level, and "
        "its sum from high noise down ({pairs} pairs; 95 % intervals over samples, steps of the solver not included).",
        "of two Gaussians of one covariance it sums to half of δ S⁻¹ δ",
        calls_each={"checkpoints without guidance": 35, "pairs of checkpoints at 25 levels": 2 * len(LEVELS)},
    ),
    Entry(
        "checkpoint-grid", "loss, what no Gaussian explains, and worth of the condition, by noise level, over training",
        ("model", "checkpoints", "data"), grid_numbers, draw_grid,
        "What {checkpoints} checkpoints have learnt, against the noise level: weighted loss on held-out images, share "
        "of the centred prediction that a Gaussian with the moments of the data leaves unexplained (unconditional "
        "branch), and information about the condition per octave along each one's unguided path. 95 % intervals over "
        "images, and over samples.",
        "equal checkpoints have equal curves; a Gaussian's prediction is explained whole",
        calls={"losses of real images at 17 levels": 34},
        calls_each={
            "losses of checkpoints at 17 levels": 34, "scores of checkpoints at 25 levels": len(LEVELS),
            "checkpoints with both branches": 70,
        },
    ),
)  # fmt: skip
