"""A dose and response in two halves: what the arms of some seeds measure, and what the measures of all seeds show.

steering = Steering.of(direction, Sampling(sigmas=sigmas), strengths=(-1, 1))
parts = [steering.measure(denoiser, scores, "size", seeds=some, condition=rows) for some, rows in chunks]
steering.judge(Measured.join(parts), seeds)                  # the `SteerCurve` that `steer_curve` gives
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
from scorescope.analysis.directions.steering_arms import (
    Distance,
    Measured,
    Plan,
    Scores,
    measure,
    natural_units,
    plan_arms,
    rms,
    spread,
)
from scorescope.analysis.directions.steering_tables import (
    DIRECTION,
    SHUFFLED,
    Responses,
    arm_table,
    curve_table,
    sample_table,
)
from scorescope.analysis.directions.verdicts import judge_together, verdict_table
from scorescope.analysis.statistics.bootstrap import SeedDraws
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


@displayed
@dataclass(frozen=True, eq=False)
class Steering:
    """What a curve is asked for, before anything is sampled: its seeds can be measured in parts, and judged together.

    Attributes
    ----------
    directions : dict of str to Direction
        By arm, the direction first.
    cosines : dict of str to float
        Of the controls with it.
    spans : list of (low, high)
        Intervals as far as the sampler's levels go.
    doses : list of float
        Rising, with 0.
    branch : str
        Calls in which it acts.
    sampling : Sampling
        How.
    plan : Plan
        The arms.
    relevant : float
    chosen_from, seed : int
        See `steer_curve`.
    """

    directions: dict[str, Direction]
    cosines: dict[str, float]
    spans: list[tuple[float, float]]
    doses: list[float]
    branch: Branch
    sampling: Sampling
    plan: Plan
    relevant: float
    chosen_from: int
    seed: int

    @classmethod
    def of(
        cls, direction: Direction, sampling: Sampling, *, strengths: Sequence[float] = STRENGTHS,
        intervals: Sequence[tuple[float, float]] = EVERYWHERE, branch: Branch = "both", random: int = 8,
        relevant: float = 0.0, chosen_from: int = 1, within: Tensor | None = None, shuffled: Shuffled = None,
        seed: int = 0,
    ) -> "Steering":  # fmt: skip
        """What the arguments of `steer_curve` ask for, once they are known to be sound."""
        doses = _doses(strengths)
        if not 0 <= seed < 2**63:
            raise InputError("seed", found=str(seed), expected="a whole number from 0, below 2^63")
        if chosen_from < 1:
            raise InputError("chosen_from", found=str(chosen_from), expected="at least 1, the direction itself")
        spans = _spans(intervals, sampling, relevant)
        directions, cosines = _directions(direction, random, within, shuffled, seed)
        plan = plan_arms(directions, intervals, doses, branch)
        return cls(directions, cosines, spans, doses, branch, sampling, plan, relevant, chosen_from, seed)

    def measure(
        self, denoiser: Denoiser, scores: Scores, target: str, *, seeds: Sequence[int], condition: Condition,
        start: Tensor | None = None, distance: Distance = rms, progress: bool = False,
    ) -> Measured:  # fmt: skip
        """Sample the arms of some seeds, and what they measure."""
        check_branch_is_called(
            denoiser, self.branch, self.spans, seeds=seeds, condition=condition, start=start, sampling=self.sampling
        )
        batches = run_arms(
            denoiser, self.plan.arms, seeds=seeds, condition=condition, start=start, sampling=self.sampling,
            progress=progress,
        )  # fmt: skip
        return measure(batches, self.plan, len(seeds), scores, target, distance)

    def judge(
        self, found: Measured, seeds: Sequence[int], *, natural: Mapping[str, float] | None = None,
        distance: Distance = rms, budget: float | None = None, resamples: int = 1000,
    ) -> SteerCurve:  # fmt: skip
        """What the measures of all seeds show, within each interval of noise levels."""
        check_judged(natural, budget, resamples)
        parts = zip(self.spans, found.by_interval(natural), found.distances.swapaxes(0, 1), strict=True)
        responses = [
            Responses(
                _where(self.directions[DIRECTION], *span), list(self.directions), np.array(self.doses), found.names,
                values, distances,
            )
            for span, values, distances in parts
        ]  # fmt: skip
        budget = 0.5 * spread(found.bare, distance) if budget is None else float(budget)
        draws = SeedDraws.of(len(seeds), resamples=resamples, seed=self.seed)
        verdicts = [
            verdict_table(part, draws, budget, relevant=self.relevant, chosen_from=self.chosen_from)
            for part in responses
        ]
        return SteerCurve(
            curve=pd.concat([curve_table(part) for part in responses], ignore_index=True),
            arms=pd.concat([arm_table(part, draws, budget) for part in responses], ignore_index=True),
            verdicts=judge_together(verdicts),
            samples=pd.concat([sample_table(part, seeds) for part in responses], ignore_index=True),
            budget=budget,
            controls=self.cosines,
        )


def check_judged(natural: Mapping[str, float] | None, budget: float | None, resamples: int) -> None:
    """Raise `InputError` for what cannot be judged by, before anything is sampled."""
    natural_units(natural or {}, list(natural or {}))
    if budget is not None and not budget > 0:
        raise InputError("budget", found=str(budget), expected="a positive distance, or None")
    if resamples < 1:
        raise InputError("resamples", found=str(resamples), expected="at least 1")


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
