"""Figures of how a model is sampled: solvers, noise levels, checkpoints along training.

figures.metric_against_calls(table)                    # what solvers and grids give for their denoiser calls
"""

__all__: list[str] = []
