"""The directions report on a diffusers pipeline: pairs of prompts and a judge in, a report out.

outcome = build_from_pipeline("report", pipe, read_pairs("pairs.txt"), "my_package.judges:make", command="...")
outcome.tables["steer_map"]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.prompt_pairs import PromptPair
from scorescope.probes.experiments.pipeline_calls import STEPS, default_steps
from scorescope.probes.models.decoding import Decoder
from scorescope.reports.directions.cost import Cost
from scorescope.reports.directions.judges import Judge
from scorescope.reports.directions.prompt_subject import (
    IMAGES,
    block_sites,
    checked_prompts,
    describe,
    pipeline_subject,
)
from scorescope.reports.directions.report import build
from scorescope.reports.page.pages import Outcome
from scorescope.reports.page.texts import say

QUICK = 80  # images of each attribute


@checked
def build_from_pipeline(
    out: Path | str,
    pipe: Any,
    pairs: Sequence[PromptPair],
    score: str | Judge,
    *,
    command: str,
    sites: Sequence[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    images: int | None = None,
    seed: int = 0,
    decoder: Decoder | None = None,
    batch: int = 8,
    quick: bool = False,
    name: str = "",
    progress: bool = True,
) -> Outcome:
    """Make labelled images with a pipeline, say what that and the report cost, measure, and write the report.

    Parameters
    ----------
    out : Path or str
        Folder of the report. Latents are kept in `latents/` there: a report that was cut off does not make them again.
    pipe, pairs, score, sites, arguments, decoder, batch, name
        See `pipeline_subject`.
    command : str
        What the manifest says made it.
    images : int, optional
        Labelled images of each attribute, by default 200, or 80 with `quick`.
    seed : int
        Of the first pair of images, of the first sample, and of noise and splits.
    quick : bool
        See `build`.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        See `pipeline_subject`.
    """
    prompts, shared = checked_prompts(pipe, pairs), dict(arguments or {})
    described = describe(pipe, prompts, shared)
    chosen = list(sites) if sites else block_sites(described)
    count = images or (QUICK if quick else IMAGES)
    cost = Cost(len(prompts.names), len(chosen), count, quick)
    say(f"directions: {cost.in_words(int(shared.get(STEPS) or default_steps(pipe)), described)}", err=True)
    subject = pipeline_subject(
        pipe, pairs, score, folder=out, sites=chosen, arguments=shared, images=count, seed=seed, decoder=decoder,
        batch=batch, name=name, progress=progress,
    )  # fmt: skip
    for doubt in subject.doubts:
        say(f"directions: {doubt}", err=True)
    return build(out, subject, command=command, quick=quick, count=len(subject.images), seed=seed, progress=progress)
