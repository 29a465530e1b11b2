"""The guidance weight of least one-step error at each noise level, from losses and distances on a bank.

    arms = [Arm("weak", weak, labels), Arm("strong", denoiser, labels)]
    optimal_weights(compare_arms(Bank(held_out, sigmas), arms))

With e_0 = D_0 - x0 and e_1 = D_1 - x0 the error of D_0 + w (D_1 - D_0) is least at
w* = 1/2 + (|e_0|^2 - |e_1|^2) / (2 |D_0 - D_1|^2), each in the mean over images. An exact D_1, the posterior mean, has
w* = 1 whatever D_0 is; errors that are multiples of each other, e_0 = k e_1, have 1 + 1 / (k - 1). It is a weight of
least squares, not of good samples: the errors contain what no denoiser can know.
"""

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units, percentile_interval
from scorescope.analysis.statistics.studentised import LEAST_UNITS, studentised
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.probes.bank.comparison import Comparison

SAME = "both predictions are the same"  # 0 / 0: every weight is as good
FEW = f"fewer than {LEAST_UNITS} images: no interval"

OPTIMAL_WEIGHTS = Schema(
    "optimal_weights",
    (
        Column("weak", str, "", "arm that is guided away from, D_0"),
        Column("strong", str, "", "arm that is guided, D_1"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("n", int, "", "images"),
        Column("weight", float, "1", "w of least mean squared error of D_0 + w (D_1 - D_0); 1 is no guidance"),
        *ends("1", f"studentised bootstrap over images, from {LEAST_UNITS} on"),
        Column(
            "alignment", float, "1", "E<e_1, D_0 - D_1> / sqrt(E|e_1|^2 E|D_0 - D_1|^2), denoised space: 1 where the "
            "two err in one direction, 0 for an exact D_1",
        ),
        *ends("1", f"percentile bootstrap over images, from {LEAST_UNITS} on", of="alignment"),
        Column("missing", str, "", "why numbers of the row are missing; else empty"),
    ),
)  # fmt: skip


@checked
def optimal_weights(comparison: Comparison, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The weight of least one-step error of every pair that was compared, at every level.

    Parameters
    ----------
    comparison : Comparison
        From `compare_arms`, of each pair the weak arm first; images that the models were not trained on.
    resamples, seed : int
        Bootstrap draws of images, and their seed.

    Returns
    -------
    DataFrame
        Columns declared in `OPTIMAL_WEIGHTS`, one row a (pair, level).
    """
    draws = draw_units(len(comparison.rows), resamples=resamples, seed=seed)
    return OPTIMAL_WEIGHTS.check(pd.concat([_of_pair(comparison, *pair, draws) for pair in comparison.pairs]))


def _of_pair(comparison: Comparison, weak: str, strong: str, draws: Floats) -> pd.DataFrame:
    apart = comparison.distance(weak, strong, space="denoised").T  # (levels, images)
    better = comparison.difference(weak, strong, space="denoised").T
    error = comparison.loss(strong, space="denoised").T
    same, few = (apart == 0).all(1), draws.shape[1] < LEAST_UNITS
    with np.errstate(divide="ignore", invalid="ignore"):
        found = studentised(apart + better, 2 * apart, draws)
        alignment = _cosine(better - apart, error, apart, np.ones((1, draws.shape[1])))[0]
        low, high = percentile_interval(_cosine(better - apart, error, apart, draws), draws.shape[1])
    sigmas = comparison.sigmas
    numbers = {
        "weight": found.value, "low": found.low, "high": found.high, "alignment": alignment,
        "alignment_low": np.full(len(sigmas), np.nan) if few else np.minimum(low, alignment),
        "alignment_high": np.full(len(sigmas), np.nan) if few else np.maximum(high, alignment),
    }  # fmt: skip
    table = pd.DataFrame({"weak": weak, "strong": strong, "sigma": sigmas, "log_snr": -2 * np.log(sigmas), **numbers})
    table.loc[same, list(numbers)] = np.nan
    return table.assign(n=draws.shape[1], missing=np.where(same, SAME, FEW if few else ""))


def _cosine(twice: Floats, error: Floats, apart: Floats, draws: Floats) -> Floats:
    """Cosine of the strong arm's error and the update, from sums over drawn images; `twice` is twice their product."""
    cosine: Floats = draws @ twice.T / (2 * np.sqrt((draws @ error.T) * (draws @ apart.T)))
    return cosine
