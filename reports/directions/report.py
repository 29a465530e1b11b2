"""The directions report: where an attribute is readable, where it is steerable, and how its direction travels.

outcome = build(Path("report/directions"), load_subject("shapes"), command="...")
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.directions.prompt_subject import PromptSubject
from scorescope.reports.directions.sections_conditions import patch_section, token_section
from scorescope.reports.directions.sections_directions import direction_section
from scorescope.reports.directions.sections_information import (
    attribute_loss_section,
    classification_section,
    information_section,
)
from scorescope.reports.directions.sections_probing import model_section, probe_section
from scorescope.reports.directions.sections_prompts import prompt_section
from scorescope.reports.directions.sections_sampling import emergence_section
from scorescope.reports.directions.sections_steering import steering_section, window_section
from scorescope.reports.directions.study import Subject
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.methods import Keys, noting
from scorescope.reports.page.pages import Outcome, Section, write_report
from scorescope.reports.page.requests import by_call

SECTIONS = (
    ("model", "What the model makes", model_section),
    ("probes", "Where attributes are readable", probe_section),
    ("steering", "Where attributes are steerable", steering_section),
    ("windows", "When attributes are steerable", window_section),
    ("time", "Attributes along sampling", emergence_section),
    ("directions", "Reading, moving and travelling directions", direction_section),
    ("tokens", "Directions between conditions", token_section),
    ("patching", "Which sites carry the condition", patch_section),
    ("loss", "Where attributes are lost in noise", attribute_loss_section),
    ("information", "What conditions say about images", information_section),
    ("classification", "The denoiser as a classifier", classification_section),
)


@checked
def build(
    out: Path | str,
    subject: Subject,
    *,
    command: str,
    quick: bool = False,
    count: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Outcome:
    """Measure and write the directions report.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    subject : Subject
        Model, labelled images, judge and contrasts.
    command : str
        What the manifest says made it.
    quick : bool
        Fewer images, levels, seeds and controls: wider intervals. Of the contrasts the first two, of the sites every
        third one in the steering map and where conditions are patched.
    count : int, optional
        Labelled images that are looked at, in place of 1000 (500 with `quick`), or of all where there are fewer.
    seed : int
        First seed of samples, and that of noise and splits.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.

    Raises
    ------
    InputError
        For more images than the subject has, and a negative seed.
    """
    if seed < 0 or not 1 <= (count or 1) <= len(subject.images):
        expected = f"an image or more of {len(subject.images)}, a seed from 0"
        raise InputError("count, seed", found=f"{count}, {seed}", expected=expected)
    bench = Workbench(subject, quick, progress, count, seed)
    methods: list[str] = []
    manifest = {
        "methods": methods,
        "model": subject.name, "model_source": subject.source, "images": len(bench.images),
        "contrasts": [str(contrast) for contrast in bench.contrasts], "sites": list(subject.sites), "quick": quick,
        "seed": seed, "prompts": [str(pair) for pair in subject.prompts] if isinstance(subject, PromptSubject) else [],
        "steering_sites": bench.sites, "left_out": [str(c) for c in subject.contrasts[len(bench.contrasts) :]],
    }  # fmt: skip
    title = f"Attribute directions: {subject.name}"
    question = "Where is an attribute readable, where is it steerable, and how does its direction travel?"
    asked = by_call("report directions", subject=subject.loaded_as, quick=quick, count=count, seed=seed)
    return write_report(
        out, noting(methods, sections_of(subject), METHODS), bench, name="directions", title=title, question=question,
        command=command, manifest=manifest, request=asked,
    )  # fmt: skip


def _of_transports(table: pd.DataFrame) -> list[str]:
    return ["park2023understanding"] if (table["transport"] == "jacobian").any() else []


METHODS: dict[str, Keys] = {
    "probes": ["hewitt2019designing"],
    "readers": ["marks2024geometry"],
    "transport": _of_transports,
    "token_attribution": ["kokhlikyan2020captum", "sundararajan2017axiomatic"],
    "linearity": ["baumann2025continuous"],
    "attribute_loss": ["yue2024exploring"],
    "information": ["kong2024interpretable"],
    "classification": ["li2023your"],
}
"""Keys by the table that shows the method."""


def sections_of(subject: Subject) -> list[tuple[str, str, Callable[[Workbench], Section]]]:
    """The sections in their order; of those that cannot apply the reason alone."""
    first = [("prompts", "The prompts and the judge", prompt_section)] if isinstance(subject, PromptSubject) else []
    return [*first, *((name, title, _said(subject.left_out, name, make)) for name, title, make in SECTIONS)]


def _said(
    left_out: Mapping[str, str], name: str, make: Callable[[Workbench], Section]
) -> Callable[[Workbench], Section]:
    return (lambda bench: Section(text=left_out[name])) if name in left_out else make
