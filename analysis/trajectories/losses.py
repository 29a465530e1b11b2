"""The loss that a denoiser is trained on, at each noise level: weighted as in EDM, so that levels can be compared.

arms = {"no network": skip_only(0.5), "model": denoiser}
table = weighted_losses(arms, {"train": train, "held out": others}, sigmas, sigma_data=0.5)
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Arm, Bank, compare_arms
from scorescope.probes.models.denoiser import Condition, Denoiser

WEIGHTED_LOSSES = Schema(
    "weighted_losses",
    (
        Column("denoiser", str, "", "its name"),
        Column("images", str, "", "which images"),
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "images, one noise draw each"),
        Column("mean", float, "1", "mean of (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 |D - x0|^2 / N, denoised"),
        *ends("1", "over images, corrected for skewness; missing for one image"),
        Column("std", float, "1", "standard deviation of that over images; missing for one image"),
    ),
)


@checked
def weighted_losses(
    denoisers: Mapping[str, Denoiser],
    sets: Mapping[str, Tensor],
    sigmas: Sequence[float],
    *,
    sigma_data: float,
    conditions: Mapping[str, Condition] | None = None,
    seed: int = 0,
    batch: int = 256,
    progress: bool = False,
) -> pd.DataFrame:
    """Denoising loss with the weight of EDM, by which every noise level of an untrained network counts alike.

    Parameters
    ----------
    denoisers : mapping of str to Denoiser
        By name, for instance checkpoints; all meet the same noise.
    sets : mapping of str to Tensor, shape (n, *shape)
        Clean images by name.
    sigmas : sequence of float
        Positive noise levels.
    sigma_data : float
        Root mean square of the data, as the model's preconditioning has it.
    conditions : mapping of str to condition, optional
        One row an image, by name of the set; without one, the unconditional branch.
    seed : int
        Of the noise.
    batch, progress
        See `compare_arms`.

    Returns
    -------
    DataFrame
        `WEIGHTED_LOSSES`: one row a (set, denoiser, sigma).

    Raises
    ------
    InputError
        Without denoisers or sets, for a sigma_data that is not positive, and what `compare_arms` refuses.

    Notes
    -----
    Karras et al. 2022 (arXiv 2206.00364), table 1 and figure 5a.
    """
    if not denoisers or not sets or not 0 < sigma_data < float("inf"):
        given = f"{list(denoisers)}, {list(sets)}, {sigma_data}"
        raise InputError("denoisers, sets, sigma_data", found=given, expected="some of each, and a positive number")
    parts = []
    for name, images in sets.items():
        arms = [Arm(one, denoiser, (conditions or {}).get(name)) for one, denoiser in denoisers.items()]
        bank = Bank(images, sigmas, seed=seed)
        found = compare_arms(bank, arms, pairs=[], batch=batch, progress=progress)
        levels = np.asarray(sigmas, dtype=np.float64)
        weight = (levels**2 + sigma_data**2) / (levels * sigma_data) ** 2 / images[0].numel()
        parts += [_rows(one, name, levels, weight * found.loss(one, space="denoised")) for one in denoisers]
    return WEIGHTED_LOSSES.check(pd.concat(parts, ignore_index=True))


@checked
def skip_only(sigma_data: float) -> Denoiser:
    """What EDM's preconditioning gives before training: the skip connection alone, the network putting out 0.

    Its weighted loss is 1 at every noise level, for all data whose root mean square is sigma_data.

    Parameters
    ----------
    sigma_data : float
        Root mean square of the data.

    Returns
    -------
    Denoiser
        D = sigma_data^2 / (sigma_data^2 + sigma^2) x.
    """

    def denoiser(x: Tensor, sigma: Tensor, condition: Condition = None, /) -> Tensor:
        share = sigma_data**2 / (sigma_data**2 + sigma**2)
        return share.reshape(-1, *(1,) * (x.ndim - 1)) * x

    return denoiser


def _rows(denoiser: str, images: str, sigmas: Floats, values: Floats) -> pd.DataFrame:
    """One row a level, of values (images, levels)."""
    low, high = skewed_mean_interval(values)
    std = values.std(0, ddof=1) if len(values) > 1 else np.full(len(sigmas), np.nan)
    return pd.DataFrame(
        {
            "denoiser": denoiser, "images": images, "sigma": sigmas, "n": len(values), "mean": values.mean(0),
            "low": low, "high": high, "std": std,
        }
    )  # fmt: skip
