"""The inside report, its figures and its sentences: what a network's features keep, read and move.

    build(Path("report"), load_subject("shapes"), command="my study")             # the whole report

    build_from_pipeline("report", pipe, read_pairs("pairs.txt"), "my_package.judges:make", command="my study")

    study = study_sparse(shapes_subject(images=1500), ["network.middle2", "network.up.0"], folder="features")
    study.verdicts                                             # which features steer what they read
    figures.sparse_sheet(study.sheet)
    figures.read_and_move(study.judged)
    study.page(0)                                              # the first chosen feature on one figure

    units = study_units(subject, subject.masks, "network.up.2", folder="units")
    units.effects.verdicts                                     # what channels that fire where something is cause
    groups = study_groups(subject)
    figures.amplification(groups.amplification, groups.groups[-1])    # what guidance makes of what no condition names

`workbench` says what is measured, `sections_*` what is shown of it.
"""

from scorescope.reports.inside import figures, readings
from scorescope.reports.inside.groups_study import GroupStudy, study_groups
from scorescope.reports.inside.report import build, build_from_pipeline
from scorescope.reports.inside.sparse_study import SparseStudy, study_sparse
from scorescope.reports.inside.units_study import UnitsStudy, study_units

__all__ = [
    "GroupStudy", "SparseStudy", "UnitsStudy", "build", "build_from_pipeline", "figures", "readings", "study_groups",
    "study_sparse", "study_units",
]  # fmt: skip
