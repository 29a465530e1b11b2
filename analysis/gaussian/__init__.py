"""gaussian"""

from scorescope.analysis.gaussian.far_field import (
    covariance_floor,
    far_field_constant,
    predicted_state_error,
    skip_level,
)
from scorescope.analysis.gaussian.gaps import score_gaps
from scorescope.analysis.gaussian.paths import (
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
    path_pair,
)
from scorescope.analysis.gaussian.scores import compare_scores, regimes, score_table
from scorescope.analysis.gaussian.skip import skip_table, suggest_skip
from scorescope.analysis.gaussian.solver_errors import linear_error, solver_gains
from scorescope.analysis.gaussian.training import memorisation, nearest_step, training_dynamics

__all__ = [
    "compare_scores",
    "covariance_floor",
    "emergence",
    "end_agreement",
    "far_field_constant",
    "linear_error",
    "memorisation",
    "mode_amplitudes",
    "mode_of",
    "nearest_step",
    "path_errors",
    "path_pair",
    "predicted_state_error",
    "regimes",
    "score_gaps",
    "score_table",
    "skip_level",
    "skip_table",
    "solver_gains",
    "suggest_skip",
    "training_dynamics",
]
