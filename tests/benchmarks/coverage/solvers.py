"""Errors of solvers and shapes of paths: samples are drawn from the paths of many starts at a mixture."""

import itertools
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch

from scorescope.analysis.trajectories import (
    decision_levels,
    decisions,
    effective_noise,
    embedded_errors,
    end_errors,
    halved_errors,
    moment_bias,
    observed_orders,
    path_shape,
    solver_errors,
    step_noise,
)
from scorescope.analysis.trajectories.end_errors import reference_ends
from scorescope.probes.approximations import Gaussian, Mixture, isotropic
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun, Path, run_path, sample, uniform_log_sigmas
from tests.benchmarks.coverage.case import Case, pick
from tests.benchmarks.coverage.gaussian import images, its_gaussian, two_modes

POOL = 20_000
GRID = edm_sigmas(8, sigma_min=0.1, sigma_max=20.0)[:-1]
WALKS = {("Euler", "rho 7"): (Euler(), GRID), ("2M", "rho 7"): (DPMSolverPP2M(), GRID)}
WIDE = "medians of few samples and shares: exact, at least 95 %"
FEW = "below 256: said in `SolverErrors.steps`"
WIDTH = 16  # elements of the samples whose paths have a shape


def starts(count, seed, d=3):
    generator = torch.Generator().manual_seed(seed)
    return GRID[0] * torch.randn(count, d, generator=generator, dtype=torch.float64)


def drawn(path, rows):
    return replace(path, states=path.states[:, rows], denoised=path.denoised[:, rows], end=path.end[rows])


@cache
def _solved():
    return solver_errors(two_modes(), starts(POOL, 50), GRID, DPMSolverPP2M(), batch=POOL)


def _of_solver(found):
    steps, groups = found.steps().set_index(["quantity", "step"]), found.ends().set_index("samples")
    rows = {name: steps.loc[name, 3] for name in ("local", "at_end", "amplification", "share", "cumulative_share")}
    return rows, groups


def _solver(n, rng):
    pool, rows = _solved(), rng.integers(POOL, size=n)
    parts = {name: getattr(pool, name)[..., rows] for name in ("local", "at_end", "share", "end", "gap", "reference")}
    found, groups = _of_solver(replace(pool, **parts))
    return {name: pick(row, "")[""] for name, row in found.items()} | {
        "samples apart": pick(groups.loc["apart"], "")[""],
        "end error, all": pick(groups.loc["all"], "end_error")["end_error"],
        "end error, near": pick(groups.loc["near"], "end_error")["end_error"],
    }


@cache
def _solver_truth():
    found, groups = _of_solver(_solved())
    return {name: row["value"] for name, row in found.items()} | {
        "samples apart": groups.loc["apart", "share"],
        "end error, all": groups.loc["all", "end_error"],
        "end error, near": groups.loc["near", "end_error"],
    }


@cache
def _ends(law):
    start = starts(POOL, 51)
    return start, reference_ends(law(), start, GRID)


def _ended(law, rows):
    start, reference = _ends(law)
    return end_errors(law(), start[rows], WALKS, reference=reference[rows]).iloc[1]


def _end(law, n, rng):
    row = _ended(law, rng.integers(POOL, size=n))
    found = {"mean": pick(row, "")[""], "median": pick(row, "median")["median"]}
    return found | pick(row, "ratio", "typical_ratio")


@cache
def _end_truth(law):
    return _ended(law, slice(None))[["mean", "median", "ratio", "typical_ratio"]].to_dict()


@cache
def _order_ends():
    return reference_ends(two_modes(), starts(POOL, 51), [20.0, 0.1])


def _ordered(rows):
    grid = partial(uniform_log_sigmas, high=20.0, low=0.1)
    start, how = starts(POOL, 51)[rows], {"steps": (12, 24), "reference": _order_ends()[rows]}
    return observed_orders(two_modes(), start, {"Heun": Heun()}, grid, **how).iloc[1]


@cache
def _euler():
    """Paths of the first order, at which all that looks at a path looks."""
    return run_path(two_modes(), starts(POOL, 52), GRID, solver=Euler())


def _estimates(path):
    return {"embedded": embedded_errors(path).query("estimate == 'embedded 2' and step == 4").iloc[0],
            "halved": halved_errors(two_modes(), path, Euler(), order=1).iloc[4]}  # fmt: skip


def _estimated(n, rng):
    rows = rng.integers(POOL, size=n)
    found = {name: pick(row, "")[""] for name, row in _estimates(drawn(_euler(), rows)).items()}
    return found | {"order": pick(_ordered(rows), "")[""]}


@cache
def _estimated_truth():
    found = {name: row["value"] for name, row in _estimates(_euler()).items()}
    return found | {"order": _ordered(slice(None))["order"]}


@cache
def wide():
    """Two Gaussians of falling spectra, and the Gaussian of their mean and covariance."""
    values, mean = torch.exp(-torch.arange(WIDTH, dtype=torch.float64) / 4), torch.zeros(WIDTH, dtype=torch.float64)
    mean[0], turn = 1.5, torch.eye(WIDTH, dtype=torch.float64)
    parts = tuple(Gaussian(sign * mean, turn, values) for sign in (1, -1))
    mixture = Mixture(parts, torch.tensor([0.6, 0.4], dtype=torch.float64))
    return mixture, Gaussian(0.2 * mean, turn, values + 0.96 * mean**2)


@cache
def _wide_path():
    return run_path(wide()[0], starts(POOL, 53, WIDTH), edm_sigmas(12, sigma_min=0.1, sigma_max=20.0)[:-1])


SHAPES = (("arc", "state"), ("arc", "denoised"), ("rank", "denoised"), ("straightness", "flow_state"))


def _shapes(path):
    table = path_shape(path, wide()[1]).set_index(["quantity", "curve"])
    return {f"{quantity}, {curve}": table.loc[quantity, curve] for quantity, curve in SHAPES}


def _shape(n, rng):
    found = _shapes(drawn(_wide_path(), rng.integers(POOL, size=n)))
    return {name: pick(row, "")[""] for name, row in found.items()} | {
        f"{name}, Gaussian": pick(row, "gaussian")["gaussian"] for name, row in found.items()
    }


@cache
def _shape_truth():
    found = _shapes(_wide_path())
    return {name: row["mean"] for name, row in found.items()} | {
        f"{name}, Gaussian": row["gaussian"] for name, row in found.items()
    }


def _side(samples):
    return (samples[:, 0] > 0).long()


def _decided(path):
    left, levels = decisions(path, classify=_side), decision_levels(path, classify=_side)
    found = {f"left, {quantity}": part.iloc[4] for quantity, part in left.groupby("quantity")}
    return found, {f"level, {row['quantity']}": row for _, row in levels.iterrows()}


def _decision(n, rng):
    left, levels = _decided(drawn(_wide_path(), rng.integers(POOL, size=n)))
    return {name: pick(row, "")[""] for name, row in ((left if n >= 16 else {}) | levels).items()}


@cache
def _decision_truth(n):
    left, levels = _decided(_wide_path())
    found = {name: row["sigma"] for name, row in levels.items()}
    return found | ({name: row["left"] for name, row in left.items()} if n >= 16 else {})


def _biased(path):
    table = moment_bias(path, its_gaussian(), solver=Euler())
    return table[table["sigma"] == table["sigma"].min()].set_index("quantity")


def _bias(n, rng):
    table = _biased(drawn(_euler(), rng.integers(POOL, size=n)))
    return {quantity: pick(row, "")[""] for quantity, row in table.iterrows()} | {
        f"{quantity}, beyond": pick(row, "beyond")["beyond"] for quantity, row in table.iterrows()
    }


@cache
def _bias_truth():
    table = _biased(_euler())
    return table["mean"].to_dict() | {f"{quantity}, beyond": value for quantity, value in table["beyond"].items()}


def _level(n, sigma, excess, rng):
    """Images of the law with noise of (excess sigma), said to be at sigma."""
    x = images(two_modes(), n, rng) + excess * sigma * torch.from_numpy(rng.normal(size=(n, 3)))
    path = Path((sigma,), x[None], torch.zeros_like(x)[None], x, 0)
    row = effective_noise(two_modes(), path, seed=int(rng.integers(2**31))).iloc[0]
    return {"level": pick(row, "level")["level"]}


class Ancestral:
    """Euler to a lower level, and noise up to the level that was asked for."""

    def run(self, evaluate, x, sigmas, noise):
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            down = after**2 / sigma
            denoised = evaluate(x, sigma=sigma, sigma_next=after, step=step, call=0)
            x = denoised + down / sigma * (x - denoised) + np.sqrt(after**2 - down**2) * noise()
        return x


def _noise(n, rng):
    law = isotropic(torch.zeros(64, dtype=torch.float64), 0.5)
    run = sample(law, seeds=rng.integers(2**31, size=n).tolist(), sigmas=[4.0, 2.0, 1.0], solver=Ancestral(),
                 shape=(64,), record=Recording(keep=True), progress=False)  # fmt: skip
    return {"noise that a step adds": pick(step_noise(run.trace).iloc[0], "")[""]}


CASES = (
    *(
        Case(
            f"solvers: steps, {n}", "order statistics of medians; Hall's corrected t of shares; exact", str(n),
            f"two modes, 2M in 7 steps; {POOL} paths", _solver_truth, partial(_solver, n),
            ("step_errors", "end_groups", "end_groups:end_error"), wide=WIDE,
            short=dict.fromkeys(("share", "cumulative_share"), FEW) if n < 256 else {},
        )
        for n in (16, 64, 256)
    ),
    *(
        Case(
            f"solvers: ends, {name}, {n}", "Hall's corrected t; order statistics; bootstrap of the ratio of means",
            str(n), f"{name}, 2M and Euler in 7 steps; {POOL} paths", partial(_end_truth, law), partial(_end, law, n),
            ("end_errors", "end_errors:median", "end_errors:ratio", "end_errors:typical_ratio"), wide=WIDE,
        )
        for name, law in (("a Gaussian", its_gaussian), ("two modes", two_modes)) for n in (16, 64)
    ),
    *(
        Case(
            f"solvers: estimates, {n}", "order statistics of medians", str(n),
            f"two modes, Euler in 7 steps and Heun in 12 and 24; {POOL} paths", _estimated_truth,
            partial(_estimated, n), ("error_estimates", "observed_orders"), wide=WIDE,
        )
        for n in (8, 64)
    ),
    *(
        Case(
            f"solvers: shape, {n}", "Hall's corrected t", str(n),
            f"two modes of falling spectra, d = {WIDTH}, Heun in 11 steps; {POOL} paths", _shape_truth,
            partial(_shape, n), ("path_shape", "path_shape:gaussian"),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"solvers: decisions, {n}", "studentised bootstrap; exact; Hall's corrected t of levels", str(n),
            f"two modes of falling spectra, d = {WIDTH}, Heun in 11 steps; {POOL} paths", partial(_decision_truth, n),
            partial(_decision, n), ("decisions", "decision_levels"), wide=WIDE,
        )
        for n in (8, 16, 64)
    ),
    *(
        Case(
            f"solvers: moments, {n}", "Hall's corrected t, paired", str(n),
            f"two modes, Euler in 7 steps; {POOL} paths",
            _bias_truth, partial(_bias, n), ("moment_bias", "moment_bias:beyond"),
            short={"variance, beyond": "below 64: said in `moment_bias`"} if n < 64 else {},
        )
        for n in (8, 32, 128)
    ),
    *(
        Case(
            f"solvers: level, {n}, {excess}", "Hall's corrected t, widened by 1 / (1 - slope)", str(n),
            f"two modes with noise of {excess:g} times the level said", lambda excess=excess: {"level": excess},
            partial(_level, n, 1.0, excess), ("effective_noise:level",),
        )
        for n in (8, 32) for excess in (1.0, 1.1)
    ),
    *(
        Case(
            f"solvers: noise, {n}", "Hall's corrected t", str(n), "ancestral steps at a Gaussian, d = 64",
            lambda: {"noise that a step adds": 3**0.5}, partial(_noise, n), ("step_noise",),
        )
        for n in (8, 32)
    ),
)  # fmt: skip
