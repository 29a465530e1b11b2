"""The gaming audit: how much of a Frechet distance goes away when images are chosen, not improved.

    match = match_histogram(top1_fake, top1_real)             # exact acceptance rates, unreachable mass
    audit = gaming_audit(fake, real, {"classes matched": match}, spare=more_real)
    verdict(audit, "classes matched", other_value=fd_of_another_model)

Every arm is a set of the same number of images, printed with its effective sample size, the real-against-real floor,
and what happens to a second feature space and to KID, precision and recall: a distance that falls alone was gamed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.frechet import distance_value
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.matching import HistogramMatch
from scorescope.analysis.fid.neighbours import neighbour_values
from scorescope.analysis.fid.weights import effective_size
from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.analysis.statistics.intervals import mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import check_features

PLAIN, REAL = "random choice", "other real images"
FEWEST = 10  # images of a set that is measured: the neighbours' metrics look at up to the fifth
FEWEST_KEPT = 20  # images that rejection keeps on average, so that no draw has fewer than `FEWEST`
SCALED_FROM = 2  # images a feature in a half of the real set, from which its distance is taken to fall as 1/n

GAMING_AUDIT = Schema(
    "gaming_audit",
    (
        Column("arm", str, "", "how the images were chosen"),
        Column("metric", str, "", "FD, second FD, KID x 1000, precision or recall"),
        Column("space", str, "", "feature space"),
        Column("value", float, "", "mean over the draws"),
        *ends("", "t over the draws"),
        Column("change", float, "1", "value / that of the random choice - 1; missing where the sizes differ"),
        Column("n", int, "", "images in each draw"),
        Column("n_real", int, "", "reference images"),
        Column("draws", int, "", "draws"),
        Column("effective_size", float, "", "candidates that the weights are worth; all for a random choice"),
        Column("note", str, "", "sizes that a value was measured at where it is scaled, and why something is missing"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class FeaturePair:
    """Features of the same images in the space that is judged and in a second one.

    Attributes
    ----------
    first, second : ndarray, shapes (n, d1) and (n, d2)
        One row an image.
    """

    first: NDArray[np.floating[Any]]
    second: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            object.__setattr__(self, name, check_features(name, getattr(self, name)))
        if len(self.first) != len(self.second):
            found = f"{len(self.first)} and {len(self.second)} rows"
            raise InputError("first, second", found=found, expected="the same images in both spaces")


@checked
def gaming_audit(
    candidates: FeaturePair,
    real: FeaturePair,
    arms: Mapping[str, Floats | HistogramMatch],
    *,
    spare: FeaturePair | None = None,
    spaces: tuple[str, str] = ("first", "second"),
    size: int | None = None,
    draws: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure sets chosen by weights beside a random choice and other real images; see `GAMING_AUDIT`.

    Parameters
    ----------
    candidates : FeaturePair
        Generated images to choose from.
    real : FeaturePair
        The reference.
    arms : mapping of str to HistogramMatch or array of shape (n,)
        How to choose in each arm. A match draws by rejection, no image twice; plain weights, such as those of
        `optimise_weights`, draw with replacement, as the published code does.
    spare : FeaturePair, optional
        Other real images, for the floor. Without them random halves of `real` stand in; their distances are scaled
        by 1/n1 + 1/n2 to the sizes of the arms where a half has twice as many images as features, and `note` says so.
        What does not scale stands at its own `n` and `n_real`, and is compared with nothing.
    spaces : (str, str)
        Names of the two feature spaces.
    size : int, optional
        Images in each draw, the same in every arm; by default half the candidates, but no more than 90 % of what
        rejection is expected to keep, or than the spare images.
    draws : int
        Independent draws of each arm.
    seed : int
        Seed of the draws.

    Returns
    -------
    DataFrame
        Columns declared in `GAMING_AUDIT`, one row an (arm, metric).

    Raises
    ------
    InputError
        For fewer than 10 images in a set, weights that do not fit, and a match of which rejection keeps fewer than 20.

    Notes
    -----
    The floor of random halves is that of independent draws. A reference with as many images of each class varies less,
    and other real images then score less than this floor says: simulated (eight Gaussian classes of six features, 400
    against 120 images) it was 1.08 of their mean distance with classes one standard deviation apart and 1.19 with two,
    where it was 1.03 and 0.98 for an independent reference. Other real images as `spare` have no such fault, and
    `real_floor` has a floor by class.
    """
    if spaces[0] == spaces[1]:
        raise InputError("spaces", found=f"{spaces[0]!r} twice", expected="two feature spaces: none confirms itself")
    count = len(candidates.first)
    _check_counts(candidates, real, spare, size)
    generator = np.random.default_rng(seed)
    size = size or _default_size(count, arms, spare)
    anything = _at_random(np.arange(count), size, generator)
    parts = [_measure(PLAIN, candidates, anything, real, spaces, draws).assign(effective_size=float(count))]
    for arm, how in arms.items():
        weights = how.weights if isinstance(how, HistogramMatch) else np.asarray(how, np.float64)
        _check_arm(arm, how, weights, count)
        choose = (
            _by_rejection(how, size, generator)
            if isinstance(how, HistogramMatch)
            else _by_weight(weights, size, generator)
        )
        rows = _measure(arm, candidates, choose, real, spaces, draws)
        parts.append(rows.assign(effective_size=effective_size(weights)))
    parts.append(_floor(real, spare, spaces, size, draws, generator))
    table = pd.concat(parts, ignore_index=True)
    plain = table[table["arm"] == PLAIN].set_index("metric").loc[table["metric"]].reset_index()
    same = (table["n"] == plain["n"]) & (table["n_real"] == plain["n_real"])
    with np.errstate(divide="ignore", invalid="ignore"):
        table["change"] = (table["value"] / plain["value"] - 1).where(same)
    short = ~same & (table["note"] == "")
    table.loc[short, "note"] = "no change: other numbers of images than the random choice"
    return GAMING_AUDIT.check(table)


def _at_random(rows: Integers, size: int, generator: np.random.Generator) -> Callable[[], Integers]:
    """Some of the rows, none twice."""
    return lambda: generator.choice(rows, min(size, len(rows)), replace=False)


def _by_weight(weights: Floats, size: int, generator: np.random.Generator) -> Callable[[], Integers]:
    """Rows in proportion to weights, with replacement."""
    return lambda: generator.choice(len(weights), size, p=weights / weights.sum())


def _by_rejection(match: HistogramMatch, size: int, generator: np.random.Generator) -> Callable[[], Integers]:
    """What rejection keeps, cut at random to `size`."""

    def choose() -> Integers:
        kept = match.accept(int(generator.integers(2**62)))
        return generator.choice(kept, min(size, len(kept)), replace=False)

    return choose


def _measure(
    arm: str,
    source: FeaturePair,
    choose: Callable[[], Integers],
    real: FeaturePair,
    spaces: tuple[str, str],
    draws: int,
) -> pd.DataFrame:
    """All metrics of one arm over its draws."""
    found: dict[str, list[float]] = {}
    sizes = []
    for _ in range(draws):
        chosen = _pick(source, choose())
        sizes.append(len(chosen.first))
        for metric, value in _metrics(chosen, real).items():
            found.setdefault(metric, []).append(value)
    rows = []
    for metric, values in found.items():
        mean, low, high = mean_interval(np.asarray(values))
        space = spaces[1] if metric == "second FD" else spaces[0]
        rows.append({"arm": arm, "metric": metric, "space": space, "value": mean, "low": low, "high": high})
    return pd.DataFrame(rows).assign(n=min(sizes), n_real=len(real.first), draws=draws, note="")


def _metrics(chosen: FeaturePair, real: FeaturePair) -> dict[str, float]:
    x, y = np.asarray(chosen.first, np.float64), np.asarray(real.first, np.float64)
    near = neighbour_values(x, y)
    return {
        "FD": distance_value(x, y),
        "second FD": distance_value(np.asarray(chosen.second, np.float64), np.asarray(real.second, np.float64)),
        "KID x 1000": 1000 * kid(x, y).value,
        "precision": near["precision"],
        "recall": near["recall"],
    }


def _floor(
    real: FeaturePair, spare: FeaturePair | None, spaces: tuple[str, str], size: int, draws: int,
    generator: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    if spare is not None:
        choose = _at_random(np.arange(len(spare.first)), size, generator)
        return _measure(REAL, spare, choose, real, spaces, draws).assign(effective_size=float(len(spare.first)))
    half = len(real.first) // 2
    parts = []
    for _ in range(draws):
        order = generator.permutation(len(real.first))
        first, second = _pick(real, order[:half]), _pick(real, order[half:])
        parts.append(_measure(REAL, first, lambda: np.arange(half), second, spaces, 1))
    rows = parts[0].drop(columns=["value", "low", "high"]).assign(draws=draws, effective_size=float(half))
    values = np.stack([part["value"].to_numpy(np.float64) for part in parts])
    rows[["value", "low", "high"]] = [mean_interval(column) for column in values.T]
    return _at_sizes(rows, real, size)


def _at_sizes(rows: pd.DataFrame, real: FeaturePair, size: int) -> pd.DataFrame:
    """The rows of halves at the sizes of the arms: distances scaled as their bias is; KID has none and stays."""
    half, n_real = int(rows["n"].iloc[0]), len(real.first)
    rest = n_real - half
    scale = (1 / size + 1 / n_real) / (1 / half + 1 / rest)
    dimensions = {"FD": real.first.shape[1], "second FD": real.second.shape[1]}
    for row, metric in zip(rows.index, rows["metric"], strict=True):
        measured = f"halves of the real set, {half} against {rest}"
        if metric in dimensions and half >= SCALED_FROM * dimensions[metric]:
            rows.loc[row, ["value", "low", "high"]] *= scale
            rows.loc[row, ["n", "n_real", "note"]] = size, n_real, f"scaled by 1/n1 + 1/n2 from {measured}"
        elif metric == "KID x 1000":
            rows.loc[row, ["n", "n_real", "note"]] = size, n_real, f"of {measured}; its mean depends on no size"
        else:
            rows.loc[row, "note"] = f"of {measured}, which no rule scales to other sizes: no change"
    return rows


def _default_size(count: int, arms: Mapping[str, Floats | HistogramMatch], spare: FeaturePair | None) -> int:
    kept = [0.9 * how.rate * count for how in arms.values() if isinstance(how, HistogramMatch)]
    limits = [count / 2, *kept, math.inf if spare is None else len(spare.first)]
    return max(int(min(limits)), 10)


def _check_counts(candidates: FeaturePair, real: FeaturePair, spare: FeaturePair | None, size: int | None) -> None:
    least = FEWEST if spare is not None else 2 * FEWEST  # halves of the real set stand in for spare images
    counts = {"candidates": (len(candidates.first), FEWEST), "real": (len(real.first), least)}
    counts |= {} if spare is None else {"spare": (len(spare.first), FEWEST)}
    counts |= {} if size is None else {"size": (size, FEWEST)}
    for name, (found, wanted) in counts.items():
        if found < wanted:
            raise InputError(name, found=f"{found} images", expected=f"at least {wanted}")


def _check_arm(arm: str, how: Floats | HistogramMatch, weights: Floats, count: int) -> None:
    fine = weights.shape == (count,) and np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0
    if not fine:
        found = f"{arm!r} with shape {weights.shape}"
        raise InputError("arms", found=found, expected=f"{count} weights, not negative, not all zero")
    if isinstance(how, HistogramMatch) and how.rate * count < FEWEST_KEPT:
        found = f"{arm!r}, of which rejection keeps {how.rate * count:.0f} of {count} images"
        expected = f"at least {FEWEST_KEPT}; or its `weights`, which draw with replacement"
        raise InputError("arms", found=found, expected=expected)


def _pick(pair: FeaturePair, rows: NDArray[np.integer[Any]]) -> FeaturePair:
    return FeaturePair(pair.first[rows], pair.second[rows])
