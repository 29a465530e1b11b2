"""Reports on a pipeline, as the command line asks for them."""

from collections.abc import Callable
from pathlib import Path

from scorescope.data.errors import InputError
from scorescope.data.prompt_pairs import read_pairs
from scorescope.reports import directions, gaussian, trajectories
from scorescope.reports.cli.pipeline_inputs import QUICK, PipelineOptions, numbers, weights_of
from scorescope.reports.directions.prompt_subject import check_images
from scorescope.reports.gaussian.pipeline_data import check_one_source
from scorescope.reports.guidance import build_from_pipeline
from scorescope.reports.page.pages import Outcome


def report_pipeline(
    out: Path,
    given: PipelineOptions,
    *,
    quick: bool,
    count: int | None,
    seeds: str,
    seed: int,
    rules: str,
    weights: str,
    keep: str,
    batch: int,
    command: str,
) -> Outcome:
    """Load the pipeline and write the report.

    Raises
    ------
    InputError
        For options that do not fit together, and what `build_from_pipeline` refuses.
    """
    if keep not in ("branches", "scalars"):
        raise InputError("--keep", found=repr(keep), expected="branches or scalars")
    many, every = weights_of(weights), numbers(seeds, "--seeds") if seeds else None
    pipe = given.load()
    rows = given.rows(pipe)
    if quick and count is None and every is None:
        count = min(QUICK, max(len(rows), 2))
    return build_from_pipeline(
        out, pipe, rows, command=command, arguments=given.arguments(pipe), seeds=every, count=count, seed=seed,
        rules=[name.strip() for name in rules.split(",")] if rules else (), weights=many,
        keep="scalars" if keep == "scalars" else "branches", batch=batch, source=given.source,
    )  # fmt: skip


def report_pipeline_gaussian(
    out: Path,
    given: PipelineOptions,
    *,
    images: Path | None,
    latents: Path | None,
    quick: bool,
    count: int | None,
    seed: int,
    batch: int,
    command: str,
) -> Outcome:
    """Load the pipeline and write the Gaussian report on its unconditional branch.

    Raises
    ------
    InputError
        What `gaussian.build_from_pipeline` refuses; for data that are missing, before anything is loaded.
    """
    check_one_source(images, latents)
    pipe = given.load()
    return gaussian.build_from_pipeline(
        out, pipe, command=command, images=images, latents=latents, row=given.example(pipe),
        arguments=given.arguments(pipe), quick=quick, count=count, seed=seed, batch=batch, source=given.source,
    )  # fmt: skip


def report_pipeline_trajectories(
    out: Path,
    given: PipelineOptions,
    *,
    weight: float,
    quick: bool,
    count: int | None,
    seed: int,
    batch: int,
    command: str,
) -> Outcome:
    """Load the pipeline and write the trajectories report on its network.

    Raises
    ------
    InputError
        What `trajectories.build_from_pipeline` refuses.
    """
    pipe = given.load()
    return trajectories.build_from_pipeline(
        out, pipe, given.rows(pipe), command=command, arguments=given.arguments(pipe), weight=weight, quick=quick,
        count=count, seed=seed, batch=batch, source=given.source,
    )  # fmt: skip


def report_pairs(
    out: Path,
    given: PipelineOptions,
    *,
    pairs: Path | None,
    score: str,
    sites: str,
    quick: bool,
    count: int | None,
    seed: int,
    batch: int,
    command: str,
    build: Callable[..., Outcome],
) -> Outcome:
    """Load the pipeline and write a report on pairs of prompts.

    Raises
    ------
    InputError
        For a pipeline without pairs or a judge, and what `build` refuses.
    """
    if pairs is None or not score:
        options = {"--pipeline": given.source, "--pairs": pairs, "--score": score}
        found = f"{', '.join(name for name, value in options.items() if value)} alone"
        raise InputError(", ".join(options), found=found, expected="all three of them")
    if count is not None:
        check_images(count, "--count")  # before the pipeline is loaded
    contrasts, named = read_pairs(pairs), [name.strip() for name in sites.split(",")] if sites else None
    judge = directions.load_judge(score, contrasts, device=given.device)
    pipe = given.load()
    return build(
        out, pipe, contrasts, judge, command=command, sites=named, arguments=given.arguments(pipe), images=count,
        seed=seed, batch=batch, quick=quick, name=Path(given.source).name,
    )  # fmt: skip
