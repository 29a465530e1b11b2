"""Fit a `Gaussian` in one pass over the data for the mean and as few as possible after it.

    fit_gaussian(images)                      # full covariance
    fit_gaussian(images, rank=512)            # 512 modes and one variance for the rest (PPCA)
    fit_isotropic(images)

The mean is taken first and in float64; products are of centred rows, never E[x x^T] - mean mean^T, which cancels
in float32. Covariances are 1/n, so that the fit has exactly the first two moments of the training points. No more
than one batch and a d x d (full) or d x (rank + oversample) matrix is held.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Gaussian, isotropic
from scorescope.probes.approximations.sources import Batches, Source

Shrinkage = Literal["auto", "none", "ledoit_wolf", "oas"]
SHRINKAGES: tuple[str, ...] = get_args(Shrinkage)
EIGH_LIMIT = 4096  # features up to which a d x d matrix is formed for a low rank too
FLOAT64_LIMIT = 1024  # features up to which products are float64 by default


@dataclass(frozen=True)
class Totals:
    """What the first pass finds."""

    n: int
    mean: Tensor  # (d,), float64


@checked
def fit_isotropic(
    source: Source, *, variance: bool = True, value_range: tuple[float, float] | None = None, units: str = "data"
) -> Gaussian:
    """The isotropic law with the data's mean and, if `variance`, its mean variance; else a point at the mean.

    Parameters and errors as in `fit_gaussian`; float64.

    Parameters
    ----------
    source, value_range, units
        As in `fit_gaussian`.
    variance : bool
        False leaves a point at the mean.
    """
    batches = Batches(source, value_range=value_range)
    totals = first_pass(batches)
    mean = totals.mean.reshape(batches.shape)
    if not variance:
        return isotropic(mean, 0.0, units=units)
    total = sum(float((rows - totals.mean).square().sum()) for rows in batches.rows(torch.float64))
    return isotropic(mean, total / totals.n / batches.dimension, units=units)


@checked
def fit_gaussian(
    source: Source,
    *,
    rank: int | None = None,
    shrinkage: Shrinkage = "auto",
    value_range: tuple[float, float] | None = None,
    units: str = "data",
    name: str | None = None,
    dtype: torch.dtype | None = None,
    power_iterations: int = 4,
    oversample: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> Gaussian:
    """Fit mean and covariance.

    Parameters
    ----------
    source : Tensor, array, iterable of batches, function returning one, or Batches
        Data of shape (n, *shape); see `Batches`.
    rank : int, optional
        Eigenpairs kept; the rest of the variance is spread evenly over the other directions. By default all d.
    shrinkage : {"auto", "none", "ledoit_wolf", "oas"}
        Of a full covariance towards an isotropic one. "auto" is Ledoit-Wolf below n = 2 d and none from there on;
        what was done is in `note`. A low rank is not shrunk: its residual variance already regularises.
    value_range : (float, float), optional
        Data outside it are an error.
    units : str
        What one unit of the data is; kept with the statistics.
    name : str, optional
        What tables call it; by default "gaussian" or "ppca <rank>".
    dtype : torch.dtype, optional
        Precision of products and of the result; by default float64 up to 1024 features, float32 beyond.
    power_iterations, oversample : int
        Of the randomised subspace iteration that is used for a rank above `EIGH_LIMIT` features: QR after every
        pass over the data, power_iterations + 3 passes in all. At least 4 iterations.
    seed : int
        Of the random start of that iteration.
    progress : bool
        Show a progress bar over passes.

    Returns
    -------
    Gaussian
        Its `note` says what was shrunk and how many features are constant.

    Raises
    ------
    InputError
        For a rank that the number of samples or features does not allow, data without any variance, and all that
        `Batches` refuses.
    """
    batches = source if isinstance(source, Batches) else Batches(source, value_range=value_range)
    if shrinkage not in SHRINKAGES:
        raise InputError("shrinkage", found=repr(shrinkage), expected=f"one of {', '.join(SHRINKAGES)}")
    dtype = dtype or (torch.float64 if batches.dimension <= FLOAT64_LIMIT else torch.float32)
    totals = first_pass(batches)
    _check_rank(rank, totals.n, batches.dimension)
    full = rank is None or rank == batches.dimension
    if full or batches.dimension <= EIGH_LIMIT:
        eigenvalues, basis, note = _by_matrix(batches, totals, dtype, shrinkage if full else "none")
        total = float(eigenvalues.sum(dtype=torch.float64))
    else:
        size = min(int(rank or 0) + oversample, batches.dimension)
        eigenvalues, basis, total = _by_subspace(batches, totals, dtype, size, power_iterations, seed, progress)
        note = f"randomised subspace iteration, {power_iterations} power iterations"
    if not total > 0:
        raise InputError("source", found="the same sample throughout", expected="data that vary")
    kept = len(eigenvalues) if full else int(rank or 0)
    eigenvalues, basis, left = eigenvalues[:kept].contiguous(), basis[:, :kept].contiguous(), batches.dimension - kept
    residual = max(0.0, total - float(eigenvalues.sum(dtype=torch.float64))) / left if left else 0.0
    label = name or ("gaussian" if full else f"ppca {rank}")
    return Gaussian(totals.mean.to(dtype).reshape(batches.shape), basis, eigenvalues, residual, label, note, units)


def first_pass(batches: Batches) -> Totals:
    """Count and float64 mean; checks every batch."""
    n, total = 0, torch.zeros(batches.dimension, dtype=torch.float64)
    for rows in batches.rows(torch.float64):
        n += len(rows)
        total += rows.sum(0)
    return Totals(n, total / n)


def ledoit_wolf_weight(covariance: Tensor, fourth: float, n: int) -> float:
    """Ledoit & Wolf 2004 (J. Multivar. Anal. 88): share of the isotropic target.

    Parameters
    ----------
    covariance : Tensor, shape (d, d)
        1/n covariance.
    fourth : float
        Sum over samples of |x - mean|^4.
    n : int
        Number of samples.
    """
    d = len(covariance)
    squared = float(covariance.double().square().sum())
    level = float(covariance.diagonal().double().sum()) / d
    beta = (fourth / n - squared) / (n * d)
    delta = (squared - level**2 * d) / d
    return min(beta, delta) / delta if delta > 0 else 0.0


def oas_weight(covariance: Tensor, n: int) -> float:
    """Chen et al. 2010 (arXiv 0907.4698), eq. 23, as scikit-learn computes it: share of the isotropic target."""
    d = len(covariance)
    mean_square = float(covariance.double().square().mean())
    level = (float(covariance.diagonal().double().sum()) / d) ** 2
    bottom = (n + 1) * (mean_square - level / d)
    return min((mean_square + level) / bottom, 1.0) if bottom > 0 else 1.0


def _check_rank(rank: int | None, n: int, dimension: int) -> None:
    if n < 2:
        raise InputError("source", found=f"{n} sample", expected="at least 2")
    if rank is not None and not 1 <= rank <= dimension:
        raise InputError("rank", found=str(rank), expected=f"1 to {dimension}, the number of features")
    if rank is not None and rank < dimension and rank > n - 1:
        raise InputError("rank", found=f"{rank} with {n} samples", expected=f"at most {n - 1}: the data span no more")


def _by_matrix(batches: Batches, totals: Totals, dtype: torch.dtype, shrinkage: str) -> tuple[Tensor, Tensor, str]:
    """All eigenpairs, falling, of the (shrunk) covariance, and what was done to it."""
    d, n = batches.dimension, totals.n
    scatter, fourth, mean = torch.zeros(d, d, dtype=dtype), 0.0, totals.mean.to(dtype)
    for rows in batches.rows(dtype):
        centred = rows - mean
        scatter.addmm_(centred.mT, centred)
        fourth += float(centred.square().sum(1).double().square().sum())
    covariance = scatter.div_(n)
    notes = []
    if constant := int((covariance.diagonal() == 0).sum()):
        notes.append(f"{constant} constant features")
    if shrinkage == "auto":
        shrinkage = "ledoit_wolf" if n < 2 * d else "none"
    if shrinkage != "none":
        oas = shrinkage == "oas"
        weight = oas_weight(covariance, n) if oas else ledoit_wolf_weight(covariance, fourth, n)
        level = float(covariance.diagonal().double().mean())
        covariance.mul_(1 - weight).diagonal().add_(weight * level)
        notes.append(f"{'OAS' if oas else 'Ledoit-Wolf'} shrinkage {weight:.3f} (n = {n}, d = {d})")
    eigenvalues, basis = torch.linalg.eigh(covariance)
    return eigenvalues.flip(0).clamp_min(0), basis.flip(1), "; ".join(notes)


def _by_subspace(
    batches: Batches, totals: Totals, dtype: torch.dtype, size: int, iterations: int, seed: int, progress: bool
) -> tuple[Tensor, Tensor, float]:
    """Leading eigenpairs by subspace iteration with QR (Halko et al. 2011, algorithm 4.4), and the trace."""
    if iterations < 4:
        raise InputError("power_iterations", found=str(iterations), expected="at least 4: fewer lose the tail")
    mean = totals.mean.to(dtype)

    def centred() -> Iterator[Tensor]:
        return (rows - mean for rows in batches.rows(dtype))

    start = torch.randn(batches.dimension, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    basis, _ = torch.linalg.qr(start)
    for _ in tqdm(range(iterations + 1), desc="subspace iteration", disable=not progress, leave=False):
        product = torch.zeros_like(basis)
        for rows in centred():
            product.addmm_(rows.mT, rows @ basis)
        basis, _ = torch.linalg.qr(product)
    small, total = torch.zeros(size, size, dtype=torch.float64), 0.0
    for rows in centred():
        seen = (rows @ basis).double()
        small.addmm_(seen.mT, seen)
        total += math.fsum(rows.square().sum(1).tolist())
    eigenvalues, rotation = torch.linalg.eigh(small / totals.n)
    return eigenvalues.flip(0).clamp_min(0).to(dtype), basis @ rotation.flip(1).to(dtype), total / totals.n
