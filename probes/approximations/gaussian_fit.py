"""Fit a `Gaussian` in one pass over the data for the mean and as few as possible after it.

    fit_gaussian(images)                      # full covariance
    fit_gaussian(images, rank=512)            # 512 modes and one variance for the rest (PPCA)
    fit_isotropic(images)

The mean is taken first and in float64; products are of centred rows, never E[x x^T] - mean mean^T, which cancels
in float32. Covariances are 1/n, so that the fit has exactly the first two moments of the training points. No more
than one batch and a d x d (full; n x d where there are fewer samples) or d x (rank + oversample) matrix is held.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Fit, Gaussian, isotropic
from scorescope.probes.approximations.sources import Batches, Source

Shrinkage = Literal["auto", "none", "ledoit_wolf", "oas"]
SHRINKAGES: tuple[str, ...] = get_args(Shrinkage)
EIGH_LIMIT = 4096  # features up to which a d x d matrix is formed for a low rank too
FLOAT64_LIMIT = 1024  # features up to which products are float64 by default


@displayed
@dataclass(frozen=True)
class Totals:
    """What the first pass finds."""

    n: int
    mean: Tensor  # (d,), float64


@displayed
@dataclass(frozen=True)
class Spectrum:
    """Eigenpairs of the sample covariance, the largest first, and what the passes for them summed up."""

    eigenvalues: Tensor  # (k,)
    basis: Tensor  # (d, k)
    variance: float  # trace of the covariance
    fourth: float  # mean over samples of |x - mean|^4
    note: str


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
        Eigenpairs kept; the rest of the variance is spread evenly over the other directions. By default all: d, or
        the n - 1 that n <= d samples span, with what shrinkage gives every other direction as `residual`.
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
        found = (_by_rows if totals.n <= batches.dimension else _by_matrix)(batches, totals, dtype)
    else:
        size = min(int(rank or 0) + oversample, batches.dimension)
        found = _by_subspace(batches, totals, dtype, size, power_iterations, seed, progress)
    if not found.variance > 0:
        raise InputError("source", found="the same sample throughout", expected="data that vary")
    eigenvalues, residual, note, weight = _cut(found, totals.n, batches.dimension, None if full else rank, shrinkage)
    squares = float(found.eigenvalues.double().square().sum())
    fit = Fit(totals.n, max(0.0, found.fourth - squares) / totals.n * (1 - weight), weight)
    basis, label = found.basis[:, : len(eigenvalues)].contiguous(), name or ("gaussian" if full else f"ppca {rank}")
    return Gaussian(totals.mean.to(dtype).reshape(batches.shape), basis, eigenvalues, residual, label, note, units, fit)


def first_pass(batches: Batches) -> Totals:
    """Count and float64 mean; checks every batch."""
    n, total = 0, torch.zeros(batches.dimension, dtype=torch.float64)
    for rows in batches.rows(torch.float64):
        n += len(rows)
        total += rows.sum(0)
    return Totals(n, total / n)


def ledoit_wolf_weight(squares: float, variance: float, fourth: float, n: int, d: int) -> float:
    """Ledoit & Wolf 2004 (J. Multivar. Anal. 88): share of the isotropic target.

    Parameters
    ----------
    squares, variance : float
        Squared Frobenius norm and trace of the 1/n covariance.
    fourth : float
        Mean over samples of |x - mean|^4.
    n, d : int
        Samples and features.
    """
    beta, delta = (fourth - squares) / (n * d), (squares - variance**2 / d) / d
    return min(max(0.0, beta), delta) / delta if delta > 0 else 0.0  # of two samples beta is 0, up to rounding


def oas_weight(squares: float, variance: float, n: int, d: int) -> float:
    """Chen et al. 2010 (arXiv 0907.4698), eq. 23, as scikit-learn computes it: share of the isotropic target."""
    mean_square, level = squares / d**2, (variance / d) ** 2
    bottom = (n + 1) * (mean_square - level / d)
    return min((mean_square + level) / bottom, 1.0) if bottom > 0 else 1.0


def _check_rank(rank: int | None, n: int, dimension: int) -> None:
    if n < 2:
        raise InputError("source", found=f"{n} sample", expected="at least 2")
    if rank is not None and not 1 <= rank <= dimension:
        raise InputError("rank", found=str(rank), expected=f"1 to {dimension}, the number of features")
    if rank is not None and rank < dimension and rank > n - 1:
        raise InputError("rank", found=f"{rank} with {n} samples", expected=f"at most {n - 1}: the data span no more")


def _cut(found: Spectrum, n: int, d: int, rank: int | None, shrinkage: str) -> tuple[Tensor, float, str, float]:
    """Eigenvalues kept, the variance elsewhere, the note, and the weight of shrinkage: a full spectrum is shrunk."""
    variance = found.variance
    if rank is not None:
        eigenvalues = found.eigenvalues[:rank].contiguous()
        left = variance - float(eigenvalues.sum(dtype=torch.float64))
        return eigenvalues, max(0.0, left) / (d - rank), found.note, 0.0
    if shrinkage == "auto":
        shrinkage = "ledoit_wolf" if n < 2 * d else "none"
    if shrinkage == "none":
        return found.eigenvalues, 0.0, found.note, 0.0
    squares, oas = float(found.eigenvalues.double().square().sum()), shrinkage == "oas"
    weight = oas_weight(squares, variance, n, d) if oas else ledoit_wolf_weight(squares, variance, found.fourth, n, d)
    level = weight * variance / d
    text = f"{'OAS' if oas else 'Ledoit-Wolf'} shrinkage {weight:.3f} (n = {n}, d = {d})"
    residual = level if len(found.eigenvalues) < d else 0.0
    return found.eigenvalues * (1 - weight) + level, residual, "; ".join(filter(None, [found.note, text])), weight


def _by_matrix(batches: Batches, totals: Totals, dtype: torch.dtype) -> Spectrum:
    """All eigenpairs, from the d x d covariance."""
    scatter, fourth = torch.zeros(batches.dimension, batches.dimension, dtype=dtype), 0.0
    for centred in _centred(batches, totals, dtype):
        scatter.addmm_(centred.mT, centred)
        fourth += _fourth(centred)
    covariance = scatter.div_(totals.n)
    variance, note = float(covariance.diagonal().sum(dtype=torch.float64)), _constant(covariance.diagonal())
    eigenvalues, basis = torch.linalg.eigh(covariance)
    return Spectrum(eigenvalues.flip(0).clamp_min(0), basis.flip(1), variance, fourth / totals.n, note)


def _by_rows(batches: Batches, totals: Totals, dtype: torch.dtype) -> Spectrum:
    """The n - 1 eigenpairs that n <= d samples span, from an SVD of the samples: n^2 d operations, not d^3."""
    rows = torch.cat(list(_centred(batches, totals, dtype)))
    note, variance = _constant(rows.square().sum(0)), float(rows.double().square().sum()) / totals.n
    _, sizes, basis = torch.linalg.svd(rows, full_matrices=False)
    kept = totals.n - 1
    return Spectrum(sizes[:kept].square() / totals.n, basis[:kept].mT, variance, _fourth(rows) / totals.n, note)


def _centred(batches: Batches, totals: Totals, dtype: torch.dtype) -> Iterator[Tensor]:
    mean = totals.mean.to(dtype)
    return (rows - mean for rows in batches.rows(dtype))


def _fourth(centred: Tensor) -> float:
    return float(centred.square().sum(1).double().square().sum())


def _constant(squares: Tensor) -> str:
    constant = int((squares == 0).sum())
    return f"{constant} constant features" if constant else ""


def _by_subspace(
    batches: Batches, totals: Totals, dtype: torch.dtype, size: int, iterations: int, seed: int, progress: bool
) -> Spectrum:
    """Leading eigenpairs by subspace iteration with QR (Halko et al. 2011, algorithm 4.4)."""
    if iterations < 4:
        raise InputError("power_iterations", found=str(iterations), expected="at least 4: fewer lose the tail")
    start = torch.randn(batches.dimension, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    basis, _ = torch.linalg.qr(start)
    for _ in tqdm(range(iterations + 1), desc="subspace iteration", disable=not progress, leave=False):
        product = torch.zeros_like(basis)
        for rows in _centred(batches, totals, dtype):
            product.addmm_(rows.mT, rows @ basis)
        basis, _ = torch.linalg.qr(product)
    small, total, fourth = torch.zeros(size, size, dtype=torch.float64), 0.0, 0.0
    for rows in _centred(batches, totals, dtype):
        seen = (rows @ basis).double()
        small.addmm_(seen.mT, seen)
        total += math.fsum(rows.square().sum(1).tolist())
        fourth += _fourth(rows)
    eigenvalues, rotation = torch.linalg.eigh(small / totals.n)
    eigenvalues, basis = eigenvalues.flip(0).clamp_min(0).to(dtype), basis @ rotation.flip(1).to(dtype)
    note = f"randomised subspace iteration, {iterations} power iterations"
    return Spectrum(eigenvalues, basis, total / totals.n, fourth / totals.n, note)
