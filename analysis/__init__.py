"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

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
from scorescope.analysis.guidance_paths import clip_activity, gain_path, savings, separation
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.information import guidance_information, suggest_interval
from scorescope.analysis.memorisation import memorisation
from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.solver_gains import linear_error, solver_gains
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.sweeps import changes, measure_sweep, pareto, sample_metrics
from scorescope.analysis.tables import Column, Schema

__all__ = [
    "Column",
    "Schema",
    "changes",
    "class_agreement",
    "clip_activity",
    "compare",
    "compare_scores",
    "covariance_floor",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "emergence",
    "end_agreement",
    "error_by_sigma",
    "far_field_constant",
    "gain_path",
    "guidance_information",
    "image_table",
    "linear_error",
    "measure_sweep",
    "memorisation",
    "mode_amplitudes",
    "mode_of",
    "nearest_distances",
    "nearest_step",
    "pareto",
    "path_errors",
    "path_pair",
    "predicted_state_error",
    "regimes",
    "sample_metrics",
    "savings",
    "score_gaps",
    "score_table",
    "separation",
    "skip_level",
    "skip_table",
    "solver_gains",
    "suggest_interval",
    "suggest_skip",
    "summarise",
    "summarise_by",
    "training_dynamics",
    "value_density",
]
