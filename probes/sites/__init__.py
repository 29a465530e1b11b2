"""sites"""

from scorescope.probes.sites.activation_cache import ActivationCache
from scorescope.probes.sites.cached import cached
from scorescope.probes.sites.controls import random_directions, shuffled_direction
from scorescope.probes.sites.corruption import noisy_condition
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.intervened import intervened
from scorescope.probes.sites.interventions import Intervention
from scorescope.probes.sites.modules import site_names
from scorescope.probes.sites.on_pipeline import cache_activations, intervene
from scorescope.probes.sites.tokens import subject_tokens, with_tokens

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
