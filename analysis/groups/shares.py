"""Shares of groups among images, and how far they are from a target, by hard counts and by probabilities.

    judged = judge_groups(judge, samples, ("plain", "framed"))
    group_shares(judged)                                    # by "hard" counts, and by "soft" means of probabilities
    group_distances(judged, {"plain": 0.5, "framed": 0.5})
    group_distances(judged, judge_groups(judge, training_images, ("plain", "framed")))

A distance of finite counts is above 0 also where nothing differs: what it then is on average stands beside it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy

from scorescope.analysis.groups.judging import JudgedGroups
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units
from scorescope.analysis.statistics.intervals import LEVEL, bounded_mean_interval, share_gap, share_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Target = Mapping[str, float] | JudgedGroups | None
"""Shares by group that are wanted; images whose shares are; or None: the same of every group."""

_COUNTING = Column("counting", str, "", "hard: images by their likeliest group; soft: mean probabilities; soft, "
                   "calibrated: after a `Calibration`")  # fmt: skip
GROUP_SHARES = Schema(
    "group_shares",
    (
        _COUNTING,
        Column("group", str, "", "name"),
        Column("n", int, "", "images"),
        Column("share", float, "1", "share of the images, or mean probability"),
        *ends("1", "exact (Clopper & Pearson); of probabilities by Hall's corrected t"),
    ),
)
GROUP_DISTANCES = Schema(
    "group_distances",
    (
        _COUNTING,
        Column("distance", str, "", "total_variation: half the sum of |share - target|; fairness_discrepancy: root of "
               "the sum of (share - target)^2"),
        Column("n", int, "", "images"),
        Column("target_n", int, "", "images of the target; 0 of one that is given as numbers"),
        Column("value", float, "1", "distance of the shares from the target"),
        *ends("1", "of what it would be without noise: of two groups from the interval of the share, or of the "
              "difference of two (Newcombe), else by the triangle inequality; missing of fewer than 8 probabilities"),
        Column("floor", float, "1", "mean of the value where the target is the truth, with so many images; of "
              "probabilities with the scatter that they have; missing where the interval is"),
    ),
)  # fmt: skip

HARD, SOFT, CALIBRATED = "hard", "soft", "soft, calibrated"
DRAWS, LEAST = 2000, 8  # simulated samples; fewest images whose probabilities have an interval
Norm = Callable[[Floats], Floats]
DISTANCES: dict[str, Norm] = {
    "total_variation": lambda gaps: np.abs(gaps).sum(-1) / 2,
    "fairness_discrepancy": lambda gaps: np.sqrt(np.square(gaps).sum(-1)),
}


@checked
def group_shares(judged: JudgedGroups) -> pd.DataFrame:
    """Share of each group.

    Parameters
    ----------
    judged : JudgedGroups
        Independent images: samples of one seed each, or data.

    Returns
    -------
    DataFrame
        `GROUP_SHARES`: a row a group by hard counts, and one by probabilities where there are any. Probabilities
        that are not calibrated are no estimate of the share: they move with the judge's confidence.
    """
    rows = []
    for counting, values in _values(judged).items():
        for group, column in zip(judged.groups, values.T, strict=True):
            low, high = share_interval(column) if counting == HARD else bounded_mean_interval(column, 0, 1)
            row = {"counting": counting, "group": group, "n": len(column), "share": float(column.mean())}
            rows.append(row | {"low": float(low), "high": float(high)})
    return GROUP_SHARES.check(pd.DataFrame(rows))


@checked
def group_distances(judged: JudgedGroups, target: Target = None, *, seed: int = 0) -> pd.DataFrame:
    """Distance of the shares of groups from a target.

    Parameters
    ----------
    judged : JudgedGroups
        Independent images.
    target : mapping of str to float, JudgedGroups or None
        Shares by group, which sum to 1; judged images of which they are estimated; by default even ones.
    seed : int
        Of what is simulated.

    Returns
    -------
    DataFrame
        `GROUP_DISTANCES`: a row a distance, by hard counts, and by probabilities where both have any.

    Raises
    ------
    InputError
        For a target of other groups, or numbers that are no shares.

    Notes
    -----
    The fairness discrepancy is that of Choi et al. 2020 (arXiv 1910.12008), which DiffLens (arXiv 2503.20483) takes of
    mean probabilities.
    """
    wanted = target if isinstance(target, JudgedGroups) else shares_wanted(judged.groups, target)
    if isinstance(wanted, JudgedGroups) and wanted.groups != judged.groups:
        raise InputError("target", found=str(wanted.groups), expected=f"the groups {judged.groups}")
    if not len(judged) or (isinstance(wanted, JudgedGroups) and not len(wanted)):
        raise InputError("judged, target", found="no images", expected="one or more")
    if isinstance(wanted, JudgedGroups) and wanted.calibrated != judged.calibrated:
        found = f"one that is {'' if wanted.calibrated else 'not '}calibrated beside one that is otherwise"
        raise InputError("target", found=found, expected="both calibrated, or neither")
    others = _values(wanted) if isinstance(wanted, JudgedGroups) else {}
    rows = []
    for counting, values in _values(judged).items():
        if isinstance(wanted, JudgedGroups):
            if counting in others:
                rows += _measured(counting, values, others[counting], seed)
        else:
            rows += _measured(counting, values, wanted, seed)
    return GROUP_DISTANCES.check(pd.DataFrame(rows, columns=GROUP_DISTANCES.names))


def shares_wanted(groups: tuple[str, ...], target: Mapping[str, float] | None) -> Floats:
    """The numbers of a target, in the order of the groups."""
    if target is None:
        return np.full(len(groups), 1 / len(groups))
    found = np.array([target.get(group, np.nan) for group in groups], np.float64)
    if set(target) != set(groups) or not (found >= 0).all() or abs(found.sum() - 1) > 1e-6:
        raise InputError("target", found=str(dict(target)), expected=f"shares of {', '.join(groups)}, sum 1")
    return found


def _values(judged: JudgedGroups) -> dict[str, Floats]:
    """What is averaged, (n, groups), by how it is counted."""
    found = {HARD: judged.members.astype(np.float64)}
    if judged.probabilities is not None:
        found[CALIBRATED if judged.calibrated else SOFT] = judged.probabilities
    return found


def _measured(counting: str, values: Floats, target: Floats, seed: int) -> list[dict[str, Any]]:
    """Rows of all distances; the target is shares (groups,) or what is averaged of its images (n, groups)."""
    of_images = target.ndim == 2
    wanted = target.mean(0) if of_images else target
    gaps, two = values.mean(0) - wanted, len(wanted) == 2 and (counting == HARD or not of_images)
    known = counting == HARD or min(len(values), len(target) if of_images else LEAST) >= LEAST
    errors = _errors(counting, values, target, seed) if known and not (two and counting == HARD) else None
    null = None
    if counting == HARD:
        null = _null_counts(values, target, seed)
    elif known:
        null = _errors(counting, values, target, seed, wide=1.0)
    rows = []
    for distance, norm in DISTANCES.items():
        value = float(norm(gaps))
        low, high, floor = math.nan, math.nan, math.nan if null is None else float(norm(null).mean())
        if known and two:
            low, high = _of_two(_gaps(counting, values[:, 1], target[..., 1]), norm)
        elif errors is not None:
            radius = float(np.quantile(norm(errors), LEVEL))
            low, high = max(0.0, value - radius), min(_farthest(wanted, of_images, norm), value + radius)
        row = {"counting": counting, "distance": distance, "n": len(values)}
        row |= {"target_n": len(target) if of_images else 0}
        rows.append(row | {"value": value, "low": low, "high": high, "floor": floor})
    return rows


def _gaps(counting: str, values: Floats, target: Floats) -> list[float]:
    """Ends of the share of the second of two groups less that of the target."""
    if target.ndim:
        _, low, high = share_gap(values.sum(), len(values), target.sum(), len(target))
        return [float(low), float(high)]
    sides = share_interval(values) if counting == HARD else bounded_mean_interval(values, 0, 1)
    return [float(side - target) for side in sides]


def _of_two(gaps: list[float], norm: Norm) -> tuple[float, float]:
    """Least and largest distance of two shares, where the second differs by something between two gaps."""
    sizes = sorted(float(norm(np.array([-gap, gap]))) for gap in gaps)
    return (0.0 if min(gaps) <= 0 <= max(gaps) else sizes[0]), sizes[1]


def _farthest(wanted: Floats, of_images: bool, norm: Norm) -> float:
    """The largest distance that there is: all images of one group, and none of the target's where that may be."""
    alone = np.eye(len(wanted))
    return float(norm(alone - (alone[0] if of_images else wanted)).max())


def _errors(counting: str, values: Floats, target: Floats, seed: int, wide: float | None = None) -> Floats:
    """Draws of what noise adds to shares less target, (draws, groups); of means by how much wider than it is."""
    rng = np.random.default_rng(seed)
    found = _noise(counting, values, rng, wide)
    return found - _noise(counting, target, rng, wide) if target.ndim == 2 else found


def _noise(counting: str, values: Floats, rng: np.random.Generator, wide: float | None) -> Floats:
    """Draws of estimated less true shares, (draws, groups).

    Counts are drawn from shares that are moved towards even ones, as Agresti & Coull (1998) do: groups that none of a
    few images is of have a share all the same. Means of probabilities are those of a bootstrap, by default as wide as
    Student's t.
    """
    n = len(values)
    if counting == HARD:
        return _counted(n, _smoothed(values.sum(0)), rng)
    draws = draw_units(n, resamples=DRAWS, seed=int(rng.integers(2**31))) @ values / n - values.mean(0)
    wide = scipy.special.stdtrit(n - 1, 0.975) / scipy.special.ndtri(0.975) if wide is None else wide
    found: Floats = draws * wide * math.sqrt(n / (n - 1))
    return found


def _smoothed(counts: Floats) -> Floats:
    """Shares of counts to which z^2 are added, the same to every group."""
    square = float(scipy.special.ndtri((1 + LEVEL) / 2)) ** 2
    found: Floats = (counts + square / len(counts)) / (counts.sum() + square)
    return found


def _null_counts(values: Floats, target: Floats, seed: int) -> Floats:
    """Draws of shares less target, where the truth is the target: of images, both from the shares of all together."""
    rng = np.random.default_rng(seed + 1)
    if target.ndim == 1:
        return _counted(len(values), target, rng)
    pooled = (values.sum(0) + target.sum(0)) / (len(values) + len(target))
    return _counted(len(values), pooled, rng) - _counted(len(target), pooled, rng)


def _counted(n: int, shares: Floats, rng: np.random.Generator) -> Floats:
    return rng.multinomial(n, shares / shares.sum(), size=DRAWS) / n - shares
