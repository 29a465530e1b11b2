"""Intervals of noise levels in which an edit acts, low < sigma <= high, and whether it is called for there.

    windows(sigmas, 4)               # four adjoining intervals
    delays(sigmas, 6)                # later and later, all to the end

An edit outside the noise levels of the sampler, or of a branch that the rule never calls for, does nothing unseen.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance import GuidanceState, describe
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.arms import Sampling
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sites.interventions import Branch

EVERYWHERE = ((0.0, math.inf),)


@checked
def delays(sigmas: Sequence[float], count: int) -> list[tuple[float, float]]:
    """Intervals that begin later and later and reach to the end, for a delay scan.

    Parameters
    ----------
    sigmas : sequence of float
        Noise levels of the sampler, falling; a last 0 is left out.
    count : int
        Number of intervals, at most as many as levels.

    Returns
    -------
    list of (low, high)
        In units of the data.
    """
    starts = _spaced(sigmas, count + 1)[:-1]
    return [(0.0, start) for start in starts]


@checked
def windows(sigmas: Sequence[float], count: int) -> list[tuple[float, float]]:
    """Adjoining intervals of about as many noise levels each.

    Parameters
    ----------
    sigmas, count
        As in `delays`.

    Returns
    -------
    list of (low, high)
        In units of the data.
    """
    edges = [*_spaced(sigmas, count + 1)[:-1], 0.0]
    return [(low, high) for high, low in itertools.pairwise(edges)]


def _spaced(sigmas: Sequence[float], count: int) -> list[float]:
    levels = [float(sigma) for sigma in sigmas if sigma > 0]
    if not 2 <= count <= len(levels) + 1:
        raise InputError("count", found=f"{count - 1}", expected=f"from 1 to the {len(levels)} noise levels")
    places = np.linspace(0, len(levels), count).round().astype(int)
    return [levels[min(place, len(levels) - 1)] for place in places]


def spans_of(intervals: Sequence[tuple[float, float]], sigmas: Sequence[float] | None) -> list[tuple[float, float]]:
    """Intervals cut at the first noise level of a sampler; None is the grid that `sample` uses.

    Raises
    ------
    InputError
        For an interval without a noise level.
    """
    grid = [float(sigma) for sigma in (edm_sigmas() if sigmas is None else sigmas) if sigma > 0]
    for low, high in intervals:
        if not any(low < sigma <= high for sigma in grid):
            expected = f"one with a noise level in it; from {min(grid):.4g} to {max(grid):.4g}"
            raise InputError("intervals", found=f"({low}, {high})", expected=expected)
    return [(float(low), float(min(high, max(grid)))) for low, high in intervals]


def check_branch_is_called(
    denoiser: Denoiser, branch: Branch, spans: Sequence[tuple[float, float]], *, seeds: Sequence[int],
    condition: Condition, start: Tensor | None, sampling: Sampling,
) -> None:  # fmt: skip
    """Raise `InputError` for an interval of noise levels in which the rule never asks for the branch.

    Only the unconditional branch depends on the rule; that one is found out by a run without edits.

    Parameters
    ----------
    denoiser, seeds, condition, start, sampling
        Of the runs that are to be edited.
    branch : {"cond", "uncond", "both"}
        Calls that are to be edited.
    spans : sequence of (low, high)
        Intervals low < sigma <= high.
    """
    if condition is None and branch == "cond":
        expected = "'uncond' or 'both': without a condition, no call is conditional"
        raise InputError("branch", found="'cond', and no condition", expected=expected)
    if condition is None or branch != "uncond":
        return
    called: set[float] = set()

    def note(branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
        if branch == "uncond":
            called.add(state.sigma)

    sample(
        denoiser, seeds=seeds, condition=condition, start=start, shape=sampling.shape, rule=sampling.rule,
        solver=sampling.solver, sigmas=sampling.sigmas, watch=note, batch=sampling.batch, device=sampling.device,
        dtype=sampling.dtype, progress=False,
    )  # fmt: skip
    for low, high in spans:
        if not any(low < sigma <= high for sigma in called):
            rule = "no rule" if sampling.rule is None else describe(sampling.rule)
            found = f"'uncond', never called for {low:g} < sigma <= {high:g} with {rule}"
            expected = "a branch that is: with CFG of another weight than 1 for instance, or branch='cond'"
            raise InputError("branch", found=found, expected=expected)
