"""Levels of schedulers that keep their noise levels in a table `sigmas`, counted by the step.

Each function is one family: (tables, scheduler, timestep, state, extra arguments of the step) -> Level.
"""

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from scorescope.probes.pipelines.level import Level, divide
from scorescope.probes.pipelines.scheduler_tables import SchedulerTables, config, is_a, number, training_steps

SLACK = 1e-5  # tables in float32

_SPACES = {
    "epsilon": "eps",
    "v_prediction": "v",
    "sample": "denoised",
    "original_sample": "denoised",
    "flow_prediction": "flow",
}


def space_of(scheduler: Any, default: str = "epsilon") -> str:
    """The prediction space that the configuration names, as `Level.of` calls it."""
    return _SPACES.get(config(scheduler, "prediction_type", default), "unknown")


def edm(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """EDM preconditioning (Karras et al. 2022): D = c_skip x + c_out F."""
    sigma, after = tables.sigmas(scheduler, timestep)
    spread = float(scheduler.config.sigma_data)
    total = math.sqrt(sigma**2 + spread**2)
    out = sigma * spread / total
    if scheduler.config.prediction_type == "v_prediction":
        out = -out
    return Level(sigma, after, 1.0, spread**2 / total**2, out, "edm")


def consistency(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """Consistency models: as EDM, with a boundary condition at the least level."""
    sigma, after = tables.sigmas(scheduler, timestep)
    skip, out = scheduler.get_scalings_for_boundary_condition(number(sigma))
    return Level(sigma, after, 1.0, float(skip), float(out), "edm")


def solver(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """DPM-Solver and kin: `sigmas` are s / alpha, or flow times; the scheduler says which."""
    space = space_of(scheduler)
    if space == "flow" and not config(scheduler, "use_flow_sigmas", False):
        return Level(
            note=f"flow predictions of {type(scheduler).__name__} without flow sigmas mean nothing; pass level="
        )
    sigmas = tables.sigmas(scheduler, timestep)
    pair = [tuple(map(float, scheduler._sigma_to_alpha_sigma_t(number(sigma)))) for sigma in sigmas]
    (alpha, s), (alpha_next, s_next) = pair
    level = Level.of(alpha, s, space, sigma_next=divide(s_next, alpha_next))
    return replace(level, skip=alpha, out=-s) if space == "v" else level  # their own code, also of flow sigmas


def exploding(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """Euler, Heun, LMS, KDPM2, DPM-SDE: the state is x0 + sigma n, not what the network is given."""
    sigma, after = tables.sigmas(scheduler, timestep)
    if not getattr(scheduler, "state_in_first_order", True):
        sigma = _middle(tables, scheduler, timestep, sigma)
    elif hasattr(scheduler, "mid_point_sigma"):
        after = math.sqrt(sigma * after)
    elif hasattr(scheduler, "sigmas_interpol"):
        after = _interpolated(tables, scheduler, tables.index(scheduler, timestep) + 1)
    return Level.of(1.0, sigma, space_of(scheduler), sigma_next=after)


def _middle(tables: SchedulerTables, scheduler: Any, timestep: Any, sigma: float) -> float:
    """Second calls are made at a level between two grid points (KDPM2) or at a proposed one (DPM-SDE)."""
    if (middle := getattr(scheduler, "mid_point_sigma", None)) is not None:
        return float(middle)
    if hasattr(scheduler, "sigmas_interpol"):
        return _interpolated(tables, scheduler, tables.index(scheduler, timestep))
    return sigma


def _interpolated(tables: SchedulerTables, scheduler: Any, index: int) -> float:
    """Level of the second stage before grid point `index`; the ancestral KDPM2 keeps it one place earlier."""
    shift = 1 if hasattr(scheduler, "sigmas_down") else 0
    return float(tables.table(scheduler, "sigmas_interpol")[index - shift])


def flow(tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]) -> Level:
    """Flow matching: the state is (1 - sigma) x0 + sigma n, the prediction n - x0 or x0 - n."""
    times = extra.get("per_token_timesteps")
    if reason := _no_flow(tables, scheduler, draws := _draws(scheduler), by_token=times is not None):
        return Level(note=f"{reason}; pass level=")
    if times is not None:
        level = _by_token(times, training_steps(scheduler), state)
        # such a step adds (s - s') prediction: the pipelines pass x0 - n (LTX)
        return level if draws else replace(level, out=-level.out)
    now, after = _flow_times(tables, scheduler, timestep, state, extra)
    if float(tables.table(scheduler, "sigmas").max()) > 1 + SLACK:  # Cosmos: Euler steps from x0 + 80 n
        return Level.of(1.0, now, "eps", sigma_next=after)
    if config(scheduler, "invert_sigmas", False):
        now, after = 1 - now, 1 - after
    level = Level.of(1 - now, now, "flow", sigma_next=divide(after, 1 - after))
    return replace(level, out=-level.out) if _points_to_data(tables, scheduler) else level


def _draws(scheduler: Any) -> bool:
    """Whether a step goes to its estimate of x0 and adds new noise there."""
    return bool(config(scheduler, "stochastic_sampling", False)) or is_a(scheduler, "FlowMatchLCMScheduler")


def _no_flow(tables: SchedulerTables, scheduler: Any, draws: bool, *, by_token: bool) -> str:
    """Why a scheduler with a table `sigmas` is none of flow matching that is known; empty where it is."""
    name, kind = type(scheduler).__name__, config(scheduler, "prediction_type")
    if config(scheduler, "invert_sigmas", False) and (draws or by_token):
        return f"{name} steps to less data by sigmas that count the data"
    is_euler = is_a(scheduler, "FlowMatchEulerDiscreteScheduler") and not draws
    if not is_euler and not float(tables.table(scheduler, "sigmas").max()) <= 1 + SLACK:
        return f"sigmas of {name} above 1 are not flow times"
    if kind not in (None, "flow_prediction"):
        return f"sigmas of {name} with {kind!r} predictions are not flow times"
    return ""


def _flow_times(
    tables: SchedulerTables, scheduler: Any, timestep: Any, state: Tensor, extra: dict[str, Any]
) -> tuple[Any, Any]:
    """This and the next entry of `sigmas`, a number or one a sample."""
    if isinstance(timestep, Tensor) and timestep.ndim == 1 and len(timestep) == len(state) > 1:
        return _times(timestep.to(state.device).double(), tables, scheduler), math.nan
    if not is_a(scheduler, "FlowMapEulerDiscreteScheduler"):
        return tables.sigmas(scheduler, timestep)
    times = [time for time in (timestep, extra.get("r_timestep")) if time is not None]
    now, *given = (float(time) / training_steps(scheduler) for time in times)  # from any time to any other
    return now, given[0] if given else tables.sigmas(scheduler, timestep)[1]


def _times(timestep: Tensor, tables: SchedulerTables, scheduler: Any) -> Tensor:
    if _counts_data(tables, scheduler):
        return 1 - timestep
    return timestep / training_steps(scheduler)


def _points_to_data(tables: SchedulerTables, scheduler: Any) -> bool:
    """Whether the network predicts x0 - n: the velocity along times that count the data."""
    return bool(config(scheduler, "invert_sigmas", False)) or _counts_data(tables, scheduler)


def _counts_data(tables: SchedulerTables, scheduler: Any) -> bool:
    """Whether `timesteps` are 1 - `sigmas` (MiniMax)."""
    if getattr(scheduler, "timesteps", None) is None:
        return False
    times, sigmas = tables.table(scheduler, "timesteps").flatten(), tables.table(scheduler, "sigmas").flatten()
    if not 0 < len(times) <= len(sigmas):
        return False
    return bool((times - (1 - sigmas[: len(times)])).abs().max() <= SLACK)


def _by_token(times: Tensor, scale: float, state: Tensor) -> Level:
    """Every token at a level of its own."""
    s = times.to(state.device).double() / scale
    s = s.reshape(*s.shape, *(1,) * (state.ndim - s.ndim))
    return Level.of(1 - s, s, "flow")
