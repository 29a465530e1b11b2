"""Floats as the 8 bits that a file would hold, and whether they are of the range that they are said to be of.

pixels = quantise(samples, value_range=(-1, 1))     # uint8, on the CPU
check_range(samples, (-1, 1))                       # an error for values from 0 to 1, or from 0 to 255
"""

from typing import Literal

import torch
from torch import Tensor

from scorescope.data.errors import InputError

Rounding = Literal["nearest", "truncate"]
FAR, FAR_SHARE = 0.25, 0.05  # values this part of the range beyond its ends, in more than this share, are of another


def quantise(
    images: Tensor, *, value_range: tuple[float, float] = (-1.0, 1.0), rounding: Rounding = "nearest"
) -> Tensor:
    """Images as the 8 bits that a file would hold, on the CPU.

    Parameters
    ----------
    images : Tensor, shape (batch, 1 or 3, y, x)
        uint8 is passed through; floats are scaled and clipped.
    value_range : (float, float)
        Values that become 0 and 255.
    rounding : str
        `nearest`, or `truncate`, which lowers the mean by half a level: some tools do, and their values differ.

    Raises
    ------
    InputError
        For another shape, values that are not finite, or an empty range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError("images", found=f"shape {tuple(images.shape)}", expected="(batch, 1 or 3, y, x)")
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    low, high = value_range
    if not images.is_floating_point() or not low < high:
        expected = "uint8, or floats with a range (low, high)"
        raise InputError("images", found=f"{images.dtype} with range {value_range}", expected=expected)
    if not bool(torch.isfinite(images).all()):
        raise InputError("images", found="NaN or infinite values", expected="finite images")
    scaled = ((images.float() - low) * (255 / (high - low))).clamp(0, 255)
    if rounding == "nearest":
        scaled = scaled.round()
    elif rounding != "truncate":
        raise InputError("rounding", found=repr(rounding), expected="'nearest' or 'truncate'")
    return scaled.to(torch.uint8)


def check_range(images: Tensor, value_range: tuple[float, float], *, few: bool = False) -> None:
    """Refuse values that are plainly not of a range: most of it would be cut off, or never used.

    Parameters
    ----------
    images : Tensor
        Floats; others pass, and so do images of one value.
    value_range : (float, float)
        What they are said to lie in.
    few : bool
        They are a part of a set, which may be bright or dark throughout: only what would be cut off counts.

    Raises
    ------
    InputError
        With the range that was found.
    """
    low, high = value_range
    if not (isinstance(images, Tensor) and images.is_floating_point() and images.numel() and low < high):
        return
    least, most = (float(value) for value in images.detach().aminmax())
    span = high - low
    far = float(((images < low - FAR * span) | (images > high + FAR * span)).float().mean())
    unit = 0 <= least < most <= 1
    unused = unit and (low < 0 or (low == 0 and high >= 2))
    if far > FAR_SHARE or (unused and not few):
        expected = "value_range as the values are, (0, 1) or (0, 255) for instance; or images as uint8"
        raise InputError(
            "images", found=f"values from {least:g} to {most:g} for value_range {value_range}", expected=expected
        )
