"""Frequency-decoupled guidance: a weight for each level of a Laplacian pyramid."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import COND, UNCOND, GuidanceState, require_finite


@dataclass(frozen=True)
class FrequencyDecoupled:
    """FDG (Sadat et al. 2025, arXiv 2506.19713): D_u + sum over bands of w_band times the band of D_c - D_u.

    The pyramid is linear, so guiding each level of D_c and D_u is guiding each level of their difference, and the
    rule is the same in every prediction space.

    Attributes
    ----------
    weights : tuple of float
        One weight a band, from low to high frequency (diffusers lists them from high to low).
    """

    weights: tuple[float, ...] = (1.0, 3.0)

    def __post_init__(self) -> None:
        if len(self.weights) < 1:
            raise InputError("weights", found="none", expected="one weight a band, from low to high frequency")
        for value in self.weights:
            require_finite("weights", value)

    @property
    def weight(self) -> float:
        """Weight of the highest band."""
        return self.weights[-1]

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """At w = 1 in every band the unconditional branch is not needed."""
        return (COND,) if set(self.weights) == {1.0} else (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c plus (w_band - 1) times each band of the update."""
        if uncond is None:
            return cond
        guided = cond.clone()
        for weight, band in zip(
            reversed(self.weights), laplacian_pyramid(cond - uncond, len(self.weights)), strict=True
        ):
            guided.add_(band, alpha=weight - 1)
        return guided


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Bands of a Laplacian pyramid at full resolution, from high to low frequency; they sum to `images`.

    Parameters
    ----------
    images : Tensor, shape (batch, channel, y, x)
        Pictures or latents.
    levels : int
        Number of bands; each but the last halves the resolution of the next.

    Returns
    -------
    list of Tensor, shape (batch, channel, y, x)

    Raises
    ------
    InputError
        If the data have no two spatial axes, or are too small for that many bands.
    """
    if images.ndim != 4 or min(images.shape[-2:]) < 2 ** (levels - 1):
        found = f"data of shape {tuple(images.shape[1:])}"
        raise InputError("cond", found=found, expected=f"(channel, y, x) of at least {2 ** (levels - 1)} pixels a side")
    smooth, bands = images, []
    for level in range(levels - 1):
        smoother = _expand(_reduce(images, level + 1), images.shape[-2:], level + 1)
        bands.append(smooth - smoother)
        smooth = smoother
    return [*bands, smooth]


def _reduce(images: Tensor, times: int) -> Tensor:
    """Blur by the binomial kernel (1 4 6 4 1) / 16 and keep every second pixel, several times."""
    line = images.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(line, line)[None, None].expand(images.shape[1], 1, 5, 5)
    for _ in range(times):
        pad = "reflect" if min(images.shape[-2:]) > 2 else "replicate"
        images = functional.conv2d(
            functional.pad(images, (2, 2, 2, 2), mode=pad), kernel, stride=2, groups=images.shape[1]
        )
    return images


def _expand(images: Tensor, size: torch.Size, times: int) -> Tensor:
    """Bilinear interpolation back to `size`, doubling at each level."""
    for k in range(times - 1, -1, -1):
        target = [-(-length // 2**k) for length in size]
        images = functional.interpolate(images, size=target, mode="bilinear", align_corners=False)
    return images
