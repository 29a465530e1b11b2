"""From which noise level on the length of a noised image is that of noise alone.

    noise_norms(images, log_snr_grid(-7, 7, 9))

With x = y + sigma n the number |x|^2 / (d (1 + sigma^2)) is the squared norm a dimension of a variance-preserving
latent. Of pure noise it is chi-square with d degrees of freedom over d, about 1 +- sqrt(2 / d). That it lies there says
nothing of what can be read from the latent: a length is one number of d.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import LEVEL, skewed_mean_interval, wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank

NOISE_NORMS = Schema(
    "noise_norms",
    (
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("n", int, "", "images, each with one noise"),
        Column("d", int, "", "elements of an image"),
        Column("mean", float, "1", "mean of |x|^2 / (d (1 + sigma^2))"),
        *ends("1", "over images, corrected for skewness"),
        Column("spread_low", float, "1", "2.5 % quantile over images"),
        Column("spread_high", float, "1", "97.5 % quantile over images"),
        Column("noise_low", float, "1", "2.5 % quantile of pure noise: chi-square of d over d"),
        Column("noise_high", float, "1", "97.5 % quantile of pure noise"),
        Column("inside", float, "1", "share of images between these two; of pure noise 0.95"),
        *ends("1", "Wilson", of="inside"),
    ),
)


@checked
def noise_norms(images: Tensor, sigmas: Sequence[float], *, seed: int = 0) -> pd.DataFrame:
    """Squared norms of noised images a dimension, beside those of pure noise.

    Parameters
    ----------
    images : Tensor, shape (n, *shape)
        In the model's units; at least two.
    sigmas : sequence of float
        Noise levels, in units of the data.
    seed : int
        Of the noise.

    Returns
    -------
    DataFrame
        Columns declared in `NOISE_NORMS`, one row a noise level.

    Raises
    ------
    InputError
        For fewer than two images, and what `Bank` refuses.
    """
    if len(images) < 2:
        raise InputError("images", found=f"{len(images)}", expected="at least two")
    size = images[0].numel()
    found: list[list[Floats]] = [[] for _ in sigmas]
    for point in Bank(images, sigmas, seed=seed).points():
        norms = point.x.double().flatten(1).square().sum(1).cpu().numpy()
        found[point.level].append(norms / (size * (1 + float(sigmas[point.level]) ** 2)))
    rows = [_row(float(sigma), np.concatenate(parts), size) for sigma, parts in zip(sigmas, found, strict=True)]
    return NOISE_NORMS.check(pd.DataFrame(rows))


def _row(sigma: float, ratios: Floats, size: int) -> dict[str, float]:
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    noise_low, noise_high = scipy.stats.chi2.ppf(tails, size) / size
    spread_low, spread_high = np.quantile(ratios, tails)
    low, high = skewed_mean_interval(ratios)
    n = len(ratios)
    inside, inside_low, inside_high = wilson(int(((ratios >= noise_low) & (ratios <= noise_high)).sum()), n)
    return {
        "sigma": sigma, "log_snr": float(-2 * np.log(sigma)), "n": n, "d": size, "mean": float(ratios.mean()),
        "low": float(low), "high": float(high), "spread_low": float(spread_low), "spread_high": float(spread_high),
        "noise_low": float(noise_low), "noise_high": float(noise_high), "inside": float(inside),
        "inside_low": float(inside_low), "inside_high": float(inside_high),
    }  # fmt: skip
