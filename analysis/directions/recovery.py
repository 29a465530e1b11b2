"""How much of the difference between two conditions a patch brings back: tables and statistics over seeds.

Sufficiency is (patched - corrupted) / (clean - corrupted), clean activations being patched into corrupted runs;
necessity (clean - patched) / (clean - corrupted), the other way round.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import SeedDraws, percentile_interval
from scorescope.analysis.statistics.intervals import skewed_mean_interval, skewed_ratio_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked

SUFFICIENCY, NECESSITY = "sufficiency", "necessity"

_WHERE = (
    Column("site", str, "", "where activations were patched"),
    Column("sigma_low", float, "data", "patched at noise levels above this one"),
    Column("sigma_high", float, "data", "and up to this one; equal to sigma_low for a single denoiser call there"),
    Column("log_snr", float, "1", "-2 ln sigma_high"),
    Column("form", str, "", "sufficiency: clean into corrupted; necessity: corrupted into clean"),
)

RECOVERY = Schema(
    "patch_recovery",
    (
        *_WHERE,
        Column("n", int, "", "seeds (images in the one-call form) whose effect is above the floor"),
        Column("dropped", int, "", "those whose effect |clean - corrupted| is below it"),
        Column("mean", float, "1", "mean over seeds of the recovery: 0 the patch does nothing, 1 it does everything"),
        *ends("1", "over seeds, corrected for skewness"),
        Column("median", float, "1", "median of the recovery"),
        *ends("1", "bootstrap over seeds", of="median"),
        Column("ratio_of_means", float, "1", "mean change by the patch over the mean effect, of the same seeds"),
        *ends("1", "over seeds, corrected for skewness", of="ratio"),
    ),
)

PATCH_SAMPLES = Schema(
    "patch_samples",
    (
        *_WHERE,
        Column("seed", int, "", "of the sample; the image of the bank in the one-call form"),
        Column("clean", float, "metric", "metric of the clean run"),
        Column("corrupted", float, "metric", "of the corrupted run"),
        Column("patched", float, "metric", "of the patched run"),
        Column("recovery", float, "1", "normalised; missing where the seed was dropped"),
        Column("kept", bool, "", "whether |clean - corrupted| is above the floor"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class PatchTrace:
    """What `patch_trace` or `patch_once` found.

    Attributes
    ----------
    recovery, samples : DataFrame
        Columns declared in `RECOVERY` and `PATCH_SAMPLES`.
    floors : dict of (float, float) to float
        By interval of noise levels: smallest effect |clean - corrupted| of a seed that is used.
    """

    recovery: pd.DataFrame
    samples: pd.DataFrame
    floors: dict[tuple[float, float], float]


def default_floor(clean: Floats, corrupted: Floats) -> float:
    """A tenth of the median effect, but at least a hundredth of the metric's pooled standard deviation over seeds.

    The second bound holds where there is no effect; alone it would be large where the seeds' conditions differ.
    """
    spread = float(np.sqrt((clean.var() + corrupted.var()) / 2))
    return max(0.1 * float(np.median(np.abs(clean - corrupted))), 0.01 * spread)


def recovery_rows(
    where: dict[str, Any],
    metrics: tuple[Floats, Floats, Floats],
    seeds: list[int],
    floor: float,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """One row of `RECOVERY` and the rows of `PATCH_SAMPLES` behind it; metrics are (clean, corrupted, patched)."""
    clean, corrupted, patched = metrics
    effect = clean - corrupted
    gained = patched - corrupted if where["form"] == SUFFICIENCY else clean - patched
    kept = np.abs(effect) > floor
    ratio = np.divide(gained, effect, out=np.full_like(effect, np.nan), where=kept)
    samples = pd.DataFrame(
        {
            **where, "seed": seeds, "clean": clean, "corrupted": corrupted, "patched": patched, "recovery": ratio,
            "kept": kept,
        }
    )  # fmt: skip
    row = {**where, "n": int(kept.sum()), "dropped": int((~kept).sum())}
    names = ("mean", "low", "high", "median", "median_low", "median_high", "ratio_of_means", "ratio_low", "ratio_high")
    if kept.sum() < 2:
        return row | dict.fromkeys(names, float("nan")), samples
    draws = SeedDraws.of(int(kept.sum()), resamples=resamples, seed=seed)
    gained, effect, ratio = gained[kept], effect[kept], ratio[kept]
    values: list[Any] = [ratio.mean(), *skewed_mean_interval(ratio), *_median(ratio, draws)]
    values += [gained.mean() / effect.mean(), *skewed_ratio_interval(gained, effect)]
    return row | {name: float(value) for name, value in zip(names, values, strict=True)}, samples


def _median(values: Floats, draws: SeedDraws) -> tuple[float, float, float]:
    order = np.argsort(values)
    share = np.cumsum(draws.weights[1:, order], axis=1)
    drawn = values[order][(share < 0.5 - 1e-9).sum(1)]
    low, high = percentile_interval(drawn, draws.count)
    return float(np.median(values)), float(low), float(high)
