"""The Gaussian report: how much of a denoiser is a Gaussian's, at which noise levels, and what that saves.

    outcome = build(Path("report/gaussian"), load_model("digits"), command="...")

For a model without the shipped digits, give `data`: a training and a held-out set in the model's units.
"""

from pathlib import Path

from scorescope.data.doors import checked
from scorescope.probes.models.model import Model
from scorescope.reports.gaussian.sections_paths import paths_section, skip_section, solver_section
from scorescope.reports.gaussian.sections_scores import laws_section, memory_section, training_section
from scorescope.reports.gaussian.study import Data, Study, digits_of
from scorescope.reports.page.pages import Outcome, write_report
from scorescope.reports.page.requests import by_call

SECTIONS = (
    ("laws", "Which law the denoiser is nearest to", laws_section),
    ("paths", "Paths against the closed form", paths_section),
    ("teleport", "Skipping the first steps", skip_section),
    ("solvers", "Solver error on the linear part", solver_section),
    ("training", "Over training: distance from each law", training_section),
    ("memory", "Training points against held-out points", memory_section),
)


@checked
def build(
    out: Path | str,
    model: Model,
    *,
    command: str,
    data: Data | None = None,
    quick: bool = False,
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
    asked = by_call("report gaussian", denoiser=model.loaded_as, quick=quick)
    request = asked if data is None else "it was made in Python of images, and no command names those"
    study = Study(model, data or digits_of(model), quick, progress)
    manifest = {
        "model": model.name, "model_source": model.source, "data": study.data.name, "train": len(study.train),
        "held_out": len(study.held_out), "seeds": len(study.seeds), "branch": "unconditional", "quick": quick,
    }  # fmt: skip
    title = f"Gaussian score: {model.name}"
    question = "Where is the learned score a Gaussian's, and what does that save?"
    return write_report(
        out, SECTIONS, study, name="gaussian", title=title, question=question, command=command, manifest=manifest,
        request=request,
    )  # fmt: skip
