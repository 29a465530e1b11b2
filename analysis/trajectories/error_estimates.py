"""What a solver's own predictions say of its error: embedded pairs, and steps made again in halves.

    embedded_errors(run_path(denoiser, x, sigmas, solver=DPMSolverPP2M()))      # no further calls
    embedded_errors(run_path(denoiser, x, sigmas, solver=Heun()), denoiser)     # of Heun's: two more a step
    halved_errors(denoiser, run_path(denoiser, x, sigmas, solver=Euler()), Euler(), order=1)

The first has the right size from about 16 steps on and no direction below; of `solver_errors` they need no fine path.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import quantile_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.fine_paths import KnownFirst
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sampling.paths import Path, run_to_end
from scorescope.probes.sampling.solvers import Solver

OFF = 4  # roundings by which a step may differ: repeated it is off by 0.3 of one, at noise of 80 Euler's is by 20

ERROR_ESTIMATES = Schema(
    "error_estimates",
    (
        Column("estimate", str, "", "embedded 1, embedded 2: between DPM-Solver++ of this order and the next, from the "
               "same predictions; embedded heun: between Heun's step and the third-order one that its two predictions "
               "begin; halved: between a step and the same in two halves, scaled by the order"),
        Column("step", int, "", "step of the solver, from 0"),
        Column("sigma", float, "data", "noise level that it starts from"),
        Column("sigma_next", float, "data", "noise level that it ends at"),
        Column("n", int, "", "samples"),
        Column("value", float, "data", "RMS over elements of the estimated error of the step, median over samples; "
               "NaN where too few steps came before"),
        *ends("data", "of the median, between order statistics"),
        Column("calls", float, "", "further denoiser calls a sample, of all steps"),
    ),
)  # fmt: skip


@checked
@torch.no_grad()
def embedded_errors(path: Path, denoiser: Denoiser | None = None, *, condition: Condition = None) -> pd.DataFrame:
    """Error of a step of DPM-Solver++ 1M and 2M, from the predictions that a run has made anyway; or of Heun's.

    Parameters
    ----------
    path : Path
        From `run_path` of any solver; its predictions at grid points are used.
    denoiser : Denoiser, optional
        The model of a path of deterministic Heun, whose own steps are estimated then.
    condition : optional
        One row a sample, with a denoiser.

    Returns
    -------
    DataFrame
        `ERROR_ESTIMATES`: one row a (estimate, step) between positive levels. Sizes of the step's own error, before it
        is amplified. Heun's take two calls a step more: of n steps 4 n in all, twice the run's own.

    Raises
    ------
    InputError
        For fewer than two levels, and a denoiser whose Heun steps do not lead along the path, to rounding: where other
        solvers make the same steps to that, theirs are accepted.

    Notes
    -----
    In the notation of Lu et al. 2022 (arXiv 2211.01095): 2M - 1M and 3M - 2M at the same state. On a mixture with 8, 16
    and 32 steps the sizes were 1.3, 1.0 and 1.0 of the true ones, their directions off by 100, 40 and 20 %.
    The first two stages of the third-order method of Shu and Osher 1988 are those of Heun's step: one prediction at
    the middle of the levels completes it.
    """
    if len(path.sigmas) < 2:
        raise InputError("path", found=f"{len(path.sigmas)} noise levels", expected="at least 2")
    if denoiser is not None:
        return ERROR_ESTIMATES.check(_of_heun(denoiser, path, condition))
    logs = [math.log(sigma) for sigma in path.sigmas]
    widths = [high - low for high, low in itertools.pairwise(logs)]
    slopes = [
        (after - before) / h for (before, after), h in zip(itertools.pairwise(path.denoised), widths, strict=True)
    ]
    first, second = [], []
    for place, h in enumerate(widths):
        first.append(-math.expm1(-h) * h * slopes[place - 1] / 2 if place else None)
        second.append(_third_less_second(slopes, widths, place) if place > 1 else None)
    grid = list(itertools.pairwise(path.sigmas))
    tables = [_table(f"embedded {order}", grid, parts, 0.0, path) for order, parts in ((1, first), (2, second))]
    return ERROR_ESTIMATES.check(pd.concat(tables, ignore_index=True))


@checked
@torch.no_grad()
def halved_errors(
    denoiser: Denoiser, path: Path, solver: Solver, *, order: int, condition: Condition = None
) -> pd.DataFrame:
    """Error of every step of a one-step solver, by taking it again in two halves (Richardson).

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    path : Path
        Of that solver and denoiser. Steps that need no call but the first, as Euler's, are made again to see it; those
        of other solvers would take more calls, and are believed.
    solver : Solver
        One without a memory.
    order : int
        Its order p: the error of a step is taken to be (step - two halves) / (1 - 2^-p).
    condition : optional
        One row a sample.

    Returns
    -------
    DataFrame
        `ERROR_ESTIMATES`: one row a step between positive levels. The step and the prediction at its start are those of
        the path, so that Euler's halves cost one call a step more and Heun's three, at three states that its run never
        asked at: of n steps of Heun between positive levels 5 n calls in all, 2.5 times the run's own 2 n (twice with
        `embedded_errors`). None is asked twice.

    Raises
    ------
    InputError
        For a solver with a memory, an order below 1, and a path that is seen not to be of that solver.
    """
    if getattr(solver, "uses_history", False) or order < 1:
        found = f"{type(solver).__name__}, order {order}"
        raise InputError("solver, order", found=found, expected="a solver without a memory, and its order, 1 or more")
    grid, parts, calls = list(itertools.pairwise(path.sigmas)), [], 0
    for place, (high, low) in enumerate(grid):
        state = path.states[place]
        own = _own_step(solver, path, place)
        if own is not None and not _leads_along(path, place, own):
            found = f"a path that is not that of {type(solver).__name__} from sigma {high:.3g} to {low:.3g}"
            raise InputError("path", found=found, expected="run_path(denoiser, ..., solver=solver)")
        known = KnownFirst(denoiser, state, path.denoised[place])
        levels = [high, math.sqrt(high * low), low]
        halves, _ = run_to_end(known, state, levels, condition=condition, solver=solver)
        calls += known.calls
        parts.append((path.states[place + 1] - halves) / (1 - 2.0**-order))
    return ERROR_ESTIMATES.check(_table("halved", grid, parts, float(calls), path))


def _of_heun(denoiser: Denoiser, path: Path, condition: Condition) -> pd.DataFrame:
    """Heun's step less the third-order one, by step."""

    def slope(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        return (x - evaluate(denoiser, x, level, condition, branch="denoised")) / sigma

    grid, parts = list(itertools.pairwise(path.sigmas)), []
    for place, (high, low) in enumerate(grid):
        state, width = path.states[place], low - high
        first = (state - path.denoised[place]) / high
        both = first + slope(state + width * first, low)
        if not _leads_along(path, place, state + width / 2 * both):
            found = f"a path that is not that of this denoiser and Heun from sigma {high:.3g} to {low:.3g}"
            raise InputError("path", found=found, expected="run_path(denoiser, ..., solver=Heun())")
        middle = slope(state + width / 4 * both, (high + low) / 2)
        parts.append(width / 3 * (both - 2 * middle))
    return _table("embedded heun", grid, parts, 2.0 * len(grid), path)


class _MoreAsked(Exception):
    """A step needs another prediction than the first."""


def _own_step(solver: Solver, path: Path, place: int) -> Tensor | None:
    """A step as the solver makes it from the prediction of the path; None where it needs others."""

    def more(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        raise _MoreAsked

    state = path.states[place]
    known = KnownFirst(more, state, path.denoised[place])
    try:
        return run_to_end(known, state, path.sigmas[place : place + 2], solver=solver)[0]
    except _MoreAsked:
        return None


def _leads_along(path: Path, place: int, step: Tensor) -> bool:
    """Whether a step ends at the next state of every sample, to the rounding of the states and of the predictions.

    That of a prediction moves a step by its share of the noise that is left. No share of the step would do: at high
    noise solvers differ by less than 1e-4 of it.
    """
    high, low = path.sigmas[place : place + 2]
    state, after, said = path.states[place], path.states[place + 1], path.denoised[place]
    eps = max(path.resolution, torch.finfo(state.dtype).eps, torch.finfo(said.dtype).eps)
    off, at, target = (part.double().flatten(1).norm(dim=1) for part in (step - after, state, said))
    return bool((off <= OFF * eps * (at + (high - low) / low * target)).all())


def _third_less_second(slopes: list[Tensor], widths: list[float], place: int) -> Tensor:
    """What the third predictions adds to a step of DPM-Solver++ 2M."""
    h, r0, r1 = widths[place], widths[place - 1] / widths[place], widths[place - 2] / widths[place]
    near, far = h * slopes[place - 1], h * slopes[place - 2]
    first, second = near + r0 / (r0 + r1) * (near - far), (near - far) / (r0 + r1)
    gone = math.expm1(-h)
    return (gone / h + 1) * first - ((gone + h) / h**2 - 0.5) * second + gone / 2 * near


def _table(
    name: str, grid: list[tuple[float, float]], parts: Sequence[Tensor | None], calls: float, path: Path
) -> pd.DataFrame:
    """One row a step."""
    rows = []
    for step, ((high, low), part) in enumerate(zip(grid, parts, strict=True)):
        keys = {"estimate": name, "step": step, "sigma": high, "sigma_next": low, "n": path.states.shape[1]}
        value = low_end = high_end = np.nan
        if part is not None:
            sizes: Floats = part.double().flatten(1).square().mean(1).sqrt().cpu().numpy()
            value, (low_end, high_end) = float(np.median(sizes)), map(float, quantile_interval(sizes))
        rows.append({**keys, "value": value, "low": low_end, "high": high_end, "calls": calls})
    return pd.DataFrame(rows)
