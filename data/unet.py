"""A small conditional U-Net and the EDM preconditioning around it.

    denoiser = EDMDenoiser(UNetConfig(), sigma_data=0.75)
    denoised = denoiser(x, sigma, labels)                   # conditional branch
    denoised = denoiser(x, sigma, None)                     # unconditional branch: the null class
    denoised = denoiser(x, sigma, denoiser.embed(labels))   # the same condition as an embedding

`EDMDenoiser` is a `Denoiser` (design, section 2): x = x0 + sigma * n in, the estimate of x0 out.
The preconditioning is that of Karras et al. 2022 (arXiv 2206.00364), table 1, column "Ours".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

AUGMENT_DIM = 5


@checked
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
    attributes : tuple of int
        Number of values of each attribute. Where given, it takes the place of `classes`: a label is one value an
        attribute, and every attribute has a null value of its own.
    patch : int
        Pixels are folded into channels, patch x patch at a time, before the first level.
    """

    shape: tuple[int, int, int] = (1, 8, 8)
    channels: tuple[int, ...] = (32, 64)
    classes: int = 10
    embedding: int = 128
    attention: bool = True
    dropout: float = 0.1
    attributes: tuple[int, ...] = ()
    patch: int = 1


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
        return self._attend(h, self.qkv(self.norm(h)))

    def with_queries(self, h: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """The same with changed queries, which `change` is given as (batch, channels, y, x)."""
        query, rest = self.qkv(self.norm(h)).tensor_split([h.shape[1]], dim=1)
        return self._attend(h, torch.cat([change(query), rest], dim=1))

    def _attend(self, h: Tensor, qkv: Tensor) -> Tensor:
        batch, channels, height, width = h.shape
        qkv = qkv.reshape(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (batch, heads, positions, channels / heads)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        projected: Tensor = self.out(mixed.reshape(batch, channels, height, width))
        return h + projected

    def without_mixing(self, h: Tensor) -> Tensor:
        """The same with the identity in place of the attention map: each position keeps its own value."""
        values = self.qkv(self.norm(h)).chunk(3, dim=1)[2]
        projected: Tensor = self.out(values)
        return h + projected


class AttributeEmbedding(nn.Module):
    """One embedding row for each value of each attribute, and one for its null value."""

    starts: Tensor  # a buffer: made anew, it would be copied to the device in every call

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes) + len(sizes), width)
        starts = [sum(sizes[:i]) + i for i in range(len(sizes))]
        self.register_buffer("starts", torch.tensor(starts), persistent=False)

    def forward(self, labels: Tensor) -> Tensor:
        """(batch, attribute) values to (batch, attribute, width)."""
        tokens: Tensor = self.table(labels + self.starts)
        return tokens


class UNet(nn.Module):
    """Conditional U-Net: the raw network F of the EDM preconditioning."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width, first = config.embedding, config.channels[0]
        self.config = config
        self.noise_embedding = nn.Sequential(nn.Linear(first * 2, width), nn.SiLU(), nn.Linear(width, width))
        if config.attributes:
            self.attribute_embedding = AttributeEmbedding(config.attributes, width)
        else:
            self.class_embedding = nn.Embedding(config.classes + 1, width)
        self.augment_embedding = nn.Linear(AUGMENT_DIM, width, bias=False)
        inner = config.shape[0] * config.patch**2
        self.first = nn.Conv2d(inner, first, 3, padding=1)
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
        self.last = nn.Conv2d(first, inner, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def embed(self, labels: Tensor) -> Tensor:
        """Labels to condition tokens, shape (batch, token, embedding): one token a class or an attribute."""
        tokens: Tensor = self.attribute_embedding(labels) if self.config.attributes else self.class_embedding(labels)
        return tokens if self.config.attributes else tokens[:, None]

    def forward(self, x: Tensor, c_noise: Tensor, condition: Tensor, augment: Tensor | None = None) -> Tensor:
        """Predict F.

        Parameters
        ----------
        x : Tensor, shape (batch, *config.shape)
            Scaled input, c_in * x.
        c_noise : Tensor, shape (batch,)
            ln(sigma) / 4.
        condition : Tensor
            Integer labels, (batch,) from 0 to `classes`, the last one the null class, or (batch, attribute), each
            from 0 to its size, the last one its null value; or the tokens that `embed` makes of them.
        augment : Tensor, shape (batch, AUGMENT_DIM), optional
            Parameters of the augmentation that was applied to the training image; none when sampling.
        """
        tokens = condition.to(x.dtype) if condition.is_floating_point() else self.embed(condition)
        embedding = self.noise_embedding(self._frequencies(c_noise)) + tokens.sum(dim=1)
        if augment is not None:
            embedding = embedding + self.augment_embedding(augment)
        embedding = functional.silu(embedding)
        h = self.first(functional.pixel_unshuffle(x, self.config.patch))
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
        return functional.pixel_shuffle(out, self.config.patch)

    def _frequencies(self, c_noise: Tensor) -> Tensor:
        # c_noise spans about (-1.6, 1.1): geometric frequencies from one half-turn to sixteen over that span
        count = self.config.channels[0]
        frequencies = math.pi * torch.logspace(-1, 3, count, base=2.0, device=c_noise.device, dtype=c_noise.dtype)
        angles = c_noise[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)


@checked
class EDMDenoiser(nn.Module):
    """A raw network with EDM preconditioning: D(x, sigma, condition) -> estimate of x0.

    Parameters
    ----------
    config : UNetConfig
        Size of the network.
    sigma_data : float
        Standard deviation of the data, same unit as x.
    """

    null_label: Tensor
    prediction_space = "edm"

    def __init__(self, config: UNetConfig, sigma_data: float) -> None:
        super().__init__()
        self.network = UNet(config)
        self.config = config
        self.sigma_data = sigma_data
        label = torch.tensor(config.attributes or config.classes)
        self.register_buffer("null_label", label, persistent=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.config.shape

    @property
    def classes(self) -> int:
        """Number of labels, the null class not counted."""
        return self.config.classes

    def null(self, batch: int, device: torch.device | None = None) -> Tensor:
        """Labels of the unconditional branch: the null class, or every attribute's null value; not to be written to."""
        return self.null_label.to(device).expand(batch, *self.null_label.shape)

    def embed(self, condition: Tensor | None, batch: int | None = None) -> Tensor:
        """A condition as tokens that the denoiser takes in its place, shape (batch, token, embedding).

        Parameters
        ----------
        condition : Tensor, int64, or None
            Labels; None with `batch` for the unconditional branch.
        batch : int, optional
            Number of rows where the condition is None.
        """
        if condition is None and batch is None:
            raise InputError("batch", found="None without a condition", expected="the number of rows")
        labels = self.null(batch or 0) if condition is None else condition
        tokens: Tensor = self.network.embed(labels.to(self.network.first.weight.device))
        return tokens

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """Estimate x0 from x = x0 + sigma * n.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            Noisy data.
        sigma : Tensor, shape (batch,)
            Noise level of each sample, same unit as x; positive.
        condition : Tensor, optional
            Class labels, (batch,) int64 in [0, classes); or attribute values, (batch, attribute) int64 in
            [0, attributes[i]], where attributes[i] leaves attribute i open; or tokens, (batch, token, embedding)
            floating point. None is the unconditional branch.

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
            return self.denoise(x, sigma, self.null(len(x), x.device))
        if (
            not isinstance(condition, Tensor) or condition.device.type == "cpu"
        ):  # elsewhere this would wait for the device at every call
            self.check_condition(condition, len(x))
        return self.denoise(x, sigma, condition)

    def check_condition(self, condition: Tensor, batch: int) -> None:
        """Raise `InputError` unless `condition` is what `forward` takes, for `batch` rows."""
        expected = self._expected(batch)
        if not isinstance(condition, Tensor):
            raise InputError("condition", found=f"a {type(condition).__name__}", expected=expected)
        found = f"{condition.dtype} of shape {tuple(condition.shape)}"
        if condition.is_floating_point():
            tokens = len(self.config.attributes) or 1
            if tuple(condition.shape) != (batch, tokens, self.config.embedding):
                raise InputError("condition", found=found, expected=expected)
            return
        sizes = self.config.attributes
        if condition.dtype != torch.int64 or tuple(condition.shape) != ((batch, len(sizes)) if sizes else (batch,)):
            raise InputError("condition", found=found, expected=expected)
        highest = self.null_label.to(condition.device) if sizes else self.classes - 1
        if ((condition < 0) | (condition > highest)).any():
            low, high = (int(v) for v in condition.aminmax())
            raise InputError("condition", found=f"labels from {low} to {high}", expected=expected)

    def _expected(self, batch: int) -> str:
        if sizes := self.config.attributes:
            return f"a tensor of ({batch}, {len(sizes)}) integers, each from 0 to {sizes} (the last leaves it open)"
        return f"a tensor of ({batch},) integer labels from 0 to {self.classes - 1}"

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor, augment: Tensor | None = None) -> Tensor:
        """Like calling the denoiser, unchecked, with null labels allowed and training augmentation."""
        weight = self.network.first.weight
        sigma = sigma.to(x.dtype).reshape(-1, 1, 1, 1)
        total = (sigma**2 + self.sigma_data**2).sqrt()
        c_noise = (sigma.log() / 4).reshape(-1)
        raw: Tensor = self.network((x / total).to(weight.dtype), c_noise.to(weight.dtype), condition, augment)
        c_skip = self.sigma_data**2 / total**2
        c_out = sigma * self.sigma_data / total
        return c_skip * x + c_out * raw.to(x.dtype)
