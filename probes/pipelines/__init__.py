"""One engine inside an unmodified pipeline: what is called when, at which noise level, which rows are which branch.

    def level(scheduler, timestep, state):         # for a scheduler that is not recognised
        alpha, s = my_schedule(timestep)           # state = alpha * x0 + s * n
        return Level.of(alpha, s, "v")

    with record(pipe, level=level) as trace:
        pipe("a lighthouse")

    class Times(Listener):                         # a tool of your own
        def before_step(self, step):
            print(step.given.timestep, [call.module for call in step.calls])

    engine = Engine.of(pipe)
    seat = engine.join(Times(), {"unet": pipe.unet})
    pipe("a lighthouse")
    engine.leave(seat)

`record`, `guide`, `intervene` and `cache_activations` are such listeners; by itself it records and changes nothing.
"""

from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.listener import Listener, StepEvent

__all__ = ["Call", "Engine", "Level", "Listener", "StepEvent"]
