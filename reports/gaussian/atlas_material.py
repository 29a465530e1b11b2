"""Atlas: the study of the Gaussian entries, made once of a material, and what these entries need beyond words."""

import torch

from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Material
from scorescope.reports.gaussian.study import LEAST, Data, Study, bands

ASKED = "Asked at {n} images of a kind, one noise draw each, seed {seed}."


def model_of(material: Material) -> Model:
    """The model; the last checkpoint, where checkpoints alone were brought."""
    return material.model or list(material.checkpoints.values())[-1]


def study_of(material: Material) -> Study:
    """Laws fitted to the training images, and the network's fine path, shared by all entries of this instrument."""
    return material.once("gaussian study", lambda: _study(material))


def _study(material: Material) -> Study:
    found = material.data
    assert found is not None  # entries that come here need data
    data = Data(found.train, found.held_out, found.labels, found.name, found.held_out_labels)
    return Study(
        model_of(material), data, quick=False, progress=material.progress, seed=material.seed, device=material.device,
        count=material.count,
    )  # fmt: skip


def images_facts(study: Study, *, units: str = "images") -> dict[str, object]:
    """What captions say of images that were asked about."""
    count = len(study.held_out)
    return {
        "model": study.model.name, "n": count, "seed": study.seed, "data": study.data.name, "fitted": len(study.train),
        "bands": bands(count, units).strip(". "), "how": ASKED,
    }  # fmt: skip


def path_facts(study: Study, steps: int) -> dict[str, object]:
    """What captions say of the network's own path."""
    count = len(study.seeds)
    return {
        "n": count, "solver": f"Heun, {steps} steps", "data": study.data.name, "fitted": len(study.train),
        "top": study.span[1], "bands": bands(count, "seeds").strip(". "),
    }  # fmt: skip


def unfit(material: Material) -> str:
    """Why laws cannot be fitted to the images that were brought; "" where they can."""
    data, shape = material.data, model_of(material).shape
    if data is None:
        return ""
    if tuple(data.train.shape[1:]) != tuple(shape):
        return f"the images have the shape {tuple(data.train.shape[1:])}, samples of the model {tuple(shape)}"
    low, high = float(data.train.min()), float(data.train.max())
    least, most = model_of(material).value_range or (low, high)
    if low < least or high > most:
        return f"the images have values from {low:.3g} to {high:.3g}, samples of the model from {least:g} to {most:g}"
    counts = len(data.train), len(data.held_out)
    if min(counts[0], LEAST * counts[1]) < LEAST:
        return f"laws are fitted to at least {LEAST} images and asked at others, and there are {counts[0]}, {counts[1]}"
    return ""


def without_gradient(material: Material) -> str:
    """Why the images, or a model without a gradient, are not enough for Jacobians; one sample is asked, once."""
    return unfit(material) or material.once("gradient", lambda: _without_gradient(material))


def _without_gradient(material: Material) -> str:
    model, data = model_of(material), material.data
    assert data is not None  # entries that come here need data
    low, high = sigma_range(model.denoiser, low=0.002, high=80.0)
    with torch.enable_grad():
        x = data.train[:1].detach().to(material.device).requires_grad_()
        denoised = model.denoiser(x, torch.full((1,), min(max(1.0, low), high)).to(x), None)
    return "" if denoised.requires_grad else "a Jacobian needs a denoiser that can be differentiated in its input"
