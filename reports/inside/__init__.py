"""The inside report, its figures and its sentences: what a network's features keep, read and move.

    build(Path("report"), load_subject("shapes"), command="my study")             # the whole report

    build_from_pipeline("report", pipe, read_pairs("pairs.txt"), "my_package.judges:make", command="my study")

    study = study_sparse(shapes_subject(images=1500), ["network.middle2", "network.up.0"], folder="features")
    study.verdicts                                             # which features steer what they read
    figures.sparse_sheet(study.sheet)
    figures.read_and_move(study.judged)
    study.page(0)                                              # the first chosen feature on one figure

`workbench` says what is measured, `sections_*` what is shown of it.
"""

from scorescope.reports.inside import figures, readings
from scorescope.reports.inside.report import build, build_from_pipeline
from scorescope.reports.inside.sparse_study import SparseStudy, study_sparse

__all__ = ["SparseStudy", "build", "build_from_pipeline", "figures", "readings", "study_sparse"]
