"""What a model is: the `Denoiser` protocol, prediction spaces, conditions, noise and its levels, latents to pictures.

    def denoiser(x, sigma, labels):                # any callable D(x, sigma, condition) -> x0, x = x0 + sigma * n
        level = NoiseLevel.vp(sigma)
        x_vp = level.from_ve(x)                    # for a network that is variance preserving and predicts eps
        return to_denoised(network(x_vp, sigma, labels), x_vp, level, space="eps")

    model = load_model("digits")                   # or load_model("package.module:factory")
    model.denoiser, model.conditions(64), edm_sigmas(18)

    made = posthoc_ema(find_snapshots("runs/mine"), length=0.12)  # another EMA length, after training
    network.load_state_dict(made.weights)

Nothing is inherited and nothing is registered: a function will do.
"""

from scorescope.probes.models.conditions import attribute_candidates, open_attributes
from scorescope.probes.models.decoding import Decoder, decode, vae_decoder, vae_encoder
from scorescope.probes.models.denoiser import Condition, Denoiser, sigma_range
from scorescope.probes.models.load_pipeline import load_pipeline
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.models.posthoc_ema import PosthocEMA, Snapshot, find_snapshots, posthoc_ema
from scorescope.probes.models.spaces import SPACES, NoiseLevel, Space, from_denoised, to_denoised

__all__ = [
    "SPACES",
    "Condition",
    "Decoder",
    "Denoiser",
    "Model",
    "NoiseLevel",
    "PosthocEMA",
    "SampleNoise",
    "Snapshot",
    "Space",
    "attribute_candidates",
    "decode",
    "edm_sigmas",
    "find_snapshots",
    "from_denoised",
    "load_model",
    "load_pipeline",
    "open_attributes",
    "posthoc_ema",
    "sigma_range",
    "to_denoised",
    "vae_decoder",
    "vae_encoder",
]
