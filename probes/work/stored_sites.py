"""Activations in chunks of shards, along sampling or over a bank of noisy images.

    kind = "activations"
    model = "digits"                    # what load_model takes; with its `factory`
    sites = ["network.middle1"]         # or a table of how each is kept: "mean", "whole", cells, { count = 16 }
    seeds = 10_000                      # of samples, and how they are drawn: steps or sigmas, solver, rule, batch
    branch = "cond"                     # and call
    shard = "64 MB"                     # about how large a file is
    size = 1                            # files a chunk; each chunk first computes one sample, to see what there is
    device = "cuda"

or in place of seeds the noisy points of a bank (see `comparisons`): images, log_snr or sigmas, draws, noise_seed.

What is joined is the folder `activations` that `store_samples` or `collect(..., path=)` writes with one thread, shard
by shard the same bytes: `StoredActivations` reads it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.data.written_files import alone_in
from scorescope.probes.activations.collect import planned_bank
from scorescope.probes.activations.planned import Planned, check_continued, join_shards
from scorescope.probes.activations.positions import Positions
from scorescope.probes.activations.stored_runs import planned_samples
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.work.chunks import CHUNKS, Chunk, complete, cut
from scorescope.probes.work.comparisons import POINTS, bank_of, plain_points
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.named_models import HOW, plain_how, sampled_how, told_model, worker_model
from scorescope.probes.work.plans import Plan, known_entries, seed_range, whole_number

NEEDED = ("model", "sites")
KEPT = ("how", "dtype", "shard", "batch")
OTHERS = ("factory", "size", "seeds", "branch", "call", *HOW, *POINTS, "update", *KEPT, "device")
RESULT = "activations"
CUT = ("sites", "outputs", "sigmas", "images", "shards", "together", "points")
"""Facts of the folder that a worker has to find as the plan did, on whatever device."""


def plan(spec: Mapping[str, Any]) -> Plan:
    """The chunks of all shards, and their join. One sample, or image, is computed to see how much there is.

    Parameters
    ----------
    spec : mapping
        See above.

    Raises
    ------
    InputError
        Naming the entry that is wrong.
    """
    known_entries(spec, "activations", NEEDED, OTHERS)
    model = load_model(spec["model"], factory=spec.get("factory"))
    told = {
        "model": told_model(model, spec["model"], spec.get("factory")), "what": _what(spec, model),
        "kept": {name: spec[name] for name in KEPT if name in spec} | {"sites": spec["sites"]},
        "device": spec.get("device", "cpu"),
    }  # fmt: skip
    with _planned(told, "cpu") as found:
        manifest, shards = found.whole_manifest, found.parts.shards
    told["cut"] = {name: manifest[name] for name in CUT if name in manifest}
    chunks = cut(f"{__name__}:shards_chunk", told, range(shards), size=whole_number(spec, "size", 1))
    return Plan(
        tuple(chunks),
        lambda folder: _join(folder, chunks, manifest),
        lambda folder: check_continued(folder / RESULT, manifest),
    )


def shards_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> dict[str, Any]:
    """Some shards, by their numbers."""
    with _planned(spec, worker_device(spec["device"])) as found:
        if other := [name for name, value in spec["cut"].items() if found.whole_manifest[name] != value]:
            raise InputError(f"activations, {other[0]}", found="another than was planned", expected="the same")
        return {"lines": [found.write_shard(number, folder) for number in seeds]}


def _what(spec: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """What passes through the sites: samples, or the points of a bank."""
    if "seeds" in spec:
        if other := [name for name in (*POINTS, "update") if name in spec and name not in HOW]:
            raise InputError(
                f"activations, {other[0]}", found="an entry of a bank beside seeds", expected="one of them"
            )
        seeds = seed_range(spec["seeds"])
        call = {"branch": spec.get("branch", "cond"), "call": spec.get("call", 0)}
        return {"seeds": [seeds.start, seeds.stop], "sampled": plain_how(spec), **call}
    if other := [name for name in ("branch", "call", "solver", "rule", "steps") if name in spec]:
        raise InputError(
            f"activations, {other[0]}", found="an entry of samples without seeds", expected="seeds with it"
        )
    return {"points": plain_points(spec, model), "update": spec.get("update", False)}


def _planned(told: Mapping[str, Any], device: str) -> AbstractContextManager[Planned]:
    model, what, kept = worker_model(told["model"], device), told["what"], dict(told["kept"])
    kept["sites"] = _sites(kept["sites"])
    if isinstance(kept.get("how"), dict):
        kept["how"] = Positions(**kept["how"])
    if "points" in what:
        bank, condition = bank_of(what["points"], model, device)
        return planned_bank(model.denoiser, bank, condition=condition, update=what["update"], **kept)
    seeds = range(*what["seeds"])
    return planned_samples(
        model.denoiser, seeds=seeds, condition=model.conditions(len(seeds)), shape=model.shape, device=device,
        branch=what["branch"], call=what["call"], **sampled_how(what["sampled"]), **kept,
    )  # fmt: skip


def _sites(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    return {site: Positions(**how) if isinstance(how, dict) else how for site, how in given.items()}


def _join(folder: Path, chunks: list[Chunk], manifest: Mapping[str, Any]) -> list[Path]:
    """One folder of all shards, if all are there."""
    written = [(place, line) for place, said in complete(chunks, folder) for line in said["lines"]]
    if not written:
        return []
    with alone_in(folder / CHUNKS, wait=True):  # of two runs that end together the second finds it done
        join_shards(manifest, written, folder / RESULT)
    return [folder / RESULT]
