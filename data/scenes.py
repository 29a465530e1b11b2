"""Rendered scenes with a large subject in the middle and a small accessory in a corner.

    scenes = render_scenes(1000, seed=0)
    scenes = render_scenes(1000, seed=1, accessory_shares=(0.7, 0.1, 0.1, 0.1), bitten=1.0)
    scenes.images, scenes.subject, scenes.accessory_mask

The planted case for instruments that claim to see what a feature space listens to: every attribute and the pixels it
covers are known. This module knows nothing of networks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.drawing import coverage, distance, paint, soft_edge
from scorescope.data.errors import InputError

SIZE = 40  # pixels
SHAPE = (3, SIZE, SIZE)
SUBJECTS = ("disc", "square", "triangle", "cross")
ACCESSORIES = ("ring", "bar", "plus", "wedge")
"""Names of the accessories, in the order of their labels."""


@displayed
@checked
@dataclass(frozen=True)
class Scenes:
    """Rendered images with what is in them.

    Attributes
    ----------
    images : Tensor, shape (n, 3, 40, 40), float32
        Pixel values in [-1, 1].
    subject, accessory : Tensor, shape (n,), int64
        Indices into `SUBJECTS` and `ACCESSORIES`.
    subject_mask, accessory_mask : Tensor, shape (n, 40, 40), bool
        The boxes that the two occupy.
    """

    images: Tensor
    subject: Tensor
    accessory: Tensor
    subject_mask: Tensor
    accessory_mask: Tensor


@checked
def render_scenes(
    count: int,
    *,
    seed: int,
    subject_shares: Sequence[float] | None = None,
    accessory_shares: Sequence[float] | None = None,
    bitten: float = 0.0,
) -> Scenes:
    """Draw scenes; the same seed and shares give the same pixels.

    Parameters
    ----------
    count : int
        Number of scenes.
    seed : int
        Seed of everything random.
    subject_shares, accessory_shares : sequence of 4 floats, optional
        Probability of each kind; by default equal.
    bitten : float
        Share of scenes whose subject lacks a bite from its side: the planted defect in what matters.

    Raises
    ------
    InputError
        For shares that are no probabilities, or no scenes.
    """
    if count < 1 or not 0 <= bitten <= 1:
        raise InputError("count, bitten", found=f"{count}, {bitten}", expected="count >= 1 and bitten in [0, 1]")
    generator = torch.Generator().manual_seed(seed)
    subject = _draw_kinds("subject_shares", subject_shares, count, generator)
    accessory = _draw_kinds("accessory_shares", accessory_shares, count, generator)
    # the same number of draws whatever the shares, so that scenes of one seed differ in nothing else
    uniform = torch.rand(count, 16, generator=generator)
    noise = torch.randn(count, *SHAPE, generator=generator)
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    middle = SIZE / 2 + (2 * uniform[:, 0:2] - 1)
    radius = 7 + uniform[:, 2]
    corner = torch.where(uniform[:, 3:5] < 0.5, 6.0, SIZE - 6.0) + (2 * uniform[:, 5:7] - 1)
    canvas = (0.25 + 0.2 * uniform[:, 7])[:, None, None, None].expand(-1, *SHAPE) + 0.02 * noise
    body = coverage(SUBJECTS, subject, x, y, middle, radius)
    is_bitten = uniform[:, 8] < bitten
    bite = soft_edge(0.55 * radius[:, None, None] - distance(x, y, middle + radius[:, None] * torch.tensor([0.8, 0.0])))
    body = body * (1 - bite * is_bitten[:, None, None])
    canvas = paint(canvas, body, _colour(uniform[:, 9:12]))
    small = torch.full((count,), 3.5)
    canvas = paint(canvas, coverage(ACCESSORIES, accessory, x, y, corner, small), _colour(uniform[:, 12:15]))
    images = (2 * canvas.clamp(0, 1) - 1).float()
    return Scenes(images, subject, accessory, _box(x, y, middle, radius), _box(x, y, corner, small + 0.5))


def _draw_kinds(argument: str, shares: Sequence[float] | None, count: int, generator: torch.Generator) -> Tensor:
    weights = torch.tensor([0.25] * 4 if shares is None else list(shares), dtype=torch.float64)
    if weights.shape != (4,) or (weights < 0).any() or not math.isclose(float(weights.sum()), 1, abs_tol=1e-9):
        raise InputError(argument, found=str(shares), expected="four probabilities that sum to 1")
    positions = torch.rand(count, generator=generator, dtype=torch.float64)
    return torch.searchsorted(weights.cumsum(0)[:-1].contiguous(), positions, right=True)


def _colour(uniform: Tensor) -> Tensor:
    """Saturated colours: one channel low, one high, one between, in random order, shape (n, 3)."""
    order = uniform.argsort(dim=1)
    levels = torch.tensor([0.1, 0.6, 0.95]).expand(len(uniform), 3)
    return torch.empty_like(uniform).scatter_(1, order, levels)


def _box(x: Tensor, y: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    dx, dy = (x - centre[:, 0, None, None]).abs(), (y - centre[:, 1, None, None]).abs()
    return torch.maximum(dx, dy) <= radius[:, None, None] + 0.5
