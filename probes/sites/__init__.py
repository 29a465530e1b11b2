"""sites"""

from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.control_directions import random_directions, shuffled_direction
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.probes.sites.modules import site_names
from scorescope.probes.sites.on_denoiser import cached, intervened
from scorescope.probes.sites.on_pipeline import cache_activations, intervene
from scorescope.probes.sites.tokens import noisy_condition, subject_tokens, with_tokens

__all__ = [
    "ActivationCache",
    "Direction",
    "Intervention",
    "cache_activations",
    "cached",
    "intervene",
    "intervened",
    "noisy_condition",
    "random_directions",
    "shuffled_direction",
    "site_names",
    "subject_tokens",
    "with_tokens",
]
