"""What runs leave: traces, sweeps, chunks of work, stored activations, images and latents that a pipeline made."""

import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from scorescope.analysis.guidance import decompose
from scorescope.data.errors import InputError
from scorescope.probes import CFG, Bank, Trace, collect, record, sweep
from scorescope.probes.activations import (
    Positions,
    ShuffledRows,
    StoredActivations,
    TraceRows,
    store_samples,
    store_trace,
    trace_activations,
)
from scorescope.probes.experiments import plan_calls, read_sweep, record_calls
from scorescope.probes.experiments.pipeline_latents import pipeline_latents
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording.reading import verify
from scorescope.probes.sampling import Euler
from scorescope.probes.work import Chunk, Done, execute, finished, read_status
from scorescope.probes.work.chunks import check
from scorescope.reports.changes.recorded import open_run
from scorescope.reports.gaussian.pipeline_data import read_latents
from tests.fuzz import damage
from tests.fuzz.image_kinds import npz
from tests.fuzz.kind import Kind, all_of, written
from tests.oracles import random_pair
from tests.pipelines import PIPELINES, sd15
from tests.probes.activations.stored_run import Small

SITE = "unet.mid_block"
LATENTS = np.random.default_rng(0).normal(size=(3, 4, 2, 2)).astype(np.float32)


def trace(folder: Path) -> Path:
    """A trace of three steps with all arrays, and what a site put out."""
    pipe, arguments = sd15(steps=3)
    with record(pipe, path=folder / "t", keep="all", sites=[SITE], progress=False) as found:
        for _ in found.runs([{"seed": 1, "prompt": "a"}], progress=False):
            pipe(**arguments)
    return folder / "t"


def _read_trace(path: Path) -> None:
    list(verify(path))
    found = Trace.open(path)
    tables = (lambda: found.scalars, lambda: found.samples, lambda: found.proof, lambda: found.manifest)
    arrays = (partial(found.load, name, 0) for name in found.arrays.names() if not name.startswith("site:"))
    sites = (
        lambda: found.site_outputs, lambda: trace_activations(found, [SITE]),
        lambda: list(TraceRows(found, SITE).epoch(0)),
    )  # fmt: skip
    all_of(*tables, *arrays, *sites, found.to_xarray, lambda: repr(found), lambda: open_run("a", path))
    decompose(path)


class _Pair:
    def __init__(self) -> None:
        self.pair, self.shape = random_pair(), (6,)

    def __call__(self, x: Any, sigma: Any, condition: Any) -> Any:
        return self.pair(x, sigma, condition)

    def __str__(self) -> str:
        return "pair"


def swept(folder: Path) -> Any:
    """A sweep of one setting, or what a folder has of it."""
    return sweep(
        _Pair(), {"CFG": CFG(2.0)}, seeds=range(2), condition=torch.zeros(2, dtype=torch.long), folder=folder,
        sigmas=torch.tensor([1.0, 0.5, 0.0]), progress=False,
    )  # fmt: skip


def _sweep(folder: Path) -> Path:
    swept(folder)
    return folder


WORK = Chunk("tests.probes.work.jobs:numbers", {"stream": 1}, range(3))


def heard(done: Done) -> None:
    """Raise what work says went wrong."""
    if not done.is_complete:
        raise InputError("work", found=str(done.failed), expected="all of it")


def _chunk(folder: Path) -> Path:
    heard(execute([WORK], folder, progress=False))
    return folder


def _read_chunk(path: Path) -> None:
    """As those do who go on with some work, and those who verify it."""
    list(finished([WORK], path))
    all_of(lambda: read_status(path), lambda: check(path / "chunks" / WORK.name))


def stored(folder: Path, convolution: Any = "whole") -> StoredActivations:
    """16 evaluations in 4 shards, or those that a folder lacks."""
    images = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    sites = {"convolution": convolution, "x": "mean"}
    bank = Bank(images, [4.0, 0.2], draws=2)
    return collect(Small(), bank, sites, batch=2, path=folder, shard=1000, dtype="float16")


def stored_drawn(folder: Path) -> StoredActivations:
    """The same, at positions that were drawn."""
    return stored(folder, Positions(3))


def stored_samples(folder: Path) -> StoredActivations:
    """Four samples of four steps in four shards."""
    sites = {"convolution": "whole", "x": "mean"}
    return store_samples(Small(), sites, seeds=range(4), sigmas=edm_sigmas(4), solver=Euler(), path=folder, shard=900)


@cache
def _recorded() -> Trace:
    pipe, arguments = sd15(steps=3)
    with record(pipe, keep="all", sites=[SITE], progress=False) as found:
        pipe(**arguments)
    return found


def stored_trace(folder: Path) -> StoredActivations:
    """Three recorded steps in three shards."""
    return store_trace(_recorded(), [SITE], path=folder, shard=100)


def _into_a(store: Callable[[Path], Any]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        store(folder / "a")
        return folder / "a"

    return make


def _read_activations(path: Path) -> None:
    found = StoredActivations(path)
    about = (lambda: found.index, lambda: found.how, lambda: (found.sigmas, found.branch, repr(found)), found.to_xarray)
    each = (
        partial(read, site)
        for site in found.sites
        for read in (found.width, found.positions, found.inner_shape, found.place_of, partial(_rows, found))
    )
    levels = (partial(found.at, site, 0) for site in found.sites)
    whole = () if any(isinstance(how, Positions) for how in found.how.values()) else (found.activations,)
    all_of(found.verify, *about, *each, *levels, *whole)


def _rows(found: StoredActivations, site: str) -> None:
    list(found.blocks(site))
    list(ShuffledRows(found, site).epoch(0))


@cache
def _tiny_pipeline() -> Any:
    return PIPELINES["ddpm"]()[0]


def called(folder: Path) -> Any:
    """Two calls of a pipeline, recorded with their images, or those that a folder lacks."""
    pipe = _tiny_pipeline()
    calls = plan_calls(pipe, [{}], seeds=range(2))
    return record_calls(pipe, calls, folder=folder, arguments={"num_inference_steps": 2}, progress=False)


@cache
def _latent_pipeline() -> tuple[Any, dict[str, Any]]:
    pipe, arguments = sd15(steps=2)
    return pipe, {name: value for name, value in arguments.items() if name not in ("generator", "output_type")}


def latents(folder: Path) -> Tensor:
    """Latents of two calls, or those that a folder lacks."""
    pipe, arguments = _latent_pipeline()
    return pipeline_latents(
        pipe, plan_calls(pipe, [{}], seeds=range(2)), folder=folder, arguments=arguments, progress=False
    )


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, LATENTS)
    return buffer.getvalue()


def _safetensors(folder: Path) -> Path:
    save_file({"latents": torch.from_numpy(LATENTS)}, folder / "l.safetensors")
    return folder / "l.safetensors"


def _read_latents(path: Path) -> None:
    read_latents(path, (4, 2, 2))


def _in_calls(path: Path, rng: Random) -> None:
    """Damage the trace of recorded calls, or one of the files beside it."""
    if rng.random() < 0.5:
        damage.in_trace(path / "trace", rng)
    else:
        damage.in_folder(path, rng)


RUN_KINDS = (
    Kind("trace", trace, _read_trace, damage.in_trace),
    Kind("sweep", _sweep, swept, damage.in_folder),
    Kind("sweep, read alone", _sweep, read_sweep, damage.in_folder),
    Kind("chunk of work", _chunk, _read_chunk, damage.in_folder),
    Kind("activations", _into_a(stored), _read_activations, damage.in_trace),
    Kind("activations at drawn positions", _into_a(stored_drawn), _read_activations, damage.in_trace),
    Kind("activations to go on with", _into_a(stored), stored, damage.in_trace),
    Kind("activations of samples", _into_a(stored_samples), _read_activations, damage.in_trace),
    Kind("activations of a trace", _into_a(stored_trace), _read_activations, damage.in_trace),
    Kind("recorded calls", _into_a(called), called, _in_calls),
    Kind("latents of a pipeline", _into_a(latents), latents, damage.in_folder),
    Kind("latents, safetensors", _safetensors, _read_latents, damage.in_safetensors),
    Kind("latents, npz", written("l.npz", npz(latents=LATENTS)), _read_latents, damage.in_zip),
    Kind("latents, npy", written("l.npy", _npy), _read_latents),
)
