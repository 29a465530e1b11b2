"""Which regions of an image a Frechet distance listens to, in closed form.

    gradients = image_gradients(plan, features)
    gradient_maps(activations, gradients)         # the published map: where the distance is sensitive
    gradient_maps(activations, gradients, signed=True)     # where the image raises (+) or lowers (-) it
    influence_maps(plan, activations)             # signed, with the image's influence as spatial mean
    mask_share(maps, masks)                       # sensitivity inside a box or a segmentation, by image
    mask_summary(maps, masks, region="face")      # and over all of them

For a network whose features are the plain average of its last activation map over space, the gradient is the same at
every position, so that a map costs one weighted sum over channels: no backward pass. For other networks
`scorescope.probes.features.captum_maps` computes maps by gradients or occlusion.
"""

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

from scorescope.analysis.fid.optimal_transport import Transport
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

TOUCHED = 1e-9  # share of a cell from which a mask touches it

MASK_SHARE = Schema(
    "mask_share",
    (
        Column("image", int, "", "row of the maps"),
        Column("sensitivity_share", float, "1", "part of the map's absolute sum that lies inside the mask"),
        Column("area_share", float, "1", "part of the map's cells that lies inside the mask"),
    ),
)

REGIONS = Schema(
    "regions",
    (
        Column("region", str, "", "which mask"),
        Column("grown", int, "cells", "map cells by which it was grown: receptive fields reach over its border"),
        Column("n", int, "", "images that have the region and any sensitivity"),
        Column("area_share", float, "1", "mean part of the image inside"),
        Column("sensitivity_share", float, "1", "mean part of an image's sensitivity inside"),
        *ends("1", "t over images"),
        Column("ratio", float, "1", "sensitivity_share / area_share: 1 where the map is flat"),
        Column("pooled_share", float, "1", "part inside of the sensitivity of all images together"),
        *ends("1", "delta method", of="pooled"),
    ),
)


@checked
def gradient_maps(activations: ArrayLike, gradients: ArrayLike, *, signed: bool = False) -> Floats:
    """Where the distance is sensitive to an image, or with `signed` where the image raises or lowers it.

    Parameters
    ----------
    activations : array, shape (m, channel, y, x)
        Last maps before the average pooling.
    gradients : array, shape (m, channel)
        dFD/dx_i, from `image_gradients`.
    signed : bool
        sum_c g_c A_c(y, x), whose spatial mean is g . f, the image's linear effect on FD. By default
        sum_c g_c^2 A_c(y, x): the map of Kynkaanniemi et al. 2023 (arXiv 2203.06026), not yet rescaled.

    Returns
    -------
    ndarray, shape (m, y, x)
        Unsigned, not negative for activations after a ReLU. The publication stretches each map to [0, 1] by itself,
        which removes the scale; these share one.
    """
    a, g = _checked(activations, gradients)
    return _weighted(a, g if signed else np.square(g))


@checked
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


@checked
def mask_share(maps: ArrayLike, masks: ArrayLike, *, dilate: int = 0) -> pd.DataFrame:
    """How much of each map lies inside a mask, beside the mask's share of the area; see `MASK_SHARE`.

    Parameters
    ----------
    maps : array, shape (m, y, x)
        From this module.
    masks : array of bool or of shares in [0, 1], shape (m, Y, X) or (Y, X)
        At any size: see `cell_cover`.
    dilate : int
        Grow the mask by so many map cells first; cells that it touches then count whole. Receptive fields overlap,
        so that one is fair.

    Returns
    -------
    DataFrame
        Columns declared in `MASK_SHARE`, one row an image.
    """
    values = np.abs(np.asarray(maps, np.float64))
    cover = _grown(masks, values.shape, dilate)
    with np.errstate(invalid="ignore"):
        share = (values * cover).sum(axis=(1, 2)) / values.sum(axis=(1, 2))
    table = {"image": np.arange(len(values)), "sensitivity_share": share, "area_share": cover.mean(axis=(1, 2))}
    return MASK_SHARE.check(pd.DataFrame(table))


@checked
def mask_summary(maps: ArrayLike, masks: ArrayLike, *, region: str, dilate: int = 0) -> pd.DataFrame:
    """Share of the sensitivity inside a mask over all images, beside its share of the area; see `REGIONS`.

    Parameters
    ----------
    maps, masks, dilate
        As in `mask_share`. Images whose mask is empty, or whose map is zero, are left out and do not count in `n`.
    region : str
        Name for the table.

    Returns
    -------
    DataFrame
        One row, columns declared in `REGIONS`.

    Raises
    ------
    InputError
        If no image has the region.
    """
    values = np.abs(np.asarray(maps, np.float64))
    cover = _grown(masks, values.shape, dilate)
    inside, whole, area = (values * cover).sum(axis=(1, 2)), values.sum(axis=(1, 2)), cover.mean(axis=(1, 2))
    used = (area > 0) & (whole > 0)
    if not used.any():
        raise InputError(f"masks of {region}", found="only empty ones", expected="a region in one image at least")
    inside, whole, area = inside[used], whole[used], area[used]
    share, low, high = mean_interval(inside / whole)
    pooled = float(inside.sum() / whole.sum())
    _, down, up = mean_interval((inside - pooled * whole) / whole.mean())
    row = (region, dilate, len(area), float(area.mean()), share, low, high, share / float(area.mean()), pooled)
    return REGIONS.check(pd.DataFrame([(*row, pooled + down, pooled + up)], columns=REGIONS.names))


@checked
def cell_cover(masks: ArrayLike, cells: tuple[int, int]) -> Floats:
    """Share of each map cell that a mask covers.

    Parameters
    ----------
    masks : array of bool or of shares in [0, 1], shape (m, Y, X) or (Y, X)
        At the size of the images, or any other.
    cells : (int, int)
        Height and width of the maps, which divide the image into equal cells, as published heatmaps do.

    Returns
    -------
    ndarray, shape (m, *cells) or cells
        A cell that a mask's border crosses counts by its covered part, exactly.

    Raises
    ------
    InputError
        For other values or dimensions.
    """
    values = np.asarray(masks, np.float64)
    if values.ndim not in (2, 3) or not values.size or not (values.min() >= 0 and values.max() <= 1):
        found = f"shape {values.shape}" + (f", values {values.min():g} to {values.max():g}" if values.size else "")
        raise InputError("masks", found=found, expected="shape (m, Y, X) or (Y, X), values in [0, 1]")
    return cell_means(values, cells).clip(0, 1)  # rounding


def cell_means(values: ArrayLike, cells: tuple[int, int]) -> Floats:
    """Mean over each of (y, x) equal cells of arrays of shape (..., Y, X); cells need not be whole pixels."""
    found = np.asarray(values, np.float64)
    means: Floats = _overlap(found.shape[-2], cells[0]) @ found @ _overlap(found.shape[-1], cells[1]).T
    return means


def _overlap(pixels: int, cells: int) -> Floats:
    """Part of each cell that each pixel makes up, shape (cells, pixels), when both divide the same length."""
    cell, pixel = np.arange(cells)[:, None] / cells, np.arange(pixels) / pixels
    shared: Floats = np.minimum(cell + 1 / cells, pixel + 1 / pixels) - np.maximum(cell, pixel)
    return shared.clip(0) * cells


def _grown(masks: ArrayLike, shape: tuple[int, ...], dilate: int) -> Floats:
    """Cover of each map's cells, shape (m, y, x), grown by so many cells."""
    cover = np.broadcast_to(cell_cover(masks, (shape[1], shape[2])), shape)
    if dilate:  # what the rounding of shares leaves is not touched
        square = np.ones((1, 3, 3), bool)
        cover = scipy.ndimage.binary_dilation(cover > TOUCHED, square, iterations=dilate).astype(np.float64)
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
