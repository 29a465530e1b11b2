"""Better noise levels for a model: error spread evenly, or the cheapest levels of a fine grid.

    steps = solver_errors(denoiser, start, fine_grid, Euler()).steps()
    sigmas = equal_error_schedule(fine_grid, steps[steps["quantity"] == "at_end"]["value"], 8, order=1)

    costs = pairwise_costs(denoiser, start, fine_grid)
    sigmas = cheapest_levels(costs, fine_grid, 8)

Both suppose that steps do not know of each other. For a multistep solver they are a start for `tuned_schedule`; whether
they are better is told by `end_errors`, on other seeds.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.trajectories.fine_paths import FinePaths, KnownFirst
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.noise import check_sigmas
from scorescope.probes.sampling.paths import run_to_end
from scorescope.probes.sampling.solvers import Euler, Heun, Solver


@checked
def equal_error_schedule(sigmas: Sequence[float], errors: ArrayLike, steps: int, *, order: int = 1) -> list[float]:
    """Levels between which a solver of this order makes equal errors.

    Parameters
    ----------
    sigmas : sequence of float
        Falling levels of the grid that errors were measured on, finer than the one sought; a last 0 is kept.
    errors : array, shape (positive intervals,) or (intervals,)
        Error of each step, in any unit: best what it becomes at the end. That of a step to 0 is not used.
    steps : int
        Steps sought, the one to 0 among them.
    order : int
        The solver's p: an error of a step is taken to grow as the (p + 1)th power of its width in ln sigma, and that
        power's root is spread evenly. This minimises the sum of errors that do not know of each other.

    Returns
    -------
    list of float
        steps + 1 falling levels; highest, lowest and a last 0 are those of `sigmas`.

    Raises
    ------
    InputError
        For errors that are not positive and finite, of another number, and too few steps.
    """
    check_sigmas(sigmas)
    positive = [float(sigma) for sigma in sigmas if sigma > 0]
    zero = len(positive) < len(sigmas)
    found = np.asarray(errors, dtype=np.float64)[: len(positive) - 1]
    if len(found) < len(positive) - 1 or not np.isfinite(found).all() or not (found > 0).all():
        expected = f"{len(positive) - 1} positive errors, one a step between positive levels"
        raise InputError("errors", found=f"{found.tolist()}", expected=expected)
    if steps < 1 + zero or order < 1:
        raise InputError("steps, order", found=f"{steps}, {order}", expected=f"at least {1 + zero} and 1")
    reached = np.concatenate([[0.0], np.cumsum(found ** (1 / (order + 1)))])
    parts = np.linspace(0, reached[-1], steps + 1 - zero)
    levels = np.exp(np.interp(parts, reached, np.log(positive)))
    return [positive[0], *levels[1:-1].tolist(), positive[-1], *[0.0] * zero]


@checked
@torch.no_grad()
def pairwise_costs(
    denoiser: Denoiser,
    start: Tensor,
    grid: Sequence[float],
    *,
    solver: Solver | None = None,
    condition: Condition = None,
    substeps: int = 1,
    batch: int = 1024,
    progress: bool = False,
) -> Floats:
    """What one step from each level of a grid to each later one costs at the end.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    start : Tensor, shape (n, *shape)
        States at grid[0], variance exploding.
    grid : sequence of float
        Falling levels, of which a schedule is to be chosen: some 25 to 40.
    solver : Solver, optional
        One without a memory, by default `Euler()`. A multistep solver's error depends on the step before: levels that
        cost little here may cost it much.
    condition : optional
        One row a sample.
    substeps : int
        Heun steps for a step of the grid, on the paths by which errors are carried to the end.
    batch, progress
        As for `solver_errors`.

    Returns
    -------
    array, shape (levels, levels)
        At [i, j] the mean over samples of the RMS over elements of (end from where a step from level i of the fine path
        leads at level j - end of the fine path), in units of the data; infinite where j <= i.

    Raises
    ------
    InputError
        For a solver with a memory.
    """
    check_sigmas(grid)
    if getattr(solver, "uses_history", False):
        found = f"{type(solver).__name__}, which uses the steps before"
        raise InputError("solver", found=found, expected="a solver without a memory")
    finely = FinePaths(denoiser, condition, len(start), fine=Heun(), substeps=substeps, batch=batch)
    levels, path = [float(sigma) for sigma in grid], [start]
    for high, low in itertools.pairwise(levels):
        path += finely.carry([path[-1]], high, low)
    jumped: dict[tuple[int, int], Tensor] = {}
    for place, high in enumerate(tqdm(levels, desc="pairs", disable=not progress, leave=False)):
        if place:  # all that has landed above goes on beside the path
            landed = {key: state for key, state in jumped.items() if key[1] < place}
            jumped |= dict(zip(landed, finely.carry(list(landed.values()), levels[place - 1], high), strict=True))
        if high == 0 or place == len(levels) - 1:
            continue
        sigma = torch.full((len(start),), high, dtype=start.dtype, device=start.device)
        known = KnownFirst(denoiser, path[place], evaluate(denoiser, path[place], sigma, condition, branch="cond"))
        for later in range(place + 1, len(levels)):
            ended, _ = run_to_end(
                known, path[place], [high, levels[later]], condition=condition, solver=solver or Euler()
            )
            jumped[place, later] = ended
    costs = np.full((len(levels), len(levels)), math.inf)
    for key, state in jumped.items():
        costs[key] = float((state - path[-1]).double().flatten(1).square().mean(1).sqrt().mean())
    return costs


@checked
def cheapest_levels(costs: ArrayLike, grid: Sequence[float], steps: int) -> list[float]:
    """The levels of a grid whose steps cost the least together, exactly, by dynamic programming.

    Parameters
    ----------
    costs : array, shape (levels, levels)
        Of a step from level i to level j; infinite where there is none.
    grid : sequence of float
        The levels.
    steps : int
        Steps sought, from the first level to the last.

    Returns
    -------
    list of float
        steps + 1 of the levels.

    Raises
    ------
    InputError
        For costs of another shape, and where no such steps exist.

    Notes
    -----
    Watson et al. 2021 (arXiv 2106.03802) choose timesteps so.
    """
    found = np.asarray(costs, dtype=np.float64)
    count = len(grid)
    if found.shape != (count, count) or not 1 <= steps < count:
        expected = f"shape {(count, count)}, and 1 to {count - 1} steps"
        raise InputError("costs, steps", found=f"shape {found.shape}, {steps} steps", expected=expected)
    best, came = np.where(np.arange(count) == 0, 0.0, math.inf), []
    for _ in range(steps):
        through = best[:, None] + found
        came.append(through.argmin(0))
        best = through.min(0)
    if not np.isfinite(best[-1]):
        raise InputError(
            "costs", found=f"no way of {steps} steps", expected="finite costs from each level to later ones"
        )
    place, chosen = count - 1, [count - 1]
    for before in reversed(came):
        place = int(before[place])
        chosen.append(place)
    return [float(grid[place]) for place in reversed(chosen)]
