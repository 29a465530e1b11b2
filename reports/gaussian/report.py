"""The Gaussian report: how much of a denoiser is a Gaussian's, at which noise levels, and what that saves.

    outcome = build(Path("report/gaussian"), load_model("digits"), command="...")

For a model without the shipped digits, give `data`: a training and a held-out set in the model's units.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import example_row
from scorescope.probes.experiments.pipeline_model import pipeline_model
from scorescope.probes.models.model import Model
from scorescope.reports.gaussian.pipeline_data import check_one_source, folder_latents, read_latents
from scorescope.reports.gaussian.sections_paths import paths_section, skip_section, solver_section
from scorescope.reports.gaussian.sections_scores import laws_section, memory_section, training_section
from scorescope.reports.gaussian.study import Data, Study, digits_of, split
from scorescope.reports.page.methods import Keys, noting
from scorescope.reports.page.pages import Outcome, write_report
from scorescope.reports.page.requests import by_call
from scorescope.reports.page.texts import say

MOST, QUICK = 1000, 120  # images of a pipeline, where nothing else is asked for

SECTIONS = (
    ("laws", "Which law the denoiser is nearest to", laws_section),
    ("paths", "Paths against the closed form", paths_section),
    ("teleport", "Skipping the first steps", skip_section),
    ("solvers", "Solver error on the linear part", solver_section),
    ("training", "Over training: distance from each law", training_section),
    ("memory", "Training points against held-out points", memory_section),
)


def _of_laws(table: pd.DataFrame) -> list[str]:
    """Where the laws come from, and what their fits say that they had to do."""
    shrunk = table["note"].str.contains("Ledoit-Wolf").any()
    return ["wang2024unreasonable", *(["ledoit2004well"] if shrunk else [])]


METHODS: dict[str, Keys] = {
    "scores": _of_laws,
    "ends": ["wang2024unreasonable", "karras2022elucidating"],
    "skips": ["wang2024unreasonable", "karras2022elucidating"],
    "gains": ["pierret2025diffusion", "karras2022elucidating"],
    "dynamics": ["wang2024unreasonable"],
}


@checked
def build(
    out: Path | str,
    model: Model,
    *,
    command: str,
    data: Data | None = None,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Measure and write the Gaussian report.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    model : Model
        The denoiser; its unconditional branch is measured.
    command : str
        What the manifest says made it.
    data : Data, optional
        Training and held-out images; by default the shipped digits, where the model has them.
    quick : bool
        Fewer seeds, images, solvers and queries: wider intervals.
    count : int, optional
        At most so many training and held-out images together.
    seed : int
        Of the first path, of the noise at images, and of which images are taken.
    device : str
        Where the denoiser is.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        If there are no data.
    """
    asked = by_call("report gaussian", denoiser=model.loaded_as, quick=quick, count=count, seed=seed, device=device)
    request = asked if data is None else "it was made in Python of images, and no command names those"
    study = Study(model, (data or digits_of(model)).limited(count, seed=seed), quick, progress, seed, device)
    say(f"gaussian: {study.cost()}", err=True)
    methods: list[str] = []
    manifest = {
        "model": model.name, "model_source": model.source, "data": study.data.name, "train": len(study.train),
        "held_out": len(study.held_out), "seeds": len(study.seeds), "branch": "unconditional", "quick": quick,
        "seed": seed, "device": device, "sigma_range": list(study.span), "methods": methods,
    }  # fmt: skip
    title = f"Gaussian score: {model.name}"
    question = "Where is the learned score a Gaussian's, and what does that save?"
    return write_report(
        out, noting(methods, SECTIONS, METHODS), study, name="gaussian", title=title, question=question,
        command=command, manifest=manifest, request=request,
    )  # fmt: skip


@checked
def build_from_pipeline(
    out: Path | str,
    pipe: Any,
    *,
    command: str,
    images: Path | str | None = None,
    latents: Path | str | None = None,
    row: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    batch: int = 8,
    source: str = "",
    progress: bool = True,
) -> Outcome:
    """Measure and write the Gaussian report on the unconditional branch of a diffusers pipeline.

    Parameters
    ----------
    out : Path or str
        Folder of the report. Latents of images are kept in its `latents/`: a report that was cut off goes on.
    pipe : object
        A diffusers pipeline, as from `load_pipeline`.
    command : str
        What the manifest says made it.
    images : Path or str, optional
        Folder of images like those that the pipeline makes: brought to its size and encoded by its own VAE.
    latents : Path or str, optional
        In their place, a file with latents as the scheduler steps them; see `read_latents`. A fifth of either is
        held out.
    row : mapping, optional
        Arguments of one call, by which the unconditional branch is found; by default made up.
    arguments : mapping, optional
        More of them: height, width, ...
    quick : bool
        See `build`.
    count : int, optional
        At most so many images; by default 1000 (120 if quick).
    seed : int
        Of which images are taken and held out, and see `build`.
    batch : int
        Samples that the network is given at once.
    source : str
        Where the pipeline comes from, for the page.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        For neither or both of images and latents, a pipeline without an unconditional branch, and what
        `pipeline_model` refuses.
    """
    check_one_source(images, latents)
    given = example_row(pipe) if row is None else row
    model = pipeline_model(
        pipe, [given], arguments=arguments, name=Path(source).name or type(pipe).__name__, batch=batch
    )
    if missing := getattr(model.denoiser, "missing", ""):
        raise InputError("pipe", found=missing, expected="one that makes an unconditional prediction too")
    count = count or (QUICK if quick else MOST)
    if images is None:
        found = read_latents(Path(str(latents)), model.shape)
    else:
        kept = Path(out) / "latents"
        found = folder_latents(pipe, model, Path(images), kept, count=count, seed=seed, progress=progress)
    data = split(found, name=str(images or latents), seed=seed).limited(count, seed=seed)
    return build(out, model, command=command, data=data, quick=quick, seed=seed, progress=progress)
