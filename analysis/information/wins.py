"""At which noise level the true condition denoises an image better than another, with Wilson intervals.

comparison = compare_arms(bank, [Arm("a", denoiser, a), Arm("b", denoiser, b)], pairs=[])
win_rates(comparison, labels)
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.analysis.fid.tables import wilson
from scorescope.analysis.statistics.labels import host_array
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.probes.bank.comparison import Comparison

Floats = NDArray[np.float64]
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
        Column("low", float, "1", "lower end of its 95 % Wilson interval"),
        Column("high", float, "1", "upper end"),
    ),
)


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
