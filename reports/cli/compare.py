"""What `scorescope compare` runs, by what is named: recorded runs, sweeps, reports, denoisers, or EMA lengths."""

import functools
import json
from collections.abc import Mapping
from concurrent.futures import Executor
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.bank import Arm, Bank, Comparison, compare_arms
from scorescope.probes.experiments.sweep import read_sweep
from scorescope.probes.experiments.sweep_store import is_setting
from scorescope.probes.models.conditions import to_device
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.models.edm_network import EDMNetwork
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.models.posthoc_ema import AT_MOST, find_snapshots
from scorescope.probes.work import cut, execute
from scorescope.probes.work.chunks import complete
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.named_models import told_model, worker_models
from scorescope.reports.changes import (
    compare_denoisers,
    compare_ema_lengths,
    compare_reports,
    compare_runs,
    compare_sweeps,
)
from scorescope.reports.changes.recorded import Source, trace_folder
from scorescope.reports.changes.report import changes_bank
from scorescope.reports.gaussian import from_folder
from scorescope.reports.page.pages import Outcome

BATCH, RESULT = 256, "comparison.safetensors"
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
    executor: Executor | None = None,
) -> Outcome:
    """Compare what is named with the first of it; of one sweep, its settings.

    With an executor the losses of denoisers are made in chunks, which stay in the folder `work` of the report.

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
        told = {"names": names, "factory": factory, "images": images and str(images.absolute()), "size": size}
        return _denoisers(out, models, told, device, command, executor)
    if executor is not None:
        raise InputError("--workers, --dask", found=f"workers for {kinds[0]}", expected="denoisers, or none")
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
    out: Path, models: dict[str, Model], told: Mapping[str, Any], device: str, command: str, executor: Executor | None
) -> Outcome:
    names = list(models)
    first = models[names[0]]
    if other := [name for name, model in models.items() if model.shape != first.shape]:
        raise InputError("A B ...", found=f"{other[0]} of shape {models[other[0]].shape}", expected=f"{first.shape}")
    held, labels = _images(first, told["images"], told["size"])
    denoisers = dict(zip(_short(names), (model.denoiser for model in models.values()), strict=True))
    made = None
    if executor is not None:
        sources = {name: told_model(model, name, told["factory"]) for name, model in models.items()}
        digest = fingerprint((held, labels), argument="images")
        spec = {"models": sources, **told, "short": list(denoisers), "device": device, "data": digest}
        made = _in_chunks(out / "work", spec, len(held), executor)
    return compare_denoisers(out, denoisers, held.to(device), condition=labels, comparison=made, command=command)


def _in_chunks(folder: Path, spec: Mapping[str, Any], count: int, executor: Executor) -> Comparison:
    """The comparison of all pairs, by others."""
    chunks = cut(f"{__name__}:losses_chunk", spec, range(count), size=max(1, BATCH // len(spec["names"])))
    done = execute(chunks, folder, executor)
    if not done.is_complete:
        error = next(iter(done.failed.values()), "not made")
        raise InputError("--workers, --dask", found=f"{len(done.missing)} of {done.count} chunks missing: {error}",
                         expected="all of them; what is there is kept")  # fmt: skip
    return Comparison.join([Comparison.load(place / RESULT) for place, _ in complete(chunks, folder)])


def losses_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> None:
    """The comparison of all pairs on some of the images."""
    device = worker_device(spec["device"])
    models = worker_models(spec["models"], device)
    bank, labels = _worker_bank(json.dumps({name: spec[name] for name in ("models", "images", "size", "data")}), device)
    arms = [Arm(name, one.denoiser, labels) for name, one in zip(spec["short"], models.values(), strict=True)]
    found = compare_arms(bank, arms, pairs=list(combinations(spec["short"], 2)), rows=torch.tensor(seeds), batch=BATCH)
    found.save(folder / RESULT)


@functools.lru_cache(maxsize=1)
def _worker_bank(told: str, device: str) -> tuple[Bank, Tensor | None]:
    """A worker's noisy points and classes, made once."""
    spec = json.loads(told)
    held, labels = _images(next(iter(worker_models(spec["models"], device).values())), spec["images"], spec["size"])
    if fingerprint((held, labels), argument="images") != spec["data"]:
        raise InputError("images", found="others than the command saw", expected="the same images")
    return changes_bank(held.to(device)), to_device(labels, torch.device(device))


def _images(model: Model, folder: Path | str | None, size: int | None) -> tuple[Tensor, Tensor | None]:
    """Images and their classes: those of a folder, which have none, or the held-out digits."""
    if folder is not None:
        data = from_folder(folder, model, size=size)
        return torch.cat([data.held_out, data.train]), None
    if model.digits is None:
        found = f"none for {model.name}"
        raise InputError("--images", found=found, expected="a folder of images that none of them was trained on")
    return model.digits.held_out.images, model.digits.held_out.labels
