"""What passes through a denoiser's sites, reduced on the device: over a bank, along sampling, of a recording.

    found = collect(denoiser, Bank(images, log_snr_grid(-6, 6, 10)), ["network.middle1"], condition=labels)
    found.at("network.middle1", level=3)                        # (n, channels)
    run, taps = sample_with_sites(denoiser, ["network.middle1"], seeds=range(64), condition=labels)
    trace_activations(trace, ["unet.mid_block"])                # of record(pipe, sites=...)

`analysis.directions` probes them and finds directions in them.
"""

from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.along_sampling import SampleTaps, sample_with_sites
from scorescope.probes.activations.collect import collect, trace_activations

__all__ = [
    "Activations",
    "SampleTaps",
    "collect",
    "sample_with_sites",
    "trace_activations",
]
