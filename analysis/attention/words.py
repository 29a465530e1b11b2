"""What a word of a prompt does in a pipeline: where it is looked at, where it changes predictions, and the image.

tokens = word_tokens("a red lighthouse", ["red"], pipe.tokenizer)["red"]
compare_word(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a lighthouse"}, tokens, seeds=range(16))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.attention.agreement import AGREEMENT, change_maps, map_agreement
from scorescope.analysis.statistics.bootstrap import check_seeds
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.attention.capture import attention_maps
from scorescope.probes.experiments.pipeline_model import pipeline_model
from scorescope.probes.experiments.replay import visits
from scorescope.probes.models.denoiser import Denoiser, sigma_range
from scorescope.probes.recording.session import record
from scorescope.probes.recording.trace import Visit

WORD = "word"


@displayed
@checked
@dataclass(frozen=True, eq=False)
class WordComparison:
    """What `compare_word` found.

    Attributes
    ----------
    agreement : DataFrame
        Columns declared in `AGREEMENT`: attention against influence and against the change of the image, by level.
    attention : Tensor, shape (level, seed, y, x)
        Probability of looking at the word, of the conditional branch, averaged over heads and layers.
    influence : Tensor, shape (level, seed, y, x)
        |D(x; with) - D(x; without)|^2 at the states of the run with the word, summed over channels, denoised space.
    image : Tensor, shape (seed, y, x)
        The same of the last latents of the two runs from the same seed.
    sigmas : tuple of float
        Of the levels, falling.
    dropped : tuple of float
        Levels of the run that are left out: beyond those that the denoiser is proved at, as the first one of a flow.
    """

    agreement: pd.DataFrame
    attention: Tensor
    influence: Tensor
    image: Tensor
    sigmas: tuple[float, ...]
    dropped: tuple[float, ...]


@checked
def compare_word(
    pipe: Any,
    row: Mapping[str, Any],
    without: Mapping[str, Any],
    tokens: Sequence[int],
    *,
    seeds: Sequence[int],
    arguments: Mapping[str, Any] | None = None,
    sites: Sequence[str] = (),
    size: int = 16,
    grid: tuple[int, int] | None = None,
    progress: bool = True,
) -> WordComparison:
    """Attention to a word beside what it does, at the same states of the same runs.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline that `attention_maps` and `pipeline_model` can read. It is as it was afterwards.
    row, without : mapping
        Arguments of its call for one sample with the word, and without it: {"prompt": ...}, or embeddings. All that
        differs between them is what is measured: leaving a word out also changes the other words' embeddings.
    tokens : sequence of int
        Places of the word in the text of `row`, as from `word_tokens`.
    seeds : sequence of int
        One a sample; both runs of a seed begin with the same noise.
    arguments : mapping, optional
        Arguments that all calls share (height, width, num_inference_steps, guidance_scale).
    sites, size
        See `attention_maps`.
    grid : (int, int), optional
        Height and width of latents that are packed to tokens (Flux), in tokens.
    progress : bool
        Show a progress bar over seeds.

    Returns
    -------
    WordComparison

    Raises
    ------
    InputError
        As `attention_maps` and `pipeline_model`, and for no tokens or seeds that are there twice.
    """
    run = word_run(
        pipe, row, without, tokens, seeds=seeds, arguments=arguments, sites=sites, size=size, grid=grid,
        progress=progress,
    )  # fmt: skip
    return compared(run)


Run = tuple[Tensor, Tensor, Tensor, tuple[float, ...], tuple[float, ...]]
"""Attention and influence (level, seed, y, x), the change of the image (seed, y, x), levels, and those left out."""


def word_run(
    pipe: Any, row: Mapping[str, Any], without: Mapping[str, Any], tokens: Sequence[int], *, seeds: Sequence[int],
    arguments: Mapping[str, Any] | None = None, sites: Sequence[str] = (), size: int = 16,
    grid: tuple[int, int] | None = None, progress: bool = False,
) -> Run:  # fmt: skip
    """The maps of some seeds, as `compare_word` compares those of all."""
    if not tokens:
        raise InputError("tokens", found="none", expected="the places of the word, as from word_tokens")
    shared = {"output_type": "latent"} | dict(arguments or {})
    told = {name: value for name, value in shared.items() if name not in ("output_type", "num_inference_steps")}
    denoiser = pipeline_model(pipe, [row, without], arguments=told).denoiser
    runs = [
        _run(pipe, {**shared, **row}, {**shared, **without}, tokens, seed, denoiser, (list(sites), size, grid))
        for seed in tqdm(check_seeds(seeds, 1), desc=WORD, unit="seed", disable=not progress)
    ]
    return joined_runs(runs)


def joined_runs(runs: Sequence[Run]) -> Run:
    """The maps of all seeds, in the order of the runs."""
    attention, influence = torch.cat([run[0] for run in runs], 1), torch.cat([run[1] for run in runs], 1)
    return attention, influence, torch.cat([run[2] for run in runs]), *runs[0][3:]


def compared(run: Run) -> WordComparison:
    """What the maps of all seeds say."""
    attention, influence, image, sigmas, dropped = run
    tables = [
        map_agreement(attention, change, sigmas=sigmas, compared=name)
        for name, change in (("influence", influence), ("image", image))
    ]
    agreement = AGREEMENT.check(pd.concat(tables, ignore_index=True))
    return WordComparison(agreement, attention, influence, image, sigmas, dropped)


def _run(
    pipe: Any, given: Mapping[str, Any], without: Mapping[str, Any], tokens: Sequence[int], seed: int,
    denoiser: Denoiser, how: tuple[list[str], int, tuple[int, int] | None],
) -> Run:  # fmt: skip
    """The maps of one seed."""
    sites, size, grid = how
    chosen = list(dict.fromkeys(tokens))
    with (
        record(pipe, keep="branches", progress=False) as trace,
        attention_maps(pipe, sites, tokens=chosen, size=size) as watching,
    ):
        last = latents_of(pipe, given, seed)
    maps = watching.read().maps.sum(4)[:, :, 0, 0]
    steps = list(visits(trace))
    cells, (low, high) = (maps.shape[-2], maps.shape[-1]), sigma_range(denoiser)
    kept = [place for place, visit in enumerate(steps) if low <= visit.sigma <= high]
    if len(steps) != len(maps) or not kept:
        found = f"{len(steps)} recorded steps, {len(maps)} with attention, {len(kept)} of levels that are known"
        raise InputError("pipe", found=found, expected="attention in every step, and levels that the denoiser has")
    moved = [change_maps(steps[place].cond, _without(denoiser, steps[place]), size=cells, grid=grid) for place in kept]
    changed = change_maps(last, latents_of(pipe, without, seed), size=cells, grid=grid)
    dropped = tuple(visit.sigma for place, visit in enumerate(steps) if place not in kept)
    sigmas = tuple(steps[place].sigma for place in kept)
    return maps[kept], torch.stack(moved), changed, sigmas, dropped


@torch.no_grad()
def _without(denoiser: Denoiser, visit: Visit) -> Tensor:
    """D at a visited state without the word."""
    rows = len(visit.x)
    return denoiser(visit.x, torch.full((rows,), visit.sigma), torch.ones(rows, dtype=torch.int64)).to(visit.cond)


def latents_of(pipe: Any, given: Mapping[str, Any], seed: int) -> Tensor:
    """The result of one run."""
    made = pipe(**given, generator=torch.Generator().manual_seed(seed))
    found = getattr(made, "images", None)
    found = made[0] if found is None else found
    if not isinstance(found, Tensor):
        expected = 'tensors, as for output_type "latent" or "pt"'
        raise InputError("arguments", found=f"a result of type {type(found).__name__}", expected=expected)
    return found
