"""How much of a denoiser is a law with a closed form, at which noise levels, and what that saves.

    gaps = score_gaps(denoiser, [gaussian, per_class], images, sigmas)
    score_table(gaps)                                      # unexplained fraction of each law, by noise level
    regimes(gaps)                                          # where no law beats the Gaussian, where the network errs
    advice = suggest_skip(denoiser, gaussian, far_field(images), tolerance=1e-4)
    advice.sigma_skip                                      # the closed form may carry a state down to here
    pair = path_pair(denoiser, gaussian, seeds=range(64), sigmas=sigmas)
    path_errors(pair), emergence(pair)                     # state error by level; where each eigen-mode appears
    solver_gains(Heun(), sigmas, gaussian.eigenvalues)     # a solver's own error on the linear part
    memorisation(denoiser, {"train": train, "held out": held_out}, sigmas)
    noise_norms(images, sigmas)                            # from which level on a noised image is as long as noise
    flipd(denoiser, {"held out": held_out}, sigmas)        # the dimension that the denoiser sees, level by level

`regimes` compares the laws that it is given and names them; a choice of one is no finding. Laws come from
`probes.approximations`, solvers such as `Heun` from `probes.sampling`, noise levels from `probes.models.edm_sigmas`.
"""

from scorescope.analysis.gaussian.far_field import (
    FarField,
    covariance_floor,
    far_field,
    far_field_constant,
    predicted_state_error,
    skip_level,
)
from scorescope.analysis.gaussian.gaps import QUERIES, score_gaps
from scorescope.analysis.gaussian.jacobians import flipd, jacobian_ranks
from scorescope.analysis.gaussian.norms import noise_norms
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
    "QUERIES",
    "FarField",
    "compare_scores",
    "covariance_floor",
    "emergence",
    "end_agreement",
    "far_field",
    "far_field_constant",
    "flipd",
    "jacobian_ranks",
    "linear_error",
    "memorisation",
    "mode_amplitudes",
    "mode_of",
    "nearest_step",
    "noise_norms",
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
