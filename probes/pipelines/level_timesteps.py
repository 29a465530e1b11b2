"""Levels of schedulers that look their noise levels up by timestep, or by angle.

Each function is one family: (tables, scheduler, timestep, state, extra arguments of the step) -> Level.
"""

import math
from typing import Any

import torch
from torch import Tensor

from scorescope.probes.pipelines.level import Level, divide
from scorescope.probes.pipelines.level_sigmas import SLACK, space_of
from scorescope.probes.pipelines.scheduler_tables import SchedulerTables, config, is_a, training_steps

_BY_INTERVAL = (
    "DDIMScheduler", "DDIMParallelScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "RePaintScheduler",
)  # fmt: skip


def trigflow(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """TrigFlow (Lu & Song 2024): x = cos(t) x0 + sin(t) sigma_data n and D = cos(t) x - sin(t) F."""
    table = tables.table(scheduler, "timesteps")
    index = tables.index(scheduler, timestep)
    angle, after = float(table[index]), float(table[min(index + 1, len(table) - 1)])
    if not -SLACK <= angle <= math.pi / 2 + SLACK:
        return Level(note=f"a TrigFlow angle of {angle:.6g} is not between 0 and pi / 2; pass level=")
    spread = float(config(scheduler, "sigma_data", 1.0))
    sigma, alpha = _angle_level(angle, spread)
    return Level(sigma, _angle_level(after, spread)[0], alpha, math.cos(angle), -math.sin(angle), "trigflow")


def _angle_level(angle: float, spread: float) -> tuple[float, float]:
    """sigma and alpha; pi / 2 is passed with a few digits, and holds no data."""
    alpha = math.cos(angle) if angle < math.pi / 2 - SLACK else 0.0
    return float(divide(spread * math.sin(angle), alpha)), alpha


def table_pair(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """IPNDM: alpha and s in two tables of their own; elsewhere they are 1 - beta and the variances added."""
    alphas, noises = tables.table(scheduler, "alphas"), tables.table(scheduler, "betas")
    if alphas.shape != noises.shape or not bool((alphas**2 + noises**2 - 1).abs().max() <= SLACK):
        return unknown(scheduler)
    index = tables.index(scheduler, timestep)
    after = min(index + 1, len(alphas) - 1)
    space = space_of(scheduler, "v_prediction" if is_a(scheduler, "IPNDMScheduler") else "")
    return Level.of(
        float(alphas[index]), float(noises[index]), space, sigma_next=divide(float(noises[after]), float(alphas[after]))
    )


def wuerstchen(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """A product that is a function of time in [0, 1]."""
    product = scheduler._alpha_cumprod(timestep, state.device).double().flatten()
    grid = tables.on(scheduler, "timesteps", state.device)
    place = (grid - timestep.flatten()[:1]).abs().argmin().reshape(1) + 1
    later = grid.index_select(0, place.clamp(max=len(grid) - 1))
    after = scheduler._alpha_cumprod(later, state.device).double()
    sigma_next = torch.where(later == 0, 0.0, ((1 - after) / after).sqrt()).expand(len(product))  # no noise at the end
    return Level.of(product.sqrt(), (1 - product).sqrt(), "eps", sigma_next=sigma_next)


def preserving(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """DDPM, DDIM, PNDM, LCM, TCD: a table of cumulative products by integer timestep."""
    space = space_of(scheduler)
    time = tables.time(scheduler, timestep)
    if time is None:
        index = timestep.to(state.device).long().flatten()
        product = tables.on(scheduler, "alphas_cumprod", state.device)[index]
        return Level.of(product.sqrt(), (1 - product).sqrt(), space)
    if hasattr(scheduler, "initial_alpha_cumprod"):
        now, after = _inverted(tables, scheduler, time)
    else:
        now, after = float(tables.table(scheduler, "alphas_cumprod")[int(time)]), _after(tables, scheduler, time, extra)
    return Level.of(math.sqrt(now), math.sqrt(1 - now), space, sigma_next=_ratio(after))


def _inverted(tables: SchedulerTables, scheduler: Any, time: float) -> tuple[float, float]:
    """Inversion: the state is one interval below the timestep."""
    products = tables.table(scheduler, "alphas_cumprod")
    before = int(time - _interval(scheduler))
    start = float(scheduler.initial_alpha_cumprod)
    return (float(products[before]) if before >= 0 else start), float(products[int(time)])


def _interval(scheduler: Any) -> int:
    return int(training_steps(scheduler)) // max(1, int(scheduler.num_inference_steps or 1))


def _after(tables: SchedulerTables, scheduler: Any, time: float, extra: dict[str, Any]) -> float:
    """The product at which a step leaves the state; NaN where the scheduler does not tell."""
    products = tables.table(scheduler, "alphas_cumprod")
    later = _time_after(tables, scheduler, time, extra)
    if later is None:
        return math.nan
    if later >= 0:
        return float(products[int(later)])
    returns_x0 = is_a(scheduler, "LCMScheduler")
    return 1.0 if returns_x0 else float(getattr(scheduler, "final_alpha_cumprod", 1.0))


def _time_after(tables: SchedulerTables, scheduler: Any, time: float, extra: dict[str, Any]) -> float | None:
    """The timestep to which a step goes, below 0 for the end: its own arithmetic, else the next of its timesteps."""
    if hasattr(scheduler, "prk_timesteps"):
        return time - _pndm_stride(scheduler)
    if is_a(scheduler, *_BY_INTERVAL):
        return time - _interval(scheduler)
    if is_a(scheduler, "UnCLIPScheduler"):
        given = extra.get("prev_timestep")
        return time - 1 if given is None else tables.time(scheduler, given)
    later = _next_time(tables, scheduler, time)
    return 0.0 if later == -1 and is_a(scheduler, "TCDScheduler") else later


def _pndm_stride(scheduler: Any) -> int:
    """PNDM: the stages of a Runge-Kutta step go half-way and all the way in turn; one plain step is made again."""
    interval = _interval(scheduler)
    if scheduler.counter < len(scheduler.prk_timesteps):
        return 0 if scheduler.counter % 2 else interval // 2
    return 0 if scheduler.counter == 1 else interval


def _next_time(tables: SchedulerTables, scheduler: Any, time: float) -> float | None:
    """The other timestep that follows this one, -1 after the last; None where it comes again with another one."""
    times: list[float] = tables.table(scheduler, "timesteps").flatten().tolist()
    ends = [place for place, one in enumerate(times, 1) if one == time and times[place : place + 1] != [time]]
    later = {times[end] if end < len(times) else -1.0 for end in ends}
    return later.pop() if len(later) == 1 else None


def _ratio(product: float) -> float:
    return math.inf if product <= 0 else math.sqrt((1 - product) / product)


def unknown(scheduler: Any) -> Level:
    """Where nothing is known."""
    return Level(note=f"the noise level of {type(scheduler).__name__} is unknown; pass level=")
