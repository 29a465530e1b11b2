"""Noise levels by rule: uniform in ln sigma, published ones stretched; and as a scheduler of diffusers takes them.

    uniform_log_sigmas(10, high=80.0, low=0.002)
    ays_sigmas(10, high=80.0, low=0.002)
    scheduler_sigmas(pipe.scheduler, 10)                         # those of its own
    given = scheduler_arguments(pipe.scheduler, sigmas)
    pipe.scheduler.set_timesteps(**given.arguments)              # or pipe(..., **given.arguments)

EDM's own are `edm_sigmas` of `probes.models`.
"""

import copy
import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.noise import check_sigmas
from scorescope.probes.pipelines.level_reader import LevelReader

# Sabour et al. 2024 (arXiv 2404.14507) for Stable Diffusion 1.5, as diffusers has them, without the final 0
AYS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152)


@checked
def uniform_log_sigmas(steps: int, *, high: float, low: float, zero: bool = True) -> list[float]:
    """Levels at equal ratios: EDM's for an infinite rho.

    Parameters
    ----------
    steps : int
        Steps; the result has steps + 1 levels.
    high, low : float
        Highest and lowest positive level, in units of the data.
    zero : bool
        Whether the last step goes from the lowest level to 0.
    """
    return _between(steps, high, low, zero, lambda part: part)


@checked
def ays_sigmas(steps: int, *, high: float, low: float, zero: bool = True) -> list[float]:
    """The published levels of Align Your Steps, interpolated in ln sigma and stretched there to other ends.

    They were found for one model and its stochastic sampler; elsewhere this is their shape alone.

    Parameters
    ----------
    steps, high, low, zero
        As for `uniform_log_sigmas`.
    """
    logs = np.log(AYS)
    shape = (logs[0] - logs) / (logs[0] - logs[-1])
    return _between(steps, high, low, zero, lambda part: np.interp(part, np.linspace(0, 1, len(shape)), shape))


def _between(steps: int, high: float, low: float, zero: bool, shape: Any) -> list[float]:
    """Levels whose ln sigma goes from one end to the other as `shape` does from 0 to 1."""
    if steps < 1 + zero or not 0 < low < high < float("inf"):
        raise InputError(
            "steps, high, low", found=f"{steps}, {high}, {low}", expected=f"{1 + zero} steps, 0 < low < high"
        )
    part = shape(np.linspace(0, 1, steps + 1 - zero))
    levels = np.exp(np.log(high) + part * (np.log(low) - np.log(high)))
    return [high, *levels[1:-1].tolist(), low, *[0.0] * zero]


@displayed
@checked
@dataclass(frozen=True)
class SchedulerArguments:
    """Levels for a scheduler.

    Attributes
    ----------
    arguments : mapping
        Of `set_timesteps`, and of a pipeline that hands them on.
    sigmas : tuple of float
        The levels that the scheduler then visits, variance exploding: whole timesteps round them.
    """

    arguments: Mapping[str, list[float]]
    sigmas: tuple[float, ...]


@checked
def scheduler_arguments(scheduler: Any, sigmas: Sequence[float], *, within: float = 0.05) -> SchedulerArguments:
    """How a scheduler of diffusers is told to visit these levels.

    Each way of saying it is tried on a copy of the scheduler, and read back.

    Parameters
    ----------
    scheduler : object
        Of a pipeline; it is not changed.
    sigmas : sequence of float
        Falling levels, variance exploding: s / alpha, also for flows.
    within : float
        Largest relative difference of a level that it may be set to.

    Raises
    ------
    InputError
        For a scheduler that takes no levels, or none so near: those of a table are clipped at its ends.
    """
    check_sigmas(sigmas)
    visited = [float(sigma) for sigma in sigmas if sigma > 0]
    visited = visited if sigmas[-1] == 0 else visited[:-1]
    nearest: tuple[float, SchedulerArguments] | None = None
    for arguments in _ways(scheduler, visited, float(sigmas[-1])):
        found = _read_back(scheduler, arguments)
        if len(found) == len(visited):
            gap = float(np.abs(np.log(np.array(found) / np.array(visited))).max())
            if nearest is None or gap < nearest[0]:
                nearest = gap, SchedulerArguments(arguments, tuple(found))
    if nearest is None or not nearest[0] <= np.log1p(within):
        why = "no way to be told levels" if nearest is None else f"levels that differ by {np.expm1(nearest[0]):.0%}"
        raise InputError("scheduler", found=f"{type(scheduler).__name__} with {why}", expected="one that takes them")
    return nearest[1]


@checked
def scheduler_sigmas(scheduler: Any, steps: int) -> list[float]:
    """The levels that a scheduler of diffusers visits by itself, variance exploding.

    Parameters
    ----------
    scheduler : object
        Of a pipeline; it is not changed.
    steps : int
        What `set_timesteps` is given.

    Returns
    -------
    list of float
        Falling, with the level that the last step ends at. A flow's first one, which holds no data, is infinite and
        left out, and so is a last step that goes nowhere, as that of PNDM's default configuration does.

    Raises
    ------
    InputError
        For a scheduler whose levels cannot be read, or do not fall.
    """
    levels, last = _visited(scheduler, {"num_inference_steps": steps})
    sigmas = [level for level in levels if np.isfinite(level)]
    if not sigmas or not np.isclose(sigmas[-1], last, rtol=1e-6, atol=0):
        sigmas.append(last)
    check_sigmas(sigmas)
    return sigmas


def _ways(scheduler: Any, visited: list[float], last: float) -> list[dict[str, list[float]]]:
    """What could be said to `set_timesteps`."""
    known = inspect.signature(scheduler.set_timesteps).parameters
    ways: list[dict[str, list[float]]] = []
    if "sigmas" in known:
        times = np.array(visited) / (1 + np.array(visited))
        shift = float(getattr(scheduler.config, "shift", None) or 1.0)
        unshifted = (times / (shift - (shift - 1) * times)).tolist()  # what it shifts to these times
        ways += [{"sigmas": [*visited, last]}, {"sigmas": visited}, {"sigmas": times.tolist()}, {"sigmas": unshifted}]
    if "timesteps" in known and hasattr(scheduler, "alphas_cumprod"):
        products = np.asarray(scheduler.alphas_cumprod, dtype=np.float64)
        table = np.log((1 - products) / products) / 2
        ways.append(
            {"timesteps": np.interp(np.log(visited), table, np.arange(len(table))).round().astype(int).tolist()}
        )
    return ways


def _read_back(scheduler: Any, arguments: Mapping[str, list[float]]) -> list[float]:
    """The levels of a scheduler that was told so; none where it refuses."""
    try:
        return _visited(scheduler, arguments)[0]
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return []


def _visited(scheduler: Any, arguments: Mapping[str, Any]) -> tuple[list[float], float]:
    """Levels at which a copy of the scheduler asks, and the one that its last step ends at."""
    tried, reader, levels, last = copy.deepcopy(scheduler), LevelReader(), list[float](), np.nan
    tried.set_timesteps(**arguments)
    for place, time in enumerate(tried.timesteps):
        if hasattr(tried, "set_begin_index"):
            tried.set_begin_index(place)
        level = reader.read(tried, time, torch.zeros(1, 1))
        levels.append(float(level.sigma))
        last = float(level.sigma_next)
    return [level for level, _ in itertools.groupby(levels)], last  # some make two calls at a level
