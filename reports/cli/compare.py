"""What `scorescope compare` runs, by what is named: recorded runs, sweeps, reports, denoisers, or EMA lengths."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.experiments.sweep import read_sweep
from scorescope.probes.experiments.sweep_store import is_setting
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.models.edm_network import EDMNetwork
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.models.posthoc_ema import AT_MOST, find_snapshots
from scorescope.reports.changes import (
    compare_denoisers,
    compare_ema_lengths,
    compare_reports,
    compare_runs,
    compare_sweeps,
)
from scorescope.reports.changes.recorded import Source, trace_folder
from scorescope.reports.gaussian import from_folder
from scorescope.reports.page.pages import Outcome

MARK = "steps.jsonl"  # of a trace
MANIFEST = "manifest.json"  # of a report
RUN, SWEEP, REPORT, DENOISER = "recorded runs", "sweeps", "reports", "denoisers"


def compare(
    out: Path,
    names: list[str],
    *,
    images: Path | None,
    size: int | None,
    factory: str | None = None,
    device: str,
    command: str,
) -> Outcome:
    """Compare what is named with the first of it; of one sweep, its settings.

    Raises
    ------
    InputError
        For fewer than two names, one named twice, and things of two kinds.
    """
    kinds = [_kind(name) for name in names]
    alone = kinds == [SWEEP]
    if not alone and (len(names) < 2 or len(set(names)) < len(names)):
        raise InputError("A B ...", found=", ".join(names) or "none", expected="two or more, each once")
    if other := [name for name, kind in zip(names, kinds, strict=True) if kind != kinds[0]]:
        found = f"{other[0]} beside {kinds[0]}"
        if DENOISER in kinds and RUN in kinds:
            found = f"{names[kinds.index(DENOISER)]} beside recorded runs"
        raise InputError("A B ...", found=found, expected=f"things of one kind: {RUN}, {SWEEP}, {REPORT} or {DENOISER}")
    if kinds[0] == DENOISER:
        models = {name: load_model(name, device=device, factory=factory) for name in names}
        return _denoisers(out, models, images, size, device, command)
    if images is not None:
        raise InputError("--images", found=f"images for {kinds[0]}", expected="none")
    if alone:
        return compare_runs(out, read_sweep(names[0]), command=command)
    named = dict(zip(_short(names), names, strict=True))
    if kinds[0] == RUN:
        return compare_runs(out, {short: _run(name) for short, name in named.items()}, command=command)
    made = compare_sweeps if kinds[0] == SWEEP else compare_reports
    return made(out, named, command=command)


def compare_ema(
    out: Path, folder: Path, ema: str, *, images: Path | None, size: int | None, device: str, command: str,
    factory: str | None = None, at_most: float = AT_MOST,
) -> Outcome:  # fmt: skip
    """Compare EMAs of several lengths, made from the snapshots in a folder: of ours, or of a factory's network."""
    snapshots = find_snapshots(folder)
    model = load_model(str(snapshots[0].weights), device=device, factory=factory)

    def denoiser_of(weights: Mapping[str, Tensor]) -> Denoiser:
        made: Any = deepcopy(model.denoiser)
        (made.network if isinstance(made, EDMNetwork) else made).load_state_dict(dict(weights))
        denoiser: Denoiser = made
        return denoiser

    held, labels = _images(model, images, size)
    return compare_ema_lengths(
        out, snapshots, _lengths(ema), denoiser_of, held.to(device), condition=labels, at_most=at_most, command=command
    )


def _lengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError("--ema", found=repr(text), expected="EMA lengths (sigma_rel), as 0.03,0.05,0.1") from None


def _kind(name: str) -> str:
    path = Path(name)
    if (trace_folder(name) / MARK).is_file() or (path.is_file() and is_setting(path)):
        return RUN
    if path.is_dir() and any(is_setting(file) for file in path.glob("*.json")):
        return SWEEP
    return REPORT if (path / MANIFEST).is_file() else DENOISER


def _run(name: str) -> Source:
    """A trace by its folder; a setting by what is in its file."""
    return next(iter(read_sweep(name).values())) if Path(name).is_file() else name


def _short(names: list[str]) -> list[str]:
    """The last part of each path, where that tells them apart."""
    short = [Path(name).resolve().name.removesuffix(".safetensors").removesuffix(".json") for name in names]
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
