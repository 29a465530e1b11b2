"""Curves along sampling, the noise levels where they cross a threshold, and the gaps between these landmarks.

A curve is a share of seeds at each point, in every bootstrap draw: (draw, point), over log-SNR from the start of
sampling to its end. A rise that never comes is at plus infinity, a curve that was never high fell at minus infinity.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.arrays import Bools, Floats
from scorescope.analysis.statistics.bootstrap import tails
from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.errors import InputError

EMERGENCE_CURVES = Schema(
    "emergence_curves",
    (
        Column("attribute", str, "", "attribute"),
        Column("curve", str, "", "probe, agreement, estimate or switch"),
        Column("site", str, "", "where the probe reads; empty for other curves"),
        Column("step", int, "", "step of sampling"),
        Column("sigma", float, "data", "noise level; of a switch the highest under the other condition"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("n", int, "", "seeds"),
        Column("value", float, "1", "balanced accuracy; for switch the share of seeds that follow the other condition"),
        *ends("1", "Wilson, over seeds; of balanced accuracy from those of both classes"),
        Column("chance", float, "1", "1/2; 0 for switch"),
    ),
)
LANDMARKS = Schema(
    "landmarks",
    (
        Column("attribute", str, "", "attribute"),
        Column(
            "landmark", str, "", "readable_from, visible_from, committed_at or steerable_until; or of `shares_along`"
        ),
        Column("curve", str, "", "curve that it is of"),
        Column("threshold", float, "1", "value of the curve that it is the place of"),
        Column("n", int, "", "seeds"),
        Column("sigma", float, "data", "noise level; missing where it is not reached"),
        Column(
            "log_snr", float, "1", "last crossing; infinite where not reached, minus infinite where never steerable"
        ),
        Column(
            "low",
            float,
            "1",
            "low end of log_snr over all bootstrap draws of seeds, those not reached too; see `tails`",
        ),
        Column("high", float, "1", "high end; infinite where more draws than lie beyond an end do not reach it"),
        Column("reached", float, "1", "share of draws in which it is reached"),
    ),
)
GAPS = Schema(
    "landmark_gaps",
    (
        Column("attribute", str, "", "attribute"),
        Column("earlier", str, "", "landmark that is subtracted"),
        Column("later", str, "", "landmark that it is subtracted from"),
        Column("n", int, "", "seeds"),
        Column("gap", float, "1", "difference in log-SNR: positive where `earlier` comes first; missing if undefined"),
        Column(
            "low", float, "1", "low end over the draws of both together in which one of them is reached; see `tails`"
        ),
        Column("high", float, "1", "high end; below 0.95 `defined`, both are of a part of the draws only"),
        Column("defined", float, "1", "share of draws in which both are reached"),
    ),
)
ORDER = ("readable_from", "visible_from", "steerable_until", "committed_at")
"""Landmarks, in the order in which gaps between them are taken."""


@displayed
@dataclass(frozen=True, eq=False)
class Shares:
    """What a curve is made of: at each point, the mean over its groups of the share of right seeds.

    Attributes
    ----------
    name : str
        Of the curve.
    groups : list of (array (point, seed), array (seed,))
        Which seeds are right, and which belong to the group. For balanced accuracy the groups are the two classes.
    steps : list of int
        Step of each point.
    """

    name: str
    groups: list[tuple[Bools, Bools]]
    steps: list[int]

    @classmethod
    def balanced(cls, name: str, predicted: Bools, truth: Bools, steps: list[int]) -> "Shares":
        """Balanced accuracy of (point, seed) against (seed,): the mean of both classes' shares."""
        return cls(name, [(predicted == truth, truth == label) for label in (False, True)], steps)

    def ends(self) -> tuple[Floats, Floats]:
        """95 % intervals of the values, (point,): Wilson's of the groups, by the squares of their arms (Newcombe)."""
        arms = []
        for right, member in self.groups:
            share, low, high = wilson((right & member).sum(1), int(member.sum()))
            arms.append((share, share - low, high - share))
        value, below, above = (np.asarray(part) for part in zip(*arms, strict=True))
        low, high = (np.sqrt((part**2).sum(0)) / len(arms) for part in (below, above))
        return value.mean(0) - low, value.mean(0) + high

    def draws(self, weights: Floats) -> Floats:
        """Values (draw, point) for weights (draw, seed)."""
        parts = [
            weights @ (right & member).T.astype(np.float64) / (weights @ member)[:, None]
            for right, member in self.groups
        ]
        return np.asarray(np.mean(parts, axis=0), np.float64)


def draw_seeds(shares: Sequence[Shares], count: int, *, resamples: int, seed: int) -> Floats:
    """Weights (1 + resamples, seed): the sample itself, then bootstrap draws, each with a seed of every group.

    Draws that lack a group are drawn again: without a class there is no balanced accuracy. With at least four seeds
    in each group that is fewer than one draw in fifty a group.
    """
    if resamples < 1:
        raise InputError("resamples", found=str(resamples), expected="at least 1")
    members = np.stack([member for part in shares for _, member in part.groups]).astype(np.float64)
    rng = np.random.default_rng(seed)
    kept = np.ones((1, count))
    while len(kept) <= resamples:
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
        kept = np.concatenate([kept, drawn[(drawn @ members.T > 0).all(1)]])
    return kept[: resamples + 1]


def first_rise(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve first reaches the threshold."""
    return np.asarray([_rise(log_snr, curve, _first(curve >= threshold), threshold) for curve in curves])


def last_rise(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve reaches the threshold for good."""
    found = []
    for curve in curves:
        below = np.flatnonzero(~(curve >= threshold))
        found.append(_rise(log_snr, curve, int(below[-1]) + 1 if len(below) else 0, threshold))
    return np.asarray(found)


def last_fall(log_snr: Floats, curves: Floats, threshold: float) -> Floats:
    """Where each curve is last at the threshold or above it: the last point, where it never falls."""
    return -first_rise(-log_snr[::-1], curves[:, ::-1], threshold)


def _first(reached: Bools) -> int:
    return int(np.argmax(reached)) if reached.any() else len(reached)


def _rise(log_snr: Floats, curve: Floats, index: int, threshold: float) -> float:
    """The place between the points `index - 1` and `index` where the line through them meets the threshold."""
    if index == len(curve):
        return float("inf")
    if index == 0 or not np.isfinite(curve[index - 1]):
        return float(log_snr[index])
    share = (threshold - curve[index - 1]) / (curve[index] - curve[index - 1])
    return float(log_snr[index - 1] + share * (log_snr[index] - log_snr[index - 1]))


@displayed
@dataclass(frozen=True, eq=False)
class Curve:
    """Values of a curve in every bootstrap draw, (draw, point), the first being the sample itself, and their ends."""

    name: str
    draws: Floats
    ends: tuple[Floats, Floats]
    steps: list[int]
    count: int

    @classmethod
    def of(cls, shares: Shares, weights: Floats) -> "Curve":
        """In draws of these weights, (draw, seed)."""
        count = int(np.any([member for _, member in shares.groups], axis=0).sum())
        return cls(shares.name, shares.draws(weights), shares.ends(), shares.steps, count)


def _quantiles(values: Floats, count: int) -> tuple[float, float]:
    """Ends of an interval over `count` seeds, of draws that may be infinite: order statistics, outwards."""
    low, high = tails(count)
    return float(np.quantile(values, low, method="lower")), float(np.quantile(values, high, method="higher"))


def emergence_table(attribute: str, site: str, curves: Sequence[Curve], levels: Sequence[float]) -> pd.DataFrame:
    """Curves with intervals over seeds; columns declared in `EMERGENCE_CURVES`."""
    rows = []
    for curve in curves:
        low, high = curve.ends
        for point, step in enumerate(curve.steps):
            rows.append({
                "attribute": attribute, "curve": curve.name, "site": site if curve.name == "probe" else "",
                "step": step, "sigma": levels[step], "log_snr": -2 * math.log(levels[step]), "n": curve.count,
                "value": curve.draws[0, point], "low": low[point], "high": high[point],
                "chance": 0.0 if curve.name == "switch" else 0.5,
            })  # fmt: skip
    return EMERGENCE_CURVES.check(pd.DataFrame(rows))


Places = Mapping[str, tuple[Curve, float, Floats]]
"""By landmark: its curve, its threshold, and its log-SNR in every draw."""


def landmark_table(attribute: str, found: Places) -> pd.DataFrame:
    """Landmarks with intervals; columns declared in `LANDMARKS`."""
    rows = []
    for landmark, (curve, threshold, places) in found.items():
        low, high = _quantiles(places[1:], curve.count)
        finite = math.isfinite(places[0])
        rows.append({
            "attribute": attribute, "landmark": landmark, "curve": curve.name, "threshold": threshold,
            "n": curve.count, "sigma": math.exp(-places[0] / 2) if finite else math.nan, "log_snr": float(places[0]),
            "low": low, "high": high, "reached": float(np.isfinite(places[1:]).mean()),
        })  # fmt: skip
    return LANDMARKS.check(pd.DataFrame(rows))


def gap_table(attribute: str, found: Places) -> pd.DataFrame:
    """Differences between landmarks, draw by draw; columns declared in `GAPS`."""
    rows = []
    for earlier, later in itertools.combinations([name for name in ORDER if name in found], 2):
        with np.errstate(invalid="ignore"):
            gaps = found[later][2] - found[earlier][2]
        defined = ~np.isnan(gaps[1:])
        count = min(found[earlier][0].count, found[later][0].count)
        low, high = _quantiles(gaps[1:][defined], count) if defined.any() else (math.nan, math.nan)
        rows.append({
            "attribute": attribute, "earlier": earlier, "later": later, "n": count, "gap": float(gaps[0]),
            "low": low, "high": high, "defined": float(np.isfinite(gaps[1:]).mean()),
        })  # fmt: skip
    columns = GAPS.names
    return GAPS.check(pd.DataFrame(rows, columns=columns)) if rows else pd.DataFrame(columns=columns)
