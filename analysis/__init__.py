"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

from scorescope.analysis.attribute_emergence import trace_direction
from scorescope.analysis.attribute_loss import AttributeLoss, attribute_loss
from scorescope.analysis.audit import AUDIT, audit
from scorescope.analysis.class_weights import fit_level_weights, likelihood_weights
from scorescope.analysis.comparisons import loss_table, pair_table
from scorescope.analysis.direction_readers import compare_directions
from scorescope.analysis.direction_stability import direction_stability, effective_dimension, step_cosines
from scorescope.analysis.direction_transport import carry_direction, jacobian_carry, judge_transport, level_intervals
from scorescope.analysis.directions import (
    as_direction,
    direction_angles,
    directions_by_level,
    find_direction,
)
from scorescope.analysis.fid_companions import companion_table, fid_infinity, frechet_table, inception_score
from scorescope.analysis.fid_contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid_gaming import FeaturePair, gaming_audit, verdict
from scorescope.analysis.fid_heatmaps import (
    cell_cover,
    influence_maps,
    mask_share,
    mask_summary,
    signed_maps,
    squared_maps,
)
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
from scorescope.analysis.guidance_paths import clip_activity, clip_share, decoded_path, gain_path, momentum_updates
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.information import guidance_information, suggest_interval
from scorescope.analysis.log_snr import LogSNRLevels, grid_levels, logistic_levels
from scorescope.analysis.memorisation import memorisation
from scorescope.analysis.noise_intervals import delays, windows
from scorescope.analysis.overlap import Overlap, overlap
from scorescope.analysis.paired_classify import Classification, paired_classify
from scorescope.analysis.pairwise import PairwiseInformation, information_of_each, pairwise_information
from scorescope.analysis.paper_rules import paper_rule
from scorescope.analysis.patching import PatchTrace, patch_once, patch_trace
from scorescope.analysis.probing import probe_scan
from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.solver_gains import linear_error, solver_gains
from scorescope.analysis.splits import grouped_split
from scorescope.analysis.steer_effects import steering_effect, transport_effect
from scorescope.analysis.steering import SteerCurve, steer_curve
from scorescope.analysis.steering_tables import QUANTITIES as STEER_QUANTITIES
from scorescope.analysis.steering_verdicts import judge_together
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.sweeps import changes, measure_sweep, pareto, sample_metrics
from scorescope.analysis.tables import Column, Schema
from scorescope.analysis.token_directions import TokenDirection, label_pairs, linearity_gap, token_direction
from scorescope.analysis.win_rates import win_rates

__all__ = [
    "AUDIT",
    "STEER_QUANTITIES",
    "AttributeLoss",
    "Classification",
    "Column",
    "FeaturePair",
    "LogSNRLevels",
    "Overlap",
    "PairwiseInformation",
    "PatchTrace",
    "Schema",
    "SteerCurve",
    "TokenDirection",
    "as_direction",
    "attribute_loss",
    "audit",
    "carry_direction",
    "cell_cover",
    "changes",
    "class_agreement",
    "class_table",
    "clip_activity",
    "clip_share",
    "cmmd",
    "companion_table",
    "compare",
    "compare_directions",
    "compare_scores",
    "covariance_floor",
    "decoded_path",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "delays",
    "direction_angles",
    "direction_spectrum",
    "direction_stability",
    "directions_by_level",
    "effective_dimension",
    "emergence",
    "end_agreement",
    "error_by_sigma",
    "far_field_constant",
    "feature_contributions",
    "fid_infinity",
    "find_direction",
    "fit_level_weights",
    "frechet_distance",
    "frechet_interval",
    "frechet_table",
    "gain_path",
    "gaming_audit",
    "grid_levels",
    "group_table",
    "grouped_split",
    "guidance_information",
    "image_gradients",
    "image_table",
    "inception_score",
    "influence",
    "influence_maps",
    "influence_table",
    "information_of_each",
    "jacobian_carry",
    "judge_together",
    "judge_transport",
    "kid",
    "kid_subsets",
    "label_pairs",
    "leave_one_out",
    "level_intervals",
    "likelihood_weights",
    "linear_error",
    "linearity_gap",
    "logistic_levels",
    "loss_table",
    "mask_share",
    "mask_summary",
    "match_histogram",
    "measure_sweep",
    "memorisation",
    "mode_amplitudes",
    "mode_of",
    "momentum_updates",
    "nearest_distances",
    "nearest_step",
    "neighbour_table",
    "null_floor",
    "optimise_weights",
    "overlap",
    "pair_table",
    "paired_classify",
    "pairwise_information",
    "paper_rule",
    "pareto",
    "parting",
    "patch_once",
    "patch_trace",
    "path_errors",
    "path_pair",
    "predicted_state_error",
    "probe_scan",
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
    "steer_curve",
    "steering_effect",
    "step_cosines",
    "suggest_interval",
    "suggest_skip",
    "summarise",
    "summarise_by",
    "token_direction",
    "trace_direction",
    "training_dynamics",
    "transport",
    "transport_effect",
    "value_density",
    "verdict",
    "visible_share",
    "win_rates",
    "windows",
]
