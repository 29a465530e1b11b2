"""The arms of a dose and response, one an interval, direction and strength beside the bare run, and what they measure.

plan = plan_arms({"direction": way, "random 1": other}, intervals, [-2.0, 0.0, 2.0], "both")
found = measure(run_arms(denoiser, plan.arms, seeds=seeds), plan, len(seeds), scores, "size", rms)
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.analysis.directions.steering_tables import NONE
from scorescope.analysis.statistics.arrays import Floats, scores_of
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import ArmBatch
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Branch, Intervention

Scores = Callable[[Tensor], Mapping[str, Tensor]]
"""Images (n, *shape) -> {name: (n,) score}, for instance log-odds."""
Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images -> (n,) distances."""


@displayed
@dataclass(frozen=True, eq=False)
class Plan:
    """Arms, the bare one first, and which each other is: (interval, direction, strength)."""

    arms: list[RunArm]
    places: dict[str, tuple[int, int, int]]
    shape: tuple[int, int, int]
    zero: int


def plan_arms(
    directions: Mapping[str, Direction], intervals: Sequence[tuple[float, float]], doses: list[float], branch: Branch
) -> Plan:
    """Every direction at every strength within every interval."""
    arms, places = [RunArm(NONE)], {}
    for i, (low, high) in enumerate(intervals):
        for a, (name, direction) in enumerate(directions.items()):
            for k, dose in enumerate(doses):
                if dose:
                    push = Intervention.along(direction, dose, low=low, high=high, branch=branch)
                    arms.append(RunArm(f"{name}, {dose}, interval {i}", (push,)))
                    places[arms[-1].name] = (i, a, k)
    return Plan(arms, places, (len(intervals), len(directions), len(doses)), doses.index(0.0))


@displayed
@dataclass(frozen=True, eq=False)
class Measured:
    """What the arms came to.

    Attributes
    ----------
    names : list of str
        Of the scores, the target first.
    values : array, shape (seeds, intervals, arms, strengths, scores)
        Scores.
    distances : array, shape (seeds, intervals, arms, strengths)
        From the sample without edit.
    bare : Tensor, shape (seeds, *shape)
        Samples without edit.
    """

    names: list[str]
    values: Floats
    distances: Floats
    bare: Tensor

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        """That of all seeds, in the order of the parts."""
        values, distances = (np.concatenate([getattr(one, name) for one in parts]) for name in ("values", "distances"))
        return cls(parts[0].names, values, distances, torch.cat([one.bare for one in parts]))

    def by_interval(self, natural: Mapping[str, float] | None) -> Floats:
        """Scores with the intervals first, in natural standard deviations where those are given."""
        values = self.values if natural is None else self.values / natural_units(natural, self.names)
        return values.swapaxes(0, 1)


def measure(
    batches: Iterable[ArmBatch], plan: Plan, count: int, scores: Scores, target: str, distance: Distance
) -> Measured:
    """Scores of every arm, batch by batch, and distances from the arm without edit."""
    names: list[str] = []
    values, distances = np.zeros(0), np.zeros((count, *plan.shape))
    bare: list[Tensor] = []
    for part in batches:
        rows = part.seeds
        if part.names[0] == NONE:
            bare.append(part.samples[0])
        found = _scored(scores, part.samples.flatten(0, 1), target)
        if not names:
            names = [target, *(name for name in found if name != target)]
            values = np.zeros((count, *plan.shape, len(names)))
        table = np.stack([found[name] for name in names], axis=-1).reshape(len(part.names), len(rows), -1)
        for name, row, samples in zip(part.names, table, part.samples, strict=True):
            if name == NONE:
                values[rows, :, :, plan.zero] = row[:, None, None]
                continue
            i, a, k = plan.places[name]
            values[rows, i, a, k] = row
            distances[rows, i, a, k] = distance(samples, bare[-1]).double().cpu().numpy()
    return Measured(names, values, distances, torch.cat(bare))


def _scored(scores: Scores, images: Tensor, target: str) -> dict[str, Floats]:
    found = scores_of(scores, images)
    check_target(target, list(found))
    return found


def check_target(target: str, names: Sequence[str]) -> None:
    """Raise `InputError` for a target that is no score."""
    if target not in names:
        raise InputError("target", found=repr(target), expected=f"one of {', '.join(names)}")


def natural_units(natural: Mapping[str, float], names: Sequence[str]) -> Floats:
    """Natural standard deviation of each score; `InputError` where one is missing or not positive."""
    units = [float(natural.get(name, math.nan)) for name in names]
    if not all(0 < unit < math.inf for unit in units):
        raise InputError("natural", found=str(dict(natural)), expected=f"a positive number for each of {list(names)}")
    return np.array(units)


def spread(bare: Tensor, distance: Distance) -> float:
    """Mean distance between samples of neighbouring seeds."""
    return float(distance(bare, bare.roll(1, 0)).double().mean())


def rms(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square difference of each pair of images, (n,)."""
    return (a - b).double().flatten(1).square().mean(1).sqrt()
