"""A user's own sampling loop around a network that costs next to nothing: what is tested is its trace."""

import math

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Two branches of a doubled batch, which differ in size and by a constant; NaN in the call of number `lost`."""

    def __init__(self, lost: int = -1) -> None:
        super().__init__()
        self.left = lost

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        cond, uncond = x.chunk(2)
        self.left -= 1
        bent = torch.tanh(cond + 0.3)
        return torch.cat([0.9 * bent, 0.8 * bent - 0.1 * uncond]) * (math.nan if self.left == -1 else 1)


class Pipeline:
    """A loop with classifier-free guidance.

    Parameters
    ----------
    shape : tuple of int
        Of one sample.
    steps : int
    lost : int
        Number of the denoiser call that gives NaN, over all runs; -1 for none.
    """

    def __init__(self, shape: tuple[int, ...], steps: int, lost: int = -1) -> None:
        from diffusers import DDIMScheduler

        self.unet, self.scheduler = Branches(lost), DDIMScheduler(clip_sample=False)
        self.shape, self.steps = shape, steps

    @torch.no_grad()
    def __call__(self, batch: int, seed: int = 0) -> Tensor:
        self.scheduler.set_timesteps(self.steps)
        x = torch.randn(batch, *self.shape, generator=torch.Generator().manual_seed(seed))
        for t in self.scheduler.timesteps:
            cond, uncond = self.unet(torch.cat([x, x]), t).chunk(2)
            x = self.scheduler.step(uncond + 3.0 * (cond - uncond), t, x, return_dict=False)[0]
        return x
