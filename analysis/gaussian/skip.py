"""How far down the closed form may replace the network, and what that saves.

    advice = suggest_skip(denoiser, gaussian, far_field(images), tolerance=1e-4, seeds=range(128))
    advice.sigma_skip, advice.predicted_error, advice.measured_error
    table = skip_table(denoiser, gaussian, seeds=..., skips=[80, 20, 8.4], solvers={"Heun": Heun()}, steps=[8, 18])

`skip_table` spends a skip in two ways: 'same steps, fewer calls' keeps the levels of the whole grid below the skip;
'same calls, finer steps' spreads as many steps as the whole grid had over what is left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.gaussian.far_field import FarField, in_range, predicted_state_error, skip_level
from scorescope.analysis.gaussian.paths import end_agreement, seed_noise
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units, percentile_interval
from scorescope.analysis.statistics.studentised import studentised
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.probes.sampling.solvers import Solver
from scorescope.probes.sampling.teleport import Carrier, levels_below, teleport

FEWER_CALLS, FINER_STEPS = "same steps, fewer calls", "same calls, finer steps"
FINE_STEPS = 120  # of the reference: Heun's own error is then some 1e-6 of the sample's energy; visits an 18-step grid

SKIP_CANDIDATES = Schema(
    "skip_candidates",
    (
        Column("sigma", float, "data", "noise level that the closed form carries to"),
        Column("predicted_error", float, "1", "relative squared state error that the data alone predict, at most 1"),
        Column(
            "in_range", bool, "", "the prediction holds: sigma is three times the largest standard deviation or more"
        ),
        Column("measured_error", float, "1", "sum of |network - closed form|^2 over sum of |network - mean|^2"),
        *ends("1", "studentised bootstrap over seeds; missing below 16"),
        Column("n", int, "", "seeds"),
    ),
)

SKIPS = Schema(
    "skips",
    (
        Column("solver", str, "", "solver"),
        Column("steps", int, "", "steps of the whole grid"),
        Column("spent", str, "", "how the skip is spent: fewer calls, or finer steps"),
        Column("sigma_skip", float, "data", "where the network takes over; the top level is no skip at all"),
        Column("calls", int, "", "denoiser calls a sample"),
        Column(
            "ratio_of_sums", float, "1", "squared error of the end samples against a fine reference, over its energy"
        ),
        *ends("1", "bootstrap over seeds"),
        Column("median", float, "1", "median over seeds of the same ratio"),
        Column("against_none", float, "1", "that median over the one of the same solver and steps without a skip"),
        *ends("1", "paired bootstrap over seeds", of="against_none"),
        Column("flips", float, "1", "share of seeds whose sample is in another mode than the reference's"),
        *ends("1", "exact", of="flips"),
        Column("frechet", float, "data^2", "Frechet distance to real data, on the elements themselves, no features"),
        Column("frechet_floor", float, "data^2", "what two sets of these sizes from one law would have; see frechet"),
        Column("n", int, "", "seeds"),
    ),
)


@displayed
@dataclass(frozen=True)
class Suggestion:
    """Where to jump to.

    Attributes
    ----------
    sigma_skip : float
        Lowest candidate such that it and all above it are within the tolerance; the top level if none is.
    predicted_error, measured_error, measured_low, measured_high : float
        Relative squared state error there, from the data alone and measured on the denoiser.
    sigma_predicted : float
        Where the prediction alone would put the jump: never below the range in which it holds.
    table : DataFrame
        `SKIP_CANDIDATES`.
    """

    sigma_skip: float
    predicted_error: float
    measured_error: float
    measured_low: float
    measured_high: float
    sigma_predicted: float
    table: pd.DataFrame


@checked
def suggest_skip(
    denoiser: Denoiser,
    gaussian: Gaussian,
    constant: float | FarField,
    *,
    tolerance: float = 1e-3,
    seeds: Sequence[int] = range(128),
    candidates: Sequence[float] | None = None,
    condition: Condition = None,
    sigma_max: float = 80.0,
    dtype: torch.dtype = torch.float32,
    path: Path | None = None,
) -> Suggestion:
    """The noise level down to which the closed form replaces the network at a given error of the state.

    Parameters
    ----------
    denoiser : Denoiser
        The network.
    gaussian : Gaussian
        What replaces it.
    constant : FarField or float
        From `far_field` of the data: the prediction. It knows nothing of the network's own error, which the
        measurement includes.
    tolerance : float
        Relative squared error of the state at the jump. It says more than the denoiser's error there, which is
        larger by orders of magnitude and mostly harmless.
    seeds : sequence of int
        Paths to measure on.
    candidates : sequence of float, optional
        Levels to try, below sigma_max; by default those of an 18-step grid. Give your sampler's own.
    condition : optional
        One row a seed.
    sigma_max : float
        Where sampling starts.
    dtype : torch.dtype
        Of the states.
    path : Path, optional
        The network's fine path from sigma_max times the noise of these seeds, if it has been run: one that visits the
        candidates. It is not run again.

    Returns
    -------
    Suggestion
        The noise level, with predicted and measured error.

    Raises
    ------
    InputError
        For a tolerance or candidates out of range, or that the path does not visit.
    """
    levels = sorted({float(s) for s in (candidates or edm_sigmas(18, sigma_max=sigma_max)[1:-1])}, reverse=True)
    if not levels or not 0 < levels[-1] <= levels[0] < sigma_max:
        raise InputError("candidates", found=str(levels), expected=f"levels between 0 and {sigma_max:g}")
    lowest = skip_level(constant, gaussian, tolerance=tolerance)
    if path is None:
        start = sigma_max * seed_noise(seeds, gaussian.shape, dtype)
        fine = edm_sigmas(FINE_STEPS, sigma_min=min(levels[-1], 0.002), sigma_max=sigma_max)[1:-1]
        grid = sorted({sigma_max, *(s for s in fine if s > levels[-1]), *levels}, reverse=True)
        path = run_path(denoiser, start, grid, condition=condition)
    table = _candidates(path, gaussian, constant, levels)
    within = (table["high"] <= tolerance).cummin()
    if not within.any():
        return Suggestion(sigma_max, 0.0, 0.0, 0.0, 0.0, lowest, table)
    row = table[within].iloc[-1]
    return Suggestion(
        float(row["sigma"]), float(row["predicted_error"]), float(row["measured_error"]), float(row["low"]),
        float(row["high"]), lowest, table,
    )  # fmt: skip


def _candidates(path: Path, gaussian: Gaussian, constant: float | FarField, levels: list[float]) -> pd.DataFrame:
    """Predicted and measured error of the state at each level."""
    start, sigma_max = path.states[0], path.sigmas[0]
    exact = torch.stack([gaussian.flow(start, sigma_max, level) for level in levels])
    network = path.states[[_visited(path, level) for level in levels]].double()
    error = (network - exact.double()).flatten(2).square().sum(2).numpy()
    total = (network - gaussian.mean.double()).flatten(2).square().sum(2).numpy()
    found = studentised(error, total, draw_units(len(start), resamples=1000, seed=0))
    predicted = [predicted_state_error(constant, gaussian, level, sigma_max=sigma_max) for level in levels]
    return SKIP_CANDIDATES.check(
        pd.DataFrame(
            {
                "sigma": levels, "predicted_error": predicted,
                "in_range": [in_range(gaussian, level) for level in levels], "measured_error": found.value,
                "low": found.low, "high": found.high, "n": len(start),
            }
        )
    )  # fmt: skip


def _visited(path: Path, level: float) -> int:
    """The place of a noise level on a path, up to the rounding of two grids that share it."""
    place = int(np.argmin(np.abs(np.log(path.sigmas) - np.log(level))))
    if not np.isclose(path.sigmas[place], level, rtol=1e-9):
        raise InputError("path", found=f"no state at {level:.6g}", expected="a path that visits all candidates")
    return place


@checked
def skip_table(
    denoiser: Denoiser,
    law: Carrier,
    *,
    seeds: Sequence[int],
    skips: Sequence[float],
    solvers: Mapping[str, Solver],
    steps: Sequence[int],
    real: Tensor,
    classify: Callable[[Tensor], Tensor] | None = None,
    condition: Condition = None,
    sigma_min: float = 0.002,
    dtype: torch.dtype = torch.float32,
    reference: Tensor | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """End samples for every skip, solver and number of steps, against a fine reference from the same seeds.

    Parameters
    ----------
    denoiser : Denoiser
        The network.
    law : Gaussian, or Mixture with labels
        What carries states to the skip.
    seeds : sequence of int
        Samples.
    skips : sequence of float
        Levels; the largest is where sampling starts and stands for no skip.
    solvers : dict of str to Solver
        Deterministic solvers by name.
    steps : sequence of int
        Steps of the whole grid; a rho-spaced grid down to sigma_min and then 0.
    real : Tensor, shape (n, *shape)
        Real data for the Frechet distance.
    classify : callable, optional
        Samples to the index of their mode.
    condition : optional
        One row a seed.
    sigma_min : float
        Last level before 0.
    reference : Tensor, shape (seeds, *shape), optional
        End samples of a fine run from the same noise, if there are any: they are not run again.

    Returns
    -------
    DataFrame
        `SKIPS`: one row a (solver, steps, spent, sigma_skip).
    """
    top = max(skips)
    start = top * seed_noise(seeds, law.shape, dtype)
    if reference is None:
        grid = edm_sigmas(FINE_STEPS, sigma_min=sigma_min, sigma_max=top)
        reference = run_path(denoiser, start, grid, condition=condition).end
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    none: dict[tuple[str, int], Floats] = {}  # errors without a skip, which is the first job of each
    jobs = [(name, count, skip) for name in solvers for count in steps for skip in sorted(skips, reverse=True)]
    for name, count, skip in tqdm(jobs, desc="teleporting", disable=not progress, leave=False):
        for spent, grid in _grids(count, skip, top, sigma_min).items():
            key = (name, count, spent, grid[0])
            if key in rows:  # two skips between the same two levels of the grid
                continue
            state = teleport(law, start, top, grid[0], condition=condition)
            path = run_path(denoiser, state, grid, condition=condition, solver=solvers[name])
            found = end_agreement({name: path.end}, reference, law.mean, classify).drop(columns="what").iloc[0]
            distance = frechet_distance(path.end.flatten(1).numpy(), real.flatten(1).numpy())
            each = _each(path.end, reference, law.mean)
            rows[key] = {str(column): value for column, value in found.items()} | {
                "solver": name, "steps": count, "spent": spent, "sigma_skip": grid[0], "calls": path.calls,
                "frechet": distance.value, "frechet_floor": distance.floor,
            }  # fmt: skip
            rows[key] |= _against(each, none.setdefault((name, count), each))
    return SKIPS.check(pd.DataFrame(list(rows.values())).astype({"n": int}))


def _each(end: Tensor, reference: Tensor, mean: Tensor) -> Floats:
    """Squared error of each end sample over the reference's squared distance from the mean."""
    error, total = (
        (a.double() - b.double()).flatten(1).square().sum(1) for a, b in ((end, reference), (reference, mean))
    )
    each: Floats = (error / total).numpy()
    return each


def _against(each: Floats, none: Floats) -> dict[str, float]:
    """Ratio of the medians of the same seeds, with its interval."""
    rows = np.random.default_rng(0).integers(len(each), size=(1000, len(each)))
    low, high = percentile_interval(np.median(each[rows], axis=1) / np.median(none[rows], axis=1), len(each))
    return {
        "against_none": float(np.median(each) / np.median(none)),
        "against_none_low": float(low), "against_none_high": float(high),
    }  # fmt: skip


def _grids(steps: int, skip: float, top: float, sigma_min: float) -> dict[str, list[float]]:
    """The two ways to spend a skip; the first keeps whole levels, so it jumps to the level at or below the skip."""
    whole, finer = (
        [high, *edm_sigmas(steps, sigma_min=sigma_min, sigma_max=high)[1:]] for high in (top, min(skip, top))
    )
    level = max(sigma for sigma in whole if sigma <= skip * (1 + 1e-6))
    return {FINER_STEPS: finer} if level == 0 else {FEWER_CALLS: levels_below(whole, level), FINER_STEPS: finer}
