"""How a pipeline scales its states, counts time and means its predictions, at any noise level.

A scheduler says so at its own steps only. Here are closed forms of the noise level sigma; those are taken that agree
with every step of a recorded run, and where none does that is an error.

    convention = learn(steps, scheduler)
    network(convention.scale(sigma) * x, convention.time(sigma))        # x = x0 + sigma n
    D = convention.skip(sigma) * x + convention.out(sigma) * prediction
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.scheduler_tables import config, training_steps

Curve = Callable[[Tensor], Tensor]
"""A function of sigma, float64."""

CLOSE = 2e-5  # relative: schedulers keep their tables in float32
NOWHERE = (math.inf, 0.0)  # a range without a level
AFTER_ROUNDING = 2e-4  # of a timestep, below which one that was cut to a whole number may have been larger


@dataclass(frozen=True)
class StepNumbers:
    """What is known of one step, all in the variance-exploding convention.

    Attributes
    ----------
    sigma : float
        Noise level, in units of the data.
    scale : float
        What the network was given is scale * x.
    time : float
        What it was given as the time.
    skip, out : float
        D = skip * x + out * prediction.
    """

    sigma: float
    scale: float
    time: float
    skip: float
    out: float


@dataclass(frozen=True)
class Convention:
    """Closed forms that agree with a recorded run.

    Attributes
    ----------
    scale, time, skip, out : callable
        See `StepNumbers`; functions of sigma.
    sigma_range : (float, float)
        Least and largest noise level at which the scheduler can be.
    name : str
        What they are, in words.
    """

    scale: Curve
    time: Curve
    skip: Curve
    out: Curve
    sigma_range: tuple[float, float]
    name: str


def learn(
    steps: Sequence[StepNumbers], scheduler: Any, *, state_precision: float = 0.0, time_precision: float = 0.0
) -> Convention:
    """The closed forms that agree with every step.

    Parameters
    ----------
    steps : sequence of StepNumbers
        Of a run; three noise levels or more.
    scheduler : object
        Whose run it was: says of how many timesteps and which levels.
    state_precision, time_precision : float
        Relative, of the numbers that the network was given; schedulers keep theirs in float32.

    Raises
    ------
    InputError
        Where nothing agrees, naming what was found.
    """
    spread = float(config(scheduler, "sigma_data", 1.0) or 1.0)
    scale, scale_name = _scale(steps, spread, max(CLOSE, state_precision))
    space, (skip, out) = _prediction(steps, scheduler, spread, CLOSE)
    (time, levels), time_name = _time(steps, scheduler, spread, max(CLOSE / 4, 2 * time_precision))
    return Convention(scale, time, skip, out, levels, f"{scale_name}; {time_name}; prediction {space}")


def _scales(spread: float) -> dict[str, Curve]:
    return {
        "variance-preserving states": lambda sigma: (1 + sigma**2).rsqrt(),
        "flow states": lambda sigma: 1 / (1 + sigma),
        f"states scaled by sigma_data {spread:g}": lambda sigma: (spread**2 + sigma**2).rsqrt(),
        "variance-exploding states": torch.ones_like,
    }


def _scale(steps: Sequence[StepNumbers], spread: float, close: float) -> tuple[Curve, str]:
    """The first curve of what the network is given that agrees with every step."""
    known = _scales(spread)
    for word, curve in known.items():
        if _misses(curve, steps, "scale") <= close:
            return curve, word
    raise _unknown(f"a network that is given the state times {_told(steps, 'scale')},", "; ".join(known))


def _prediction(
    steps: Sequence[StepNumbers], scheduler: Any, spread: float, close: float
) -> tuple[str, tuple[Curve, Curve]]:
    for word, (skip, out) in _predictions(scheduler, spread).items():
        for sign in (1.0, -1.0):
            signed = _times(out, sign)
            if _misses(skip, steps, "skip") <= close and _misses(signed, steps, "out") <= close:
                return word, (skip, signed)
    found = f"D = skip x + out prediction with skip {_told(steps, 'skip')} and out {_told(steps, 'out')},"
    raise _unknown(found, "predictions of x0, noise, v, a flow, or of EDM")


def _predictions(scheduler: Any, spread: float) -> dict[str, tuple[Curve, Curve]]:
    """skip and out by what the network predicts; the sign of out may be the other one."""
    least = float(config(scheduler, "sigma_min", 0.0) or 0.0)
    return {
        "eps": (torch.ones_like, lambda sigma: -sigma),
        "v": (lambda sigma: 1 / (1 + sigma**2), lambda sigma: -sigma * (1 + sigma**2).rsqrt()),
        "flow": (lambda sigma: 1 / (1 + sigma), lambda sigma: -sigma / (1 + sigma)),
        "denoised": (torch.zeros_like, torch.ones_like),
        "edm": (
            lambda sigma: spread**2 / (sigma**2 + spread**2),
            lambda sigma: sigma * spread * (sigma**2 + spread**2).rsqrt(),
        ),
        "trigflow": (
            lambda sigma: spread**2 / (sigma**2 + spread**2),
            lambda sigma: -sigma * (sigma**2 + spread**2).rsqrt(),
        ),
        "consistency": (
            lambda sigma: spread**2 / ((sigma - least) ** 2 + spread**2),
            lambda sigma: (sigma - least) * spread * (sigma**2 + spread**2).rsqrt(),
        ),
    }


def _time(
    steps: Sequence[StepNumbers], scheduler: Any, spread: float, close: float
) -> tuple[tuple[Curve, tuple[float, float]], str]:
    """The time that a network is given, and the levels at which there is one; rounded only where it has to be."""
    largest = max(abs(step.time) for step in steps)
    for rounds in (False, True):
        for word, (curve, levels) in _clocks(scheduler, spread).items():
            for how, rounded in _roundings(curve, rounds=rounds):
                for scaled, scale in _unit(rounded, training_steps(scheduler)):
                    if all(abs(_at(scaled, step) - step.time) <= close * largest for step in steps):
                        return (scaled, _with_steps(levels, steps)), f"time {scale.format(word)}{how}"
    raise _unknown(f"the network's time {_told(steps, 'time')}", "; ".join(_clocks(scheduler, spread)))


def _with_steps(levels: tuple[float, float], steps: Sequence[StepNumbers]) -> tuple[float, float]:
    """A range of levels with those of the steps."""
    sigmas = [step.sigma for step in steps]
    return min(levels[0], *sigmas), max(levels[1], *sigmas)


def _clocks(scheduler: Any, spread: float) -> dict[str, tuple[Curve, tuple[float, float]]]:
    """Timesteps as functions of sigma, with the levels between which they are."""
    count = training_steps(scheduler)
    least, most = (float(config(scheduler, name, math.nan) or math.nan) for name in ("sigma_min", "sigma_max"))
    own = (least, most) if 0 < least < most else NOWHERE
    found: dict[str, tuple[Curve, tuple[float, float]]] = {}
    if isinstance(products := getattr(scheduler, "alphas_cumprod", None), Tensor):
        table = ((1 - products.double()) / products.double()).sqrt().cpu()
        table = table[table.isfinite() & (table > 0)]
        found["timestep of the table, between its entries by log sigma"] = (
            lambda sigma: _place(table.log(), sigma.log()),
            (float(table[0]), float(table[-1])),
        )
    flow = (1 / (count - 1), count - 1)
    found["flow time"] = (lambda sigma: count * (sigma / (1 + sigma)), flow)
    found["log(sigma) / 4"] = (lambda sigma: sigma.log() / 4, own)
    found["2 atan(sigma) / pi"] = (lambda sigma: sigma.atan() * 2 / math.pi, own)
    found["atan(sigma / sigma_data)"] = (lambda sigma: (sigma / spread).atan(), own)
    found["1000 log(sigma) / 4"] = (lambda sigma: 250 * sigma.log(), own)
    found["sigma"] = (lambda sigma: sigma, own)
    return found


def _roundings(curve: Curve, *, rounds: bool) -> Iterator[tuple[str, Curve]]:
    if not rounds:
        yield "", curve
        return
    yield ", cut to a whole number", lambda sigma: (curve(sigma) + AFTER_ROUNDING).floor()
    yield ", rounded", lambda sigma: curve(sigma).round()


def _unit(curve: Curve, count: float) -> Iterator[tuple[Curve, str]]:
    """What pipelines make of a timestep: divided by their number, or counted from the data."""
    yield curve, "{}"
    yield _times(curve, 1 / count), f"{{}}, over {count:g}"
    yield lambda sigma: 1 - curve(sigma) / count, f"1 - {{}} over {count:g}"


def _times(curve: Curve, factor: float) -> Curve:
    return lambda sigma: factor * curve(sigma)


def _place(table: Tensor, value: Tensor) -> Tensor:
    """Where values lie in an increasing table, counted from 0, linear between its entries."""
    table = table.to(value.device)
    above = torch.searchsorted(table, value.contiguous()).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    return above - 1 + (value - low) / (high - low)


def _misses(curve: Curve, steps: Sequence[StepNumbers], name: str) -> float:
    """Largest difference to a number of the steps, relative to it where that is not small."""
    pairs = [(_at(curve, step), float(getattr(step, name))) for step in steps]
    return max(abs(value - known) / max(abs(known), 1e-6) for value, known in pairs)


def _at(curve: Curve, step: StepNumbers) -> float:
    return float(curve(torch.tensor([step.sigma], dtype=torch.float64)))


def _told(steps: Sequence[StepNumbers], name: str) -> str:
    """A number of every step, for an error."""
    values = ", ".join(f"{getattr(step, name):.4g}" for step in steps)
    return f"{values} at sigma {', '.join(f'{step.sigma:.4g}' for step in steps)}"


def _unknown(found: str, known: str) -> InputError:
    return InputError("pipe", found=f"{found} which no known convention gives", expected=f"one of: {known}")
