"""Named inner modules and condition tokens: what they put out, kept, changed, patched; directions to add there.

    site_names(denoiser)
    off = Intervention("zero", "network.attention", low=0.5)
    run = sample(intervened(denoiser, [off]), seeds=range(8), condition=labels)
    with intervene(pipe, [Intervention.along(direction, strength=3.0)]):
        pipe("a lighthouse")

    cache = ActivationCache()
    sample(cached(denoiser, ["network.middle1"], cache), seeds=range(8), condition=labels, solver=Euler())
    patch = Intervention("patch", "network.middle1", source=cache)

What an intervention means is the same in a plain denoiser and in a pipeline. Of a block that returns text and image the
image is read and edited; `describe()` says which output that is, and `output=` asks for another.
"""

from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.control_directions import random_directions, shuffled_direction, shuffled_directions
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.probes.sites.modules import site_names
from scorescope.probes.sites.on_denoiser import cached, intervened
from scorescope.probes.sites.on_pipeline import cache_activations, intervene
from scorescope.probes.sites.outputs import Output
from scorescope.probes.sites.token_deltas import load_token_delta
from scorescope.probes.sites.tokens import noisy_condition, subject_tokens, with_tokens

__all__ = [
    "ActivationCache",
    "Direction",
    "Intervention",
    "Output",
    "cache_activations",
    "cached",
    "intervene",
    "intervened",
    "load_token_delta",
    "noisy_condition",
    "random_directions",
    "shuffled_direction",
    "shuffled_directions",
    "site_names",
    "subject_tokens",
    "with_tokens",
]
