"""The directions report: where an attribute is readable, where it is steerable, and how its direction travels.

outcome = build(Path("report/directions"), load_subject("shapes"), command="...")
"""

from pathlib import Path

from scorescope.data.doors import checked
from scorescope.reports.directions.sections_conditions import patch_section, token_section
from scorescope.reports.directions.sections_directions import direction_section
from scorescope.reports.directions.sections_information import (
    attribute_loss_section,
    classification_section,
    information_section,
)
from scorescope.reports.directions.sections_probing import model_section, probe_section
from scorescope.reports.directions.sections_sampling import emergence_section
from scorescope.reports.directions.sections_steering import steering_section, window_section
from scorescope.reports.directions.study import Subject
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import Outcome, write_report
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
def build(out: Path | str, subject: Subject, *, command: str, quick: bool = False, progress: bool = True) -> Outcome:
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
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.
    """
    bench = Workbench(subject, quick, progress)
    manifest = {
        "model": subject.name, "model_source": subject.source, "images": len(bench.images),
        "contrasts": [str(contrast) for contrast in bench.contrasts], "sites": list(subject.sites), "quick": quick,
        "steering_sites": bench.sites, "left_out": [str(c) for c in subject.contrasts[len(bench.contrasts) :]],
    }  # fmt: skip
    title = f"Attribute directions: {subject.name}"
    question = "Where is an attribute readable, where is it steerable, and how does its direction travel?"
    return write_report(
        out, SECTIONS, bench, name="directions", title=title, question=question, command=command, manifest=manifest,
        request=by_call("report directions", subject=subject.loaded_as, quick=quick),
    )  # fmt: skip
