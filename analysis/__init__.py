"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

from scorescope.analysis.audit import AUDIT, audit, paper_rule
from scorescope.analysis.fid_companions import companion_table, fid_infinity, inception_score
from scorescope.analysis.fid_contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid_gaming import FeaturePair, gaming_audit, verdict
from scorescope.analysis.fid_heatmaps import influence_maps, mask_share, signed_maps, squared_maps
from scorescope.analysis.fid_kernels import cmmd, kid, kid_subsets
from scorescope.analysis.fid_matching import match_histogram
from scorescope.analysis.fid_neighbours import neighbour_table
from scorescope.analysis.fid_tables import class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid_transport import image_gradients, influence, transport
from scorescope.analysis.fid_weights import optimise_weights
from scorescope.analysis.frechet import frechet_distance, null_floor
from scorescope.analysis.frechet_error import frechet_interval, split_floor
from scorescope.analysis.gaussian_far_field import (
    covariance_floor,
    far_field_constant,
    predicted_state_error,
    skip_level,
)
from scorescope.analysis.gaussian_paths import (
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
    path_pair,
)
from scorescope.analysis.gaussian_scores import compare_scores, regimes, score_gaps, score_table
from scorescope.analysis.gaussian_skip import skip_table, suggest_skip
from scorescope.analysis.gaussian_training import nearest_step, training_dynamics
from scorescope.analysis.guidance import compare, decompose, decompose_bands, decompose_centred, summarise
from scorescope.analysis.guidance_pairs import parting, savings, separation
from scorescope.analysis.guidance_paths import clip_activity, clip_share, decoded_path, gain_path
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.information import guidance_information, suggest_interval
from scorescope.analysis.memorisation import memorisation
from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.solver_gains import linear_error, solver_gains
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.sweeps import changes, measure_sweep, pareto, sample_metrics
from scorescope.analysis.tables import Column, Schema

__all__ = [
    "AUDIT",
    "Column",
    "FeaturePair",
    "Schema",
    "audit",
    "changes",
    "class_agreement",
    "class_table",
    "clip_activity",
    "clip_share",
    "cmmd",
    "companion_table",
    "compare",
    "compare_scores",
    "covariance_floor",
    "decoded_path",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "direction_spectrum",
    "emergence",
    "end_agreement",
    "error_by_sigma",
    "far_field_constant",
    "feature_contributions",
    "fid_infinity",
    "frechet_distance",
    "frechet_interval",
    "gain_path",
    "gaming_audit",
    "group_table",
    "guidance_information",
    "image_gradients",
    "image_table",
    "inception_score",
    "influence",
    "influence_maps",
    "influence_table",
    "kid",
    "kid_subsets",
    "leave_one_out",
    "linear_error",
    "mask_share",
    "match_histogram",
    "measure_sweep",
    "memorisation",
    "mode_amplitudes",
    "mode_of",
    "nearest_distances",
    "nearest_step",
    "neighbour_table",
    "null_floor",
    "optimise_weights",
    "paper_rule",
    "pareto",
    "parting",
    "path_errors",
    "path_pair",
    "predicted_state_error",
    "regimes",
    "sample_metrics",
    "savings",
    "score_gaps",
    "score_table",
    "separation",
    "signed_maps",
    "skip_level",
    "skip_table",
    "solver_gains",
    "split_floor",
    "squared_maps",
    "suggest_interval",
    "suggest_skip",
    "summarise",
    "summarise_by",
    "training_dynamics",
    "transport",
    "value_density",
    "verdict",
    "visible_share",
]
