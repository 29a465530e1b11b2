"""Figures of how a model is sampled: solvers, noise levels, checkpoints along training.

    from scorescope.reports.trajectories import figures

    table = steps_table(settings, fine=samples)                  # of `analysis.trajectories`
    figures.metrics_along(table, {"end_error": "error (units of data)"}, x="calls", xlabel="calls a sample")
    figures.local_errors(errors.assign(grid="rho 7"))            # of each step alone, by solver

The entries of the atlas that are made of them are in its `atlas`.
"""

from scorescope.reports.trajectories import figures

__all__ = ["figures"]
