"""How images become network input, by the name of the tool whose numbers that reproduces.

    prepare(images, "tf")              # (batch, 3, 299, 299) float32

Two sets whose images went through different modes cannot be compared: the same images differ by 4 in FID at 1024 px.
Input is uint8 in every mode: quantise first, and say how (`scorescope.probes.features.images.quantise`).
"""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scorescope.data.errors import InputError

INCEPTION_SIZE = 299


def prepare(images: Tensor, mode: str) -> Tensor:
    """Resize and scale images.

    Parameters
    ----------
    images : Tensor, shape (batch, 3, y, x), uint8
        Pixels.
    mode : str
        `tf` : the original graph: bilinear without half-pixel centres or antialiasing, (x - 128) / 128.
        `nvidia` : the TorchScript file of StyleGAN and EDM2, which does the same inside the network.
        `pytorch_fid` : bilinear with half-pixel centres, no antialiasing, (x - 127.5) / 127.5.
        `clean_fid` : Pillow's antialiased bicubic in float, clipped to 0..255, (x - 128) / 128.
        `none` : no resizing, (x - 127.5) / 127.5: for networks that take images as they are.

    Returns
    -------
    Tensor, shape (batch, 3, 299, 299), or that of `images` for `none`, float32
        On the device of `images`.

    Raises
    ------
    InputError
        For another mode, dtype or shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        found = f"{images.dtype} of shape {tuple(images.shape)}"
        raise InputError("images", found=found, expected="uint8 of shape (batch, 3, y, x)")
    modes: dict[str, Callable[[Tensor], Tensor]] = {
        "tf": _tensorflow, "nvidia": _tensorflow, "pytorch_fid": _pytorch_fid, "clean_fid": _clean_fid, "none": _plain,
    }  # fmt: skip
    if mode not in modes:
        raise InputError("preprocessing", found=repr(mode), expected=f"one of {sorted(modes)}")
    return modes[mode](images)


def resize_tensorflow(images: Tensor, size: int) -> Tensor:
    """Bilinear resize of TensorFlow 1 (`resize_bilinear`, align_corners False): source = target * in / out.

    Parameters
    ----------
    images : Tensor, shape (batch, channel, y, x), float
        Any values.
    size : int
        Height and width of the result.
    """
    for axis in (2, 3):
        length = images.shape[axis]
        if length == size:
            continue
        position = torch.arange(size, device=images.device, dtype=torch.float32) * (length / size)
        lower = position.floor().long()
        upper = (lower + 1).clamp(max=length - 1)
        share = (position - lower).to(images.dtype)
        share = share[:, None] if axis == 2 else share
        first, second = images.index_select(axis, lower), images.index_select(axis, upper)
        images = first + (second - first) * share
    return images


def resize_pillow(images: Tensor, size: int) -> Tensor:
    """Pillow's antialiased bicubic, each channel in float, clipped to 0..255 and not rounded, as clean-fid does.

    Parameters
    ----------
    images : Tensor, shape (batch, channel, y, x), uint8
        Pixels.
    size : int
        Height and width of the result.

    Returns
    -------
    Tensor, shape (batch, channel, size, size), float32
        Values in 0..255, on the device of `images`.
    """
    planes = images.cpu().numpy().astype(np.float32)
    out = np.empty((*planes.shape[:2], size, size), np.float32)
    for index in np.ndindex(planes.shape[:2]):
        plane = Image.fromarray(planes[index])  # mode F: resized without rounding to 8 bits
        out[index] = np.asarray(plane.resize((size, size), Image.Resampling.BICUBIC))
    return torch.from_numpy(out).clamp(0, 255).to(images.device)


def _tensorflow(images: Tensor) -> Tensor:
    return (resize_tensorflow(images.float(), INCEPTION_SIZE) - 128) / 128


def _pytorch_fid(images: Tensor) -> Tensor:
    resized = functional.interpolate(
        images.float() / 255, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear", align_corners=False
    )
    return 2 * resized - 1


def _clean_fid(images: Tensor) -> Tensor:
    return (resize_pillow(images, INCEPTION_SIZE) - 128) / 128


def _plain(images: Tensor) -> Tensor:
    return (images.float() - 127.5) / 127.5
