"""How far from the exact flow solvers and schedules end, from the same seeds: at equal calls, and as steps get finer.

    walks = {("2M", "rho 7"): (DPMSolverPP2M(), edm_sigmas(8)), ("2M", "tuned"): (DPMSolverPP2M(), found.sigmas)}
    end_errors(denoiser, start, walks, against=("2M", "rho 7"))
    observed_orders(denoiser, start, {"Heun": Heun()}, partial(uniform_log_sigmas, high=5.0, low=0.1))

A tuned schedule is to be judged on seeds that had no part in tuning it, and on hundreds: a few samples that change mode
hold most of any squared error.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import SeedDraws, seed_interval
from scorescope.analysis.statistics.intervals import quantile_interval, skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.paths import run_to_end
from scorescope.probes.sampling.reference import RungeKutta4
from scorescope.probes.sampling.solvers import Solver

Walks = Mapping[tuple[str, str], tuple[Solver, Sequence[float]]]
"""Solver and levels by the names of the solver and of the schedule."""

WORST = 0.05  # share of samples that are looked at alone
REFERENCE_STEPS = 64

END_ERRORS = Schema(
    "end_errors",
    (
        Column("solver", str, "", "solver"),
        Column("schedule", str, "", "how its noise levels are spaced"),
        Column("steps", int, "", "steps"),
        Column("calls", int, "", "denoiser calls a sample"),
        Column("n", int, "", "samples"),
        Column("mean", float, "data", "mean over samples of the RMS over elements of (end - end of the reference)"),
        *ends("data", "of the mean over samples, corrected for skewness"),
        Column("median", float, "data", "its median over samples"),
        *ends("data", "between order statistics", of="median"),
        Column("worst_share", float, "1", f"of the sum of squared errors, held by the worst {WORST:.0%} of samples"),
        Column("ratio", float, "1", "mean over that of the walk compared with"),
        *ends("1", "by bootstrap over samples, paired", of="ratio"),
        Column("typical_ratio", float, "1", "geometric mean over samples of the error over that of the walk compared "
               "with: below 1 where the typical sample ends nearer; smaller errors than the rounding count as that"),
        *ends("1", "of the mean logarithm, corrected for skewness", of="typical_ratio"),
    ),
)  # fmt: skip

OBSERVED_ORDERS = Schema(
    "observed_orders",
    (
        Column("solver", str, "", "solver"),
        Column("steps", int, "", "steps"),
        Column("calls", int, "", "denoiser calls a sample"),
        Column("n", int, "", "samples"),
        Column("error", float, "data", "median over samples of the RMS over elements of (end - end of the reference)"),
        Column("order", float, "1", "median over samples of log(error before / error) / log(steps / steps before); NaN "
               "for the fewest steps"),
        *ends("1", "of the median, between order statistics"),
    ),
)  # fmt: skip


@checked
@torch.no_grad()
def end_errors(
    denoiser: Denoiser,
    start: Tensor,
    walks: Walks,
    *,
    against: tuple[str, str] | None = None,
    condition: Condition = None,
    reference: Tensor | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Distance of every walk's ends from those of the exact flow, and beside that of one walk, sample by sample.

    Parameters
    ----------
    denoiser : Denoiser
        The model; with guidance, a `RuleField`.
    start : Tensor, shape (n, *shape)
        States at the highest level of all walks, variance exploding.
    walks : mapping of (str, str) to (Solver, sequence of float)
        Deterministic solvers and their levels, by name of solver and schedule; all from one level to one other.
    against : (str, str), optional
        The walk that ratios are taken with; by default the first.
    condition : optional
        One row a sample.
    reference : Tensor, shape (n, *shape), optional
        Where the exact flow ends; by default see `reference_ends`, of the first walk's levels.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        `END_ERRORS`: one row a walk.

    Raises
    ------
    InputError
        Without walks, for walks between other levels, an unknown one to compare with, a reference of another shape.
    """
    require_some("walks", walks)
    chosen = against or next(iter(walks))
    if chosen not in walks:
        raise InputError("against", found=str(chosen), expected=f"one of {list(walks)}")
    first = next(iter(walks.values()))[1]
    if any(not np.allclose((sigmas[0], sigmas[-1]), (first[0], first[-1]), 1e-6, 0) for _, sigmas in walks.values()):
        ends_of = str(sorted({(sigmas[0], sigmas[-1]) for _, sigmas in walks.values()}))
        raise InputError("walks", found=ends_of, expected="one highest and one lowest level for all")
    if reference is None:
        lowest = min(sigma for _, sigmas in walks.values() for sigma in sigmas if sigma > 0)
        reference = reference_ends(denoiser, start, [first[0], lowest, *first[-1:]], condition=condition)
    found = {
        key: _ended(denoiser, start, solver, sigmas, condition, reference) for key, (solver, sigmas) in walks.items()
    }
    draws, base = SeedDraws.of(len(start), seed=seed), found[chosen][0]
    least = torch.finfo(reference.dtype).eps * max(float(reference.double().square().mean().sqrt()), 1e-30)
    rows = [
        {"solver": solver, "schedule": schedule, "steps": len(walks[solver, schedule][1]) - 1, "calls": calls}
        | _sizes(error) | _ratios(error, base, draws, least)
        for (solver, schedule), (error, calls) in found.items()
    ]  # fmt: skip
    return END_ERRORS.check(pd.DataFrame(rows))


@checked
@torch.no_grad()
def reference_ends(
    denoiser: Denoiser,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition = None,
    steps: int = REFERENCE_STEPS,
) -> Tensor:
    """Where so many steps of `RungeKutta4` end that their error does not count, shape of start.

    Parameters
    ----------
    denoiser, condition
        As for `end_errors`.
    start : Tensor, shape (n, *shape)
        States at the highest level.
    sigmas : sequence of float
        Of a walk: the steps are uniform in ln sigma between the highest and the lowest positive level, and a last one
        to 0 is the prediction there.
    steps : int
        How many.
    """
    levels = [float(sigma) for sigma in sigmas if sigma > 0]
    fine = [levels[0], *np.geomspace(levels[0], levels[-1], steps + 1)[1:-1].tolist(), levels[-1]]
    fine = sorted(set(fine), reverse=True)
    return run_to_end(denoiser, start, fine + [0.0] * (sigmas[-1] == 0), condition=condition, solver=RungeKutta4())[0]


@checked
@torch.no_grad()
def observed_orders(
    denoiser: Denoiser,
    start: Tensor,
    solvers: Mapping[str, Solver],
    grid: Callable[[int], Sequence[float]],
    *,
    steps: Sequence[int] = (16, 32, 64),
    condition: Condition = None,
    reference: Tensor | None = None,
) -> pd.DataFrame:
    """Order at which the end error falls with the number of steps.

    A multistep solver that starts with a first-order step is of order 2 at most, whatever its own order.

    Parameters
    ----------
    denoiser, start, condition
        As for `end_errors`.
    solvers : mapping of str to Solver
        Deterministic solvers by name.
    grid : callable
        Gives the levels for a number of steps, all between the same two; the last above 0, or its step is of order 1.
    steps : sequence of int
        Numbers of steps, rising.
    reference : Tensor, optional
        Where the exact flow ends; by default as for `end_errors`, with as many steps as the most.

    Returns
    -------
    DataFrame
        `OBSERVED_ORDERS`: one row a (solver, steps).
    """
    require_some("solvers", solvers)
    if reference is None:
        reference = reference_ends(denoiser, start, grid(max(steps)), condition=condition, steps=max(steps))
    rows = []
    for name, solver in solvers.items():
        before: Floats | None = None
        for place, count in enumerate(steps):
            error, calls = _ended(denoiser, start, solver, grid(count), condition, reference)
            order = low = high = np.nan
            if before is not None:
                with np.errstate(divide="ignore", invalid="ignore"):
                    slopes = np.log(before / error) / np.log(count / steps[place - 1])
                order, (low, high) = float(np.median(slopes)), map(float, quantile_interval(slopes))
            before = error
            rows.append({"solver": name, "steps": count, "calls": calls, "n": len(error),
                         "error": float(np.median(error)), "order": order, "low": low, "high": high})  # fmt: skip
    return OBSERVED_ORDERS.check(pd.DataFrame(rows))


def _ended(
    denoiser: Denoiser, start: Tensor, solver: Solver, sigmas: Sequence[float], condition: Condition, reference: Tensor
) -> tuple[Floats, int]:
    """RMS error of every sample, and the calls of one."""
    if reference.shape != start.shape:
        raise InputError("reference", found=f"shape {tuple(reference.shape)}", expected=f"{tuple(start.shape)}")
    end, calls = run_to_end(denoiser, start, sigmas, condition=condition, solver=solver)
    error: Floats = (end.double() - reference.double()).flatten(1).square().mean(1).sqrt().cpu().numpy()
    return error, calls


def _sizes(error: Floats) -> dict[str, float]:
    low, high = skewed_mean_interval(error)
    median_low, median_high = quantile_interval(error)
    squares = np.sort(error**2)[::-1]
    worst = squares[: max(1, round(WORST * len(squares)))].sum() / squares.sum() if squares.any() else np.nan
    return {
        "n": len(error), "mean": float(error.mean()), "low": float(low), "high": float(high),
        "median": float(np.median(error)), "median_low": float(median_low), "median_high": float(median_high),
        "worst_share": float(worst),
    }  # fmt: skip


def _ratios(error: Floats, base: Floats, draws: SeedDraws, least: float) -> dict[str, float]:
    with np.errstate(divide="ignore", invalid="ignore"):  # a walk without error
        ratio, low, high = seed_interval(draws.means(error) / draws.means(base), len(error))
        logs = np.log(np.maximum(error, least) / np.maximum(base, least))
        typical_low, typical_high = skewed_mean_interval(logs)
    typical = {"typical_ratio": logs.mean(), "typical_ratio_low": typical_low, "typical_ratio_high": typical_high}
    return {
        "ratio": float(ratio), "ratio_low": float(low), "ratio_high": float(high),
        **{name: float(np.exp(value)) for name, value in typical.items()},
    }  # fmt: skip
