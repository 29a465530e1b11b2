"""Denoisers with condition tokens, for tests: a linear one with closed forms, a small U-Net, a diffusers UNet."""

import torch
from torch import Tensor, nn

from scorescope.data.unet import EDMDenoiser, UNetConfig


class LinearDenoiser(nn.Module):
    """D = A x + B vec(tokens), float64; its sites are what A and B put out."""

    def __init__(self, size: int = 7, tokens: int = 2, width: int = 3, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.a = nn.Linear(size, size, bias=False, dtype=torch.float64)
        self.b = nn.Linear(tokens * width, size, bias=False, dtype=torch.float64)
        self.tokens, self.width = tokens, width
        for layer in (self.a, self.b):
            layer.weight.data = torch.randn(layer.weight.shape, generator=generator, dtype=torch.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.a.in_features,)

    def embed(self, condition: Tensor | None, batch: int | None = None) -> Tensor:
        assert condition is None
        return torch.zeros(batch, self.tokens, self.width, dtype=torch.float64)

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        tokens = self.embed(None, len(x)) if condition is None else condition
        return self.a(x) + self.b(tokens.flatten(1))


SIZES = (3, 4, 2)


def small_unet(seed: int = 0) -> EDMDenoiser:
    """An untrained U-Net with random weights (also where training starts from zeros), conditioned on attributes."""
    config = UNetConfig(shape=(3, 8, 8), channels=(8, 16), attributes=SIZES, embedding=12, dropout=0.0)
    denoiser = EDMDenoiser(config, 0.5).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in denoiser.parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        parameter.data = torch.randn(parameter.shape, generator=generator) * (1.2 / fan**0.5)
    return denoiser


def unet_points(count: int = 5, seed: int = 1) -> tuple[Tensor, Tensor]:
    """States at sigma 1 and labels for `small_unet`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in SIZES], 1)
    return torch.randn(count, 3, 8, 8, generator=generator), labels


class DiffusersDenoiser(nn.Module):
    """An unmodified diffusers UNet2DConditionModel, trained for eps in the variance-preserving convention."""

    def __init__(self) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        torch.manual_seed(0)
        self.unet = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=12, norm_num_groups=4,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4,
        ).eval()  # fmt: skip

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1)
        eps = self.unet(x * (1 + level**2).rsqrt(), 250 * sigma.log().clamp_min(0) + 100, condition).sample
        return x - level * eps
