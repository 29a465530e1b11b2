"""The inside report: what sparse features of a network keep, read and move, and what else is inside it.

outcome = build(Path("report/inside"), load_subject("shapes"), command="...")
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.prompt_pairs import PromptPair
from scorescope.probes.sites.modules import find_site
from scorescope.reports.directions import Subject, pipeline_subject
from scorescope.reports.directions.judges import Judge
from scorescope.reports.directions.prompt_report import QUICK
from scorescope.reports.directions.prompt_subject import IMAGES, PromptSubject
from scorescope.reports.directions.sections_prompts import prompt_section
from scorescope.reports.directions.workbench import Workbench as DirectionsBench
from scorescope.reports.inside.sections_attention import attention_section
from scorescope.reports.inside.sections_groups import groups_section
from scorescope.reports.inside.sections_sparse import features_section, kept_section
from scorescope.reports.inside.sections_units import units_section
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.methods import Keys, noting
from scorescope.reports.page.pages import Outcome, Section, write_report
from scorescope.reports.page.requests import by_call
from scorescope.reports.page.texts import say

SECTIONS = (
    ("kept", "What sparse features keep", kept_section),
    ("features", "What features read and move", features_section),
    ("units", "Units: where single channels fire, and what they cause", units_section),
    ("groups", "Groups that no condition names", groups_section),
    ("attention", "Attention to words", attention_section),
)
METHODS: dict[str, Keys] = {
    "sparse_sheet": ["gao2024scaling"],
    "unit_overlap": ["bau2017network"],
    "unit_effects": ["bau2019gan"],
    "unit_ascent": ["nguyen2017plug", "song2019generative"],
    "attention": ["tang2023what"],
    "steered_shares": ["shi2025dissecting"],
}
FOLDER = "activations"
LEAST = 60  # labelled images: two thirds are trained on


@checked
def build(
    out: Path | str,
    subject: Subject,
    *,
    command: str,
    sites: Sequence[str] = (),
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    pipe: Any = None,
    arguments: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Outcome:
    """Measure and write the inside report.

    Parameters
    ----------
    out : Path or str
        Folder of the report. Autoencoders are in `activations/` there, and until the report is complete activations
        too: one that was cut off goes on with them.
    subject : Subject
        Model, labelled images, judge and contrasts: as of the directions report.
    command : str
        What the manifest says made it.
    sites : sequence of str
        Inner modules to look at; by default two of the subject's, one with `quick`.
    quick : bool
        Fewer images, seeds and candidates, the first two contrasts, one site.
    count : int, optional
        Labelled images that are looked at, at least 60, in place of 1800 (600 with `quick`), or of all where there are
        fewer.
    seed : int
        Of noise, weights and splits.
    pipe : object, optional
        The pipeline that the subject was made of, for the section on attention; see `build_from_pipeline`.
    arguments : mapping, optional
        Arguments of all its calls.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        For too few images, or more than the subject has, sites that are not there, and a negative seed.
    """
    if seed < 0 or not LEAST <= (len(subject.images) if count is None else count) <= len(subject.images):
        found = f"{len(subject.images) if count is None else count}, {seed}"
        expected = f"{LEAST} to {len(subject.images)} images, a seed from 0"
        raise InputError("count, seed", found=found, expected=expected)
    for site in sites:
        find_site(subject.denoiser, site)
    if len(set(sites)) < len(sites):
        raise InputError("sites", found=str(list(sites)), expected="each once")
    bench = Workbench(
        subject, quick, progress, Path(out) / FOLDER, count, seed, tuple(sites), pipe, dict(arguments or {})
    )
    methods: list[str] = []
    manifest = {
        "methods": methods, "model": subject.name, "model_source": subject.source,
        "images": len(bench.subject.images), "contrasts": [str(contrast) for contrast in bench.contrasts],
        "sites": bench.sites, "quick": quick, "seed": seed, "autoencoders": f"{FOLDER}/{bench.folder.name}",
    }  # fmt: skip
    asked = by_call(
        "report inside", subject=subject.loaded_as, sites=",".join(sites), quick=quick, count=count, seed=seed
    )
    outcome = write_report(
        out, noting(methods, sections_of(subject), METHODS), bench, name="inside", title=f"Inside: {subject.name}",
        question="What does the network hold where, and which of it moves anything?", command=command,
        manifest=manifest, request=asked,
    )  # fmt: skip
    if outcome.status == "complete":
        for stored in ("training", "held_out", "units"):  # large, and made again in one pass
            shutil.rmtree(bench.folder / stored, ignore_errors=True)
    return outcome


def sections_of(subject: Subject) -> list[tuple[str, str, Callable[[Workbench], Section]]]:
    """The sections in their order; those of a pipeline begin with its prompts and the judge."""
    first = [("prompts", "The prompts and the judge", _prompts)] if isinstance(subject, PromptSubject) else []
    return [*first, *SECTIONS]


def _prompts(bench: Workbench) -> Section:
    return prompt_section(DirectionsBench(bench.subject, bench.quick, bench.progress))


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
    batch: int = 8,
    quick: bool = False,
    name: str = "",
    progress: bool = True,
) -> Outcome:
    """Make labelled images with a pipeline, and write the inside report on its network.

    Parameters
    ----------
    out : Path or str
        Folder of the report. Latents are kept in `latents/` there: a report that was cut off does not make them again.
    pipe, pairs, score, arguments, batch, name
        See `pipeline_subject` of `reports.directions`.
    command, seed, quick, progress
        See `build`.
    sites : sequence of str, optional
        Modules of the network, as "mid_block"; by default two of its blocks, from two thirds of the way on.
    images : int, optional
        Labelled images of each attribute, by default 200, or 80 with `quick`.

    Raises
    ------
    InputError
        See `pipeline_subject` and `build`.
    """
    given = dict(arguments or {})
    subject = pipeline_subject(
        pipe, pairs, score, folder=out, sites=sites, arguments=given, seed=seed, batch=batch, name=name,
        images=images or (QUICK if quick else IMAGES), progress=progress,
    )  # fmt: skip
    for doubt in subject.doubts:
        say(f"inside: {doubt}", err=True)
    return build(
        out, subject, command=command, sites=subject.sites if sites else (), quick=quick, count=len(subject.images),
        seed=seed, pipe=pipe, arguments=given, progress=progress,
    )  # fmt: skip
