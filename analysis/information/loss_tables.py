"""Losses of a comparison as tidy tables: of each arm, of pairs of arms, and how often the true class wins.

    comparison = compare_arms(bank, [Arm("a", denoiser, a), Arm("b", denoiser, b)])
    loss_table(comparison)           # with standard errors over images
    pair_table(comparison)           # paired differences and distances
    win_rates(comparison, labels)    # the arms being classes

All arms have been asked at the same noisy points.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, host_array
from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.probes.bank.comparison import Comparison, LossSpace

SPACES: tuple[LossSpace, ...] = ("eps", "denoised")
_LEVELS = (
    Column("space", str, "", "eps (dimensionless) or denoised (data^2)"),
    Column("sigma", float, "data", "noise level"),
    Column("log_snr", float, "1", "-2 ln sigma"),
    Column("n", int, "", "images"),
)

ARM_LOSSES = Schema(
    "arm_losses",
    (
        Column("arm", str, "", "its name"),
        *_LEVELS,
        Column("loss", float, "of the space", "mean squared error of the prediction, summed over an image"),
        Column("error", float, "of the space", "its standard error over images; NaN for one image"),
    ),
)

ARM_PAIRS = Schema(
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


@checked
def loss_table(comparison: Comparison) -> pd.DataFrame:
    """Loss of every arm at every level: columns declared in `ARM_LOSSES`.

    Parameters
    ----------
    comparison : Comparison
        From `compare_arms`.

    Returns
    -------
    DataFrame
        One row an (arm, space, level).
    """
    parts = []
    for name in comparison.names:
        for space in SPACES:
            loss, error = _over_images(comparison.loss(name, space=space))
            parts.append(_levels(comparison, space).assign(arm=name, loss=loss, error=error))
    return ARM_LOSSES.check(pd.concat(parts, ignore_index=True))


@checked
def pair_table(comparison: Comparison) -> pd.DataFrame:
    """Paired differences and distances at every level: columns declared in `ARM_PAIRS`; no rows without pairs.

    Parameters
    ----------
    comparison : Comparison
        From `compare_arms`.

    Returns
    -------
    DataFrame
        One row a (pair, space, level).
    """
    parts = [pd.DataFrame({column.name: pd.Series(dtype=column.kind) for column in ARM_PAIRS.columns})]
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
    return ARM_PAIRS.check(pd.concat(parts[1:] or parts, ignore_index=True))


def _levels(comparison: Comparison, space: LossSpace) -> pd.DataFrame:
    sigmas = comparison.sigmas
    return pd.DataFrame({"space": space, "sigma": sigmas, "log_snr": -2 * np.log(sigmas), "n": len(comparison.rows)})


def _over_images(values: Floats) -> tuple[Floats, Floats]:
    """Mean over images, whose draws have been averaged, and its standard error: clustered by image."""
    count = len(values)
    error = values.std(0, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[1], np.nan)
    return values.mean(0), error


EVERY = "every other"

WIN_RATES = Schema(
    "class_win_rates",
    (
        Column("split", str, "", "fit or test"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("foil", str, "", f"the class that the true one is compared with; {EVERY!r}: it beats them all"),
        Column("n", int, "", "images of another class than the foil"),
        Column(
            "rate",
            float,
            "1",
            "share with the lower loss of the true class, at this level; a tie is 1/2, for every other 0",
        ),
        *ends("1", "Wilson"),
    ),
)


@checked
def win_rates(comparison: Comparison, labels: ArrayLike | Tensor) -> pd.DataFrame:
    """How often the true class has a lower loss than another, at each level alone.

    A tie counts half against one class; against every other at once the true class must be strictly below all.

    Parameters
    ----------
    comparison : Comparison
        Its arms are the classes.
    labels : array of int, shape (images,)
        Position of each image's class among the arms.

    Returns
    -------
    DataFrame
        Columns declared in `WIN_RATES`; the split is "test".
    """
    losses, truth = stacked_losses(comparison), host_array(labels)
    own = losses[truth, np.arange(len(truth))]
    wins = (own < losses) + 0.5 * (own == losses)
    is_other = truth != np.arange(len(losses))[:, None]
    rivals = np.where(is_other[:, :, None], losses, np.inf)
    parts = [_rates(comparison.sigmas, EVERY, own < rivals.min(0))]
    for number, name in enumerate(comparison.names):
        if is_other[number].any():
            parts.append(_rates(comparison.sigmas, name, wins[number][is_other[number]]))
    return WIN_RATES.check(pd.concat(parts, ignore_index=True))


def _rates(sigmas: Floats, foil: str, wins: NDArray[np.generic]) -> pd.DataFrame:
    rate, low, high = wilson(wins.sum(0), len(wins))
    return pd.DataFrame(
        {
            "split": "test", "sigma": sigmas, "log_snr": -2 * np.log(sigmas), "foil": foil, "n": len(wins),
            "rate": rate, "low": low, "high": high,
        }
    )  # fmt: skip


def stacked_losses(comparison: Comparison) -> Floats:
    """eps losses of all arms, shape (arms, images, levels)."""
    return np.stack([comparison.loss(name) for name in comparison.names])
