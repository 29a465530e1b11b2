"""What one step of a solver gets wrong: each step of a grid against many finer ones from the same state.

table = local_errors(denoiser, 80.0 * noise, edm_sigmas(18), {"Euler": Euler(), "Heun": Heun()})
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import check_sigmas
from scorescope.probes.sampling.paths import run_path
from scorescope.probes.sampling.solvers import Solver

RHO = 7.0  # of the finer steps; a step to 0 has to be made of ever smaller ones

LOCAL_ERRORS = Schema(
    "local_errors",
    (
        Column("solver", str, "", "solver"),
        Column("step", int, "", "step of the grid, from 0"),
        Column("sigma", float, "data", "noise level that it starts from"),
        Column("sigma_next", float, "data", "noise level that it ends at"),
        Column("n", int, "", "samples"),
        Column("mean", float, "data", "root mean square over elements of (one step - many steps), mean over samples"),
        Column("median", float, "data", "its median over samples"),
        *ends("data", "of the mean over samples, corrected for skewness"),
        Column("rounding", float, "data", "root mean square of the state, times the resolution of its type"),
    ),
)


@checked
def local_errors(
    denoiser: Denoiser,
    start: Tensor,
    sigmas: Sequence[float],
    solvers: Mapping[str, Solver],
    *,
    condition: Condition = None,
    substeps: int = 16,
) -> pd.DataFrame:
    """Local truncation error of every step, on the path that many small Heun steps take.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    start : Tensor, shape (batch, *shape)
        States at sigmas[0], variance exploding.
    sigmas : sequence of float
        Falling noise levels of the grid; the last may be 0, where the finer steps ask a network at levels far below
        those of the grid, which it may not know.
    solvers : mapping of str to Solver
        Deterministic solvers by name that need the state alone: a solver that uses the step before has no error of
        one step from a state.
    condition : optional
        One row a sample.
    substeps : int
        Heun steps that a step of the grid is held against. On a Gaussian their own error is some 1 / substeps^2 of
        that of one Heun step.

    Returns
    -------
    DataFrame
        `LOCAL_ERRORS`: one row a (solver, step).

    Raises
    ------
    InputError
        For fewer than two substeps, no solvers, a multistep one, and what `run_path` refuses.
    """
    check_sigmas(sigmas)
    several = [name for name, solver in solvers.items() if getattr(solver, "uses_history", False)]
    if several or not solvers or substeps < 2:
        found = f"{substeps} substeps, {several[0] + ', a multistep solver' if several else list(solvers)}"
        raise InputError("solvers, substeps", found=found, expected="one-step solvers, and at least 2 substeps")
    parts, state = [], start
    for step, (high, low) in enumerate(itertools.pairwise(sigmas)):
        after = run_path(denoiser, state, _between(high, low, substeps), condition=condition).end
        rounding = torch.finfo(state.dtype).eps * float(state.double().square().mean().sqrt())
        keys = {"step": step, "sigma": high, "sigma_next": low, "rounding": rounding}
        for name, solver in solvers.items():
            end = run_path(denoiser, state, [high, low], condition=condition, solver=solver).end
            error = (end - after).double().flatten(1).square().mean(1).sqrt().cpu().numpy()
            parts.append(pd.DataFrame({**keys, "solver": name, "sample": np.arange(len(error)), "error": error}))
        state = after
    by = ["solver", "step", "sigma", "sigma_next", "rounding"]
    table = summarise_by(pd.concat(parts, ignore_index=True), by=by, quantities=["error"])
    return LOCAL_ERRORS.check(table[LOCAL_ERRORS.names])


def _between(high: float, low: float, count: int) -> list[float]:
    """Levels of `count` steps from one to the other."""
    first, last = high ** (1 / RHO), low ** (1 / RHO)
    inner = [(first + k / count * (last - first)) ** RHO for k in range(1, count)]
    return [high, *inner, low]
