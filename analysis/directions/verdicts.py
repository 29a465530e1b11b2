"""Whether a direction moves its target: tests against the controls, over seeds and over random directions.

Up to three null hypotheses are tested, and "steerable" needs all to be refused, so that its error rate is at most that
of one test, whichever of them holds:

- The direction acts as a random one of the same norm. The effect of a random direction is linear in the direction to
  first order, so that over directions it is close to normal with mean 0, and |effect| over the root mean square effect
  of K random arms follows Student's t with K degrees of freedom. Seeds are the same in all arms: that holds for the
  mean over any number of them, and more seeds do not make up for few directions. In a few dimensions, random
  directions resemble every direction, and little can be shown.
- Where the direction was found from labels: the labels mean nothing. Directions found the same way from K shuffled
  labels, each as long as it was found, are then draws of the same law; a sum over images is close to normal, so that
  Student's t with K degrees of freedom holds from one on, where ranks would need 19 to reach 0.05 at all.
- The direction moves the mean over seeds no further than a control arm does, or no further than what is relevant.
  Student's t over seeds, n - 1 degrees of freedom, paired by seed, against every one of these bars.

A direction that was chosen from several, by what they read or by their effects, is the largest of so many draws: the
first two p-values are multiplied by their number (Bonferroni), whatever the choice was made by.

"not steerable" is a test of its own: some bar lies above the effect. What neither test shows is undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy

from scorescope.analysis.directions.direction_fits import METHODS
from scorescope.analysis.directions.steering_tables import SHUFFLED, WHERE, Responses
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import SeedDraws, interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Correction = Literal["holm", "fdr"]

RELEVANT = "relevant size"
ERROR = 0.05


STEER_VERDICTS = Schema(
    "steer_verdicts",
    (
        *WHERE,
        Column("strength_low", float, "SD", "lowest strength within the distance budget"),
        Column("strength_high", float, "SD", "highest"),
        Column("within_budget", bool, "", "False where even the strengths next to 0 exceed the budget"),
        Column("n", int, "", "seeds"),
        Column("effect", float, "score", "of the direction, from strength_low to strength_high; mean over seeds"),
        *ends("score", "Student's t over seeds", of="effect"),
        Column("relevant", float, "score", "smallest |effect| that counts; 0 leaves it to the controls"),
        Column("bar", str, "", "the highest bar: the control arm with the largest |effect|, or the relevant size"),
        Column("margin", float, "score", "|effect| less the highest bar; controls have the norm of the direction"),
        Column("low", float, "score", "lower end of the margin's 95 % interval over seeds, for this row alone"),
        Column("high", float, "score", "upper end; its level is divided by the number of bars (Bonferroni)"),
        Column("random", int, "", "random arms"),
        Column("chance", float, "score", "root mean square effect of the random arms; missing without one"),
        Column(
            "p_random", float, "1", "that a random direction does as much: Student's t, `random` degrees of freedom"
        ),
        Column("shuffled", int, "", "arms of shuffled labels that show their law"),
        Column("chance_shuffled", float, "score", "root mean square effect of these; missing without one"),
        Column("p_shuffled", float, "1", "that labels without meaning do as much: t, `shuffled` degrees of freedom"),
        Column("chosen_from", int, "", "directions that this one was chosen from; 1 where there was no choice"),
        Column(
            "p",
            float,
            "1",
            "of 'moves no more than a control': largest of chosen_from times p_random and p_shuffled, and of low <= 0",
        ),
        Column("untested", str, "", "why p is missing; empty where it is not"),
        Column("p_not", float, "1", "of 'moves more than every bar', the null of 'not steerable': that of high >= 0"),
        Column("p_adjusted", float, "1", "p, corrected over the family"),
        Column("p_not_adjusted", float, "1", "p_not, corrected over the family"),
        Column("family", int, "", "rows that are judged together; both p are corrected for their number"),
        Column("correction", str, "", "by which: holm (any error in the family) or fdr (share of wrong finds)"),
        Column("selectivity", float, "1", "|effect| over the mean |effect| of the random arms; missing without one"),
        *ends("1", "bootstrap over seeds", of="selectivity"),
        Column(
            "verdict",
            str,
            "",
            "steerable: p_adjusted <= 0.05; reversed: so, but it moves backwards; not steerable: p_not_adjusted <= "
            "0.05, a bar lies above the effect; undecided: neither is shown",
        ),
    ),
)


@dataclass(frozen=True)
class Margin:
    """|effect| of a direction less the highest of its bars.

    Attributes
    ----------
    effect, effect_low, effect_high : float
        Mean over seeds and its interval.
    bar : str
        The highest one: an arm, or "relevant size".
    value, low, high : float
        The margin and its interval over seeds.
    chance : float
        Root mean square effect of the random arms; NaN without one.
    p_random : float
        That a random direction has an effect as large; NaN without random arms.
    chance_shuffled, p_shuffled : float
        The same of the arms "shuffled 1" and so on: directions of labels without meaning; NaN without such arms.
    p_above, p_below : float
        Two-sided p-values of margin <= 0 and of margin >= 0, over seeds.
    chosen_from : int
        Directions that this one was chosen from.
    """

    effect: float
    effect_low: float
    effect_high: float
    bar: str
    value: float
    low: float
    high: float
    chance: float
    p_random: float
    chance_shuffled: float
    p_shuffled: float
    p_above: float
    p_below: float
    chosen_from: int = 1

    @property
    def p_moves(self) -> float:
        """p-value of all nulls of "steerable" together; NaN without random arms."""
        drawn = np.minimum(1.0, self.chosen_from * np.array([self.p_random, self.p_shuffled]))
        return float(np.maximum(drawn[0], np.fmax(self.p_above, drawn[1])))


def verdict_table(
    found: Responses, draws: SeedDraws, budget: float, *, relevant: float = 0.0, chosen_from: int = 1
) -> pd.DataFrame:
    """Whether the direction moves the target more than its controls, and more than a relevant size, do."""
    low, high, inside = found.within(budget)
    effects = found.changes[:, :, high, 0] - found.changes[:, :, low, 0]  # (seeds, arms)
    margin = margin_of(effects, found.arms, relevant=relevant, chosen_from=chosen_from)
    selectivity = _selectivity(np.abs(draws.means(effects)), found.arms, draws.count)
    untested = _untested(str(found.where["method"]), found.arms)
    row = {
        **found.where,
        "strength_low": float(found.strengths[low]), "strength_high": float(found.strengths[high]),
        "within_budget": inside, "n": len(found.values),
        "effect": margin.effect, "effect_low": margin.effect_low, "effect_high": margin.effect_high,
        "bar": margin.bar, "relevant": relevant, "margin": margin.value, "low": margin.low, "high": margin.high,
        "random": sum(_is_random(arm) for arm in found.arms), "chance": margin.chance, "p_random": margin.p_random,
        "shuffled": sum(_shows_labels(arm) for arm in found.arms), "chance_shuffled": margin.chance_shuffled,
        "p_shuffled": margin.p_shuffled, "chosen_from": chosen_from,
        "p": float("nan") if untested else margin.p_moves, "untested": untested,
        "p_not": margin.p_below,
        "selectivity": selectivity[0], "selectivity_low": selectivity[1], "selectivity_high": selectivity[2],
    }  # fmt: skip
    return judge_together(pd.DataFrame([row]))


def _is_random(arm: str) -> bool:
    return arm.startswith("random")


def _shows_labels(arm: str) -> bool:
    """Whether an arm is a draw of the law of shuffled labels: numbered, where a control to outdo is not."""
    return arm.startswith(f"{SHUFFLED} ")


def _untested(method: str, arms: Sequence[str]) -> str:
    """Why it cannot be said that a direction moves, if so."""
    if not any(map(_is_random, arms)):
        return "no random arm (random=)"
    if method in METHODS and not any(map(_shows_labels, arms)):
        return "found from labels, without the law of shuffled ones (shuffled=shuffled_directions(...))"
    return ""


def _selectivity(sizes: Floats, arms: Sequence[str], count: int) -> list[float]:
    """|effect| over the mean |effect| of the random arms with its interval over `count` seeds; (draws, arms)."""
    random = [place for place, arm in enumerate(arms) if _is_random(arm)]
    if not random:
        return [float("nan")] * 3
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = sizes[:, 0] / sizes[:, random].mean(1)
    if not np.isfinite(ratio[1:]).any():
        return [float("nan")] * 3
    return [float(v) for v in interval(np.where(np.isfinite(ratio), ratio, np.nan), count)]


def margin_of(effects: Floats, arms: Sequence[str], *, relevant: float = 0.0, chosen_from: int = 1) -> Margin:
    """Compare the direction's effect with its bars.

    Parameters
    ----------
    effects : array, shape (seeds, arms)
        Effects on the target, the direction's first.
    arms : sequence of str
        Names; random arms begin with "random", and "shuffled 1" and so on show the law of labels without meaning: they
        are no bars, as they may hold the direction itself.
    relevant : float
        Smallest |effect| that counts, in units of the effects; 0 leaves it to the controls.
    chosen_from : int
        Directions that this one was chosen from.
    """
    direction, controls = effects[:, 0], effects[:, 1:]
    means = effects.mean(0)
    toward = _sign(means[0]) * direction
    bars = {
        name: _sign(means[1 + k]) * controls[:, k] for k, name in enumerate(arms[1:]) if not _shows_labels(name)
    }  # fmt: skip
    if relevant > 0 or not bars:
        bars[RELEVANT] = np.full(len(effects), relevant)
    # |a| > |b| if and only if the one exceeds both the other and its negative
    above = _t_tests(np.stack([toward + s * bar for bar in bars.values() for s in (1, -1)]))
    below = [_t_tests(np.stack([bar - direction, bar + direction])) for bar in bars.values()]
    own = _t_tests(direction[None])
    chance, p_random = against_draws(float(means[0]), means[[_is_random(name) for name in arms]])
    chance_shuffled, p_shuffled = against_draws(float(means[0]), means[[_shows_labels(name) for name in arms]])
    heights = {name: float(bar.mean()) for name, bar in bars.items()}
    highest = max(heights, key=lambda name: heights[name])
    return Margin(
        effect=float(means[0]), effect_low=own.low(ERROR), effect_high=own.high(ERROR), bar=highest,
        value=abs(float(means[0])) - heights[highest],
        low=above.low(ERROR), high=min(-found.low(ERROR / len(bars)) for found in below),
        chance=chance, p_random=p_random, chance_shuffled=chance_shuffled, p_shuffled=p_shuffled,
        p_above=above.p(), p_below=min(1.0, len(bars) * min(found.p() for found in below)), chosen_from=chosen_from,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Tests:
    """Student's t over seeds of several means; all of them have to be positive."""

    mean: Floats
    error: Floats
    freedom: int

    def p(self) -> float:
        """Two-sided p-value that not all means are positive: that of the least certain one."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(self.error > 0, self.mean / self.error, np.where(self.mean > 0, np.inf, -np.inf))
        return min(1.0, 2 * float(scipy.special.stdtr(self.freedom, -ratio).max()))

    def low(self, error: float) -> float:
        """Lower end of the interval of the smallest mean."""
        return float((self.mean + scipy.special.stdtrit(self.freedom, error / 2) * self.error).min())

    def high(self, error: float) -> float:
        """Upper end of the interval of the largest mean."""
        return float((self.mean - scipy.special.stdtrit(self.freedom, error / 2) * self.error).max())


def _t_tests(values: Floats) -> _Tests:
    """Tests of means over seeds, for values of shape (tests, seeds)."""
    count = values.shape[1]
    return _Tests(values.mean(1), values.std(1, ddof=1) / np.sqrt(count), count - 1)


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0


def against_draws(effect: float, draws: Floats) -> tuple[float, float]:
    """Root mean square of draws from a normal law with mean 0, and the chance of one as large as `effect`: t.

    Both NaN without a draw. Two-sided.
    """
    if not len(draws):
        return float("nan"), float("nan")
    rms = float(np.sqrt((draws**2).mean()))
    if rms == 0:
        return rms, float(effect == 0)
    return rms, float(2 * scipy.special.stdtr(len(draws), -abs(effect) / rms))


@checked
def judge_together(verdicts: pd.DataFrame | Sequence[pd.DataFrame], *, correction: Correction = "holm") -> pd.DataFrame:
    """Verdicts of several directions, sites or intervals, corrected for their number.

    Parameters
    ----------
    verdicts : DataFrame or sequence of DataFrame
        `SteerCurve.verdicts`, all that were looked at: leaving out those that did not come out well voids the levels.
    correction : {"holm", "fdr"}
        What is kept at 5 %. `holm` (Holm 1979), for results: the chance that any "steerable" or "reversed" of the table
        is wrong, and likewise any "not steerable", whatever the dependence between rows. `fdr` (Benjamini & Hochberg
        1995), for a screening whose finds are tested again on other seeds: the expected share of wrong ones among
        them, for rows that are independent or depend positively.

    Returns
    -------
    DataFrame
        The same rows, with corrected p-values and the verdicts that follow.

    Raises
    ------
    InputError
        For a correction that is neither.
    """
    if correction not in get_args(Correction):
        raise InputError("correction", found=repr(correction), expected="holm or fdr")
    table = verdicts if isinstance(verdicts, pd.DataFrame) else pd.concat(list(verdicts), ignore_index=True)
    adjust = holm if correction == "holm" else false_discovery
    moves, rests = adjust(table["p"].to_numpy(float)), adjust(table["p_not"].to_numpy(float))
    names = [_verdict(*row) for row in zip(moves, rests, table["effect"], strict=True)]
    return STEER_VERDICTS.check(
        table.assign(
            p_adjusted=moves, p_not_adjusted=rests, family=len(table), correction=str(correction), verdict=names
        )
    )


def false_discovery(p: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p-values; missing ones stay so, and count as tests."""
    adjusted: Floats = scipy.stats.false_discovery_control(np.nan_to_num(p, nan=1.0))
    return np.where(np.isnan(p), np.nan, adjusted)


def holm(p: Floats) -> Floats:
    """Holm's adjusted p-values; missing ones stay so, and count as tests."""
    order = np.argsort(p)  # missing ones last
    steps = np.minimum((len(p) - np.arange(len(p))) * p[order], 1.0)
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.maximum.accumulate(steps)  # a missing one makes those behind it missing, which they are
    return adjusted


def _verdict(p_moves: float, p_not: float, effect: float) -> str:
    if p_moves <= ERROR:
        return "steerable" if effect > 0 else "reversed"
    return "not steerable" if p_not <= ERROR else "undecided"
