"""The Laplacian pyramid of the FDG paper, written with scipy: what diffusers' guider takes from kornia."""

import itertools

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def blurred(image: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        image = ndimage.convolve1d(image, [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], axis=axis, mode="mirror")
    return image


def doubled(image: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation to twice as many pixels, whose centres lie a quarter pixel to either side."""
    left, right = (
        ndimage.shift(image, [step if a == axis else 0 for a in (0, 1)], order=0, mode="nearest") for step in (1, -1)
    )
    pairs = np.stack([0.75 * image + 0.25 * left, 0.75 * image + 0.25 * right], axis + 1)
    shape = list(image.shape)
    shape[axis] *= 2
    return pairs.reshape(shape)


def halved(image: np.ndarray) -> np.ndarray:
    """Blur, then the mean of 2 x 2 pixels; sides of even length."""
    small = blurred(image)
    return small.reshape(small.shape[0] // 2, 2, small.shape[1] // 2, 2).mean((1, 3))


def _each(function, images: Tensor) -> Tensor:
    rows = [[torch.tensor(function(channel.double().numpy())) for channel in sample] for sample in images]
    return torch.stack([torch.stack(row) for row in rows]).to(images)


def upsample_and_blur(images: Tensor) -> Tensor:
    """Twice the resolution; (batch, channel, y, x)."""
    return _each(lambda image: blurred(doubled(doubled(image, 0), 1)), images)


def build_laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Bands at their own resolutions, from high to low frequency."""
    gaussian = [images]
    for _ in range(1, levels):
        gaussian.append(_each(halved, gaussian[-1]))
    bands = [fine - upsample_and_blur(coarse) for fine, coarse in itertools.pairwise(gaussian)]
    return [*bands, gaussian[-1]]
