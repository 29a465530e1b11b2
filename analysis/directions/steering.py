"""What a direction does when it is added: the judge of every direction, ours or imported.

curve = steer_curve(denoiser, direction, scores, target="size", seeds=range(32), condition=labels)
curve.curve                    # mean change of each score by arm and strength, with intervals
curve.verdicts                 # steerable, reversed, not steerable or undecided, against its controls

later = steer_curve(..., intervals=delays(sigmas, 6))      # delay scan: it begins to act later and later
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.directions.balance import balance_table
from scorescope.analysis.directions.noise_intervals import EVERYWHERE, check_branch_is_called, spans_of
from scorescope.analysis.directions.steering_arms import Distance, Scores, measure, plan_arms, rms, spread
from scorescope.analysis.directions.steering_tables import (
    DIRECTION,
    SHUFFLED,
    Responses,
    arm_table,
    curve_table,
    sample_table,
)
from scorescope.analysis.directions.verdicts import judge_together, verdict_table
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, SeedDraws, check_seeds
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.arms import Sampling, run_arms
from scorescope.probes.sites.control_directions import random_directions
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Branch

Shuffled = Direction | Sequence[Direction] | None
"""One control, or the law of directions of shuffled labels."""

STRENGTHS = (-4.0, -2.0, -1.0, 1.0, 2.0, 4.0)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class SteerCurve:
    """What `steer_curve` found.

    Attributes
    ----------
    curve, arms, verdicts, samples : DataFrame
        Columns declared in `STEER_CURVE`, `STEER_ARMS` (quantities in `QUANTITIES`), `STEER_VERDICTS` and
        `STEER_SAMPLES`.
    budget : float
        Mean distance from the samples without edit that counts as the same image, changed.
    controls : dict of str to float
        Arms that the direction was compared with, besides no edit, and the cosine between each as it was found and
        the direction. A large one for shuffled labels says that the recipe finds this direction whatever the labels.
    """

    curve: pd.DataFrame
    arms: pd.DataFrame
    verdicts: pd.DataFrame
    samples: pd.DataFrame
    budget: float
    controls: dict[str, float]

    def balance(self, low: str, high: str) -> pd.DataFrame:
        """Shares of the samples on either side of the target's zero, and how far they are from even.

        Parameters
        ----------
        low, high : str
            Names of the values that a negative score stands for, and a positive one.

        Returns
        -------
        DataFrame
            Columns declared in `BALANCE`, two rows an arm and strength.
        """
        target = str(self.curve.loc[self.curve["target"], "score"].iloc[0])
        return balance_table(self.samples, score=target, values=(low, high))


@checked
def steer_curve(
    denoiser: Denoiser,
    direction: Direction,
    scores: Scores,
    *,
    target: str,
    seeds: Sequence[int],
    condition: Condition = None,
    strengths: Sequence[float] = STRENGTHS,
    intervals: Sequence[tuple[float, float]] = EVERYWHERE,
    branch: Branch = "both",
    random: int = 8,
    relevant: float = 0.0,
    chosen_from: int = 1,
    within: Tensor | None = None,
    shuffled: Shuffled = None,
    natural: Mapping[str, float] | None = None,
    distance: Distance | None = None,
    budget: float | None = None,
    sampling: Sampling | None = None,
    start: Tensor | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> SteerCurve:
    """Dose and response of a direction, against its controls, with the same start and the same sampler noise.

    Random directions have the norm of the direction, shuffled ones theirs as they were found.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module` where the site is a module.
    direction : Direction
        Strength 1 adds one standard deviation of its projection. An imported one: `Direction.load(path)`.
    scores : callable
        Images (n, *shape) -> {name: (n,)}; one is the target, the others should not move.
    target : str
        Which.
    seeds : sequence of int
        At least 8, all different; intervals are over them. Every arm has the same.
    condition : optional
        One row a seed, for all arms; None samples unconditionally.
    strengths : sequence of float
        Strengths other than 0, of either sign. 0 is the arm without edit.
    intervals : sequence of (low, high)
        Noise levels between which it acts, low < sigma <= high; see `delays` and `windows`.
    branch : {"cond", "uncond", "both"}
        Calls in which it acts.
    random : int
        Random directions of the same norm. "steerable" is judged against the law of such directions, of which each is
        one draw: |effect| has to be 4.3 times their root mean square for 2 of them, 2.8 for 4, 2.3 for 8 (more, where
        several intervals are corrected for). Without any, nothing is found steerable.
    relevant : float
        Smallest |effect| that counts as moving the target, in units of its score (with `natural`, in its standard
        deviations). Without it, what moves the target by next to nothing, but more than its controls, is steerable,
        and what moves it by next to nothing is found "not steerable" only if a control moves it further.
    chosen_from : int
        Directions that this one was chosen from, by what they read, or by their effects on other seeds: so many that
        were looked at before that, not those that came last. The best of many random directions moves more than one
        that is drawn; p-values against the laws of controls are multiplied by this number, and more random arms make
        up for it: with 32 of them |effect| has to be 4.2 times their root mean square for one of 256.
    within : Tensor, shape (k, d), optional
        Draw the random directions from the span of these rows, for instance leading principal components.
    shuffled : Direction or sequence of Direction, optional
        What the same recipe finds with shuffled labels. Several (`shuffled_directions`) show the law of directions
        found from labels that mean nothing, by which a direction found from labels is judged besides: random directions
        know nothing of how it was found. Without them, no such direction is said to move. Of a single one
        (`shuffled_direction`) the part along the direction is taken out, and the rest is one more control that it has
        to outdo; it shows no law.
    natural : mapping of str to float, optional
        Natural standard deviation of each score, over data; changes are then in these units, and scores of different
        kinds can be compared. Without it they are in units of the scores.
    distance : callable, optional
        By default the root mean square difference of the pixels.
    budget : float, optional
        Mean distance within which effects are compared; by default half of that between samples of different seeds.
    sampling : Sampling, optional
        Rule, solver, noise levels, batch and device.
    start : Tensor, shape (len(seeds), *shape), optional
        States at the first noise level, for instance inverted images.
    resamples, seed : int
        Of the bootstrap; the seed also draws the random directions.
    progress : bool
        Show a progress bar.

    Returns
    -------
    SteerCurve
        The verdicts on its intervals of noise levels are one family; judge more than one curve by `judge_together`.

    Raises
    ------
    InputError
        For too few seeds, strengths or intervals that hold nothing, a target that is no score, scores that are not
        finite, no control at all, a direction of another size or site than the denoiser's, and a branch that the rule
        never calls for within an interval.
    """
    sampling, distance = sampling or Sampling(), distance or rms
    numbers = check_seeds(seeds, LEAST_SEEDS)
    doses = _doses(strengths)
    if chosen_from < 1:
        raise InputError("chosen_from", found=str(chosen_from), expected="at least 1, the direction itself")
    spans = _spans(intervals, sampling, relevant)
    directions, cosines = _directions(direction, random, within, shuffled, seed)
    check_branch_is_called(denoiser, branch, spans, seeds=numbers, condition=condition, start=start, sampling=sampling)
    plan = plan_arms(directions, intervals, doses, branch)
    batches = run_arms(
        denoiser, plan.arms, seeds=numbers, condition=condition, start=start, sampling=sampling,
        progress=progress,
    )  # fmt: skip
    found = measure(batches, plan, len(numbers), scores, target, distance)
    parts = zip(spans, found.by_interval(natural), found.distances.swapaxes(0, 1), strict=True)
    responses = [
        Responses(_where(direction, *span), list(directions), np.array(doses), found.names, values, distances)
        for span, values, distances in parts
    ]
    budget = 0.5 * spread(found.bare, distance) if budget is None else float(budget)
    draws = SeedDraws.of(len(numbers), resamples=resamples, seed=seed)
    return _tables(responses, numbers, draws, budget, (relevant, chosen_from), cosines)


def _tables(
    responses: Sequence[Responses], seeds: Sequence[int], draws: SeedDraws, budget: float, asked: tuple[float, int],
    cosines: dict[str, float],
) -> SteerCurve:  # fmt: skip
    """What the responses within each interval of noise levels show."""
    relevant, chosen_from = asked
    verdicts = [verdict_table(part, draws, budget, relevant=relevant, chosen_from=chosen_from) for part in responses]
    return SteerCurve(
        curve=pd.concat([curve_table(part) for part in responses], ignore_index=True),
        arms=pd.concat([arm_table(part, draws, budget) for part in responses], ignore_index=True),
        verdicts=judge_together(verdicts),
        samples=pd.concat([sample_table(part, seeds) for part in responses], ignore_index=True),
        budget=budget,
        controls=cosines,
    )


def _spans(intervals: Sequence[tuple[float, float]], sampling: Sampling, relevant: float) -> list[tuple[float, float]]:
    """The intervals as far as the sampler's levels go, once they and the size that counts are known to be sound."""
    spans = spans_of(intervals, sampling.sigmas)
    if not spans or not 0 <= relevant < math.inf:
        found = f"{len(spans)} intervals, relevant {relevant}"
        raise InputError("intervals, relevant", found=found, expected="an interval, and a size that is not negative")
    return spans


def _doses(strengths: Sequence[float]) -> list[float]:
    doses = sorted({float(strength) for strength in strengths} | {0.0})
    if len(doses) < 2 or not all(math.isfinite(dose) for dose in doses):
        raise InputError("strengths", found=str(list(strengths)), expected="finite strengths, at least one beside 0")
    return doses


def _directions(
    direction: Direction,
    random: int,
    within: Tensor | None,
    shuffled: Direction | Sequence[Direction] | None,
    seed: int,
) -> tuple[dict[str, Direction], dict[str, float]]:
    """The direction and its controls, and the controls' cosines with it."""
    if random < 0 or (random == 0 and shuffled is None):
        raise InputError("random, shuffled", found=f"{random}, none", expected="at least one control direction")
    drawn = random_directions(direction, random, seed=seed, within=within)
    controls = _named(shuffled) | {f"random {k + 1}": way for k, way in enumerate(drawn)}
    for way in controls.values():
        if way.site != direction.site or len(way) != len(direction):
            found = f"{len(way)} numbers at {way.site!r}"
            raise InputError("shuffled", found=found, expected=f"{len(direction)} at {direction.site!r}")
    cosines = {name: float(way.unit.double() @ direction.unit.double()) for name, way in controls.items()}
    if isinstance(shuffled, Direction):
        rest = shuffled.unit.double() - cosines[SHUFFLED] * direction.unit.double()
        if float(rest.norm()) < 1e-6:
            raise InputError("shuffled", found="the direction itself", expected="another direction")
        controls[SHUFFLED] = replace(shuffled, vector=rest.to(direction.vector), scale=direction.scale)
    return {DIRECTION: direction, **controls}, cosines


def _named(shuffled: Shuffled) -> dict[str, Direction]:
    """Arms of shuffled labels: one, or the draws of their law, numbered."""
    if shuffled is None:
        return {}
    if isinstance(shuffled, Direction):
        return {SHUFFLED: shuffled}
    if not shuffled:
        raise InputError("shuffled", found="an empty sequence", expected="directions, or None")
    return {f"{SHUFFLED} {k + 1}": way for k, way in enumerate(shuffled)}


def _where(direction: Direction, low: float, high: float) -> dict[str, Any]:
    return {
        "attribute": direction.attribute, "method": direction.method, "site": direction.site,
        "sigma_low": low, "sigma_high": high, "log_snr": -2 * math.log(high),
    }  # fmt: skip
