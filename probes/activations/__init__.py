"""What passes through a denoiser's sites, reduced on the device: over a bank, along sampling, of a recording.

    found = collect(denoiser, Bank(images, log_snr_grid(-6, 6, 10)), ["network.middle1"], condition=labels)
    found.at("network.middle1", level=3)                        # (n, channels)
    run, taps = sample_with_sites(denoiser, ["network.middle1"], seeds=range(64), condition=labels)
    stored = collect(denoiser, bank, {"network.middle1": Positions(16)}, path="activations", budget="20 GB")
    for batch in ShuffledRows(stored, "network.middle1", batch=4096, seed=0):       # over all shards
        ...
    store_samples(denoiser, ["network.middle1"], seeds=range(1000), path="sampled")        # the same of sampling
    store_trace(trace, ["unet.mid_block"], path="recorded")
    TraceRows(trace, "unet.mid_block").epoch(0)                 # the same of a recorded pipeline
    trace_activations(trace, ["unet.mid_block"])                # of record(pipe, sites=...)

`analysis.directions` probes them and finds directions in them.
"""

from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.along_sampling import SampleTaps, sample_with_sites
from scorescope.probes.activations.collect import collect, trace_activations
from scorescope.probes.activations.positions import Positions
from scorescope.probes.activations.shuffled import ShuffledRows
from scorescope.probes.activations.stored import StoredActivations
from scorescope.probes.activations.stored_runs import store_samples, store_trace
from scorescope.probes.activations.trace_rows import TraceRows

__all__ = [
    "Activations",
    "Positions",
    "SampleTaps",
    "ShuffledRows",
    "StoredActivations",
    "TraceRows",
    "collect",
    "sample_with_sites",
    "store_samples",
    "store_trace",
    "trace_activations",
]
