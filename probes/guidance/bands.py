"""Frequency-decoupled guidance: a weight for each level of a Laplacian pyramid."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import projection_products, rows_a_block
from scorescope.probes.guidance.base import COND, UNCOND, GuidanceState, combine, require_finite, required
from scorescope.probes.guidance.linear import CFG


@displayed
@checked
@dataclass(frozen=True)
class FrequencyDecoupled:
    """FDG (Sadat et al. 2025, arXiv 2506.19713): D_u + sum over bands of w_band times the band of D_c - D_u.

    The pyramid is linear, so guiding each level of D_c and D_u is guiding each level of their difference, and the
    rule is the same in every prediction space. With weights of parallel parts it is not: they belong to denoised
    space. As in the paper's listing they scale the part of a level's update along the same level of
    D_c, at the level's own resolution, and the result is D_c + (w - 1) * update in each level.

    Attributes
    ----------
    weights : tuple of float
        One weight a band, from low to high frequency (diffusers lists them from high to low).
    parallel : tuple of float, optional
        Share of the parallel part that is kept in each band, in the same order; None keeps all, as ones do.
    """

    weights: tuple[float, ...] = (1.0, 3.0)
    parallel: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.weights) < 1:
            raise InputError("weights", found="none", expected="one weight a band, from low to high frequency")
        if self.parallel is not None and len(self.parallel) != len(self.weights):
            found = f"{len(self.parallel)} for {len(self.weights)} bands"
            raise InputError("parallel", found=found, expected="one share a band, from low to high frequency")
        for value in self.weights:
            require_finite("weights", value)
        for value in self.parallel or ():
            require_finite("parallel", value)

    @property
    def weight(self) -> float:
        """Weight of the highest band."""
        return self.weights[-1]

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """At w = 1 in every band the unconditional branch is not needed."""
        return (COND,) if set(self.weights) == {1.0} else (COND, UNCOND)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c plus (w_band - 1) times each band of the update."""
        if set(self.weights) == {1.0}:
            return cond
        levels, plain = len(self.weights), set(self.parallel or (1.0,)) == {1.0}
        if levels == 1 and plain:
            return CFG(self.weight)(cond, uncond, state)
        if levels > 1:
            _check(cond, levels)
        guide = self._guide if plain else self._guide_projected
        uncond, guided = required(uncond, cond), torch.empty_like(cond)
        rows = rows_a_block(cond)  # a convolution needs several times the memory of its images
        for c, u, g in zip(*(tensor.split(rows) for tensor in (cond, uncond, guided)), strict=True):
            g.copy_(guide(c, u))
        return guided

    def _guide(self, cond: Tensor, uncond: Tensor) -> Tensor:
        levels = len(self.weights)
        # a band is the difference of two levels: gathered by level, each level is expanded once
        smaller = [_halve(cond - uncond)]
        for _ in range(levels - 2):
            smaller.append(_halve(smaller[-1]))
        change = smaller.pop().mul_(self.weights[0] - self.weights[1])
        for images, weight, finer in zip(reversed(smaller), self.weights[1:-1], self.weights[2:], strict=True):
            change = _expand(change, images.shape[-2:]).add_(images, alpha=weight - finer)
        return _expand(change, cond.shape[-2:]).add_(cond, alpha=self.weight).add_(uncond, alpha=1 - self.weight)

    def _guide_projected(self, cond: Tensor, uncond: Tensor) -> Tensor:
        levels, change = len(self.weights), torch.empty(0)
        pyramids = (reversed(_levels(images, levels)) for images in (cond, cond - uncond))
        # the pyramid is linear: what is put together again is the change of each level, from coarse to fine
        for c, d, weight, kept in zip(*pyramids, self.weights, self.parallel or (), strict=True):
            _, update_cond, cond_sq = projection_products(d, c)
            coefficient = torch.where(cond_sq > 0, update_cond / cond_sq, 0.0)
            own = combine((kept - 1) * coefficient, c, torch.ones_like(coefficient), d).mul_(weight - 1)
            change = own.add_(_expand(change, c.shape[-2:])) if change.numel() else own
        return change.add_(cond)


def _levels(images: Tensor, levels: int) -> list[Tensor]:
    """Bands of the pyramid, each at its own resolution, from high to low frequency."""
    gaussian = [images]
    for _ in range(1, levels):
        gaussian.append(_halve(gaussian[-1]))
    bands = [fine - _expand(coarse, fine.shape[-2:]) for fine, coarse in itertools.pairwise(gaussian)]
    return [*bands, gaussian[-1]]


def _check(images: Tensor, levels: int) -> None:
    if images.ndim != 4 or min(images.shape[-2:]) < 2 ** (levels - 1):
        found = f"data of shape {tuple(images.shape[1:])}"
        expected = f"(channel, y, x) of at least {2 ** (levels - 1)} pixels a side for {levels} bands"
        raise InputError("cond", found=found, expected=expected)


def _halve(images: Tensor) -> Tensor:
    """The next coarser level: blurred, then halved by bilinear interpolation."""
    size = torch.Size(length // 2 for length in images.shape[-2:])
    images = _pad(images)  # the larger images are not needed any more: no name holds them
    images = _convolve(images)
    return _resize(images, size)


def _expand(images: Tensor, size: torch.Size) -> Tensor:
    """The next finer size: bilinear interpolation, then the same blur."""
    return _convolve(_pad(_resize(images, size)))


def _resize(images: Tensor, size: torch.Size) -> Tensor:
    # pixels are areas (align_corners False): a pixel of half the resolution lies between the pixels that it covers
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _pad(images: Tensor) -> Tensor:
    # mirrored at the borders where the images are long enough
    return functional.pad(images, (2, 2, 2, 2), mode="reflect" if min(images.shape[-2:]) > 2 else "replicate")


def _convolve(images: Tensor) -> Tensor:
    """The binomial kernel (1 4 6 4 1) / 16 along both axes."""
    line = images.new_full((5,), 1 / 16)  # filled where it is: numbers from here would be uploaded at every call
    line[1:4].fill_(4 / 16)
    line[2:3].fill_(6 / 16)
    kernel = torch.outer(line, line)[None, None].expand(images.shape[1], 1, 5, 5)
    return functional.conv2d(images, kernel, groups=images.shape[1])
