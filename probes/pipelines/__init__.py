"""One engine inside an unmodified pipeline: what is called when, at which noise level, which rows are which branch.

    def level(scheduler, timestep, state):         # for a scheduler that is not recognised
        alpha, s = my_schedule(timestep)           # state = alpha * x0 + s * n
        return Level.of(alpha, s, "v")

    with record(pipe, level=level) as trace:
        pipe("a lighthouse")

`recording`, `sites` and `experiments` are built on it; by itself it records and changes nothing.
"""

from scorescope.probes.pipelines.level import Level

__all__ = [
    "Level",
]
