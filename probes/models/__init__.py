"""Everything a model has to be: the denoiser protocol, prediction spaces, conditions, noise."""

from scorescope.probes.models.conditions import attribute_candidates, open_attributes
from scorescope.probes.models.decoding import Decoder, decode, vae_decoder
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.models.spaces import SPACES, NoiseLevel, Space, from_denoised, to_denoised

__all__ = [
    "SPACES",
    "Condition",
    "Decoder",
    "Denoiser",
    "Model",
    "NoiseLevel",
    "SampleNoise",
    "Space",
    "attribute_candidates",
    "decode",
    "edm_sigmas",
    "from_denoised",
    "load_model",
    "open_attributes",
    "to_denoised",
    "vae_decoder",
]
