"""From scores by arm, strength and seed to what a direction does: slopes, effects, ranges and the verdict.

Everything here works on arrays with the seeds first. Means are taken once for all bootstrap draws, and every
statistic of curves and arms is a function of these means. The tests behind a verdict are in `steering_verdicts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from scorescope.analysis.directions.steering_tables import STEER_ARMS, STEER_CURVE, STEER_SAMPLES
from scorescope.analysis.directions.steering_verdicts import judge_together, margin_of
from scorescope.analysis.statistics.bootstrap import Floats, SeedDraws, interval

DIRECTION, SHUFFLED, NONE = "direction", "shuffled", "none"
GROWTH = 0.1  # of the largest change: less than that is saturation


@dataclass(frozen=True, eq=False)
class Responses:
    """Scores of one interval of noise levels.

    Attributes
    ----------
    where : dict
        Columns that say which direction, site and interval these are.
    arms : list of str
        The direction first.
    strengths : array, shape (strengths,)
        Rising, with 0.
    scores : list of str
        The target first.
    values : array, shape (seeds, arms, strengths, scores)
        Scores; those at strength 0 are the same in all arms.
    distances : array, shape (seeds, arms, strengths)
        From the sample at strength 0.
    """

    where: dict[str, Any]
    arms: list[str]
    strengths: Floats
    scores: list[str]
    values: Floats
    distances: Floats

    @property
    def zero(self) -> int:
        """Place of strength 0."""
        return int(np.flatnonzero(self.strengths == 0)[0])

    @property
    def changes(self) -> Floats:
        """Scores less those at strength 0."""
        changes: Floats = self.values - self.values[:, :, [self.zero], :]
        return changes

    def within(self, budget: float) -> tuple[int, int, bool]:
        """Places of the lowest and highest strength that the direction reaches within a mean distance."""
        mean = self.distances[:, 0].mean(0)
        low = high = self.zero
        while low > 0 and mean[low - 1] <= budget:
            low -= 1
        while high < len(mean) - 1 and mean[high + 1] <= budget:
            high += 1
        if low < high:
            return low, high, True
        return max(self.zero - 1, 0), min(self.zero + 1, len(mean) - 1), False


def sample_table(found: Responses, seeds: Sequence[int]) -> pd.DataFrame:
    """Every sample's scores, one row a (seed, arm, strength, score)."""
    changes = found.changes
    index = pd.MultiIndex.from_product(
        [seeds, found.arms, found.strengths, found.scores], names=["seed", "arm", "strength", "score"]
    )
    table = index.to_frame(index=False).assign(value=found.values.reshape(-1), change=changes.reshape(-1))
    table["distance"] = np.repeat(found.distances.reshape(-1), len(found.scores))
    keep = (table["arm"] == DIRECTION) | (table["strength"] != 0)  # strength 0 is the arm without edit, once
    table = table[keep].assign(**found.where)
    table.loc[table["strength"] == 0, "arm"] = NONE
    return STEER_SAMPLES.check(table)


def curve_table(found: Responses, draws: SeedDraws) -> pd.DataFrame:
    """Dose and response: mean change of every score by arm and strength."""
    value, low, high = interval(draws.means(found.changes))
    distance = found.distances.mean(0)
    rows = [
        (arm, strength, score, s == 0, value[a, k, s], low[a, k, s], high[a, k, s], distance[a, k])
        for a, arm in enumerate(found.arms)
        for k, strength in enumerate(found.strengths)
        for s, score in enumerate(found.scores)
    ]
    names = ["arm", "strength", "score", "target", "value", "low", "high", "distance"]
    table = pd.DataFrame(rows, columns=names).assign(n=len(found.values), **found.where)
    return STEER_CURVE.check(table)


def arm_table(found: Responses, draws: SeedDraws, budget: float) -> pd.DataFrame:
    """The quantities of `QUANTITIES`, arm by arm."""
    low, high, _ = found.within(budget)
    means = draws.means(found.changes)  # (draws, arms, strengths, scores)
    effects = means[:, :, high] - means[:, :, low]
    before, after = max(found.zero - 1, 0), min(found.zero + 1, len(found.strengths) - 1)
    width = found.strengths[after] - found.strengths[before]
    inside = means[:, :, low : high + 1, 0]
    rank = spearman(found.values[..., 0], found.strengths)  # (seeds, arms)
    quantities = {
        "slope": (means[:, :, after, 0] - means[:, :, before, 0]) / width,
        "effect": effects[..., 0],
        "disentanglement": _share(effects),
        "spearman": draws.means(rank),
        "spearman_q10": _quantiles(rank, draws, 0.1),
        "spearman_q90": _quantiles(rank, draws, 0.9),
        "dynamic_range": inside.max(2) - inside.min(2),
        "saturation": _saturation(means[:1, ..., 0], found.strengths),
        "distance": draws.means(found.distances[:, :, [low, high]].mean(2)),
    }
    frames = []
    for name, statistics in quantities.items():
        value, lower, upper = interval(statistics)
        frames.append(pd.DataFrame({"arm": found.arms, "quantity": name, "value": value, "low": lower, "high": upper}))
    return STEER_ARMS.check(pd.concat(frames, ignore_index=True).assign(n=len(found.values), **found.where))


def verdict_table(found: Responses, draws: SeedDraws, budget: float, *, relevant: float = 0.0) -> pd.DataFrame:
    """Whether the direction moves the target more than its controls, and more than a relevant size, do."""
    low, high, inside = found.within(budget)
    effects = found.changes[:, :, high, 0] - found.changes[:, :, low, 0]  # (seeds, arms)
    margin = margin_of(effects, found.arms, relevant=relevant)
    selectivity = _selectivity(np.abs(draws.means(effects)), found.arms)
    row = {
        **found.where,
        "strength_low": float(found.strengths[low]), "strength_high": float(found.strengths[high]),
        "within_budget": inside, "n": len(found.values),
        "effect": margin.effect, "effect_low": margin.effect_low, "effect_high": margin.effect_high,
        "bar": margin.bar, "relevant": relevant, "margin": margin.value, "low": margin.low, "high": margin.high,
        "random": sum(_is_random(arm) for arm in found.arms), "chance": margin.chance, "p_random": margin.p_random,
        "p": margin.p_moves, "p_not": margin.p_below,
        "selectivity": selectivity[0], "selectivity_low": selectivity[1], "selectivity_high": selectivity[2],
    }  # fmt: skip
    return judge_together(pd.DataFrame([row]))


def _is_random(arm: str) -> bool:
    return arm.startswith("random")


def _selectivity(sizes: Floats, arms: Sequence[str]) -> list[float]:
    """|effect| over the mean |effect| of the random arms with its interval, for sizes of shape (draws, arms)."""
    random = [place for place, arm in enumerate(arms) if _is_random(arm)]
    if not random:
        return [float("nan")] * 3
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sizes[:, 0] / sizes[:, random].mean(1)
    if not np.isfinite(ratio[1:]).any():
        return [float("nan")] * 3
    return [float(v) for v in interval(np.where(np.isfinite(ratio), ratio, np.nan))]


def spearman(values: Floats, strengths: Floats) -> Floats:
    """Rank correlation with the strength, for values of shape (seeds, arms, strengths); 0 for constant values."""
    ranks = rankdata(values, axis=2) - (len(strengths) + 1) / 2
    order = rankdata(strengths) - (len(strengths) + 1) / 2
    norm = np.sqrt((ranks**2).sum(2) * (order**2).sum())
    products: Floats = ranks @ order
    found: Floats = np.divide(products, norm, out=np.zeros_like(products), where=norm > 0)
    return found


def _share(effects: Floats) -> Floats:
    """|target| / sum over scores, for effects of shape (draws, arms, scores); 0 where nothing moves."""
    sizes = np.abs(effects)
    total = sizes.sum(2)
    found: Floats = np.divide(sizes[..., 0], total, out=np.zeros_like(total), where=total > 0)
    return found


def _quantiles(values: Floats, draws: SeedDraws, level: float) -> Floats:
    """A quantile over seeds for every draw: (draws, arms)."""
    order = np.argsort(values, axis=0)
    found = []
    for arm in range(values.shape[1]):
        total = np.cumsum(draws.weights[:, order[:, arm]], axis=1)
        place = (total < level - 1e-9).sum(1).clip(max=len(values) - 1)
        found.append(values[order[:, arm], arm][place])
    return np.stack(found, axis=1)


def _saturation(means: Floats, strengths: Floats) -> Floats:
    """See `QUANTITIES`; on the positive side where there is one. Means of shape (draws, arms, strengths)."""
    side = np.flatnonzero(strengths > 0) if (strengths > 0).any() else np.flatnonzero(strengths < 0)[::-1]
    sizes = np.abs(means[..., side])
    largest = sizes.max(2, keepdims=True)
    first = (sizes >= (1 - GROWTH) * largest).argmax(2)
    found: Floats = np.abs(strengths[side])[first].astype(np.float64)
    found[(first == len(side) - 1) | (largest[..., 0] == 0)] = np.nan
    return found
