"""How far a denoiser is from laws whose denoiser is known, at every noise level.

    gaps = score_gaps(denoiser, [gaussian, per_class, exact], images, sigmas, query="held_out")
    table = score_table(gaps)                     # unexplained fractions with intervals; both: `compare_scores`
    levels = regimes(gaps)                        # where no law is better than the Gaussian, where the network errs

An unexplained fraction is |D - A|^2 over a total; the total is what differs between published metrics:

    centred     |D - mean|^2     the one to use
    denoised    |D|^2            blind at low noise, where every D is nearly the image
    score       |D - x|^2        blind at high noise, where every score (D - x) / sigma^2 is nearly -x / sigma^2

Beside each stands its floor: what a perfect network would show, as the law's moments come from a finite sample.

Intervals are studentised. Those of ratios of sums cover 0.93 to 0.96 from 16 images on. A mean of ratios is decided by
points near the mean: along four modes or fewer its variance is infinite and no interval holds (0.8 at three modes,
however many images); from 8 modes and 48 images on it covers 0.92 to 0.96, and is given there.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.gaussian.gaps import SCORE_METRICS, ScoreGaps, score_gaps
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import TAILS, draw_units, per_unit
from scorescope.analysis.statistics.studentised import LEAST_UNITS, studentised
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
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
        *ends("1", f"studentised bootstrap over images; missing below {LEAST_UNITS}", of="ratio_of_sums"),
        Column("mean_of_ratios", float, "1", "mean over samples of |D - A|^2 over the metric's total"),
        *ends("1", "studentised bootstrap over images; see `reason` where missing", of="mean_of_ratios"),
        Column(
            "floor",
            float,
            "1",
            "what a perfect network would show against the Gaussian, whose moments come from a finite sample; at high "
            "noise against every law",
        ),
        Column("floor_high", float, "1", "97.5 % quantile of that over samples: network error is shown only above it"),
        Column("n", int, "", "points"),
        Column("images", int, "", "images (or seeds) that they come from: what the bootstrap draws"),
        Column("note", str, "", "what the fit of the approximation had to do"),
        Column("reason", str, "", "why a number of the row is missing; empty where none is"),
    ),
)

REGIMES = Schema(
    "regimes",
    (
        Column("query", str, "", "law of the points asked about"),
        Column("sigma", float, "data", "noise level"),
        Column("best", str, "", "law with the least centred unexplained fraction; a choice among `compared`, no more"),
        Column("compared", str, "", "the laws that it was chosen from"),
        Column("best_fraction", float, "1", "its fraction: ratio of sums, centred"),
        *ends("1", "studentised bootstrap over images", of="best_fraction"),
        Column("gaussian_fraction", float, "1", "that of the Gaussian"),
        Column("gaussian_excess", float, "1", "gaussian_fraction - best_fraction"),
        *ends(
            "1",
            "studentised paired bootstrap over images: the largest of the other laws' upper ends, and of their lower "
            "ends at a level divided by their number; 0 where the Gaussian is ahead",
            of="gaussian_excess",
        ),
        Column("margin", float, "1", "excess that counts as none"),
        Column("gaussian_is_best", bool, "", "shown: gaussian_excess_high is at most the margin"),
        Column("other_is_better", bool, "", "shown: gaussian_excess_low is above 0"),
        Column("disagreement", float, "1", "largest centred distance of the Gaussian from a law with its moments"),
        Column("floor", float, "1", "what a perfect network would show, as the laws' moments are those of a sample"),
        Column("floor_high", float, "1", "97.5 % quantile of that over samples"),
        Column(
            "network_error",
            bool,
            "",
            "shown: the laws, the training set's own among them, agree to a tenth of best_fraction, and the lower end "
            "of best_fraction is above floor_high",
        ),
        Column("reason", str, "", "why gaussian_is_best or network_error is not shown; empty where both are"),
    ),
)
MARGIN = 0.01  # of the centred total: a law that leaves less by this much is as good as no better
ALIKE = 0.1  # of the best fraction: below that, which law is taken does not matter
Truths = NDArray[np.bool_]
LEAST_MODES, LEAST_FOR_MEAN = 8, 48  # modes and images from which the interval of a mean of ratios holds


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
    units, points = int(gaps.unit.max()) + 1, len(gaps.unit)
    draws = draw_units(units, resamples=resamples, seed=seed)
    counts = per_unit(np.ones((1, points)), gaps.unit)
    frames = []
    for name, errors in gaps.errors.items():
        for metric in SCORE_METRICS:
            total = gaps.totals[metric]
            sums = studentised(per_unit(errors, gaps.unit), per_unit(total, gaps.unit), draws)
            means = studentised(per_unit(errors / total, gaps.unit), np.repeat(counts, len(total), axis=0), draws)
            floor, floor_high = (values / total.mean(1) for values in (gaps.floor, gaps.floor_high))
            frames.append(
                pd.DataFrame(
                    {
                        "query": gaps.query, "sigma": gaps.sigmas, "approximation": name, "metric": metric,
                        "ratio_of_sums": sums.value, "ratio_of_sums_low": sums.low, "ratio_of_sums_high": sums.high,
                        "mean_of_ratios": means.value, "mean_of_ratios_low": means.low,
                        "mean_of_ratios_high": means.high, "floor": floor, "floor_high": floor_high,
                        "n": points, "images": units, "note": gaps.notes[name], "reason": _missing(gaps, units),
                    }
                )
            )  # fmt: skip
    table = pd.concat(frames, ignore_index=True)
    if gaps.modes < LEAST_MODES or units < LEAST_FOR_MEAN:
        table[["mean_of_ratios_low", "mean_of_ratios_high"]] = np.nan
    return SCORES.check(table)


def _missing(gaps: ScoreGaps, units: int) -> list[str]:
    """Why numbers are missing, level by level."""
    every = [f"no intervals below {LEAST_UNITS} images"] if units < LEAST_UNITS else []
    if gaps.modes < LEAST_MODES:
        every.append(f"the mean of ratios has no interval that holds along {gaps.modes} modes (from {LEAST_MODES} on)")
    elif units < LEAST_FOR_MEAN:
        every.append(f"the mean of ratios has no interval that holds below {LEAST_FOR_MEAN} images")
    return ["; ".join(filter(None, [*every, reason])) for reason in _no_floor(gaps)]


def _no_floor(gaps: ScoreGaps) -> list[str]:
    """Why there is no floor, level by level; empty where there is one."""
    low = "no floor: too low a noise for the number of samples that the laws were fitted to"
    known = np.isfinite(gaps.floor)
    return ["" if there else f"no floor: {gaps.floor_note}" if gaps.floor_note else low for there in known]


@checked
def regimes(gaps: ScoreGaps, *, margin: float = MARGIN, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """At which noise levels no law that was compared is better than the Gaussian, and where the network itself errs.

    Both are shown or not: fewer images or fewer samples behind the laws leave less that is.

    Parameters
    ----------
    gaps : ScoreGaps
        From `score_gaps`.
    margin : float
        Excess of the Gaussian's centred fraction that counts as none.
    resamples, seed : int
        Of the bootstrap over images.

    Returns
    -------
    DataFrame
        `REGIMES`: one row a noise level.

    Raises
    ------
    InputError
        For a margin that is not positive.
    """
    if not margin > 0:
        raise InputError("margin", found=str(margin), expected="a positive share of the centred total")
    units, names = int(gaps.unit.max()) + 1, list(gaps.errors)
    draws = draw_units(units, resamples=resamples, seed=seed)
    total = per_unit(gaps.totals["centred"], gaps.unit)
    sums = {name: per_unit(errors, gaps.unit) for name, errors in gaps.errors.items()}
    fractions = np.stack([s.sum(1) / total.sum(1) for s in sums.values()])
    chosen = np.argmin(fractions, axis=0)
    best = studentised(np.stack([sums[names[i]][level] for level, i in enumerate(chosen)]), total, draws)
    low, high = _excess(sums, total, gaps.gaussian, draws)
    distances = [a.mean(1) / gaps.totals["centred"].mean(1) for a in gaps.apart.values()]
    disagreement = np.max(distances, axis=0) if distances else np.full(len(gaps.sigmas), np.nan)
    floor, floor_high = (values / gaps.totals["centred"].mean(1) for values in (gaps.floor, gaps.floor_high))
    alike, above = disagreement < ALIKE * best.value, best.low > floor_high
    gaussian = fractions[names.index(gaps.gaussian)]
    table = pd.DataFrame(
        {
            "query": gaps.query, "sigma": gaps.sigmas, "best": [names[i] for i in chosen],
            "compared": ", ".join(names), "best_fraction": best.value, "best_fraction_low": best.low,
            "best_fraction_high": best.high, "gaussian_fraction": gaussian,
            "gaussian_excess": gaussian - best.value, "gaussian_excess_low": low, "gaussian_excess_high": high,
            "margin": margin, "gaussian_is_best": high <= margin, "other_is_better": low > 0,
            "disagreement": disagreement, "floor": floor, "floor_high": floor_high,
            "network_error": alike & above & bool(gaps.exact),
            "reason": _not_shown(gaps, units, high <= margin, alike, above),
        }
    )  # fmt: skip
    return REGIMES.check(table)


def _excess(sums: dict[str, Floats], total: Floats, gaussian: str, draws: Floats) -> tuple[Floats, Floats]:
    """Interval of the Gaussian's fraction above the best of the other laws', not below 0; missing without others.

    That no law is better by more than a margin holds if it holds of every one, so upper ends need no correction for
    their number; that some law is better does need one.
    """
    others = [name for name in sums if name != gaussian]
    if not others:
        missing = np.full(len(total), np.nan)
        return missing, missing
    tails = (TAILS[0] / len(others), TAILS[1])
    found = [studentised(sums[gaussian] - sums[name], total, draws, tails=tails) for name in others]
    upper = [studentised(sums[gaussian] - sums[name], total, draws).high for name in others]
    low = np.max([f.low for f in found], axis=0)
    return np.maximum(low, 0.0), np.maximum(np.max(upper, axis=0), 0.0)


def _not_shown(gaps: ScoreGaps, units: int, best: Truths, alike: Truths, above: Truths) -> list[str]:
    """Why a verdict of `regimes` is not shown, level by level."""
    alone = len(gaps.errors) == 1
    few = f"no intervals below {LEAST_UNITS} images" if units < LEAST_UNITS else ""
    first = "one law: a choice of one is no finding" if alone else few or "another law may be better by the margin"
    second = "" if gaps.exact else "the training set's own law was not compared"
    reasons = []
    for is_best, agree, over, floor in zip(best, alike, above, _no_floor(gaps), strict=True):
        own = second or few or ("" if agree else "laws differ") or floor or ("" if over else "within the laws' floor")
        texts = [f"gaussian_is_best: {first}" if not is_best else "", f"network_error: {own}" if own else ""]
        reasons.append("; ".join(filter(None, texts)))
    return reasons


def lowest_run(table: pd.DataFrame, column: str) -> float:
    """Lowest sigma down to which a boolean column of `regimes` holds without a gap from the highest; NaN for none."""
    falling = table.sort_values("sigma", ascending=False)
    holds = falling[column].to_numpy().cumprod().astype(bool)
    return float(falling["sigma"].to_numpy()[holds][-1]) if holds.any() else float("nan")
