"""Which regions of an image a Frechet distance listens to, in closed form.

    gradients = image_gradients(plan, features)
    squared_maps(activations, gradients)          # the published map: where the distance is sensitive
    signed_maps(activations, gradients)           # where the image raises (+) or lowers (-) it
    influence_maps(plan, activations)             # signed, with the image's influence as spatial mean
    mask_share(maps, masks)                       # sensitivity inside a box or a segmentation

For a network whose features are the plain average of its last activation map over space, the gradient is the same at
every position, so that a map costs one weighted sum over channels: no backward pass. For other networks
`scorescope.probes.attribution` computes maps by gradients or occlusion.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from scorescope.analysis.fid_transport import Transport
from scorescope.analysis.tables import Column, Schema
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]

MASK_SHARE = Schema(
    "mask share",
    (
        Column("image", int, "", "row of the maps"),
        Column("sensitivity_share", float, "1", "part of the map's absolute sum that lies inside the mask"),
        Column("area_share", float, "1", "part of the map's cells that lies inside the mask"),
    ),
)


def squared_maps(activations: ArrayLike, gradients: ArrayLike) -> Floats:
    """sum_c g_c^2 A_c(y, x): the map of Kynkaanniemi et al. 2023 (arXiv 2203.06026), not yet rescaled.

    Parameters
    ----------
    activations : array, shape (m, channel, y, x)
        Last maps before the average pooling.
    gradients : array, shape (m, channel)
        dFD/dx_i, from `image_gradients`.

    Returns
    -------
    ndarray, shape (m, y, x)
        Non-negative for activations after a ReLU. The publication stretches each map to [0, 1] by itself, which
        removes the scale; these share one.
    """
    a, g = _checked(activations, gradients)
    return _weighted(a, np.square(g))


def signed_maps(activations: ArrayLike, gradients: ArrayLike) -> Floats:
    """sum_c g_c A_c(y, x), shape (m, y, x): its spatial mean is g . f, the image's linear effect on FD."""
    a, g = _checked(activations, gradients)
    return _weighted(a, g)


def influence_maps(plan: Transport, activations: ArrayLike) -> Floats:
    """Maps whose spatial mean is each image's influence IF_i, exactly.

    Parameters
    ----------
    plan : Transport
        Of the set that the images belong to; its moments must say n.
    activations : array, shape (m, channel, y, x)
        Last maps of generated images, before the average pooling.

    Returns
    -------
    ndarray, shape (m, y, x)
        2 gap . (A(y, x) - mu1) + n/(n-1) c^T G (A(y, x) - mu1) - Tr(G S1), in units of FD: positive where the region
        raises the distance.
    """
    a = np.asarray(activations)
    n = plan.fake.n
    if n is None:
        raise InputError("plan", found="moments without n", expected="moments that say how many samples they hold")
    centred = a.mean(axis=(2, 3), dtype=np.float64) - plan.fake.mean
    weights = 2 * plan.gap + n / (n - 1) * (centred @ plan.gradient)
    a, weights = _checked(a, weights)
    constant = weights @ plan.fake.mean + float(np.sum(plan.gradient * plan.fake.covariance))
    return _weighted(a, weights) - constant[:, None, None]


def mask_share(maps: ArrayLike, masks: ArrayLike, *, dilate: int = 0) -> pd.DataFrame:
    """How much of each map lies inside a mask, beside the mask's share of the area; see `MASK_SHARE`.

    Parameters
    ----------
    maps : array, shape (m, y, x)
        From this module.
    masks : array of bool or of shares in [0, 1], shape (m, Y, X) or (Y, X)
        At the size of the maps, or of the images, whole multiples of it. A cell that the mask's border crosses counts
        by its covered part.
    dilate : int
        Grow the mask by so many map cells first; cells that it touches then count whole. Receptive fields overlap,
        so that one is fair.
    """
    values = np.abs(np.asarray(maps, np.float64))
    cover = _cover(np.asarray(masks, np.float64), values.shape)
    if dilate:
        square = np.ones((1, 3, 3), bool)
        cover = ndimage.binary_dilation(cover > 0, square, iterations=dilate).astype(np.float64)
    total = values.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        share = (values * cover).sum(axis=(1, 2)) / total
    table = {"image": np.arange(len(values)), "sensitivity_share": share, "area_share": cover.mean(axis=(1, 2))}
    return MASK_SHARE.check(pd.DataFrame(table))


def _cover(masks: Floats, shape: tuple[int, ...]) -> Floats:
    """Share of each map cell that the mask covers, shape (m, y, x)."""
    count, height, width = shape
    masks = np.broadcast_to(masks, (count, *masks.shape[-2:]))
    tall, wide = masks.shape[1] // height, masks.shape[2] // width
    if masks.shape[1:] != (tall * height, wide * width) or not tall or not wide:
        expected = f"whole multiples of the maps' {height} x {width}"
        raise InputError("masks", found=f"size {masks.shape[1]} x {masks.shape[2]}", expected=expected)
    if masks.min() < 0 or masks.max() > 1:
        raise InputError("masks", found=f"values {masks.min():g} to {masks.max():g}", expected="values in [0, 1]")
    cover: Floats = masks.reshape(count, height, tall, width, wide).mean(axis=(2, 4))
    return cover


def _weighted(activations: NDArray[np.floating], weights: Floats) -> Floats:
    """sum_c weight_c A_c(y, x), multiplied in the activations' own precision."""
    m, channels, height, width = activations.shape
    flat = activations.reshape(m, channels, height * width)
    product: Floats = np.matmul(weights[:, None].astype(flat.dtype), flat).astype(np.float64)
    return product.reshape(m, height, width)


def _checked(activations: ArrayLike, weights: ArrayLike) -> tuple[NDArray[np.floating], Floats]:
    a, g = np.asarray(activations), np.asarray(weights, np.float64)
    if a.ndim != 4 or g.shape != a.shape[:2] or not np.issubdtype(a.dtype, np.floating):
        found = f"{a.dtype} of shape {a.shape} with gradients {g.shape}"
        raise InputError("activations, gradients", found=found, expected="(m, channel, y, x) and (m, channel)")
    return a, g
