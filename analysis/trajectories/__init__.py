"""Paths of a sampler: what a solver gets wrong at which step, what its calls give, how a path bends.

steps = steps_table(...)
"""

__all__: list[str] = []
