"""What a denoiser did at every step of a run, of an unmodified pipeline or of `sample`: on disk or in memory.

    with record(pipe, keep="branches", sites=["unet.mid_block"], path="runs/a") as trace:
        pipe("a lighthouse", num_inference_steps=30)
    trace.scalars                                  # one row a (sample, step, call)
    Trace.open("runs/a").to_xarray()               # also after a crash

    sample(denoiser, seeds=range(16), condition=labels, record=Recording(keep=True)).trace

Nothing stays on the pipeline after the block, and a run that was cut off can be read and continued.
"""

from scorescope.probes.recording.kept_sites import Site
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.session import record
from scorescope.probes.recording.store import TraceError
from scorescope.probes.recording.trace import Recording, ScalarRecorder, Trace, Visit

__all__ = [
    "BudgetError",
    "Recording",
    "ScalarRecorder",
    "Site",
    "Trace",
    "TraceError",
    "Visit",
    "record",
]
