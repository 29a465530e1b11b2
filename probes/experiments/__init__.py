"""experiments"""

from scorescope.probes.experiments.diffusers_guider import as_guider
from scorescope.probes.experiments.guided_pipeline import Guide, guide
from scorescope.probes.experiments.pipeline_runs import sample_pipeline
from scorescope.probes.experiments.replay import replay, replay_all, visits
from scorescope.probes.experiments.sweep import Setting, sweep, with_weight

__all__ = [
    "Guide",
    "Setting",
    "as_guider",
    "guide",
    "replay",
    "replay_all",
    "sample_pipeline",
    "sweep",
    "visits",
    "with_weight",
]
