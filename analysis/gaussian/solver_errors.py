"""What a solver makes of a linear denoiser, exactly and without a network.

    table = solver_gains(Heun(), edm_sigmas(18), gaussian.eigenvalues)

For a Gaussian law a deterministic solver multiplies each eigen-mode by a number that depends on its eigenvalue
only; the exact flow does too. Their ratio is the solver's error on the linear part of sampling, for any schedule
(Pierret & Galerne 2024, arXiv 2405.14250, do the same for the distance of the end distributions).
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.sampling.paths import run_path
from scorescope.probes.sampling.solvers import Solver

GAINS = Schema(
    "solver_gains",
    (
        Column("solver", str, "", "solver"),
        Column("steps", int, "", "steps of the schedule"),
        Column("calls", int, "", "denoiser calls"),
        Column("mode", int, "", "eigen-mode, in the order given"),
        Column("eigenvalue", float, "data^2", "variance of the data along the mode"),
        Column("gain", float, "1", "what the solver multiplies the mode by, from the first level to the last"),
        Column("exact", float, "1", "what the exact flow multiplies it by"),
        Column("relative_error", float, "1", "gain / exact - 1: by how much the mode's standard deviation is inflated"),
    ),
)


@checked
def solver_gains(solver: Solver, sigmas: Sequence[float], eigenvalues: Tensor | Sequence[float]) -> pd.DataFrame:
    """Gain of a schedule on modes of given variance.

    Parameters
    ----------
    solver : Solver
        A deterministic one.
    sigmas : sequence of float
        Falling noise levels; the last may be 0.
    eigenvalues : Tensor or sequence of float
        Positive variances, in squared units of the data.

    Returns
    -------
    DataFrame
        `GAINS`: one row a mode. In float64.

    Raises
    ------
    InputError
        For variances that are not positive, or a solver that adds noise.
    """
    values = torch.as_tensor(eigenvalues, dtype=torch.float64).reshape(-1)
    if not len(values) or not bool((values > 0).all()):
        raise InputError("eigenvalues", found=str(values.tolist()), expected="positive variances")
    diagonal = Gaussian(torch.zeros(len(values), dtype=torch.float64), torch.eye(len(values)).double(), values)
    start = torch.ones(1, len(values), dtype=torch.float64)
    path = run_path(diagonal, start, sigmas, solver=solver)
    exact = diagonal.flow(start, sigmas[0], sigmas[-1])
    table = pd.DataFrame(
        {
            "solver": type(solver).__name__, "steps": len(sigmas) - 1, "calls": path.calls,
            "mode": range(len(values)), "eigenvalue": values.numpy(), "gain": path.end[0].numpy(),
            "exact": exact[0].numpy(), "relative_error": (path.end / exact - 1)[0].numpy(),
        }
    )  # fmt: skip
    return GAINS.check(table)


@checked
def linear_error(table: pd.DataFrame) -> float:
    """Relative root-mean-square error of the end sample that the gains of one schedule imply, from pure noise.

    Parameters
    ----------
    table : DataFrame
        From `solver_gains`, of one schedule.

    Returns
    -------
    float
        Dimensionless.
    """
    excess = (table["gain"] - table["exact"]).pow(2).sum()
    return float((excess / table["exact"].pow(2).sum()) ** 0.5)
