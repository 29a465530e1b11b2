"""What the figures of the inside in the atlas share: one workbench, at the sizes of a quick report."""

import shutil
import tempfile
import weakref
from pathlib import Path

from scorescope.reports.directions.atlas_bench import subject_of
from scorescope.reports.entries import Material
from scorescope.reports.inside.report import FOLDER
from scorescope.reports.inside.workbench import Workbench, late_sites


def bench_of(material: Material) -> Workbench:
    """The workbench of a quick report, whose activations are thrown away when all figures are made."""
    return material.once("inside", lambda: _begun(material))


def _begun(material: Material) -> Workbench:
    folder = _scratch(material) if material.folder is None else material.folder / FOLDER
    subject = subject_of(material)
    return Workbench(subject, True, False, folder, seed=material.seed, named=tuple(late_sites(subject)))


def _scratch(material: Material) -> Path:
    """A folder that goes when the material does."""
    folder = Path(tempfile.mkdtemp())
    weakref.finalize(material, shutil.rmtree, folder, ignore_errors=True)
    return folder
