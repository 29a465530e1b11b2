"""The inside report: what sparse features of a network keep, read and move, and what else is inside it.

outcome = build(Path("report/inside"), load_subject("shapes"), command="...")
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.modules import find_site
from scorescope.reports.directions import Subject
from scorescope.reports.inside.sections_sparse import features_section, kept_section
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.methods import Keys, noting
from scorescope.reports.page.pages import Outcome, write_report
from scorescope.reports.page.requests import by_call

SECTIONS = (
    ("kept", "What sparse features keep", kept_section),
    ("features", "What features read and move", features_section),
)
METHODS: dict[str, Keys] = {
    "sparse_sheet": ["gao2024scaling"],
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
        Inner modules to look at; by default two of the subject's.
    quick : bool
        Fewer images and candidates, the first two contrasts.
    count : int, optional
        Labelled images that are looked at, at least 60, in place of 1800 (600 with `quick`), or of all where there are
        fewer.
    seed : int
        Of noise, weights and splits.
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
    bench = Workbench(subject, quick, progress, Path(out) / FOLDER, count, seed, tuple(sites))
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
        out, noting(methods, SECTIONS, METHODS), bench, name="inside", title=f"Inside: {subject.name}",
        question="What does the network hold where, and which of it moves anything?", command=command,
        manifest=manifest, request=asked,
    )  # fmt: skip
    if outcome.status == "complete":
        for stored in ("training", "held_out"):  # large, and made again in one pass
            shutil.rmtree(bench.folder / stored, ignore_errors=True)
    return outcome
