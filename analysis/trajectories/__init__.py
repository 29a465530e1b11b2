"""Paths of a sampler: what a solver gets wrong at which step, what its calls give, how a path bends.

effective_weights(CFGPP(0.6), edm_sigmas(50))    # the weight of CFG that a rule comes to in each step
"""

from scorescope.analysis.trajectories.step_weights import effective_weights

__all__ = ["effective_weights"]
