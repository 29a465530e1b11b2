"""What a denoiser's Jacobian dD/dx says of the data's dimension: the FLIPD curve, and the numerical rank.

    flipd(denoiser, {"train": train, "held out": held_out}, sigmas)
    jacobian_ranks(denoiser, held_out, sigmas)

FLIPD (Kamkari et al. 2024, arXiv 2406.03537) is the dimension of the space plus d log p_sigma(x) / d log sigma at a
clean point x, which for D = x + sigma^2 score is

    trace(dD/dx) + |x - D|^2 / sigma^2

For a Gaussian on a plane of k dimensions it is k as sigma falls. On real data it often has no plateau: read the curve,
no single level. Curvature pulls it down, and a denoiser that memorised goes to 0 at its training points.

The rank is the least number of singular values that hold a share of the sum of their squares (Wang et al. 2024,
arXiv 2409.02426, have 0.99 of its root, 0.9801 of it). It says nothing of their size: read the trace beside it.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.noise import SampleNoise

_SUMMARY = (
    Column("mean", float, "1", "over images"),
    Column("median", float, "1", "over images"),
    *ends("1", "of the mean, over images, corrected for skewness"),
)
FLIPD = Schema(
    "flipd",
    (
        Column("images", str, "", "which points, clean"),
        Column("sigma", float, "data", "noise level that the denoiser is told"),
        Column("quantity", str, "", "trace: of dD/dx; residual: |x - D|^2 / sigma^2; flipd: their sum, a dimension"),
        Column("n", int, "", "images"),
        *_SUMMARY,
    ),
)
JACOBIAN_RANKS = Schema(
    "jacobian_ranks",
    (
        Column("sigma", float, "data", "noise level; states are images with noise of it"),
        Column("quantity", str, "", "rank: singular values that hold `energy` of the sum of squares; trace: of dD/dx"),
        Column("energy", float, "1", "share of the sum of squares"),
        Column("n", int, "", "images, one noise draw each"),
        *_SUMMARY,
    ),
)
ROWS = 4096  # copies of samples in one call, for whole Jacobians
Generators = Sequence[torch.Generator]


@checked
def flipd(
    denoiser: Denoiser,
    sets: Mapping[str, Tensor],
    sigmas: Sequence[float],
    *,
    probes: int = 4,
    seed: int = 0,
    batch: int = 512,
    progress: bool = False,
) -> pd.DataFrame:
    """The FLIPD curve on several sets of clean points, of the unconditional branch.

    Parameters
    ----------
    denoiser : Denoiser
        The model; must be differentiable in x.
    sets : dict of str to Tensor, shape (n, *shape)
        Clean points by name.
    sigmas : sequence of float
        Positive noise levels.
    probes : int
        Rademacher probes a point for the trace (Hutchinson), one backward pass each. Their noise is part of the
        interval.
    seed : int
        Of the probes.
    batch : int
        Points computed together.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `FLIPD`: one row a (set, sigma, quantity).

    Raises
    ------
    InputError
        For sets that are empty or of whole numbers, levels that are not positive, numbers that are no probes, seed or
        batch, or a denoiser without a gradient.
    """
    check_sets(sets, sigmas, probes=probes, seed=seed, batch=batch)
    frames = []
    jobs = [(name, float(sigma)) for name in sets for sigma in sigmas]
    for name, sigma in tqdm(jobs, desc="FLIPD", disable=not progress, leave=False):
        rows = generators(seed, len(sets[name]))
        parts = [
            _flipd(denoiser, sets[name][part], sigma, probes, rows[part])
            for part in (slice(first, first + batch) for first in range(0, len(rows), batch))
        ]
        trace, residual = (np.concatenate(values) for values in zip(*parts, strict=True))
        values = {"trace": trace, "residual": residual, "flipd": trace + residual}
        frames.append(pd.DataFrame({"images": name, "sigma": sigma, "sample": range(len(trace)), **values}))
    return FLIPD.check(summarise_by(pd.concat(frames, ignore_index=True), by=["images", "sigma"]))


def _flipd(
    denoiser: Denoiser, clean: Tensor, sigma: float, probes: int, rows: Generators
) -> tuple[np.ndarray, np.ndarray]:
    denoised, trace = denoised_and_trace(denoiser, clean, sigma, None, probes, rows)
    residual = (clean - denoised).double().flatten(1).square().sum(1) / sigma**2
    return trace.numpy(), residual.cpu().numpy()


@checked
def jacobian_ranks(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    *,
    energy: float = 0.99,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Numerical rank and trace of dD/dx at noisy images, from whole Jacobians, of the unconditional branch.

    Parameters
    ----------
    denoiser : Denoiser
        The model; must be differentiable in x. One backward pass for each element of each image and level.
    images : Tensor, shape (n, *shape)
        Clean points, to each of which noise of its own is added, the same at every level.
    sigmas : sequence of float
        Positive noise levels.
    energy : float
        Share of the sum of squares of the singular values, between 0 and 1.
    seed : int
        Of the noise.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `JACOBIAN_RANKS`: one row a (sigma, quantity).

    Raises
    ------
    InputError
        Without images, for levels that are not positive, a share out of range, or a denoiser without a gradient.
    """
    if not len(images) or not 0 < energy < 1:
        found = f"{len(images)} images, {energy}"
        raise InputError("images, energy", found=found, expected="some images, and a share between 0 and 1")
    check_levels(sigmas)
    seeds = [seed + row for row in range(len(images))]
    noise = SampleNoise(seeds, tuple(images.shape[1:]), images.device, images.dtype).draw()
    frames = []
    for sigma in tqdm([float(sigma) for sigma in sigmas], desc="Jacobians", disable=not progress, leave=False):
        whole = torch.cat(list(_jacobians(denoiser, images + sigma * noise, sigma)))
        squares = torch.linalg.svdvals(whole).square()
        reached = squares.cumsum(1) >= energy * squares.sum(1, keepdim=True)
        ranks = squares.shape[1] - reached.sum(1) + 1.0
        trace = whole.diagonal(dim1=1, dim2=2).sum(1)
        values = {"rank": ranks.numpy(), "trace": trace.numpy(), "sample": range(len(images))}
        frames.append(pd.DataFrame({"sigma": sigma, "energy": energy, **values}))
    table = summarise_by(pd.concat(frames, ignore_index=True), by=["sigma", "energy"])
    return JACOBIAN_RANKS.check(table)


def _jacobians(denoiser: Denoiser, states: Tensor, sigma: float) -> Iterator[Tensor]:
    """dD/dx of some states at a time, shape (states, d, d) in float64, on the CPU: a row of each from a copy of it."""
    width = states[0].numel()
    basis = torch.eye(width, dtype=states.dtype, device=states.device).reshape(width, *states.shape[1:])
    for part in states.split(max(1, ROWS // width)):
        with torch.enable_grad():
            x, denoised = _differentiable(denoiser, part.repeat_interleave(width, 0), sigma, None)
            ones = basis.repeat(len(part), *[1] * (states.ndim - 1))
            (rows,) = torch.autograd.grad(denoised, x, ones)
        yield rows.reshape(len(part), width, width).double().cpu()


def generators(seed: int, count: int) -> list[torch.Generator]:
    """One a row, so that what is drawn for it does not follow from the rows that are computed with it."""
    return [torch.Generator().manual_seed(seed + row) for row in range(count)]


def denoised_and_trace(
    denoiser: Denoiser, states: Tensor, sigma: float, condition: Condition, probes: int, rows: Generators
) -> tuple[Tensor, Tensor]:
    """Prediction at some states, and Hutchinson's estimate of the trace of its Jacobian, (n,) in float64 on the CPU."""
    denoised, traces = denoised_and_traces(denoiser, states, sigma, condition, probes, rows)
    return denoised, traces.mean(0)


def denoised_and_traces(
    denoiser: Denoiser, states: Tensor, sigma: float, condition: Condition, probes: int, rows: Generators
) -> tuple[Tensor, Tensor]:
    """The same, with what each probe estimates, (probes, n); `rows` draw the probes of each state."""
    with torch.enable_grad():
        x, denoised = _differentiable(denoiser, states, sigma, condition)
        traces = []
        for _ in range(probes):
            signs = (torch.stack([torch.randint(2, x.shape[1:], generator=row) for row in rows]) * 2 - 1).to(x)
            (product,) = torch.autograd.grad(denoised, x, signs, retain_graph=True)
            traces.append((product * signs).flatten(1).sum(1).double().cpu())
    return denoised.detach(), torch.stack(traces)


def _differentiable(denoiser: Denoiser, states: Tensor, sigma: float, condition: Condition) -> tuple[Tensor, Tensor]:
    """States with a gradient and the prediction there."""
    x = states.detach().requires_grad_()
    levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
    denoised = evaluate(denoiser, x, levels, condition, branch="denoiser")
    if not denoised.requires_grad:
        raise InputError("denoiser", found="a prediction without gradient", expected="one differentiable in x")
    return x, denoised


def check_sets(sets: Mapping[str, Tensor], sigmas: Sequence[float], *, probes: int, seed: int, batch: int) -> None:
    """Raise `InputError` for points and numbers of which nothing can be computed."""
    if not sets or not all(len(points) and points.is_floating_point() for points in sets.values()):
        found = ", ".join(f"{name}: {len(points)} of {points.dtype}" for name, points in sets.items())
        raise InputError("sets", found=found or "none", expected="points, of a floating point type")
    check_levels(sigmas)
    if min(probes, batch) < 1 or seed < 0:
        raise InputError("probes, batch, seed", found=f"{probes}, {batch}, {seed}", expected="1 or more, and 0 or more")


def check_levels(sigmas: Sequence[float]) -> None:
    """Raise `InputError` for levels that are not positive, or none."""
    if not len(sigmas) or not all(0 < sigma < np.inf for sigma in sigmas):
        raise InputError("sigmas", found=f"{list(sigmas)}", expected="positive noise levels")
