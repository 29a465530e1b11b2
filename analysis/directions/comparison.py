"""Readers set against movers: which direction tells an attribute best, and which changes it and nothing else.

    compare_directions([difference, lda], held_out, labels, effect=steering_effect(denoiser, scores, seeds=range(32)))

All directions are read on the same rows and moved on the same seeds, so that two are told apart by the draws of their
difference. Random directions are moved along, and with those that were found from labels what the same recipe finds
from shuffled ones: a direction is no mover if it does no more than these do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.directions.direction_fits import METHODS
from scorescope.analysis.directions.finding import checked_rows, degrees, number
from scorescope.analysis.directions.verdicts import ERROR, against_draws
from scorescope.analysis.statistics.arrays import Bools, Floats, Integers, finite_numbers
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, SeedDraws, percentile_interval
from scorescope.analysis.statistics.intervals import with_width
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.control_directions import random_directions
from scorescope.probes.sites.direction import Direction

DirectionEffect = Callable[[Direction], Mapping[str, Tensor]]
"""What one unit of strength changes: by score, one number a seed; the target's score bears the attribute's name."""


READERS = Schema(
    "readers_and_movers",
    (
        Column("attribute", str, "", "attribute"),
        Column("site", str, "", "site"),
        Column("sigma", float, "data", "noise level where it was found"),
        Column("method", str, "", "how it was found; random <k> is a control of the largest scale among the others"),
        Column("control", bool, "", "whether it is a random direction, which is never the best"),
        Column("n", int, "", "rows read"),
        Column("auc", float, "1", "chance that a positive row projects higher than a negative one; ties count half"),
        *ends("1", "bootstrap over rows within the classes; Wilson's where all draws agree", of="auc"),
        Column("accuracy", float, "1", "balanced accuracy of the projection, cut midway between the class means"),
        Column("seeds", int, "", "seeds moved"),
        Column("effect", float, "1", "mean change of the target's score a unit of strength"),
        *ends("1", "bootstrap over seeds", of="effect"),
        Column(
            "off_target",
            float,
            "1",
            "root of the sum of squares of the other scores' mean changes; missing without others",
        ),
        Column("purity", float, "1", "|effect| / (|effect| + off_target); missing where no other score is judged"),
        *ends("1", "bootstrap over seeds", of="purity"),
        Column("reads_best", bool, "", "highest auc, or not told apart from it: the difference's interval holds 0"),
        Column("p_random", float, "1", "that a random direction does as much: t, one degree an arm, one-sided"),
        Column("p_shuffled", float, "1", "the same of directions of shuffled labels; missing without them"),
        Column("untested", str, "", "why `moves` cannot be shown; empty where it can"),
        Column(
            "moves",
            bool,
            "",
            "the intervals of effect, and of effect less any random one's size, are above 0, and "
            "p_random and p_shuffled at most 0.05, for this row alone",
        ),
        Column(
            "moves_best",
            bool,
            "",
            "highest purity (effect, where purity is missing) among those that move, or not told apart from it",
        ),
        Column("degrees_to_mover", float, "degrees", "angle to the first of those; missing without one"),
    ),
)


@checked
def compare_directions(
    directions: Sequence[Direction],
    values: Tensor,
    labels: ArrayLike,
    *,
    effect: DirectionEffect,
    random: int = 8,
    shuffled: Sequence[Sequence[Direction]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which direction reads best, which moves best, and the angle between them.

    Parameters
    ----------
    directions : sequence of Direction
        Of one attribute at one site.
    values : Tensor, shape (row, d)
        Held-out activations: not those that the directions were found on.
    labels : array, shape (row,)
        Two classes; the larger is positive.
    effect : callable
        (direction) -> {score: (seed,) change a unit of strength}; one score bears the attribute's name. Measured by
        steering, on the same seeds for all, at least 8.
    random : int
        Random directions that are read and moved as well, at least one; the effect has to be 2.9 times their root mean
        square for 2 of them, 1.9 times for 8.
    shuffled : sequence of sequences of Direction, optional
        For each direction what its recipe finds from shuffled labels (`shuffled_directions`); empty for one that was
        not found from labels. Moved, not read. Without them no direction that was found from labels is said to move.
    resamples, seed : int
        Of the bootstrap, over rows for reading and over seeds for moving, the same draws for all directions; the seed
        also draws the random directions.

    Returns
    -------
    DataFrame
        Columns declared in `READERS`, one row a direction, the random ones last. Intervals are percentiles of the
        draws (see `tails`), not corrected for the number of directions.

    Raises
    ------
    InputError
        For directions of another size, of several attributes or sites, labels that are not of two classes, no random
        direction, and effects that lack the attribute's score, are of fewer than 8 seeds, not one finite number a
        seed, or of other scores or seeds from one direction to the next.
    """
    values, y = checked_rows(values, labels)
    positive = (y == y.max()).numpy()
    _check(directions, len(np.unique(y.numpy())), random)
    laws = [()] * len(directions) if shuffled is None else [tuple(law) for law in shuffled]
    if len(laws) != len(directions):
        raise InputError("shuffled", found=f"{len(laws)} sequences", expected=f"{len(directions)}, one a direction")
    widest = max(directions, key=lambda direction: direction.scale)
    controls = random_directions(widest, random, seed=seed)
    every = [*directions, *(replace(way, method=f"random {k + 1}") for k, way in enumerate(controls))]
    control = np.arange(len(every)) >= len(directions)
    projected = np.stack([_projected(direction, values) for direction in every])
    aucs = _auc_draws(projected, positive, resamples, seed)
    effects, off, seeds = _effect_draws(every, effect, resamples, seed)
    tests = _tests(directions, effects[0], laws, effect)
    size = np.abs(effects) + off
    purity = np.divide(np.abs(effects), size, out=np.zeros_like(size), where=size != 0)
    ranked = effects if np.isnan(purity).all() else purity
    beyond = effects - np.abs(effects[:, control]).max(1, keepdims=True)
    shown = (tests["p_random"] <= ERROR) & ~(tests["p_shuffled"] > ERROR) & (tests["untested"] == "")
    moves = ~control & shown.to_numpy() & (_low(effects, seeds) > 0) & (_low(beyond, seeds) > 0)
    mover = int(np.where(moves, ranked[0], -1).argmax()) if moves.any() else None
    angles = [np.nan if mover is None else degrees(direction, every[mover]) for direction in every]
    table = pd.DataFrame(
        [
            _named(direction) | {"accuracy": _accuracy(p, positive)}
            for direction, p in zip(every, projected, strict=True)
        ]
    )
    return READERS.check(
        table.assign(
            control=control, n=len(values), **_area_ends(aucs, positive), seeds=seeds,
            **_with_ends("effect", effects, seeds), off_target=off[0], **_with_ends("purity", purity, seeds), **tests,
            reads_best=_best(aucs, ~control, _rarer(positive)), moves=moves, moves_best=_best(ranked, moves, seeds),
            degrees_to_mover=angles,
        )
    )  # fmt: skip


def _tests(
    directions: Sequence[Direction], effects: Floats, laws: Sequence[Sequence[Direction]], effect: DirectionEffect
) -> pd.DataFrame:
    """Each effect against the laws of random directions and of shuffled labels, one-sided; controls have no test."""
    table = pd.DataFrame({"p_random": np.nan, "p_shuffled": np.nan, "untested": ""}, index=range(len(effects)))
    table.loc[len(directions) :, "untested"] = "a control"
    for k, (direction, law) in enumerate(zip(directions, laws, strict=True)):
        found = np.array([_changes(direction, effect(way))[direction.attribute].mean() for way in law])
        table.loc[k, "p_random"] = _forwards(effects[k], effects[len(directions) :])
        table.loc[k, "p_shuffled"] = _forwards(effects[k], found)
        if direction.method in METHODS and not law:
            table.loc[k, "untested"] = "found from labels, without the law of shuffled ones (shuffled=)"
    return table


def _forwards(effect: float, draws: Floats) -> float:
    """The chance of a draw as large as a positive effect; 1 for a negative one."""
    p = against_draws(effect, draws)[1] / 2
    return p if effect > 0 else 1 - p


def _check(directions: Sequence[Direction], classes: int, random: int) -> None:
    kinds = {(direction.attribute, direction.site) for direction in directions}
    if len(kinds) != 1:
        raise InputError("directions", found=f"of {sorted(kinds)}", expected="at least one, of one attribute and site")
    if classes != 2:
        raise InputError("labels", found=f"{classes} values", expected="two classes, to read")
    if random < 1:
        raise InputError("random", found=str(random), expected="at least one random direction to compare with")


def _projected(direction: Direction, values: Tensor) -> Floats:
    direction.check_width(values.shape[1])
    return np.asarray((values @ direction.unit.to(values)).numpy(), np.float64)


def _accuracy(projected: Floats, positive: Bools) -> float:
    above, below = projected[positive], projected[~positive]
    cut = (above.mean() + below.mean()) / 2
    return float(((above > cut).mean() + (below <= cut).mean()) / 2)


def _auc_draws(projected: Floats, positive: Bools, resamples: int, seed: int) -> Floats:
    """Areas (1 + resamples, direction): of the rows themselves, then of draws within each class."""
    sides = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    orders = [_Ordered.of(row, positive) for row in projected]
    rng = np.random.default_rng(seed)
    found = [[order.auc(np.ones(len(positive))) for order in orders]]
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(side, len(side)) for side in sides])
        weights = np.bincount(drawn, minlength=len(positive)).astype(np.float64)
        found.append([order.auc(weights) for order in orders])
    return np.asarray(found)


@dataclass(frozen=True, eq=False)
class _Ordered:
    """Rows in the order of their projection, and where each different value begins."""

    rows: Integers
    positive: Bools
    starts: Integers

    @classmethod
    def of(cls, projected: Floats, positive: Bools) -> "_Ordered":
        rows = projected.argsort()
        starts = np.flatnonzero(np.diff(projected[rows], prepend=-np.inf))
        return cls(rows, positive[rows], starts)

    def auc(self, weights: Floats) -> float:
        """The area under the curve of weighted rows; a tie counts half."""
        ordered = weights[self.rows]
        above = np.add.reduceat(ordered * self.positive, self.starts)
        below = np.add.reduceat(ordered * ~self.positive, self.starts)
        return float(above @ (below.cumsum() - below / 2) / (above.sum() * below.sum()))


def _effect_draws(
    directions: Sequence[Direction], effect: DirectionEffect, resamples: int, seed: int
) -> tuple[Floats, Floats, int]:
    """Mean effects on the target and off it, each (1 + resamples, direction), and the number of seeds.

    Off it they are NaN where the target is the only score.
    """
    found: list[dict[str, Floats]] = []
    for direction in directions:
        found.append(_changes(direction, effect(direction)))
        if len({len(value) for part in (found[0], found[-1]) for value in part.values()}) > 1:
            raise InputError("effect", found="different numbers of seeds", expected="the same seeds for all directions")
    names, count = list(found[0]), len(found[0][directions[0].attribute])
    if count < LEAST_SEEDS or any(set(part) != set(names) for part in found):
        text = f"{count} seeds, scores {sorted({name for part in found for name in part})}"
        raise InputError("effect", found=text, expected=f"at least {LEAST_SEEDS} seeds, and the same scores for all")
    changes = np.stack([np.stack([part[name] for name in names]) for part in found])  # (direction, score, seed)
    means = SeedDraws.of(count, resamples=resamples, seed=seed).means(np.moveaxis(changes, 2, 0))
    target = names.index(directions[0].attribute)
    others = np.delete(means, target, axis=2) if len(names) > 1 else np.full_like(means, np.nan)
    return means[:, :, target], np.linalg.norm(others, axis=2), count


def _changes(direction: Direction, found: Mapping[str, Tensor]) -> dict[str, Floats]:
    if direction.attribute not in found:
        expected = f"the score of {direction.attribute!r} among them"
        raise InputError("effect", found=f"scores {sorted(found)}", expected=expected)
    return {name: finite_numbers(f"effect on {name!r}", value) for name, value in found.items()}


def _low(draws: Floats, count: int) -> Floats:
    return percentile_interval(draws[1:], count)[0]


def _with_ends(name: str, draws: Floats, count: int) -> dict[str, Floats]:
    low, high = percentile_interval(draws[1:], count)
    return {name: draws[0], f"{name}_low": low, f"{name}_high": high}


def _area_ends(draws: Floats, positive: Bools) -> dict[str, Floats]:
    """Areas with their intervals; where all draws agree, Wilson's for as many pairs as the rarer class has rows."""
    pairs = _rarer(positive)
    found = _with_ends("auc", draws, pairs)
    low, high = with_width(draws[0], found["auc_low"], found["auc_high"], pairs)
    return found | {"auc_low": low, "auc_high": high}


def _rarer(positive: Bools) -> int:
    """Rows of the rarer class."""
    return int(min(positive.sum(), (~positive).sum()))


def _best(draws: Floats, among: Bools, count: int) -> Bools:
    """The highest of some columns, and those of them that it is not told apart from."""
    if not among.any():
        return among
    best = int(np.where(among, draws[0], -np.inf).argmax())
    return among & ~(_low(draws[:, [best]] - draws, count) > 0)


def _named(direction: Direction) -> dict[str, object]:
    return {
        "attribute": direction.attribute, "site": direction.site, "sigma": number(direction.sigma),
        "method": direction.method,
    }  # fmt: skip
