"""Losses and paired differences of a comparison as tidy tables, with standard errors over images.

comparison = compare_arms(bank, arms)
loss_table(comparison)
pair_table(comparison)
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.probes.bank.comparison import Comparison, LossSpace

Floats = NDArray[np.float64]
SPACES: tuple[LossSpace, ...] = ("eps", "denoised")
_LEVELS = (
    Column("space", str, "", "eps (dimensionless) or denoised (data^2)"),
    Column("sigma", float, "data", "noise level"),
    Column("log_snr", float, "1", "-2 ln sigma"),
    Column("n", int, "", "images"),
)

LOSSES = Schema(
    "arm_losses",
    (
        Column("arm", str, "", "its name"),
        *_LEVELS,
        Column("loss", float, "of the space", "mean squared error of the prediction, summed over an image"),
        Column("error", float, "of the space", "its standard error over images; NaN for one image"),
    ),
)

PAIRS = Schema(
    "arm_pairs",
    (
        Column("first", str, "", "arm"),
        Column("second", str, "", "arm"),
        *_LEVELS,
        Column("difference", float, "of the space", "loss of the first less loss of the second, on the same points"),
        Column("difference_error", float, "of the space", "its standard error over images; NaN for one image"),
        Column("distance", float, "of the space", "squared distance of the two predictions"),
        Column("distance_error", float, "of the space", "its standard error over images; NaN for one image"),
    ),
)


def loss_table(comparison: Comparison) -> pd.DataFrame:
    """Loss of every arm at every level: columns declared in `LOSSES`."""
    parts = []
    for name in comparison.names:
        for space in SPACES:
            loss, error = _over_images(comparison.loss(name, space=space))
            parts.append(_levels(comparison, space).assign(arm=name, loss=loss, error=error))
    return LOSSES.check(pd.concat(parts, ignore_index=True))


def pair_table(comparison: Comparison) -> pd.DataFrame:
    """Paired differences and distances at every level: columns declared in `PAIRS`; no rows without pairs."""
    parts = [pd.DataFrame({column.name: pd.Series(dtype=column.kind) for column in PAIRS.columns})]
    for first, second in comparison.pairs:
        for space in SPACES:
            difference, difference_error = _over_images(comparison.difference(first, second, space=space))
            distance, distance_error = _over_images(comparison.distance(first, second, space=space))
            parts.append(
                _levels(comparison, space).assign(
                    first=first, second=second, difference=difference, difference_error=difference_error,
                    distance=distance, distance_error=distance_error,
                )
            )  # fmt: skip
    return PAIRS.check(pd.concat(parts[1:] or parts, ignore_index=True))


def _levels(comparison: Comparison, space: LossSpace) -> pd.DataFrame:
    sigmas = comparison.sigmas
    return pd.DataFrame({"space": space, "sigma": sigmas, "log_snr": -2 * np.log(sigmas), "n": len(comparison.rows)})


def _over_images(values: Floats) -> tuple[Floats, Floats]:
    """Mean over images, whose draws have been averaged, and its standard error: clustered by image."""
    count = len(values)
    error = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[1], np.nan)
    return values.mean(0), error
