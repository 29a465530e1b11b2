"""Diffusers' own schedulers as solvers of a plain denoiser, at any noise levels.

    solver = scheduler_solver(UniPCMultistepScheduler, solver_order=3)
    run_path(denoiser, x, edm_sigmas(10), solver=solver)

A scheduler is told the levels by writing them into its own tables; what its state and its prediction mean there is
read by `LevelReader`, as in a pipeline. No class is listed here: whether one can be driven is tried when the solver is
made. Some classes keep the state in float32 inside a step, whatever it is given: then errors below 1e-6 are theirs.
"""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelReader
from scorescope.probes.pipelines.scheduler_tables import training_steps
from scorescope.probes.sampling.solvers import Evaluate

CONFIG = {"clip_sample": False, "skip_prk_steps": True, "set_alpha_to_one": True}  # unless the user says otherwise
TABLE_CONFIG = {"timestep_spacing": "leading", "steps_offset": 0}
TRIED = (5.0, 2.0, 1.0, 0.4, 0.1, 0.03)
LONG = 256  # steps: some classes add noise, or end otherwise, only in runs longer than TRIED
CLOSE = 1e-4  # relative; steps are float32 in some classes
LEAST_TRAINING = (
    64  # timesteps of training, where nothing depends on them: some classes take a second to make with 1000
)
WANTED = "a scheduler that takes given levels and adds no noise"
FAILURES = (
    AssertionError, AttributeError, ImportError, IndexError, KeyError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


@checked
@dataclass(frozen=True)
class SchedulerSolver:
    """A solver whose steps are those of a scheduler of diffusers; made by `scheduler_solver`.

    Attributes
    ----------
    kind : type
        The scheduler's class.
    config : mapping
        What it is made with.
    uses_history : bool
        Its steps also use the steps before.
    reaches_zero : bool
        Its own step goes to 0; where it does not, the last one is the prediction itself.
    """

    kind: type
    config: Mapping[str, Any]
    uses_history: bool = True
    reaches_zero: bool = True

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        if sigmas[-1] > 0 or self.reaches_zero:
            return _drive(self.kind, self.config, evaluate, x, sigmas)
        *before, last, _ = sigmas
        if before:
            x = _drive(self.kind, self.config, evaluate, x, [*before, last])
        return evaluate(x, sigma=last, sigma_next=0.0, step=len(before), call=0)


@checked
def scheduler_solver(kind: type, **config: Any) -> SchedulerSolver:
    """A solver that takes the steps of a diffusers scheduler.

    Parameters
    ----------
    kind : type
        A scheduler's class, for instance `diffusers.UniPCMultistepScheduler`.
    **config
        What it is made with, for instance solver_order=3. Samples are not clipped unless it says so.

    Returns
    -------
    SchedulerSolver
        Deterministic, of variance-exploding states at falling levels.

    Raises
    ------
    InputError
        For a class that cannot be driven: of a denoiser that always gives the same x0, its steps do not end on the
        straight line to that, as every solver's do that adds no noise. Runs of 5 and of 256 steps are tried, fewer
        where fewer timesteps are trained. The reason says what was seen.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # noise is drawn from the global generator
        warnings.simplefilter("ignore")  # some divide by a level of 0
        steps = max(len(TRIED), min(LONG, config.get("num_train_timesteps", LONG + 1) - 1))
        long = [TRIED[0] * (TRIED[-1] / TRIED[0]) ** (step / steps) for step in range(steps + 1)]
        why = _why_not(kind, config, TRIED) or _why_not(kind, config, long)
        if why:
            raise InputError("kind", found=f"{kind.__name__}, which {why}", expected=WANTED)
        return SchedulerSolver(
            kind,
            config,
            uses_history=_uses_history(kind, config),
            reaches_zero=not any(
                _why_not(kind, config, [*levels, 0.0]) for levels in (TRIED, long[:: max(1, steps // 20)])
            ),
        )


def _why_not(kind: type, config: Mapping[str, Any], sigmas: Sequence[float]) -> str:
    """Why the scheduler cannot be driven over these levels; empty where it can."""
    x0, noise = torch.full((2, 1, 2, 2), 3.0).double(), torch.linspace(-2, 2, 8).double().reshape(2, 1, 2, 2)
    start = x0 + sigmas[0] * noise
    try:
        ends = [_drive(kind, config, lambda x, **_: x0, start, sigmas) for _ in range(2)]
    except FAILURES as error:
        reason = " ".join(str(error).split())[:160]
        return f"cannot be set to given noise levels ({type(error).__name__}: {reason})"
    if not torch.equal(*ends) and bool(torch.isfinite(ends[0]).all()):
        return f"adds noise of its own in a run of {len(sigmas) - 1} steps"
    if not torch.allclose(ends[0], x0 + sigmas[-1] * noise, rtol=CLOSE, atol=CLOSE):
        return "does not end where a constant prediction leads"
    return ""


def _uses_history(kind: type, config: Mapping[str, Any]) -> bool:
    """Whether a run differs from the same steps, each made anew."""
    start, levels = torch.tensor([[8.0, -3.0]], dtype=torch.float64), TRIED[:4]

    def gaussian(x: Tensor, *, sigma: float, **_: Any) -> Tensor:
        return x / (1 + sigma**2)

    single = start
    for pair in itertools.pairwise(levels):
        single = _drive(kind, config, gaussian, single, pair)
    return not torch.allclose(_drive(kind, config, gaussian, start, levels), single, rtol=CLOSE)


class _Call(NamedTuple):
    """A call of the denoiser: at which level, in which step."""

    sigma: float
    step: int
    call: int


def _drive(kind: type, config: Mapping[str, Any], evaluate: Evaluate, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Walk down the levels by the scheduler's own steps."""
    scheduler, calls = _set_up(kind, config, [float(sigma) for sigma in sigmas])
    reader, state = LevelReader(), x
    for place, (sigma, step, call) in enumerate(calls):
        time = scheduler.timesteps[place]
        level = reader.read(scheduler, time, x)
        _check_level(level, sigma)
        if place == 0:
            convention = _convention(level)
            state = level.alpha * x
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(state, time)  # some warn where it is left out
        denoised = evaluate(state / level.alpha, sigma=sigma, sigma_next=sigmas[step + 1], step=step, call=call)
        prediction = (denoised - level.skip * state) / level.out
        state = scheduler.step(prediction, time, state, return_dict=False)[0]
    return state.to(x.dtype) / convention(sigmas[-1])


def _check_level(level: Level, sigma: float) -> None:
    if level.note or not isinstance(level.sigma, float) or not math.isclose(level.sigma, sigma, rel_tol=CLOSE):
        raise InputError("scheduler", found=level.note or f"a step at {level.sigma}", expected=f"a step at {sigma:.6g}")


def _convention(level: Level) -> Callable[[float], float]:
    """The weight of the data as a function of sigma: variance exploding, preserving, or flow."""
    forms: tuple[Callable[[float], float], ...] = (
        lambda sigma: 1.0, lambda sigma: (1 + sigma**2) ** -0.5, lambda sigma: 1 / (1 + sigma)
    )  # fmt: skip
    sigma, alpha = float(level.sigma), float(level.alpha)
    return min(forms, key=lambda form: abs(form(sigma) - alpha))


def _set_up(kind: type, config: Mapping[str, Any], sigmas: list[float]) -> tuple[Any, list[_Call]]:
    """The scheduler with these levels in its tables, and the calls that it will ask for."""
    known = inspect.signature(kind).parameters
    steps = len(sigmas) - 1
    told: dict[str, Any] = {"final_sigmas_type": "sigma_min" if sigmas[-1] > 0 else "zero"}
    told |= {"num_train_timesteps": max(LEAST_TRAINING, len(sigmas))}
    if (
        "lower_order_final" in known and not known["lower_order_final"].default
    ):  # what it would change to, with a warning
        order = config.get("solver_order", known["solver_order"].default)
        told |= {"lower_order_final": sigmas[-1] == 0 or steps % order > 0}
    given = {name: value for name, value in (CONFIG | told).items() if name in known} | dict(config)
    scheduler = kind(**given)
    if hasattr(scheduler, "alphas_cumprod") and not hasattr(scheduler, "sigmas"):
        levels = sigmas if sigmas[-1] > 0 else sigmas[:-1]
        table = {name: value for name, value in TABLE_CONFIG.items() if name in known}
        return _by_products(kind(**given | table | {"num_train_timesteps": len(levels)}), levels, steps)
    scheduler.set_timesteps(steps)
    if hasattr(scheduler, "sigmas"):
        return scheduler, _by_sigmas(scheduler, sigmas)
    if hasattr(scheduler, "alphas") and hasattr(scheduler, "betas"):
        return scheduler, _by_pairs(scheduler, sigmas)
    raise InputError("scheduler", found="no table of noise levels", expected="sigmas, alphas_cumprod, alphas and betas")


def _by_products(scheduler: Any, levels: list[float], steps: int) -> tuple[Any, list[_Call]]:
    """DDIM, PNDM: a table of cumulative products by timestep, counted from the least level."""
    scheduler.alphas_cumprod = (1 + torch.tensor(levels[::-1], dtype=torch.float64) ** 2) ** -1
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    scheduler.set_timesteps(len(levels))
    places = [len(levels) - 1 - int(time) for time in scheduler.timesteps]
    if steps < len(levels):
        places = places[:-1]  # from the last level on
    calls = []
    for place, after in itertools.pairwise([*places, -1]):
        again = place in (after, steps)  # PNDM makes its first step twice
        calls.append(_Call(levels[place], place - again, int(again)))
    return scheduler, calls


def _by_sigmas(scheduler: Any, sigmas: list[float]) -> list[_Call]:
    """Euler, Heun, DPM-Solver, flows: a table of levels by step, each twice where a step has two calls."""
    pairs = list(itertools.pairwise(sigmas))
    middles = [math.sqrt(high * low) for high, low in pairs]
    calls = [_Call(sigma, step, 0) for step, sigma in enumerate(sigmas[:-1])]
    entries = list(sigmas)
    if hasattr(scheduler, "state_in_first_order"):
        second = middles if hasattr(scheduler, "sigmas_interpol") else sigmas[1:]
        calls += [_Call(sigma, step, 1) for step, sigma in enumerate(second) if sigma > 0]
        calls.sort(key=lambda call: (call.step, call.call))
        entries = [sigmas[0], *(sigma for sigma in sigmas[1:] for _ in range(2))]
        if hasattr(scheduler, "sigmas_interpol"):
            scheduler.sigmas_interpol = _table([sigmas[0], *(middle for middle in middles for _ in range(2))])
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    table, training = _table(entries), training_steps(scheduler)
    scheduler.sigmas = table / (1 + table)  # below 1, as a flow's times are
    scheduler.timesteps = _table([training * call.sigma / (1 + call.sigma) for call in calls])
    level = LevelReader().read(scheduler, scheduler.timesteps[0], table.reshape(1, -1))
    if not isinstance(level.sigma, float) or not math.isclose(level.sigma, sigmas[0], rel_tol=CLOSE):
        scheduler.sigmas, scheduler.timesteps = table, _table(range(len(calls), 0, -1))
    return calls


def _by_pairs(scheduler: Any, sigmas: list[float]) -> list[_Call]:
    """IPNDM: weights of data and noise in two tables by step."""
    table = _table(sigmas)
    scheduler.alphas, scheduler.betas = (1 + table**2) ** -0.5, table * (1 + table**2) ** -0.5
    scheduler.timesteps = _table(range(len(sigmas) - 1, 0, -1))
    scheduler.set_begin_index(0)
    return [_Call(sigma, step, 0) for step, sigma in enumerate(sigmas[:-1])]


def _table(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)
