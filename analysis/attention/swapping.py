"""Which cross-attention layers carry what a prompt says: another prompt in windows of layers, over whole runs.

    traced = swap_trace(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a blue lighthouse"}, metric=redness,
                        seeds=range(24), width=3)
    traced.recovery                              # by window: sufficiency and necessity, with intervals

As `patch_trace`, but with text in the place of activations: the method that localises in models where tracing of
corrupted runs does not (Basu et al. 2024, arXiv 2405.01008).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.attention.words import latents_of
from scorescope.analysis.directions.recovery import (
    NECESSITY,
    PATCH_SAMPLES,
    RECOVERY,
    SUFFICIENCY,
    PatchTrace,
    default_floor,
    recovery_rows,
)
from scorescope.analysis.statistics.arrays import Floats, finite_numbers
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, check_seeds
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.attention.cross import cross_attention_sites
from scorescope.probes.attention.prompt_swap import swap_prompt
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.text_states import text_states


@checked
def swap_trace(
    pipe: Any,
    clean: Mapping[str, Any],
    corrupted: Mapping[str, Any],
    *,
    metric: Callable[[Tensor], Tensor],
    seeds: Sequence[int],
    width: int = 3,
    sites: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    branches: Sequence[str] = ("uncond", "cond"),
    floor: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> PatchTrace:
    """Normalised recovery by window of layers, over full runs of a pipeline from the same seeds.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline whose cross-attention `swap_prompt` can read. It is as it was afterwards.
    clean, corrupted : mapping
        Arguments of its call for one sample with each prompt: {"prompt": ...}, or embeddings. What differs between
        them beside the text states (pooled embeddings) is not swapped, and counts as what no layer carries.
    metric : callable
        Results of the pipeline (seed, ...), stacked, to one number each: latents unless `arguments` say otherwise.
    seeds : sequence of int
        At least 8, all different.
    width : int
        Consecutive layers in a window.
    sites : sequence of str
        Layers, in order; by default all of `cross_attention_sites`.
    arguments : mapping, optional
        Arguments that all calls share (height, width, num_inference_steps, guidance_scale).
    branches : sequence of str
        Order of the equal blocks in a batch that holds several branches; see `intervene`.
    floor : float, optional
        See `patch_trace`.
    resamples, seed : int
        Of the bootstrap.
    progress : bool
        Show a progress bar over runs.

    Returns
    -------
    PatchTrace
        `site` is the first and the last layer of a window. Sufficiency: the corrupted prompt's run with the clean
        text in the window; necessity: the clean prompt's run with the corrupted text there.

    Raises
    ------
    InputError
        As `swap_prompt`, for too few seeds, windows wider than there are layers, and a metric that does not give one
        finite number a seed.
    """
    numbers = check_seeds(seeds, LEAST_SEEDS)
    layers = list(sites) or cross_attention_sites(pipe)
    if not 1 <= width <= len(layers):
        raise InputError("width", found=str(width), expected=f"from 1 to {len(layers)}, the layers there are")
    windows = [layers[first : first + width] for first in range(len(layers) - width + 1)]
    shared = {"output_type": "latent"} | dict(arguments or {})
    with encoded_once(pipe):
        given = {"clean": {**shared, **clean}, "corrupted": {**shared, **corrupted}}
        states = text_states(pipe, [clean, corrupted], arguments=shared)
        texts = {"clean": states[:1], "corrupted": states[1:]}
        arms: list[tuple[str, str, list[str]]] = [(name, "", []) for name in given]
        for window in windows:
            arms += [("corrupted", "clean", window), ("clean", "corrupted", window)]
        values = list[Floats]()
        for own, other, window in tqdm(arms, desc="windows", unit="window", disable=not progress):
            swap = swap_prompt(pipe, texts[other], window, branches=branches) if window else nullcontext()
            with swap:
                results = torch.cat([latents_of(pipe, given[own], one) for one in numbers])
            values.append(finite_numbers("metric", metric(results), len(numbers)))
    return _traced(windows, values, numbers, floor, resamples, seed)


def _traced(
    windows: list[list[str]], values: list[Floats], seeds: list[int], floor: float | None, resamples: int, seed: int
) -> PatchTrace:
    """Tables from metrics by arm: clean, corrupted, then both forms of each window."""
    clean, corrupted, *swapped = values
    least = default_floor(clean, corrupted) if floor is None else floor
    rows, samples, rest = [], [], iter(swapped)
    for window in windows:
        name = window[0] if len(window) == 1 else f"{window[0]} to {window[-1]}"
        for form in (SUFFICIENCY, NECESSITY):
            where = {"site": name, "sigma_low": 0.0, "sigma_high": math.inf, "log_snr": -math.inf, "form": form}
            row, table = recovery_rows(where, (clean, corrupted, next(rest)), seeds, least, resamples, seed)
            rows.append(row)
            samples.append(table)
    recovery, every = RECOVERY.check(pd.DataFrame(rows)), PATCH_SAMPLES.check(pd.concat(samples, ignore_index=True))
    return PatchTrace(recovery, every, {(0.0, math.inf): least})
