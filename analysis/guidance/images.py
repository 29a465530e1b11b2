"""What sets of generated images look like: range, contrast, colour, distribution of values.

    image_table(samples, (-1, 1), rule="CFG", weight=4.0)                         # one row a sample
    value_density(samples, rule="CFG", weight=4.0, grid=np.linspace(-2, 2, 200))  # a curve

Real images are described by the same functions, to stand beside the samples.
"""

from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import image_statistics

IMAGES = Schema(
    "images",
    (
        Column("rule", str, "", "guidance rule, or 'data' for real images"),
        Column("weight", float, "1", "guidance weight w; missing for real images"),
        Column("sample", int, "", "sample within the set"),
        Column("overshoot_share", float, "1", "share of elements outside the range of the data"),
        Column("overshoot_mean", float, "data", "mean distance of elements from the range"),
        Column("contrast", float, "data", "standard deviation over the image (BT.601 luma for colour)"),
        Column("saturation", float, "1", "mean HSV saturation, colour only"),
    ),
)

DENSITY = Schema(
    "value_density",
    (
        Column("rule", str, "", "guidance rule, or 'data' for real images"),
        Column("weight", float, "1", "guidance weight w; missing for real images"),
        Column("value", float, "data", "element value"),
        Column("density", float, "1/data", "Gaussian kernel density estimate there"),
    ),
)


@checked
def image_table(images: Tensor, value_range: tuple[float, float] | None, *, rule: str, weight: float) -> pd.DataFrame:
    """Statistics of each image: columns declared in `IMAGES`, definitions in `image_statistics`.

    Parameters
    ----------
    images : Tensor, shape (n, *shape)
        Images or latents.
    value_range : (float, float) or None
        Range of the data, for overshoot and saturation.
    rule, weight
        What is written into the table.

    Returns
    -------
    DataFrame
        One row an image.
    """
    values: dict[str, Any] = {name: v.cpu().numpy() for name, v in image_statistics(images, value_range).items()}
    keys = {"rule": rule, "weight": float(weight), "sample": np.arange(len(images))}
    return IMAGES.check(pd.DataFrame(keys | values))


@checked
def value_density(
    images: Tensor,
    *,
    rule: str,
    weight: float,
    grid: ArrayLike,
    bandwidth: float = 0.03,
    most: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Kernel density of element values, as in figure 7 of the APG paper (arXiv 2410.02416).

    Parameters
    ----------
    images : Tensor, shape (n, *shape)
        Images or latents.
    grid : array
        Values at which the density is given.
    bandwidth : float
        Standard deviation of the kernel, in units of the data: the same for every set, so that curves compare.
    most : int
        Elements used; a random subset where there are more.

    Returns
    -------
    DataFrame
        Columns declared in `DENSITY`.
    """
    if bandwidth <= 0:
        raise InputError("bandwidth", found=str(bandwidth), expected="a positive standard deviation")
    values = images.double().flatten().cpu().numpy()
    if len(values) > most:
        values = np.random.default_rng(seed).choice(values, most, replace=False)
    if values.std() == 0 or not np.isfinite(values).all():
        raise InputError("images", found="constant or non-finite values", expected="values that have a density")
    # scipy takes the bandwidth in units of the sample's standard deviation
    kernel = scipy.stats.gaussian_kde(values, bw_method=bandwidth / values.std(ddof=1))
    places = np.asarray(grid, np.float64)
    table = pd.DataFrame({"rule": rule, "weight": float(weight), "value": places, "density": kernel(places)})
    return DENSITY.check(table)
