"""What the figures of the inside in the atlas share: one workbench, at the sizes of a quick report."""

import tempfile
from pathlib import Path

from scorescope.reports.directions.atlas_bench import subject_of
from scorescope.reports.entries import Material
from scorescope.reports.inside.report import FOLDER
from scorescope.reports.inside.workbench import Workbench, late_sites


def bench_of(material: Material) -> Workbench:
    """The workbench of a quick report, whose activations are thrown away when all figures are made."""
    return material.once("inside", lambda: _begun(material))


def _begun(material: Material) -> Workbench:
    own = material.folder
    folder = Path(material.once("activations", tempfile.TemporaryDirectory).name) if own is None else own / FOLDER
    subject = subject_of(material)
    return Workbench(subject, True, False, folder, seed=material.seed, named=tuple(late_sites(subject)))
