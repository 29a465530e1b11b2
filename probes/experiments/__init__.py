"""What another rule would have done: at recorded states, over many settings from the same seeds, inside a pipeline.

    other = replay(trace, APG(8.0))                # no model is called
    runs = sweep(denoiser, {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=(2.0, 4.0), seeds=range(64), condition=labels)
    sweep_models({"1000": early, "20000": late}, {"CFG": CFG(4.0)}, seeds=range(64), condition=labels)
    with guide(pipe, APG(4.0, norm=15.0)):
        pipe("a lighthouse")
    sample_pipeline(pipe, rule=APG(6.0), seeds=range(16), condition={"prompt": prompts})
    batch_coupling(draw, seeds=range(8)).couples   # does the result of a sample depend on those beside it?

    print(describe_pipeline(pipe, {"prompt": "a lighthouse"}))
    model = pipeline_model(pipe, read_prompts("prompts.csv"))     # D(x, sigma, row), as of any denoiser
    text_states(pipe, read_prompts("prompts.csv"))                # (row, token, width), as the denoiser is given them
    made = record_calls(pipe, plan_calls(pipe, read_prompts("prompts.csv")), folder="runs/a")

States stay those of the record in `replay`; `sweep` and `sample_pipeline` sample anew, from the same seeds.
"""

from scorescope.probes.experiments.batch_coupling import Coupling, batch_coupling
from scorescope.probes.experiments.diffusers_guider import as_guider
from scorescope.probes.experiments.guided_pipeline import Guide, guide
from scorescope.probes.experiments.pipeline_calls import RecordedCalls, plan_calls, record_calls
from scorescope.probes.experiments.pipeline_description import PipelineDescription, describe_pipeline
from scorescope.probes.experiments.pipeline_model import pipeline_model
from scorescope.probes.experiments.pipeline_runs import sample_pipeline
from scorescope.probes.experiments.replay import replay, replay_all, visits
from scorescope.probes.experiments.rule_fields import with_fields, with_weight
from scorescope.probes.experiments.sweep import Setting, read_sweep, sweep
from scorescope.probes.experiments.sweep_models import sweep_models
from scorescope.probes.experiments.text_states import text_states

__all__ = [
    "Coupling",
    "Guide",
    "PipelineDescription",
    "RecordedCalls",
    "Setting",
    "as_guider",
    "batch_coupling",
    "describe_pipeline",
    "guide",
    "pipeline_model",
    "plan_calls",
    "read_sweep",
    "record_calls",
    "replay",
    "replay_all",
    "sample_pipeline",
    "sweep",
    "sweep_models",
    "text_states",
    "visits",
    "with_fields",
    "with_weight",
]
