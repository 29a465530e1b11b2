"""Mild augmentation whose parameters are told to the network, so that samples do not show it.

Karras et al. 2022 (arXiv 2206.00364), section F.2: the network sees what was done to the training
image and is asked for none of it when sampling. This module knows nothing of networks.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

ROTATION = math.radians(12)
LOG_SCALE = 0.12
SHIFT = 0.2  # of half the image's width
PROBABILITY = 0.7


def augment(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotate, scale and shift each image a little, with probability `PROBABILITY`.

    Parameters
    ----------
    images : Tensor, shape (batch, channel, y, x)
        Pixel values in [-1, 1]; what comes in from outside the frame is -1.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    images : Tensor, shape of images
        Bilinear resampling of the augmented ones; the others untouched.
    parameters : Tensor, shape (batch, 5)
        (augmented?, rotation, log scale, shift x, shift y), each of order 1; zeros for untouched images.
    """
    batch = len(images)
    chosen = torch.rand(batch, 1, generator=generator) < PROBABILITY
    amounts = chosen * (2 * torch.rand(batch, 4, generator=generator) - 1)
    angle, zoom = amounts[:, 0] * ROTATION, (amounts[:, 1] * LOG_SCALE).exp()
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift_x, shift_y = amounts[:, 2] * SHIFT, amounts[:, 3] * SHIFT
    matrix = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).reshape(batch, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images + 1, grid, align_corners=False) - 1
    out = torch.where(chosen[:, :, None, None], moved, images)
    return out, torch.cat([chosen.to(amounts.dtype), amounts], dim=1)
