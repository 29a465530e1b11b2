"""How low a Frechet distance can be pushed by choosing among the images one already has.

    found = optimise_weights(candidates, real)
    found.weights, found.value, found.effective_size

The attack of Kynkaanniemi et al. 2023 (arXiv 2203.06026, section 5 and their resampling code): one free log-weight a
candidate, and the distance of the weighted set to the real one as the loss. Here its gradient is a closed form and
the optimiser is L-BFGS, which needs tens of evaluations where plain gradient descent takes a thousand.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from scorescope.analysis.fid.frechet import FeatureSet, as_moments, cholesky_factor, congruence, pivoted_factor
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import check_features, check_same_dimension

CHUNK = 4096


@displayed
@dataclass(frozen=True, eq=False)
class OptimisedWeights:
    """Result of `optimise_weights`.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        One a candidate, mean 1.
    start, value : float
        Loss at equal weights and at `weights`.
    effective_size : float
        (sum w)^2 / sum w^2: how many images the weighted set is worth.
    largest : float
        Largest weight; 1 is an equal share.
    history : DataFrame
        Columns `evaluation`, `value`: each evaluation of loss and gradient.
    status : str
        Why it ended; "interrupted" keeps the best weights so far.
    """

    weights: Floats
    start: float
    value: float
    effective_size: float
    largest: float
    history: pd.DataFrame
    status: str


class WeightedDistance:
    """Frechet distance of weighted candidates to a fixed set, with its gradient by the log-weights.

    Parameters
    ----------
    candidates : array, shape (n, d)
        Generated images to choose from, more than d.
    real : Moments, or array of shape (m, d)
        The set to come close to. Its factor is found once.

    Notes
    -----
    Weights are n softmax(omega): their sum stays n, so that n acts as the number of samples and the official form
    (a free sum, which drifts) is met at omega = 0. With c_j = x_j - m, G = I - T and W = n,
    dFD/d omega_j = (w_j / W) [2 (m - mu2) . c_j + W/(W-1) c_j^T G c_j - Tr(G S)].
    """

    def __init__(self, candidates: ArrayLike, real: FeatureSet) -> None:
        rows, other = check_features("candidates", candidates), as_moments("real", real)
        check_same_dimension("real", rows.shape[1], other.dimension)
        if len(rows) <= rows.shape[1]:
            found = f"{len(rows)} images of {rows.shape[1]} features"
            raise InputError("candidates", found=found, expected="more images than features")
        self._rows = rows - other.mean  # near the origin, where raw second moments lose no digits
        self._trace = float(np.trace(other.covariance))
        lower = cholesky_factor(other.covariance)
        self._triangular = lower is not None
        self._factor = pivoted_factor(other.covariance) if lower is None else lower

    @property
    def count(self) -> int:
        """Number of candidates, n."""
        return len(self._rows)

    def __call__(self, log_weights: ArrayLike) -> tuple[float, Floats]:
        """Loss and its gradient, shape (n,), at log-weights of shape (n,)."""
        w = normalised(log_weights)
        total = float(len(w))
        mean = w @ self._rows / total
        scaled = np.sqrt(w)[:, None] * self._rows
        covariance = (scaled.T @ scaled - total * np.outer(mean, mean)) / (total - 1)
        del scaled
        roots, directions = self._principal(covariance)
        value = float(mean @ mean) + float(np.trace(covariance)) + self._trace - 2 * float(roots.sum())
        reached = roots > np.sqrt(len(roots) * np.finfo(float).eps) * roots.max(initial=0.0)
        half = directions[:, reached] / np.sqrt(roots[reached])
        matrix = half @ half.T
        forms = self._forms(mean, matrix, half)
        trace = float(np.trace(covariance)) - float(np.sum(matrix * covariance))
        linear = 2 * (self._rows @ mean - mean @ mean)
        return value, w / total * (linear + total / (total - 1) * forms - trace)

    def _principal(self, covariance: Floats) -> tuple[Floats, Floats]:
        """Roots of the eigenvalues of L^T S L, and L V."""
        factor = self._factor
        inner = congruence(factor, covariance) if self._triangular else factor.T @ covariance @ factor
        values, vectors = scipy.linalg.eigh(inner, driver="evd", overwrite_a=True, check_finite=False)
        return np.sqrt(np.clip(values, 0.0, None)), factor @ vectors

    def _forms(self, mean: Floats, matrix: Floats, half: Floats) -> Floats:
        """c_j^T G c_j = |c_j|^2 - |F^T c_j|^2 of every candidate, a few at a time, for T = F F^T.

        With the triangular factor of T as F this takes half the operations of a general product.
        """
        lower = cholesky_factor(matrix)
        parts = []
        for start in range(0, self.count, CHUNK):
            centred = self._rows[start : start + CHUNK] - mean
            squares = np.einsum("ij,ij->i", centred, centred)
            if lower is None:  # T of lower rank than d
                mapped = centred @ half
            else:  # in place: the transpose of `centred` lies in memory as BLAS wants it
                mapped = scipy.linalg.blas.dtrmm(1.0, lower, centred.T, trans_a=1, lower=1, overwrite_b=1).T
            parts.append(squares - np.einsum("ij,ij->i", mapped, mapped))
        return np.concatenate(parts)


@checked
def optimise_weights(
    candidates: ArrayLike, real: FeatureSet, *, evaluations: int = 100, memory: int = 20, progress: bool = False
) -> OptimisedWeights:
    """Weights of the candidates that lower the distance to the real set, by L-BFGS.

    Parameters
    ----------
    candidates : array, shape (n, d)
        Generated images to choose from, more than d.
    real : Moments, or array of shape (m, d)
        The real set.
    evaluations : int
        Most evaluations of loss and gradient; each costs about one eigen-decomposition and two n d^2 products.
    memory : int
        Pairs that L-BFGS keeps.
    progress : bool
        Show a progress bar.

    Returns
    -------
    OptimisedWeights
        The lowest loss found. An interruption ends the search and keeps it.

    Raises
    ------
    InputError
        For n <= d or features that do not fit.
    """
    loss = WeightedDistance(candidates, real)
    if evaluations < 1 or memory < 1:
        raise InputError("evaluations, memory", found=f"{evaluations}, {memory}", expected="at least one of each")
    values: list[float] = []
    best = np.zeros(loss.count)
    bar = tqdm(total=evaluations, desc="optimising weights", disable=not progress, leave=False)

    def evaluate(log_weights: Floats) -> tuple[float, Floats]:
        nonlocal best
        value, gradient = loss(log_weights)
        if not values or value < min(values):
            best = log_weights.copy()
        values.append(value)
        bar.set_postfix(distance=f"{min(values):.4g}", refresh=False)
        bar.update()
        # scaled so that the first step, of length 1 along the gradient, changes weights by about 1 on average
        return loss.count * value, loss.count * gradient

    options = {"maxfun": evaluations, "maxiter": evaluations, "maxcor": memory, "ftol": 1e-12, "gtol": 0.0}
    try:
        with bar:
            status = scipy.optimize.minimize(evaluate, best, jac=True, method="L-BFGS-B", options=options).message
    except KeyboardInterrupt:
        if not values:
            raise
        status = "interrupted"
    weights = normalised(best)
    history = pd.DataFrame({"evaluation": np.arange(1, len(values) + 1), "value": values})
    return OptimisedWeights(
        weights, values[0], min(values), effective_size(weights), float(weights.max()), history, str(status)
    )


def normalised(log_weights: ArrayLike) -> Floats:
    """exp of the log-weights, scaled to mean 1."""
    omega = np.asarray(log_weights, np.float64)
    w = np.exp(omega - omega.max())
    scaled: Floats = w * (len(w) / w.sum())
    return scaled


def effective_size(weights: ArrayLike) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2."""
    w = np.asarray(weights, np.float64)
    return float(w.sum() ** 2 / np.square(w).sum())
