"""Sparse features of a model: trained, measured and judged, and the figures of what was found.

from scorescope.reports.inside import figures, study_sparse

study = study_sparse(shapes_subject(images=1500), ["network.middle2", "network.up.0"], folder="features")
study.verdicts                                             # which features steer what they read
figures.sparse_sheet(study.sheet)
figures.density_histogram(study.density)
study.page(0)                                              # the first chosen feature on one figure
"""

from scorescope.reports.inside import figures
from scorescope.reports.inside.study import SparseStudy, study_sparse

__all__ = ["SparseStudy", "figures", "study_sparse"]
