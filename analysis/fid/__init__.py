"""fid"""

from scorescope.analysis.fid.companions import companion_table, fid_infinity, frechet_table, inception_score
from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid.frechet import frechet_distance, null_floor
from scorescope.analysis.fid.frechet_error import frechet_interval, split_floor
from scorescope.analysis.fid.gaming import FeaturePair, gaming_audit, verdict
from scorescope.analysis.fid.heatmaps import (
    cell_cover,
    influence_maps,
    mask_share,
    mask_summary,
    signed_maps,
    squared_maps,
)
from scorescope.analysis.fid.influence_tables import class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.kernels import cmmd, kid, kid_subsets
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.analysis.fid.optimal_transport import image_gradients, influence, transport
from scorescope.analysis.fid.weights import optimise_weights
from scorescope.analysis.guidance.guider_audit import AUDIT

__all__ = [
    "AUDIT",
    "FeaturePair",
    "cell_cover",
    "class_table",
    "cmmd",
    "companion_table",
    "direction_spectrum",
    "feature_contributions",
    "fid_infinity",
    "frechet_distance",
    "frechet_interval",
    "frechet_table",
    "gaming_audit",
    "group_table",
    "image_gradients",
    "inception_score",
    "influence",
    "influence_maps",
    "influence_table",
    "kid",
    "kid_subsets",
    "leave_one_out",
    "mask_share",
    "mask_summary",
    "match_histogram",
    "neighbour_table",
    "null_floor",
    "optimise_weights",
    "signed_maps",
    "split_floor",
    "squared_maps",
    "transport",
    "verdict",
    "visible_share",
]
