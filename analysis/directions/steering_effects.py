"""Effects of directions measured by steering, as `compare_directions` and `judge_transport` take them.

    effect = steering_effect(denoiser, scores, seeds=range(32), condition=labels)
    compare_directions([difference, lda], held_out, labels, effect=effect)

    effect = transport_effect(denoiser, scores, target="size", seeds=range(32), condition=labels)
    judge_transport(carried, effect=effect)

Both are slopes: half the difference of a score between strengths s and -s, a unit of strength, seed by seed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from scorescope.analysis.directions.carrying import LevelEffect, level_intervals
from scorescope.analysis.directions.comparison import DirectionEffect
from scorescope.analysis.directions.noise_intervals import spans_of
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, check_seeds
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import Sampling, sample_arms
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention

Scores = Callable[[Tensor], Mapping[str, Tensor]]


@checked
def steering_effect(
    denoiser: Denoiser, scores: Scores, *, seeds: Sequence[int], condition: Condition = None, strength: float = 2.0,
    interval: tuple[float, float] = (0.0, float("inf")), sampling: Sampling | None = None,
) -> DirectionEffect:  # fmt: skip
    """An effect of one direction, added within one interval of noise levels.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    scores : callable
        Images -> {name: (n,) score}.
    seeds, condition
        One sample a seed; the same for every direction.
    strength : float
        s, in standard deviations of the projection.
    interval : (low, high)
        Where the direction acts, low < sigma <= high.
    sampling : Sampling, optional
        Rule, solver, noise levels, batch and device.

    Returns
    -------
    callable
        (Direction) -> {name: (seed,) slope}.

    Raises
    ------
    InputError
        For a strength that is not positive, fewer than 8 seeds or one twice, and an interval without a noise level.
    """
    _check(strength, seeds)
    spans_of([interval], None if sampling is None else sampling.sigmas)
    low, high = interval

    def effect(direction: Direction) -> Mapping[str, Tensor]:
        return _slopes(denoiser, scores, [(direction, low, high)], seeds, condition, strength, sampling)

    return effect


@checked
def transport_effect(
    denoiser: Denoiser, scores: Scores, *, target: str, seeds: Sequence[int], condition: Condition = None,
    strength: float = 2.0, sampling: Sampling | None = None,
) -> LevelEffect:  # fmt: skip
    """An effect of directions by noise level, each added in its own interval (`level_intervals`).

    Parameters
    ----------
    target : str
        Name of the score.
    denoiser, scores, seeds, condition, strength, sampling
        As in `steering_effect`.

    Returns
    -------
    callable
        (directions by level) -> (seed,) slopes of the target's score.

    Raises
    ------
    InputError
        For a strength that is not positive, and fewer than 8 seeds or one twice; in a call, for a target that is no
        score.
    """
    _check(strength, seeds)

    def effect(directions: Sequence[Direction]) -> Tensor:
        found = _slopes(denoiser, scores, level_intervals(directions), seeds, condition, strength, sampling)
        if target not in found:
            raise InputError("target", found=repr(target), expected=f"one of the scores {sorted(found)}")
        return found[target]

    return effect


def _check(strength: float, seeds: Sequence[int]) -> None:
    check_seeds(seeds, LEAST_SEEDS)
    if not 0 < strength < float("inf"):
        raise InputError("strength", found=str(strength), expected="a positive finite number")


def _slopes(
    denoiser: Denoiser, scores: Scores, placed: Sequence[tuple[Direction, float, float]], seeds: Sequence[int],
    condition: Condition, strength: float, sampling: Sampling | None,
) -> dict[str, Tensor]:  # fmt: skip
    arms = [
        RunArm(name, tuple(Intervention.along(way, dose, low=low, high=high) for way, low, high in placed))
        for name, dose in (("more", strength), ("less", -strength))
    ]
    found = sample_arms(
        denoiser, arms, seeds=list(seeds), condition=condition, sampling=sampling or Sampling(), progress=False
    )
    more, less = scores(found["more"]), scores(found["less"])
    require_returned("scores", more, Mapping[Any, Tensor])
    return {name: ((more[name] - less[name]) / (2 * strength)).detach().cpu() for name in more}
