"""Moments of the features of many images, in chunks of images.

    kind = "moments"
    images = "samples/"                 # a folder, .zip, .tar or .npz
    features = "inception"              # as --features of scorescope report fid
    weights = "inception-2015.safetensors"
    size = 4096                         # images a chunk; its result is one d x d matrix
    batch = 64                          # images the network is given at once
    device = "cuda"

What is joined is `moments.npz`, merged chunk by chunk in the order of the images, whoever finished first: the same
bits for any number of workers. Beside `stream_moments`, which takes all images in one go, the sums are in another
order; n is equal, mean and covariance are so to rounding, about 1e-15 of their norm a merge.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.probes.features.extraction import stream_moments
from scorescope.probes.features.extractors import Extractor
from scorescope.probes.features.images import ImageSource, ReadLog, open_images
from scorescope.probes.features.moments import read_moments, write_moments
from scorescope.probes.features.named_extractors import named_extractor
from scorescope.probes.work.chunks import Chunk, complete, cut, forget
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.made_of import stamp_of
from scorescope.probes.work.plans import Plan, known_entries, whole_number

NEEDED, OTHERS = ("images", "features"), ("weights", "preprocessing", "size", "batch", "device")
RESULT = "moments.npz"


def plan(spec: Mapping[str, Any]) -> Plan:
    """The chunks of a set of images, and their merge.

    Parameters
    ----------
    spec : mapping
        See above.

    Raises
    ------
    InputError
        Naming the entry that is wrong, and for less than two images.
    """
    known_entries(spec, "moments", NEEDED, OTHERS)
    texts = {name: spec[name] for name in ("images", "features", "weights", "preprocessing", "device") if name in spec}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str)]:
        raise InputError(f"moments, {wrong[0]}", found=repr(spec[wrong[0]]), expected="a text")
    images = str(Path(spec["images"]).absolute())
    source = open_images(images)
    count = sum(1 for _ in source.items(ReadLog())) if source.count is None else source.count
    if count < 2:
        raise InputError("images", found=f"{count} images in {images}", expected="at least two")
    told = {
        "images": images, "stamp": stamp_of(images), "batch": whole_number(spec, "batch", 64),
        "network": _network(spec), "device": spec.get("device", "cpu"),
    }  # fmt: skip
    chunks = cut(f"{__name__}:moments_chunk", told, range(count), size=max(2, whole_number(spec, "size", 4096)))
    if len(chunks[-1].seeds) == 1:  # one image has no covariance
        last = chunks.pop()
        chunks[-1] = Chunk(last.function, last.spec, range(chunks[-1].seeds.start, last.seeds.stop))
    return Plan(tuple(chunks), lambda folder: _join(folder, chunks), lambda folder: forget(chunks, folder, RESULT))


def moments_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> None:
    """The moments of some images, by their places in the set."""
    extractor = _extractor(json.dumps(spec["network"]), worker_device(spec["device"]))
    moments = stream_moments(
        _part(_source(spec["images"], spec["stamp"]), seeds), extractor, batch=spec["batch"], progress=False
    )
    write_moments(folder / RESULT, moments)


def _network(spec: Mapping[str, Any]) -> dict[str, Any]:
    weights = str(Path(spec["weights"]).absolute()) if "weights" in spec else None
    told = {"name": spec["features"], "weights": weights, "preprocessing": spec.get("preprocessing", "tf")}
    return {**told, "stamp": "" if weights is None else stamp_of(weights)}


@functools.lru_cache(maxsize=1)
def _extractor(told: str, device: str) -> Extractor:
    """A worker's network, loaded once."""
    spec = json.loads(told)
    weights = None if spec["weights"] is None else Path(spec["weights"])
    return named_extractor(spec["name"], weights=weights, preprocessing=spec["preprocessing"], device=device)


@functools.lru_cache(maxsize=1)
def _source(images: str, stamp: str) -> ImageSource:
    """A worker's set of images, listed once; it is the one that was planned."""
    if stamp_of(images) != stamp:
        raise InputError("images", found=f"{images}, changed since the work was planned", expected="the same files")
    return open_images(images)


def _part(source: ImageSource, places: range) -> ImageSource:
    return replace(source, items=lambda log: islice(source.items(log), places.start, places.stop), count=len(places))


def _join(folder: Path, chunks: list[Chunk]) -> list[Path]:
    """Merge all of them, if all are there; two matrices are held at a time."""
    merged = None
    for place, _ in complete(chunks, folder):
        moments = read_moments(place / RESULT)
        merged = moments if merged is None else merged.merge(moments)
    if merged is None:
        return []
    write_moments(folder / RESULT, merged)
    return [folder / RESULT]
