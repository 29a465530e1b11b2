"""Maps of what a word of a prompt does in a pipeline, in chunks of seeds.

    kind = "words"
    pipeline = "my-finetune/"           # as of load_pipeline, and its dtype, scheduler, config
    prompt = "a red lighthouse"
    without = "a lighthouse"            # the prompt that it is compared with
    word = "red"                        # whose places in the prompt are found, or `tokens`, the places themselves
    seeds = 64
    size = 4                            # seeds a chunk
    cells = 16                          # and sites, grid: see compare_word, where cells are its size
    device = "cuda"

    [arguments]                         # that all calls share
    num_inference_steps = 30

What is joined is `maps.safetensors`, which `read_words` reads, and the table `agreement.parquet`: what `compare_word`
gives of all seeds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from scorescope.analysis.attention.words import Run, WordComparison, compared, joined_runs, word_run
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import check_file, only_input_errors, read_tensors
from scorescope.data.written_files import UNSEALED, check_seal, replace_file, write_sealed
from scorescope.probes.attention import word_tokens
from scorescope.probes.sites.tokens import subject_tokens
from scorescope.probes.work.chunks import Chunk, complete, cut, forget
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.plans import Plan, known_entries, require_kinds, seed_range, whole_number
from scorescope.probes.work.recordings import LOADING, told_pipeline, worker_pipeline

NEEDED = ("pipeline", "prompt", "without", "seeds")
OTHERS = (*LOADING, "word", "tokens", "size", "cells", "sites", "grid", "arguments", "device")
MAPS, TABLE = "maps.safetensors", "agreement.parquet"
_NAMES = ("attention", "influence", "image")


@checked
def plan_words(spec: Mapping[str, Any]) -> Plan:
    """The chunks of all seeds, and the comparison that is made of them. The pipeline is loaded by the workers alone.

    Parameters
    ----------
    spec : mapping
        See `analysis.work.words`: pipeline, prompt, without, word, seeds, and what `compare_word` takes.

    Raises
    ------
    InputError
        Naming the entry that is wrong.
    """
    known_entries(spec, "words", NEEDED, OTHERS)
    if ("word" in spec) == ("tokens" in spec):
        raise InputError("words, word", found="both, or neither", expected="either word or tokens")
    if wrong := [name for name in ("prompt", "without", "word") if not isinstance(spec.get(name, ""), str)]:
        raise InputError(f"words, {wrong[0]}", found=repr(spec[wrong[0]]), expected="a text")
    require_kinds(spec, {"tokens": Sequence[int], "grid": tuple[int, int] | None, "sites": Sequence[str]})
    _check_places(spec)
    seeds = seed_range(spec["seeds"])
    told = {
        "pipeline": told_pipeline(spec), "device": spec.get("device", "cpu"), "cells": whole_number(spec, "cells", 16),
        **{name: spec[name] for name in ("prompt", "without", "word", "tokens", "sites", "grid") if name in spec},
        "arguments": spec.get("arguments", {}),
    }  # fmt: skip
    chunks = cut(f"{__name__}:word_chunk", told, seeds, size=whole_number(spec, "size", 4))
    return Plan(tuple(chunks), lambda folder: _join(folder, chunks), lambda folder: forget(chunks, folder, MAPS, TABLE))


def _check_places(spec: Mapping[str, Any]) -> None:
    """Refuse a word that is not in the prompt, places that are none, and a grid without cells."""
    if "tokens" in spec and (not spec["tokens"] or min(spec["tokens"]) < 0):
        raise InputError("words, tokens", found=repr(spec["tokens"]), expected="places of the word, from 0")
    if spec.get("grid") is not None and min(spec["grid"]) < 1:
        raise InputError("words, grid", found=repr(spec["grid"]), expected="at least one row and one column")
    if "word" in spec:
        try:
            subject_tokens(spec["prompt"], spec["word"], [(0, len(spec["prompt"]) * bool(spec["word"].strip()))])
        except InputError:
            found, expected = repr(spec["word"]), f"words of the prompt {spec['prompt']!r}"
            raise InputError("words, word", found=found, expected=expected) from None


def word_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> None:
    """The maps of some seeds."""
    pipe = worker_pipeline(spec["pipeline"], worker_device(spec["device"]))
    tokens = spec.get("tokens") or word_tokens(spec["prompt"], [spec["word"]], pipe.tokenizer)[spec["word"]]
    grid = spec.get("grid")
    run = word_run(
        pipe, {"prompt": spec["prompt"]}, {"prompt": spec["without"]}, tokens, seeds=list(seeds),
        arguments=spec["arguments"], sites=spec.get("sites", ()), size=spec["cells"],
        grid=None if grid is None else (grid[0], grid[1]),
    )  # fmt: skip
    _write(folder / MAPS, run)


@checked
def read_words(folder: str | Path) -> WordComparison:
    """The comparison that `run_work` put together in a folder.

    Raises
    ------
    InputError
        Where it is not complete, or damaged.
    """
    return compared(_read(Path(folder) / MAPS))


def _write(path: Path, run: Run) -> None:
    tensors = {name: value.cpu().contiguous() for name, value in zip(_NAMES, run[:3], strict=True)}
    metadata = {"levels": json.dumps({"sigmas": run[3], "dropped": run[4]}), "seal": UNSEALED}
    write_sealed(path, lambda temporary: save_file(tensors, temporary, metadata))


def _read(path: Path) -> Run:
    expected = "maps of a word that are complete"
    check_file(path, expected=expected)
    check_seal(path)
    metadata, tensors = read_tensors(path, expected=expected)
    with only_input_errors(path, expected=expected):
        levels = json.loads(metadata["levels"])
        attention, influence, image = (tensors[name] for name in _NAMES)
        return attention, influence, image, tuple(levels["sigmas"]), tuple(levels["dropped"])


def _join(folder: Path, chunks: Sequence[Chunk]) -> list[Path]:
    """Put the seeds side by side, if all are there."""
    runs = [_read(place / MAPS) for place, _ in complete(chunks, folder)]
    if not runs:
        return []
    run = joined_runs(runs)
    replace_file(folder / TABLE, compared(run).agreement.to_parquet)
    _write(folder / MAPS, run)
    return [folder / MAPS, folder / TABLE]
