"""Recordings of many calls of a diffusers pipeline, in chunks of calls.

    kind = "recording"
    pipeline = "my-finetune/"           # as of load_pipeline, and its dtype, scheduler, config
    prompts = "prompts.csv"             # as of read_prompts; or classes = [0, 207]
    seeds = 4                           # each row with so many seeds, or with [first, one past the last]
    size = 8                            # calls a chunk
    keep = "branches"                   # as of record
    device = "cuda"

    [arguments]                         # that all calls share
    num_inference_steps = 30

A chunk is a folder of `record_calls`: its `trace/` is a trace of its own, which `scorescope report guidance --trace`
takes, as many as there are, and `decoded/` has its images. Nothing is copied together: the result are these folders.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.data.prompts import read_prompts
from scorescope.probes.experiments.pipeline_calls import record_calls
from scorescope.probes.models.load_pipeline import check_source, load_pipeline
from scorescope.probes.work.chunks import CHUNKS, Chunk, missing
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.made_of import stamp_of
from scorescope.probes.work.plans import Plan, known_entries, require_kinds, seed_range, whole_number

NEEDED = ("pipeline",)
LOADING = ("dtype", "scheduler", "config")
OTHERS = (*LOADING, "prompts", "classes", "seeds", "size", "keep", "arguments", "device")


def plan(spec: Mapping[str, Any]) -> Plan:
    """The chunks of all calls. The pipeline itself is loaded by the workers alone.

    Parameters
    ----------
    spec : mapping
        See above.

    Raises
    ------
    InputError
        Naming the entry that is wrong.
    """
    known_entries(spec, "recording", NEEDED, OTHERS)
    size, calls = whole_number(spec, "size", 8), _calls(spec)
    told = {
        "pipeline": told_pipeline(spec), "arguments": spec.get("arguments", {}), "keep": spec.get("keep", "branches"),
        "device": spec.get("device", "cpu"),
    }  # fmt: skip
    chunks = [
        Chunk(f"{__name__}:record_chunk", {**told, "calls": calls[first : first + size]},
              range(first, min(first + size, len(calls))))
        for first in range(0, len(calls), size)
    ]  # fmt: skip
    return Plan(tuple(chunks), lambda folder: _traces(folder, chunks))


def record_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> dict[str, Any]:
    """Some calls, each recorded as a run."""
    pipe = worker_pipeline(spec["pipeline"], worker_device(spec["device"]))
    made = record_calls(
        pipe, spec["calls"], folder=folder, arguments=spec["arguments"], keep=spec["keep"], progress=False
    )
    return {"first": seeds.start, "status": made.trace.status}


def _traces(folder: Path, chunks: list[Chunk]) -> list[Path]:
    """Those that are there; each has hashes of its own."""
    left = set(missing(chunks, folder))
    return [folder / CHUNKS / chunk.name / "trace" for chunk in chunks if chunk.name not in left]


def _calls(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each call is made with: every row with every seed, or with its own."""
    if ("prompts" in spec) == ("classes" in spec):
        raise InputError("recording, prompts", found="both, or neither", expected="either prompts or classes")
    rows = (
        read_prompts(spec["prompts"]) if "prompts" in spec else [{"class_labels": [label]} for label in spec["classes"]]
    )
    if "seeds" in spec:
        if any("seed" in row for row in rows):
            raise InputError("recording, seeds", found="seeds beside those of the rows", expected="one of them")
        return [{**row, "seed": seed} for row in rows for seed in seed_range(spec["seeds"])]
    return [{"seed": place, **row} for place, row in enumerate(rows)]


def told_pipeline(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What chunks are told of a spec's pipeline: with a stamp of its files."""
    source = spec["pipeline"]
    if not isinstance(source, str):
        raise InputError("pipeline", found=repr(source), expected="a folder, a file, or an id of the hub")
    require_kinds(spec, {"dtype": str, "scheduler": str | None, "config": str | None, "arguments": dict, "device": str})
    if not Path(source).is_file():
        check_source(source, Path(source))
    where = str(Path(source).absolute()) if Path(source).exists() else source
    return {"source": where, "stamp": stamp_of(source), **{name: spec[name] for name in LOADING if name in spec}}


def worker_pipeline(told: Mapping[str, Any], device: str) -> Any:
    """A worker's pipeline, loaded once; its files are those that were planned with."""
    return _loaded(json.dumps(told), device)


@functools.lru_cache(maxsize=1)
def _loaded(told: str, device: str) -> Any:
    spec = json.loads(told)
    if stamp_of(spec["source"]) != spec["stamp"]:
        found = f"{spec['source']}, changed since the work was planned"
        raise InputError("pipeline", found=found, expected="the same files")
    how = {name: spec[name] for name in LOADING if name in spec}
    return load_pipeline(spec["source"], device=device, **how)
