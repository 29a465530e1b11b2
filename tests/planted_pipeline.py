"""A Stable Diffusion pipeline whose network is the exact denoiser of a known law: prompts shift known channels.

Latents are N(mean, SPREAD^2) with a mean a1 * pattern 1 + a2 * pattern 2. Each a is -1 or 1, as the prompt says
("red", "blue"; "day", "night"), or either with the same chance where it does not. The only block of the network puts
out (batch, 64, y, x): the posterior means of a1 and a2, and 62 channels that nothing reads.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from tests.pipelines import PIPELINES
from tests.saved_pipelines import clip_encoder, clip_tokenizer

SIZE, SPREAD, STRENGTH = 8, 0.5, 6.0
WORDS = {"red": (-1.0, 0.0), "blue": (1.0, 0.0), "day": (0.0, -1.0), "night": (0.0, 1.0), "": (0.0, 0.0)}  # 0: not said
SITE = "network.down_blocks.0"


def patterns() -> Tensor:
    """Two orthogonal latents of unit length, (2, 4, y, x): the first two channels, constant."""
    flat = torch.zeros(2, 4, SIZE, SIZE)
    flat[0, 0] = flat[1, 1] = 1 / SIZE
    return flat


class PlantedUNet(ModelMixin, ConfigMixin):
    """The exact denoiser, called as a UNet of diffusers is: eps of the state and a (perhaps fractional) timestep."""

    @register_to_config
    def __init__(self, in_channels: int = 4, sample_size: int = SIZE, time_cond_proj_dim: int | None = None) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList([nn.Identity()])
        self.register_buffer("texts", torch.zeros(len(WORDS), 16, 16))
        self.register_buffer("log_sigmas", torch.zeros(1000))
        self.register_buffer("weight", torch.zeros(1))

    def sigma(self, timestep: Tensor, count: int) -> Tensor:
        """Noise level, of fractional timesteps interpolated in its logarithm."""
        t = torch.as_tensor(timestep).float().expand(count)
        below = t.floor().long().clamp(0, 998)
        return torch.lerp(self.log_sigmas[below], self.log_sigmas[below + 1], t - below).exp()

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, **more: Any) -> Any:
        sigma = self.sigma(timestep, len(sample)).reshape(-1, 1, 1, 1)
        x = sample * (1 + sigma**2).sqrt()  # variance exploding
        nearest = torch.cdist(encoder_hidden_states.flatten(1), self.texts.flatten(1)).argmin(1)
        said = torch.tensor(list(WORDS.values()))[nearest]
        shown = torch.einsum("bcyx,kcyx->bk", x, patterns())
        posterior = torch.tanh(STRENGTH * shown / (SPREAD**2 + sigma.flatten(1) ** 2))
        means = torch.where(said == 0, posterior, said)
        idle = x[:, 2:].mean((2, 3)).repeat(1, 31)
        block = self.down_blocks[0](torch.cat([means, idle], dim=1)[:, :, None, None].expand(-1, -1, SIZE, SIZE))
        mean = STRENGTH * torch.einsum("bk,kcyx->bcyx", block[:, :2].mean((2, 3)), patterns())
        denoised = mean + SPREAD**2 / (SPREAD**2 + sigma**2) * (x - mean)
        return ((x - denoised) / sigma,)


def planted(folder: Path) -> Any:
    """The pipeline, with a tokenizer of letters and a random text encoder."""
    pipe, _ = PIPELINES["sd15"]()
    tokenizer = clip_tokenizer(folder)
    pipe.register_modules(unet=PlantedUNet(), tokenizer=tokenizer, text_encoder=clip_encoder(tokenizer, 16))
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        texts = [pipe.encode_prompt(word, "cpu", 1, False)[0] for word in WORDS]
        pipe.unet.texts.copy_(torch.cat(texts))
        alphas = pipe.scheduler.alphas_cumprod
        pipe.unet.log_sigmas.copy_(((1 - alphas) / alphas).log() / 2)
    return pipe


def show(latents: Tensor) -> Tensor:
    """A decoder: the first three channels."""
    return latents[:, :3] / 8


def judge(images: Tensor) -> dict[str, Tensor]:
    """Log-odds of blue against red and of night against day, by what is shown of the patterns."""
    return {"colour": images[:, 0].mean((1, 2)) * 20, "time": images[:, 1].mean((1, 2)) * 20}
