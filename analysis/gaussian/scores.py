"""How far a denoiser is from laws whose denoiser is known, at every noise level.

    gaps = score_gaps(denoiser, [gaussian, per_class, exact], images, sigmas, query="held_out")
    table = score_table(gaps)                     # unexplained fractions with intervals; both: `compare_scores`
    levels = regimes(gaps)                        # which law is best where, and where the network itself errs

An unexplained fraction is |D - A|^2 over a total; the total is what differs between published metrics:

    centred     |D - mean|^2     the one to use
    denoised    |D|^2            blind at low noise, where every D is nearly the image
    score       |D - x|^2        blind at high noise, where every score (D - x) / sigma^2 is nearly -x / sigma^2
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.gaussian.gaps import SCORE_METRICS, ScoreGaps, score_gaps
from scorescope.analysis.statistics.bootstrap import draw_units, per_unit, percentile_interval, ratios
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.probes.approximations import Approximation
from scorescope.probes.models.denoiser import Denoiser

SCORES = Schema(
    "score_comparison",
    (
        Column("query", str, "", "law of the points asked about: held_out, train, noise or path"),
        Column("sigma", float, "data", "noise level, variance exploding"),
        Column("approximation", str, "", "which law"),
        Column("metric", str, "", "what the squared difference is a fraction of: centred, denoised or score"),
        Column("ratio_of_sums", float, "1", "sum of |D - A|^2 over sum of the metric's total"),
        *ends("1", "bootstrap over images", of="ratio_of_sums"),
        Column("mean_of_ratios", float, "1", "mean over samples of |D - A|^2 over the metric's total"),
        *ends("1", "bootstrap over images", of="mean_of_ratios"),
        Column("n", int, "", "points"),
        Column("images", int, "", "images (or seeds) that they come from: what the bootstrap draws"),
        Column("note", str, "", "what the fit of the approximation had to do"),
    ),
)

REGIMES = Schema(
    "regimes",
    (
        Column("query", str, "", "law of the points asked about"),
        Column("sigma", float, "data", "noise level"),
        Column("best", str, "", "law with the least centred unexplained fraction"),
        Column("best_fraction", float, "1", "its fraction: ratio of sums, centred"),
        Column("gaussian_fraction", float, "1", "that of the Gaussian"),
        Column("gaussian_excess", float, "1", "gaussian_fraction - best_fraction"),
        *ends("1", "paired bootstrap over images", of="gaussian_excess"),
        Column(
            "gaussian_is_best",
            bool,
            "",
            "the Gaussian's excess is, by its interval, not above a hundredth of best_fraction",
        ),
        Column("disagreement", float, "1", "largest centred distance of the Gaussian from a law with its moments"),
        Column("network_error", bool, "", "the laws agree to a tenth of best_fraction: the rest is the network's own"),
    ),
)
NEAR = 0.01  # of the best fraction: a difference that is certain but smaller says nothing
ALIKE = 0.1  # of the best fraction: below that, which law is taken does not matter


@checked
def compare_scores(
    denoiser: Denoiser,
    approximations: Sequence[Approximation],
    data: Tensor,
    sigmas: Sequence[float],
    *,
    resamples: int = 1000,
    **options: Any,
) -> pd.DataFrame:
    """Unexplained fraction of every approximation in every metric: `score_gaps` and `score_table` in one call.

    Parameters
    ----------
    denoiser, approximations, data, sigmas, **options
        As in `score_gaps`.
    resamples : int
        Bootstrap draws.

    Returns
    -------
    DataFrame
        `SCORES`: one row a (sigma, approximation, metric).
    """
    return score_table(score_gaps(denoiser, approximations, data, sigmas, **options), resamples=resamples)


@checked
def score_table(gaps: ScoreGaps, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Unexplained fraction of every approximation in every metric.

    Parameters
    ----------
    gaps : ScoreGaps
        From `score_gaps`.
    resamples, seed : int
        Of the bootstrap over images.

    Returns
    -------
    DataFrame
        `SCORES`: one row a (sigma, approximation, metric), with the ratio of sums and the mean of ratios.
    """
    frames = []
    for name, errors in gaps.errors.items():
        for metric in SCORE_METRICS:
            found = ratios(errors, gaps.totals[metric], gaps.unit, resamples=resamples, seed=seed)
            frames.append(
                pd.DataFrame(
                    {
                        "query": gaps.query, "sigma": gaps.sigmas, "approximation": name, "metric": metric,
                        "ratio_of_sums": found.of_sums, "ratio_of_sums_low": found.of_sums_low,
                        "ratio_of_sums_high": found.of_sums_high, "mean_of_ratios": found.mean,
                        "mean_of_ratios_low": found.mean_low, "mean_of_ratios_high": found.mean_high,
                        "n": errors.shape[1], "images": int(gaps.unit.max()) + 1, "note": gaps.notes[name],
                    }
                )
            )  # fmt: skip
    return SCORES.check(pd.concat(frames, ignore_index=True))


@checked
def regimes(gaps: ScoreGaps, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Which law is best at each noise level, and where the difference is the network's own error.

    Parameters
    ----------
    gaps : ScoreGaps
        From `score_gaps`.
    resamples, seed : int
        Of the bootstrap over images.

    Returns
    -------
    DataFrame
        `REGIMES`: one row a noise level.
    """
    draws = draw_units(int(gaps.unit.max()) + 1, resamples=resamples, seed=seed)
    total = per_unit(gaps.totals["centred"], gaps.unit)
    sums = {name: per_unit(errors, gaps.unit) for name, errors in gaps.errors.items()}
    fractions = {name: s.sum(1) / total.sum(1) for name, s in sums.items()}
    names = list(fractions)
    best = [names[i] for i in np.argmin(np.stack([fractions[name] for name in names]), axis=0)]
    best_fraction = np.array([fractions[name][level] for level, name in enumerate(best)])
    best_sums = np.stack([sums[name][level] for level, name in enumerate(best)])
    low, high = percentile_interval((draws @ (sums[gaps.gaussian] - best_sums).T) / (draws @ total.T))
    distances = [a.sum(1) / gaps.totals["centred"].sum(1) for a in gaps.apart.values()]
    disagreement = np.max(distances, axis=0) if distances else np.full(len(gaps.sigmas), np.nan)
    table = pd.DataFrame(
        {
            "query": gaps.query, "sigma": gaps.sigmas, "best": best, "best_fraction": best_fraction,
            "gaussian_fraction": fractions[gaps.gaussian],
            "gaussian_excess": fractions[gaps.gaussian] - best_fraction,
            "gaussian_excess_low": low, "gaussian_excess_high": high,
            "gaussian_is_best": low <= NEAR * best_fraction,
            "disagreement": disagreement, "network_error": disagreement < ALIKE * best_fraction,
        }
    )  # fmt: skip
    return REGIMES.check(table)


def lowest_run(table: pd.DataFrame, column: str) -> float:
    """Lowest sigma down to which a boolean column of `regimes` holds without a gap from the highest; NaN for none."""
    falling = table.sort_values("sigma", ascending=False)
    holds = falling[column].to_numpy().cumprod().astype(bool)
    return float(falling["sigma"].to_numpy()[holds][-1]) if holds.any() else float("nan")
