"""Noise levels tuned through the sampler itself: those from which a solver ends nearest to the exact flow.

    found = tuned_schedule(denoiser, start, edm_sigmas(8), DPMSolverPP2M())
    found.sigmas                                       # a plain list for any sampler
    scheduler_arguments(pipe.scheduler, found.sigmas)  # as a scheduler of diffusers takes them

To be judged by `end_errors` on seeds that had no part in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.trajectories.end_errors import reference_ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, sigma_range
from scorescope.probes.models.noise import check_sigmas
from scorescope.probes.sampling.paths import run_to_end
from scorescope.probes.sampling.solvers import Solver

APART = 0.01  # least width of a step, in widths of an even one
NUDGE = 3e-3  # relative, of one width: its square is lost, and so is what float32 rounds


@displayed
@checked
@dataclass(frozen=True)
class TunedSchedule:
    """Levels that were tuned.

    Attributes
    ----------
    sigmas : tuple of float
        The levels.
    loss, loss_before : float
        Mean over the samples that it was tuned on of the RMS end error, in units of the data: at the end, and of the
        levels that it started from. Of other samples it is larger.
    runs : int
        Runs of the sampler that it took.
    """

    sigmas: tuple[float, ...]
    loss: float
    loss_before: float
    runs: int


@checked
@torch.no_grad()
def tuned_schedule(
    denoiser: Denoiser,
    start: Tensor,
    sigmas: Sequence[float],
    solver: Solver,
    *,
    condition: Condition = None,
    reference: Tensor | None = None,
    free_end: bool = False,
    iterations: int = 30,
    progress: bool = False,
) -> TunedSchedule:
    """Minimise the mean end error over the inner levels, from those given.

    Parameters
    ----------
    denoiser : Denoiser
        The model; with guidance, a `RuleField`.
    start : Tensor, shape (n, *shape)
        States at the highest level, variance exploding: 64 or more, other ones than the result is judged on.
    sigmas : sequence of float
        Levels to start from. The highest, a last 0 and, but for `free_end`, the lowest positive one are kept.
    solver : Solver
        Deterministic, with any memory; `scheduler_solver` gives those of diffusers.
    condition : optional
        One row a sample.
    reference : Tensor, shape (n, *shape), optional
        Where the exact flow ends; by default `reference_ends`.
    free_end : bool
        Whether the lowest positive level of a schedule with a last 0 moves too, down to half of what it was: with few
        calls it is best far higher than where samplers of many calls end.
    iterations : int
        Of L-BFGS, at most.
    progress : bool
        Show a progress bar, of iterations.

    Returns
    -------
    TunedSchedule
        The best levels that were met.

    Raises
    ------
    InputError
        For fewer than three positive levels: there is none to move.

    Notes
    -----
    The unknowns are the logarithms of the widths in ln sigma, up to a common factor, so that levels always fall; none
    gets narrower than a hundredth of an even one. Slopes are central differences: two runs of the sampler for each
    width, of any solver and any denoiser, in place of a backward pass through all of them (Tong et al. 2024, arXiv
    2405.15506). There are several minima: tune from two starts (EDM's levels, `cheapest_levels`) and keep the lower.
    """
    check_sigmas(sigmas)
    positive = [float(sigma) for sigma in sigmas if sigma > 0]
    if len(positive) < 3:
        raise InputError("sigmas", found=f"{len(positive)} positive levels", expected="at least 3: the ends are kept")
    if reference is None:
        reference = reference_ends(denoiser, start, sigmas, condition=condition)
    if reference.shape != start.shape:
        raise InputError("reference", found=f"shape {tuple(reference.shape)}", expected=f"{tuple(start.shape)}")
    zero = [0.0] * (len(positive) < len(sigmas))
    # a last width, that no step is made of, down to what the denoiser knows
    below = [max(positive[-1] / 2, sigma_range(denoiser)[0])] * (free_end and bool(zero))
    span = _Span.between([*positive, *below])
    met: list[tuple[float, list[float]]] = []

    def loss(unknown: Floats) -> float:
        return ended([*span.levels(unknown)[: len(positive)], *zero])

    def ended(levels: list[float]) -> float:
        end, _ = run_to_end(denoiser, start, levels, condition=condition, solver=solver)
        met.append((float((end - reference).double().flatten(1).square().mean(1).sqrt().mean()), levels))
        return met[-1][0]

    first, before = span.unknown([*positive, *below]), ended([*positive, *zero])
    if below:  # a width of next to nothing has no slope: without room below, the lowest level would stay
        first[-1] = max(first[-1], math.log(0.1 / span.count))
    with tqdm(total=iterations, desc="tuning", disable=not progress, leave=False) as bar:
        scipy.optimize.minimize(
            loss, first, jac=lambda point: _slopes(loss, point), method="L-BFGS-B", callback=lambda _: bar.update(),
            options={"maxiter": iterations},
        )  # fmt: skip
    least, best = min(met, key=lambda one: one[0])
    return TunedSchedule(tuple(best), least, before, len(met))


@dataclass(frozen=True)
class _Span:
    """Two ends, and levels between them by the logarithms of their widths."""

    high: float
    low: float
    count: int

    @classmethod
    def between(cls, levels: Sequence[float]) -> "_Span":
        return cls(levels[0], levels[-1], len(levels) - 1)

    def levels(self, unknown: Floats) -> list[float]:
        widths = scipy.special.softmax(unknown) * (1 - APART) + APART / self.count
        logs = math.log(self.high) - np.cumsum(widths)[:-1] * math.log(self.high / self.low)
        return [self.high, *np.exp(logs).tolist(), self.low]

    def unknown(self, levels: Sequence[float]) -> Floats:
        widths = -np.diff(np.log(levels)) / math.log(self.high / self.low)
        found: Floats = np.log(np.maximum((widths - APART / self.count) / (1 - APART), 1e-6))
        return found


def _slopes(loss: Any, point: Floats) -> Floats:
    """Central differences."""
    nudges = NUDGE * np.eye(len(point))
    return np.array([(loss(point + nudge) - loss(point - nudge)) / (2 * NUDGE) for nudge in nudges])
