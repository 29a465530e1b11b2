"""A small class-conditional U-Net and the EDM preconditioning around it.

    denoiser = EDMDenoiser(UNetConfig(), sigma_data=0.75)
    denoised = denoiser(x, sigma, labels)      # conditional branch
    denoised = denoiser(x, sigma, None)        # unconditional branch: the null class

`EDMDenoiser` is a `Denoiser` (design, section 2): x = x0 + sigma * n in, the estimate of x0 out.
The preconditioning is that of Karras et al. 2022 (arXiv 2206.00364), table 1, column "Ours".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.errors import InputError

AUGMENT_DIM = 5


@dataclass(frozen=True)
class UNetConfig:
    """Size of a `UNet`; stored beside its weights.

    Attributes
    ----------
    shape : tuple of int
        (channels, height, width) of the data.
    channels : tuple of int
        Feature channels at each resolution; each level halves height and width.
    classes : int
        Number of labels. One more embedding row is the null class.
    embedding : int
        Width of the noise-level and class embedding.
    attention : bool
        Self-attention at the lowest resolution.
    dropout : float
        Dropout inside the residual blocks, in training only.
    """

    shape: tuple[int, int, int] = (1, 8, 8)
    channels: tuple[int, ...] = (32, 64)
    classes: int = 10
    embedding: int = 128
    attention: bool = True
    dropout: float = 0.1


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, scaled and shifted by the embedding between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """(batch, inputs, y, x) and (batch, embedding) to (batch, outputs, y, x)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        out = self.conv1(functional.silu(self.norm1(h)))
        out = functional.silu(self.norm2(out) * (1 + scale) + shift)
        change: Tensor = self.conv2(self.dropout(out))
        return change.add(self.skip(h))


class SelfAttention(nn.Module):
    """Self-attention over all positions of a feature map."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor) -> Tensor:
        """(batch, channels, y, x) to the same shape."""
        batch, channels, height, width = h.shape
        qkv = self.qkv(self.norm(h)).reshape(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (batch, heads, positions, channels / heads)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        projected: Tensor = self.out(mixed.reshape(batch, channels, height, width))
        return h + projected

    def without_mixing(self, h: Tensor) -> Tensor:
        """The same with the identity in place of the attention map: each position keeps its own value."""
        values = self.qkv(self.norm(h)).chunk(3, dim=1)[2]
        projected: Tensor = self.out(values)
        return h + projected


class UNet(nn.Module):
    """Class-conditional U-Net: the raw network F of the EDM preconditioning."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width, first = config.embedding, config.channels[0]
        self.config = config
        self.noise_embedding = nn.Sequential(nn.Linear(first * 2, width), nn.SiLU(), nn.Linear(width, width))
        self.class_embedding = nn.Embedding(config.classes + 1, width)
        self.augment_embedding = nn.Linear(AUGMENT_DIM, width, bias=False)
        self.first = nn.Conv2d(config.shape[0], first, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        inputs = first
        for channels in config.channels:
            self.down.append(ResidualBlock(inputs, channels, width, config.dropout))
            self.up.insert(0, ResidualBlock(2 * channels, inputs, width, config.dropout))
            inputs = channels
        self.middle1 = ResidualBlock(inputs, inputs, width, config.dropout)
        self.attention = SelfAttention(inputs) if config.attention else nn.Identity()
        self.middle2 = ResidualBlock(inputs, inputs, width, config.dropout)
        self.last_norm = nn.GroupNorm(8, first)
        self.last = nn.Conv2d(first, config.shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor, augment: Tensor | None = None) -> Tensor:
        """Predict F.

        Parameters
        ----------
        x : Tensor, shape (batch, *config.shape)
            Scaled input, c_in * x.
        c_noise : Tensor, shape (batch,)
            ln(sigma) / 4.
        labels : Tensor, shape (batch,), int64
            0 to classes - 1, or `classes` for the null class.
        augment : Tensor, shape (batch, AUGMENT_DIM), optional
            Parameters of the augmentation that was applied to the training image; none when sampling.
        """
        embedding = self.noise_embedding(self._frequencies(c_noise)) + self.class_embedding(labels)
        if augment is not None:
            embedding = embedding + self.augment_embedding(augment)
        embedding = functional.silu(embedding)
        h = self.first(x)
        skips = []
        for level, block in enumerate(self.down):
            h = block(h if level == 0 else functional.avg_pool2d(h, 2), embedding)
            skips.append(h)
        h = self.middle2(self.attention(self.middle1(h, embedding)), embedding)
        for level, block in enumerate(self.up):
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
            if level < len(self.up) - 1:
                h = functional.interpolate(h, scale_factor=2, mode="nearest")
        out: Tensor = self.last(functional.silu(self.last_norm(h)))
        return out

    def _frequencies(self, c_noise: Tensor) -> Tensor:
        # c_noise spans about (-1.6, 1.1): geometric frequencies from one half-turn to sixteen over that span
        count = self.config.channels[0]
        frequencies = math.pi * torch.logspace(-1, 3, count, base=2.0, device=c_noise.device, dtype=c_noise.dtype)
        angles = c_noise[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class EDMDenoiser(nn.Module):
    """A raw network with EDM preconditioning: D(x, sigma, condition) -> estimate of x0.

    Parameters
    ----------
    config : UNetConfig
        Size of the network.
    sigma_data : float
        Standard deviation of the data, same unit as x.
    """

    def __init__(self, config: UNetConfig, sigma_data: float) -> None:
        super().__init__()
        self.network = UNet(config)
        self.config = config
        self.sigma_data = sigma_data

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.config.shape

    @property
    def classes(self) -> int:
        """Number of labels, the null class not counted."""
        return self.config.classes

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Estimate x0 from x = x0 + sigma * n.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            Noisy data.
        sigma : Tensor, shape (batch,)
            Noise level of each sample, same unit as x; positive.
        condition : Tensor, shape (batch,), int64, optional
            Class labels in [0, classes); None is the unconditional branch.

        Returns
        -------
        Tensor, shape and dtype of x
            The denoised prediction.

        Raises
        ------
        InputError
            If x has another shape than the data, or a label is out of range.
        """
        if tuple(x.shape[1:]) != self.shape or len(x) == 0:
            raise InputError(
                "x", found=f"shape {tuple(x.shape)}", expected=f"(batch >= 1, {', '.join(map(str, self.shape))})"
            )
        if condition is None:
            return self.denoise(x, sigma, torch.full((len(x),), self.classes, device=x.device))
        if (
            not isinstance(condition, Tensor) or condition.device.type == "cpu"
        ):  # elsewhere this would wait for the device at every call
            self.check_condition(condition, len(x))
        return self.denoise(x, sigma, condition)

    def check_condition(self, condition: Tensor, batch: int) -> None:
        """Raise `InputError` unless `condition` is (batch,) integer labels in [0, classes)."""
        expected = f"a tensor of ({batch},) integer labels from 0 to {self.classes - 1}"
        if not isinstance(condition, Tensor):
            raise InputError("condition", found=f"a {type(condition).__name__}", expected=expected)
        if condition.dtype != torch.int64 or tuple(condition.shape) != (batch,):
            raise InputError(
                "condition", found=f"{condition.dtype} of shape {tuple(condition.shape)}", expected=expected
            )
        low, high = (int(v) for v in condition.aminmax())
        if low < 0 or high >= self.classes:
            raise InputError("condition", found=f"labels from {low} to {high}", expected=expected)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, augment: Tensor | None = None) -> Tensor:
        """Like calling the denoiser, unchecked, with `classes` as the null label and training augmentation."""
        weight = self.network.first.weight
        sigma = sigma.to(x.dtype).reshape(-1, 1, 1, 1)
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_noise = (sigma.log() / 4).reshape(-1)
        raw: Tensor = self.network((x / total).to(weight.dtype), c_noise.to(weight.dtype), labels, augment)
        c_skip = self.sigma_data**2 / total**2
        c_out = sigma * self.sigma_data / total
        return c_skip * x + c_out * raw.to(x.dtype)
