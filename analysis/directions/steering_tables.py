"""What a direction does, as tables: dose and response, slopes, effects and ranges, with intervals over seeds.

Everything here works on arrays with the seeds first. Means are taken once for all bootstrap draws, and every
statistic of curves and arms is a function of these means. The tests behind a verdict are in `verdicts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import SeedDraws, interval
from scorescope.analysis.statistics.intervals import bounded_mean_interval, quantile_interval, skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed

WHERE = (
    Column("attribute", str, "", "what the direction is a direction of"),
    Column("method", str, "", "how it was found"),
    Column("site", str, "", "where it acts"),
    Column("sigma_low", float, "data", "it acts at noise levels above this one"),
    Column("sigma_high", float, "data", "and up to this one (at most the first level of the sampler)"),
    Column("log_snr", float, "1", "-2 ln sigma_high: where it begins to act"),
)
_ARM = Column("arm", str, "", "direction, shuffled, random 1 and so on, none (no edit)")

STEER_SAMPLES = Schema(
    "steer_samples",
    (
        *WHERE,
        _ARM,
        Column("strength", float, "SD", "standard deviations of the projection"),
        Column("seed", int, "", "of the sample"),
        Column("score", str, "", "name of the score"),
        Column("value", float, "score", "the score of this sample, in natural SDs where those are given"),
        Column("change", float, "score", "the same less that of the sample without edit"),
        Column("distance", float, "data", "from the sample without edit"),
    ),
)

STEER_CURVE = Schema(
    "steer_curve",
    (
        *WHERE,
        _ARM,
        Column("strength", float, "SD", "standard deviations of the projection"),
        Column("score", str, "", "name of the score"),
        Column("target", bool, "", "whether it is the attribute's; the others should not move"),
        Column("n", int, "", "seeds"),
        Column("value", float, "score", "mean change of the score"),
        *ends("", "over seeds, corrected for skewness"),
        Column("distance", float, "data", "mean distance from the samples without edit"),
    ),
)

STEER_ARMS = Schema(
    "steer_arms",
    (
        *WHERE,
        _ARM,
        Column("quantity", str, "", "see QUANTITIES"),
        Column("n", int, "", "seeds"),
        Column("value", float, "", "unit as in QUANTITIES"),
        *ends(
            "", "over seeds: of means corrected for skewness, of quantiles exact, else bootstrap; none of saturation"
        ),
    ),
)

QUANTITIES = {
    "slope": "change of the target's score per SD of strength, between the strengths next to 0",
    "effect": "target's score at the highest strength within the distance budget of the direction's arm, less that "
    "at the lowest (the same strengths in all arms)",
    "disentanglement": "|effect| / (|effect| + sum of the |effects| on the other scores); 1 is none on them, missing "
    "where there are no others",
    "spearman": "mean over seeds of the rank correlation of score and strength; 0 where the score never changes. Its "
    "interval holds less often where a rare seed has a far lower one",
    "spearman_q10": "its lowest tenth over seeds",
    "spearman_q90": "its highest tenth over seeds",
    "dynamic_range": "highest less lowest mean score of the target within the budget",
    "saturation": "smallest strength beyond which the mean change grows by less than a tenth of its largest value; "
    "missing where that is the end of the grid",
    "distance": "mean distance from the samples without edit, at the two strengths of `effect`",
}


DIRECTION, SHUFFLED, NONE = "direction", "shuffled", "none"
GROWTH = 0.1  # of the largest change: less than that is saturation


@displayed
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


def curve_table(found: Responses) -> pd.DataFrame:
    """Dose and response: mean change of every score by arm and strength."""
    value, (low, high) = found.changes.mean(0), skewed_mean_interval(found.changes)
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
    before, after = max(found.zero - 1, 0), min(found.zero + 1, len(found.strengths) - 1)
    width = found.strengths[after] - found.strengths[before]
    changes, rank = found.changes, spearman(found.values[..., 0], found.strengths)  # (seeds, arms)
    means = draws.means(changes)  # (draws, arms, strengths, scores)
    inside = means[:, :, low : high + 1, 0]
    each = {
        "slope": (changes[:, :, after, 0] - changes[:, :, before, 0]) / width,
        "effect": changes[:, :, high, 0] - changes[:, :, low, 0],
        "distance": found.distances[:, :, [low, high]].mean(2),
    }
    parts = {name: (values.mean(0), *skewed_mean_interval(values)) for name, values in each.items()}
    parts["spearman"] = rank.mean(0), *bounded_mean_interval(rank, -1.0, 1.0)
    for name, level in (("spearman_q10", 0.1), ("spearman_q90", 0.9)):
        parts[name] = _quantile(rank, level), *quantile_interval(rank, level, low=-1.0, high=1.0)
    statistics = {
        "disentanglement": _share(means[:, :, high] - means[:, :, low]),
        "dynamic_range": inside.max(2) - inside.min(2),
        "saturation": _saturation(means[:1, ..., 0], found.strengths),
    }
    parts |= {name: interval(values, draws.count) for name, values in statistics.items()}
    frames = [
        pd.DataFrame({"arm": found.arms, "quantity": name, "value": parts[name][0], "low": parts[name][1],
                      "high": parts[name][2]}) for name in QUANTITIES
    ]  # fmt: skip
    return STEER_ARMS.check(pd.concat(frames, ignore_index=True).assign(n=len(found.values), **found.where))


def spearman(values: Floats, strengths: Floats) -> Floats:
    """Rank correlation with the strength, for values of shape (seeds, arms, strengths); 0 for constant values."""
    ranks = scipy.stats.rankdata(values, axis=2) - (len(strengths) + 1) / 2
    order = scipy.stats.rankdata(strengths) - (len(strengths) + 1) / 2
    norm = np.sqrt((ranks**2).sum(2) * (order**2).sum())
    products: Floats = ranks @ order
    found: Floats = np.divide(products, norm, out=np.zeros_like(products), where=norm > 0)
    return found


def _share(effects: Floats) -> Floats:
    """|target| / sum over scores, for effects of shape (draws, arms, scores); 0 where nothing moves.

    NaN where the target is the only score: all of it is then the target's, whatever else changes.
    """
    sizes = np.abs(effects)
    total = sizes.sum(2)
    if effects.shape[2] == 1:
        return np.full_like(total, np.nan)
    found: Floats = np.divide(sizes[..., 0], total, out=np.zeros_like(total), where=total > 0)
    return found


def _quantile(values: Floats, level: float) -> Floats:
    """A quantile over seeds: the least value that as large a share of them does not exceed."""
    found: Floats = np.sort(values, axis=0)[max(int(np.ceil(level * len(values) - 1e-9)), 1) - 1]
    return found


def _saturation(means: Floats, strengths: Floats) -> Floats:
    """See `QUANTITIES`; on the positive side where there is one. Means of shape (draws, arms, strengths)."""
    side = np.flatnonzero(strengths > 0) if (strengths > 0).any() else np.flatnonzero(strengths < 0)[::-1]
    sizes = np.abs(means[..., side])
    largest = sizes.max(2, keepdims=True)
    first = (sizes >= (1 - GROWTH) * largest).argmax(2)
    found: Floats = np.abs(strengths[side])[first].astype(np.float64)
    found[(first == len(side) - 1) | (largest[..., 0] == 0)] = np.nan
    return found
