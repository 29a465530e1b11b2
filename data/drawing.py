"""Small shapes drawn with soft edges, for the rendered data sets.

All arrays are batched: one shape, centre and radius an image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def coverage(kinds: Sequence[str], chosen: Tensor, x: Tensor, y: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Share of each pixel that an image's shape covers.

    Parameters
    ----------
    kinds : sequence of str
        Names of shapes: disc, square, triangle, cross, ring, bar, plus, wedge.
    chosen : Tensor, shape (n,), int64
        Index into `kinds` of each image's shape.
    x, y : Tensor, shape (height, width)
        Pixel centres.
    centre : Tensor, shape (n, 2)
        Centre (x, y) of each shape, in pixels.
    radius : Tensor, shape (n,)
        Its radius, in pixels.

    Returns
    -------
    Tensor, shape (n, height, width)
        In [0, 1].
    """
    dx = x - centre[:, 0, None, None]
    dy = y - centre[:, 1, None, None]
    r = radius[:, None, None]
    to_centre = (dx.square() + dy.square()).sqrt()
    arm = torch.minimum(torch.maximum(dx.abs() / r, 3 * dy.abs() / r), torch.maximum(3 * dx.abs() / r, dy.abs() / r))
    wedge = torch.maximum(dx.abs() - (dy + r) / 2, dy - r)
    inside = {
        "disc": r - to_centre,
        "square": 0.9 * r - torch.maximum(dx.abs(), dy.abs()),
        "triangle": -wedge,
        "cross": r * (1 - arm),
        "ring": 0.9 - (to_centre - 0.75 * r).abs(),
        "bar": torch.minimum(r - dx.abs(), 1.2 - dy.abs()),
        "plus": r * (1 - arm),
        "wedge": -wedge,
    }
    stacked = torch.stack([soft_edge(inside[kind]) for kind in kinds], dim=1)
    return stacked[torch.arange(len(chosen)), chosen]


def soft_edge(inside: Tensor) -> Tensor:
    """Signed distance in pixels, positive inside, to coverage of the pixel in [0, 1]."""
    return (inside + 0.5).clamp(0, 1)


def distance(x: Tensor, y: Tensor, centre: Tensor) -> Tensor:
    """Distance of each pixel to each image's centre, shape (n, height, width), in pixels."""
    return ((x - centre[:, 0, None, None]).square() + (y - centre[:, 1, None, None]).square()).sqrt()


def paint(canvas: Tensor, cover: Tensor, colour: Tensor) -> Tensor:
    """Lay colours (n, 3) over a canvas (n, 3, height, width) where `cover` (n, height, width) says."""
    return canvas + cover[:, None] * (colour[:, :, None, None] - canvas)
