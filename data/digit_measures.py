"""Stroke thickness and slant, measured on images of digits: continuous attributes of real data.

    measure_digits(load_digits().train.images)          # {"thickness": (n,), "slant": (n,)}

Ink is (pixel + 1) / 2, divided by its largest value in the image. Both measures are moments of it: slant is the
skew of second moments that deskewing takes out (LeCun et al. 1998, section III-A), thickness the width of a bar that
has the image's ink and outline.
"""

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Measures = dict[str, Tensor]


@checked
def measure_digits(images: Tensor) -> Measures:
    """Thickness and slant of each image.

    Parameters
    ----------
    images : Tensor, shape (n, 1, height, width)
        Pixel values in [-1, 1]; bright strokes on a dark ground. Values beyond are clipped.

    Returns
    -------
    dict of str to Tensor, each of shape (n,), float32
        `thickness` in pixels; `slant` in degrees from upright, positive where the top leans to the right.

    Raises
    ------
    InputError
        For images of another shape, NaN, and images without ink.
    """
    if images.ndim != 4 or images.shape[1] != 1 or len(images) == 0:
        raise InputError("images", found=f"shape {tuple(images.shape)}", expected="(n >= 1, 1, height, width)")
    ink = ((images[:, 0].double() + 1) / 2).clamp(0, 1)
    peak = ink.amax((1, 2))
    if not (peak > 0).all():  # NaN is not
        found = f"{int((~(peak > 0)).sum())} images without ink, or with NaN"
        raise InputError("images", found=found, expected="a bright stroke in every image")
    ink = ink / peak[:, None, None]
    return {"thickness": stroke_thickness(ink).float(), "slant": stroke_slant(ink).float()}


def stroke_thickness(ink: Tensor) -> Tensor:
    """Width of the bar whose area is the ink's sum and whose perimeter is the ink's outline.

    The outline is the total variation of the ink, a sum of gradient lengths over pixels, so that shades at the edges
    count by their share. A bar of length L and width w has area L w and perimeter 2 (L + w); curves and rings come
    out about w^2 / L too thick. Strokes thinner than two pixels come out too thick by up to half a pixel, depending
    on how they lie on the pixel grid.

    Ink (n, height, width) from 0 to 1; thickness (n,) in pixels.
    """
    area, half = ink.sum((1, 2)), _outline(ink) / 2
    # a blob rounder than a square has no such bar; then half of the half perimeter, the side of a square
    return (half - (half**2 - 4 * area).clamp(min=0).sqrt()) / 2


def stroke_slant(ink: Tensor) -> Tensor:
    """Angle from upright, in degrees, of the shear that would make the mixed second moment zero.

    Ink (n, height, width) from 0 to 1; slant (n,), positive where the top leans to the right, zero for ink in one row.
    """
    y, x = (torch.arange(size, dtype=ink.dtype, device=ink.device) for size in ink.shape[1:])
    mass = ink.sum((1, 2))
    down = y - ((ink.sum(2) * y).sum(1) / mass)[:, None]
    across = x - ((ink.sum(1) * x).sum(1) / mass)[:, None]
    mixed = torch.einsum("nyx,ny,nx->n", ink, down, across)
    upright = torch.einsum("nyx,ny->n", ink, down**2)
    # rows count downwards, so that a lean to the right has negative mixed moment
    slope = torch.where(upright > 1e-9 * mass, -mixed / upright.clamp(min=1e-12), 0.0)
    return torch.rad2deg(torch.arctan(slope))


def _outline(ink: Tensor) -> Tensor:
    """Total variation, the mean over the four pairs of one-sided differences: each alone favours one diagonal."""
    lengths = []
    for flips in ((), (1,), (2,), (1, 2)):
        padded = functional.pad(ink.flip(flips) if flips else ink, (1, 1, 1, 1))
        dx, dy = padded.diff(dim=2)[:, :-1], padded.diff(dim=1)[:, :, :-1]
        lengths.append(torch.hypot(dx, dy).sum((1, 2)))
    return torch.stack(lengths).mean(0)
