"""What `scorescope compare` runs: recorded runs are compared step by step, denoisers at the same noisy points."""

from pathlib import Path

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.models.model import Model, load_model
from scorescope.reports.changes.report import compare_denoisers, compare_runs, trace_folder
from scorescope.reports.gaussian import from_folder
from scorescope.reports.page.pages import Outcome

MARK = "steps.jsonl"  # of a trace


def compare(
    out: Path,
    names: list[str],
    *,
    images: Path | None,
    size: int | None,
    factory: str | None,
    device: str,
    command: str,
) -> Outcome:
    """Compare what is named with the first of it.

    Raises
    ------
    InputError
        For fewer than two names, one named twice, and runs beside denoisers.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError("A B ...", found=", ".join(names), expected="two or more, each once")
    recorded = [(trace_folder(name) / MARK).is_file() for name in names]
    if all(recorded):
        if images is not None:
            raise InputError("--images", found="images for recorded runs", expected="none")
        return compare_runs(out, dict(zip(_short(names), names, strict=True)), command=command)
    if any(recorded):
        found = f"{names[recorded.index(False)]} beside recorded runs"
        raise InputError("A B ...", found=found, expected="recorded runs alone, or denoisers alone")
    models = {name: load_model(name, device=device, factory=factory) for name in names}
    return _denoisers(out, models, images, size, device, command)


def _short(names: list[str]) -> list[str]:
    """The last part of each path, where that tells them apart."""
    short = [Path(name).resolve().name.removesuffix(".safetensors") for name in names]
    return short if len(set(short)) == len(names) else names


def _denoisers(
    out: Path, models: dict[str, Model], images: Path | None, size: int | None, device: str, command: str
) -> Outcome:
    names = list(models)
    first = models[names[0]]
    if other := [name for name, model in models.items() if model.shape != first.shape]:
        raise InputError("A B ...", found=f"{other[0]} of shape {models[other[0]].shape}", expected=f"{first.shape}")
    held, labels = _images(first, images, size)
    denoisers = dict(zip(_short(names), (model.denoiser for model in models.values()), strict=True))
    return compare_denoisers(out, denoisers, held.to(device), condition=labels, command=command)


def _images(model: Model, folder: Path | None, size: int | None) -> tuple[Tensor, Tensor | None]:
    """Images and their classes: those of a folder, which have none, or the held-out digits."""
    if folder is not None:
        data = from_folder(folder, model, size=size)
        return torch.cat([data.held_out, data.train]), None
    if model.digits is None:
        found = f"none for {model.name}"
        raise InputError("--images", found=found, expected="a folder of images that none of them was trained on")
    return model.digits.held_out.images, model.digits.held_out.labels
