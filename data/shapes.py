"""Rendered 32x32 colour images with known attributes, and one nuisance that goes with an attribute.

    shapes = render_shapes(1000, seed=0)
    shapes.images                          # (1000, 3, 32, 32) float32 in [-1, 1]
    shapes.labels[:, column("hue")]        # 0 to 3, names in ATTRIBUTES["hue"]
    shapes.values["hue"]                   # the exact hue, in turns

Image i of a seed keeps everything random about it (place, exact hue, noise of the background) when it is
rendered again with other labels: `render_shapes(n, seed=s, labels=changed)` gives counterfactual pairs.
This module knows nothing of networks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.drawing import coverage, paint
from scorescope.data.errors import InputError

SIZE = 32  # pixels
SHAPE = (3, SIZE, SIZE)
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": ("disc", "square", "triangle", "cross"),
    "hue": ("red", "yellow", "green", "blue"),
    "saturation": ("pale", "vivid"),
    "size": ("small", "large"),
    "position": ("left", "right"),
    "background": ("dark", "light"),
}
"""The values of each attribute, in the order of the columns of the labels; a label is the place of its value."""
SIZES = tuple(len(names) for names in ATTRIBUTES.values())
NUISANCE = "frame"
"""A thin border; not part of the labels, but it comes with large shapes more often than with small ones."""
FRAME_SHARES = (0.15, 0.85)
HUES = torch.tensor([0.0, 1 / 6, 1 / 3, 2 / 3])  # turns
CHUNK = 2048  # images rendered together


@displayed
@checked
@dataclass(frozen=True)
class Shapes:
    """Rendered images with everything that is known about them.

    Attributes
    ----------
    images : Tensor, shape (n, 3, 32, 32), float32
        Pixel values in [-1, 1].
    labels : Tensor, shape (n, 6), int64
        Value of each attribute, in the order of `ATTRIBUTES`.
    frame : Tensor, shape (n,), int64
        1 where the image has the frame, the nuisance.
    values : dict of str to Tensor, each of shape (n,)
        Exact factors: hue (turns), saturation, radius, x, y (pixels), background (grey level in [0, 1]).
    mask : Tensor, shape (n, 32, 32), float32
        Share of each pixel that the shape covers.
    """

    images: Tensor
    labels: Tensor
    frame: Tensor
    values: dict[str, Tensor]
    mask: Tensor


@checked
def column(attribute: str) -> int:
    """Column of an attribute in the labels.

    Parameters
    ----------
    attribute : str
        One of `ATTRIBUTES`.

    Raises
    ------
    InputError
        If there is no such attribute.
    """
    if attribute not in ATTRIBUTES:
        raise InputError("attribute", found=repr(attribute), expected=f"one of {', '.join(ATTRIBUTES)}")
    return list(ATTRIBUTES).index(attribute)


@checked
def render_shapes(
    count: int,
    *,
    seed: int,
    labels: Tensor | None = None,
    frame: Tensor | None = None,
    frame_shares: tuple[float, float] = FRAME_SHARES,
) -> Shapes:
    """Draw images; the same arguments give the same pixels.

    Parameters
    ----------
    count : int
        Number of images.
    seed : int
        Seed of everything random.
    labels : Tensor, shape (count, 6), int64, optional
        Attribute values; by default independent and uniform.
    frame : Tensor, shape (count,), optional
        1 where the nuisance is drawn; by default drawn with `frame_shares`.
    frame_shares : tuple of two floats
        Probability of a frame around small and around large shapes; two equal numbers make it independent.

    Raises
    ------
    InputError
        For fewer than one image, labels out of range or of another shape, and shares that are no probabilities.
    """
    if count < 1 or not all(0 <= share <= 1 for share in frame_shares):
        found = f"{count}, {frame_shares}"
        raise InputError("count, frame_shares", found=found, expected="count >= 1 and probabilities")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randint(n, (count,), generator=generator) for n in SIZES], dim=1)
    uniform = torch.rand(count, 9, generator=generator)
    labels = drawn if labels is None else _checked(labels, count)
    if frame is None:
        frame = (uniform[:, 8] < torch.tensor(frame_shares)[labels[:, column("size")]]).long()
    values = _factors(labels, 2 * uniform[:, :8] - 1)
    noise = torch.Generator().manual_seed(seed + 1_000_003)
    images, masks = [], []
    for rows in torch.arange(count).split(CHUNK):
        part = {name: value[rows] for name, value in values.items()}
        image, mask = _draw(labels[rows], frame[rows], part)
        grain = 0.01 * torch.randn(len(rows), *SHAPE, generator=noise)
        images.append(2 * (image + grain).clamp(0, 1) - 1)
        masks.append(mask)
    return Shapes(torch.cat(images), labels, frame, values, torch.cat(masks))


def _checked(labels: Tensor, count: int) -> Tensor:
    sizes = torch.tensor(SIZES)
    if tuple(labels.shape) != (count, len(SIZES)) or ((labels < 0) | (labels >= sizes)).any():
        found = f"{labels.dtype} of shape {tuple(labels.shape)}, values {labels.unique().tolist()[:9]}"
        raise InputError("labels", found=found, expected=f"({count}, {len(SIZES)}) with values below {SIZES}")
    return labels


def _factors(labels: Tensor, jitter: Tensor) -> dict[str, Tensor]:
    """Exact factors of each image: a centre that its label decides, and a jitter in [-1, 1] that it does not."""

    def around(attribute: str, centres: tuple[float, ...] | Tensor, spread: float, draw: int) -> Tensor:
        return torch.as_tensor(centres)[labels[:, column(attribute)]] + spread * jitter[:, draw]

    return {
        "hue": around("hue", HUES, 0.03, 0) % 1,
        "saturation": around("saturation", (0.4, 0.95), 0.05, 1),
        "radius": around("size", (4.5, 7.5), 0.5, 2),
        "x": around("position", (10.5, 21.5), 1.5, 3),
        "y": SIZE / 2 + 4.0 * jitter[:, 4],
        "background": around("background", (0.15, 0.65), 0.07, 5),
    }


def _draw(labels: Tensor, frame: Tensor, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and the share of each pixel that the shape covers."""
    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    grey = values["background"][:, None, None, None].expand(-1, *SHAPE)
    border = torch.minimum(torch.minimum(x, SIZE - x), torch.minimum(y, SIZE - y)) < 2
    contrast = torch.where(values["background"] < 0.4, 0.3, -0.3)[:, None].expand(-1, 3)
    canvas = grey + (frame[:, None, None] * border)[:, None] * contrast[:, :, None, None]
    centre = torch.stack([values["x"], values["y"]], dim=1)
    mask = coverage(ATTRIBUTES["shape"], labels[:, column("shape")], x, y, centre, values["radius"])
    return paint(canvas, mask, _rgb(values["hue"], values["saturation"])), mask


def _rgb(hue: Tensor, saturation: Tensor) -> Tensor:
    """HSV at V = 0.95 to RGB, shape (n, 3)."""
    sector = (torch.tensor([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    ramp = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return 0.95 * (1 - saturation[:, None] * ramp)
