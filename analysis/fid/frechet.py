"""The Frechet distance between two feature sets, by the numerically best route for what is at hand.

    result = frechet_distance(fake, real)          # features (n, d), or Moments
    result.value, result.route, result.floor

FD = |mu1 - mu2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) with unbiased covariances (Dowson & Landau 1982; Heusel et al.
2017, arXiv 1706.08500, eq. 6). Set 1 is the generated one, set 2 the real one. The trace of the root is never taken
from a non-symmetric matrix, in single precision, or with a constant added to the diagonal: each of those makes the
distance look smaller or larger than it is (torch-fidelity and torchmetrics lose 5e-5 at n = 500, d = 2048; the usual
1e-6 I loses 1.5e-2). This module knows nothing of intervals; see `frechet_error`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.floors import fourth_moment_floor, null_floor
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features, check_same_dimension

Route = Literal["auto", "cross_gram", "cholesky", "pivoted_cholesky"]
FeatureSet = Moments | ArrayLike
GRAM_ROUNDING = 1e-12  # relative error of a nuclear norm that eigenvalues in place of singular values may bring
ILL_CONDITIONED = 1e-4  # smallest over largest pivot of L below which singular values replace eigenvalues


@dataclass(frozen=True)
class FrechetDistance:
    """A Frechet distance and how it was found.

    Attributes
    ----------
    value : float
        The distance, not below 0; squared units of the features.
    raw : float
        Before clipping at 0: rounding can leave -1e-9 for equal sets.
    mean_part, covariance_part : float
        The two terms of the distance.
    route : str
        `cross_gram`, `cholesky` or `pivoted_cholesky`.
    rank : int
        Rank of the product of covariances that the route worked with.
    n1, n2 : int or None
        Samples on each side.
    dimension : int
        Number of features, d.
    floor : float
        Expected distance of two independent sets of these sizes drawn like set 2: `fourth_moment_floor` where the
        features of set 2 are at hand, `null_floor` where only its moments are. NaN where n is unknown, and for
        n2 <= d, where the covariance itself is singular for want of images. `split_floors.real_floor` splits the
        real set instead, which is nearer the truth where some images have far larger features than others.
    floor_kind : str
        `fourth moments`, `Gaussian`, or empty where there is no floor.
    """

    value: float
    raw: float
    mean_part: float
    covariance_part: float
    route: str
    rank: int
    n1: int | None
    n2: int | None
    dimension: int
    floor: float
    floor_kind: str


@checked
def frechet_distance(fake: FeatureSet, real: FeatureSet, *, route: Route = "auto") -> FrechetDistance:
    """Distance between two sets of features.

    Parameters
    ----------
    fake, real : Moments, or array of shape (n, d)
        Sets 1 and 2.
    route : str
        `auto` takes `cross_gram` where features are given and the smaller set has fewer rows than features, else
        `cholesky`, else, where a covariance is singular, `pivoted_cholesky`.

    Returns
    -------
    FrechetDistance

    Raises
    ------
    InputError
        For sets of different dimension, fewer than two rows, rows that are not finite, `cross_gram` without
        features, or `cholesky` on singular covariances.

    Notes
    -----
    `cross_gram`: with S1 = A A^T and S2 = B B^T, Tr (S1 S2)^(1/2) is the nuclear norm of A^T B, which is n1 x n2.
    `cholesky`: S2 = L L^T, and the trace is the sum of the square roots of the eigenvalues of L^T S1 L.
    `pivoted_cholesky`: the nuclear norm of F1^T F2, with F the d x rank factors of LAPACK's dpstrf.
    """
    x1 = None if isinstance(fake, Moments) else check_features("fake", fake)
    x2 = None if isinstance(real, Moments) else check_features("real", real)
    if x1 is not None and x2 is not None:
        check_same_dimension("real", x1.shape[1], x2.shape[1])
        if route == "cross_gram" or (route == "auto" and min(len(x1), len(x2)) < x1.shape[1]):
            return _from_features(x1, x2)
    if route == "cross_gram":
        raise InputError("route", found="'cross_gram' with moments", expected="features on both sides")
    m1, m2 = as_moments("fake", fake), as_moments("real", real)
    check_same_dimension("real", m1.dimension, m2.dimension)
    trace, used, rank = trace_of_root(m1, m2, route)
    traces = float(np.trace(m1.covariance) + np.trace(m2.covariance))
    floor = _floor_of(m2 if x2 is None else x2, m1.n, m2.n)
    return _assemble(m1.mean - m2.mean, traces - 2 * trace, used, rank, (m1.n, m2.n), floor)


def distance_value(x1: Floats, x2: Floats) -> float:
    """The distance between two checked sets of features alone: without the floor, which costs as much again."""
    if min(len(x1), len(x2)) < x1.shape[1]:
        return max(_cross_gram(x1, x2)[0], 0.0)
    return max(raw_distance(Moments.of(x1), Moments.of(x2)), 0.0)


def raw_distance(m1: Moments, m2: Moments) -> float:
    """The distance between two sets of moments, not clipped at 0."""
    gap = m1.mean - m2.mean
    traces = float(np.trace(m1.covariance) + np.trace(m2.covariance))
    return float(gap @ gap) + traces - 2 * trace_of_root(m1, m2)[0]


def as_moments(argument: str, features: FeatureSet) -> Moments:
    """Moments of a feature set, which may be moments already."""
    return features if isinstance(features, Moments) else Moments.of(check_features(argument, features))


def trace_of_root(m1: Moments, m2: Moments, route: Route = "auto") -> tuple[float, str, int]:
    """Tr (S1 S2)^(1/2), the route that was taken, and the rank it worked with."""
    enough = all(m.n is None or m.n > m.dimension for m in (m1, m2))
    if route == "cholesky" or (route == "auto" and enough):
        factor = cholesky_factor(m2.covariance)
        if factor is not None:
            trace = _root_by_cholesky(factor, m1.covariance)
            if trace is not None:
                return trace, "cholesky", m1.dimension
        if route == "cholesky":
            raise InputError("route", found="singular covariances", expected="'pivoted_cholesky' or 'auto'")
    f1, f2 = pivoted_factor(m1.covariance), pivoted_factor(m2.covariance)
    trace = float(scipy.linalg.svdvals(f1.T @ f2).sum()) if min(f1.shape[1], f2.shape[1]) else 0.0
    return trace, "pivoted_cholesky", min(f1.shape[1], f2.shape[1])


def cholesky_factor(covariance: Floats) -> Floats | None:
    """Lower L with L L^T = S, or None where S is singular to rounding."""
    factor, failed = scipy.linalg.lapack.dpotrf(covariance, lower=1, clean=1)
    if failed:
        return None
    pivots = np.diagonal(factor) ** 2
    small = len(covariance) * np.finfo(float).eps * np.diagonal(covariance).max()
    return None if pivots.min() <= small else factor


def pivoted_factor(covariance: Floats) -> Floats:
    """F of shape (d, rank) with F F^T = S, by Cholesky with pivoting (LAPACK dpstrf).

    What is left when the pivots fall to d * eps of the largest variance is rounding, and is dropped.
    """
    d = len(covariance)
    tolerance = d * np.finfo(float).eps * max(float(np.diagonal(covariance).max()), 0.0)
    if tolerance == 0:
        return np.zeros((d, 0))
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(covariance, tol=tolerance, lower=1)
    result = np.zeros((d, rank))
    result[pivots - 1] = np.tril(factor)[:, :rank]
    return result


def _floor_of(real: Moments | Floats, n1: int | None, n2: int | None) -> tuple[float, str]:
    """The floor of a comparison with `real`, and its kind."""
    d = real.dimension if isinstance(real, Moments) else real.shape[1]
    if n1 is None or n2 is None or n2 <= d:
        return math.nan, ""
    if isinstance(real, Moments):
        return null_floor(real.covariance, n1, n2), "Gaussian"
    return fourth_moment_floor(real, n1, n2), "fourth moments"


def _from_features(x1: Floats, x2: Floats) -> FrechetDistance:
    (n1, d), n2 = x1.shape, len(x2)
    raw, gap = _cross_gram(x1, x2)
    rank = min(n1 - 1, n2 - 1, d)
    return _assemble(gap, raw - float(gap @ gap), "cross_gram", rank, (n1, n2), _floor_of(x2, n1, n2))


def _cross_gram(x1: Floats, x2: Floats) -> tuple[float, Floats]:
    """The distance by the nuclear norm of the cross Gram matrix, not clipped, and the gap of the means."""
    n1, n2 = len(x1), len(x2)
    mean1, mean2 = x1.mean(axis=0), x2.mean(axis=0)
    a, b = x1 - mean1, x2 - mean2
    trace = _nuclear_norm(a @ b.T) / math.sqrt((n1 - 1) * (n2 - 1))
    traces = float(np.vdot(a, a) / (n1 - 1) + np.vdot(b, b) / (n2 - 1))
    gap = mean1 - mean2
    return float(gap @ gap) + traces - 2 * trace, gap


def _nuclear_norm(cross: Floats) -> float:
    """Sum of the singular values of the cross Gram matrix of two centred sets.

    By the eigenvalues of the smaller Gram matrix of `cross` where a bound on their rounding allows it, which takes
    half the time, else by the singular values themselves.
    """
    n1, n2 = cross.shape
    # centring makes the vectors of ones null vectors on both sides: lift that one singular value to `lift` exactly
    lift = float(np.linalg.norm(cross)) / math.sqrt(min(n1, n2))
    lifted = cross + lift / math.sqrt(n1 * n2)
    gram = lifted @ lifted.T if n1 <= n2 else lifted.T @ lifted
    values = scipy.linalg.eigvalsh(gram, driver="evd", overwrite_a=True, check_finite=False)
    if values[0] > 0:
        roots = np.sqrt(values)
        rounding = np.finfo(float).eps * values[-1] * (0.5 / roots).sum()
        if rounding <= GRAM_ROUNDING * roots.sum():
            return float(roots.sum()) - lift
    return float(scipy.linalg.svdvals(cross, overwrite_a=True, check_finite=False).sum())


def _root_by_cholesky(factor: Floats, covariance: Floats) -> float | None:
    """Tr (S1 S2)^(1/2) from S2 = L L^T: sum of the roots of the eigenvalues of L^T S1 L. None for a singular S1."""
    pivots = np.diagonal(factor)
    if pivots.min() >= ILL_CONDITIONED * pivots.max():
        product = congruence(factor, covariance)
        values = scipy.linalg.eigvalsh(product, driver="evd", overwrite_a=True, check_finite=False)
        if values[0] > len(values) * np.finfo(float).eps * values[-1]:
            return float(np.sqrt(values).sum())
    # the eigenvalues of the product lose half the digits of small roots; singular values of the factors do not
    other = cholesky_factor(covariance)
    return None if other is None else float(scipy.linalg.svdvals(other.T @ factor).sum())


def congruence(factor: Floats, covariance: Floats) -> Floats:
    """L^T S L for a lower triangular L, by two triangular products."""
    half = scipy.linalg.blas.dtrmm(1.0, factor, covariance, side=1, lower=1)
    product: Floats = scipy.linalg.blas.dtrmm(1.0, factor, half, side=0, lower=1, trans_a=1, overwrite_b=1)
    return product


def _assemble(
    gap: Floats,
    covariance_part: float,
    route: str,
    rank: int,
    sizes: tuple[int | None, int | None],
    floor: tuple[float, str],
) -> FrechetDistance:
    mean_part = float(gap @ gap)
    raw = mean_part + covariance_part
    return FrechetDistance(max(raw, 0.0), raw, mean_part, covariance_part, route, rank, *sizes, len(gap), *floor)
