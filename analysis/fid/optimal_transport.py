"""The optimal map between two Gaussians, and what it says of every feature and image at once.

    plan = transport(fake, real)                  # Moments
    influence(plan, fake_features)                # (n,), one value an image, mean 0
    image_gradients(plan, fake_features)          # (n, d), dFD/dx_i

With S2 = L L^T and L^T S1 L = V diag(w) V^T, the map from set 1 to set 2 is T = (L V) diag(w^-1/2) (L V)^T, and the
derivative of the distance by S1 is G = I - T. Everything else here follows from T: there is no backward pass and no
eigen-decomposition for each image.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.frechet import FeatureSet, as_moments, cholesky_factor, congruence, pivoted_factor
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features, check_same_dimension

SAME, ROUNDING = 1e-3, 1e-5  # rows of one set, extracted twice, differ less; another set's means by sd / sqrt(n)
FIRST_ORDER = 10  # n / d from which a first-order influence ranks images as leaving them out does (corr 0.997)
CHUNK = 4096  # images whose products are held at once


class FirstOrderWarning(UserWarning):
    """A first-order quantity was asked for with too few samples for each feature to be trusted."""


@displayed
@dataclass(frozen=True, eq=False)
class Transport:
    """The map from set 1 (generated) to set 2 (real).

    Attributes
    ----------
    fake, real : Moments
        The two sets.
    matrix : ndarray, shape (d, d)
        T, symmetric, with T S1 T = S2 where S1 is regular.
    discrepancy_factor : ndarray, shape (d, k)
        F with F F^T = M, the matrix whose trace is the distance (see `discrepancy`).
    """

    fake: Moments
    real: Moments
    matrix: Floats
    discrepancy_factor: Floats

    @property
    def gap(self) -> Floats:
        """mu1 - mu2, shape (d,)."""
        return self.fake.mean - self.real.mean

    @property
    def gradient(self) -> Floats:
        """dFD/dS1 = I - T, shape (d, d)."""
        return np.eye(len(self.matrix)) - self.matrix

    @property
    def discrepancy(self) -> Floats:
        """M = gap gap^T + S1 + S2 - S1 T - T S1, shape (d, d): positive semidefinite, with trace FD.

        u^T M u is what direction u contributes; for regular S1 the covariance part is G S1 G.
        """
        return self.discrepancy_factor @ self.discrepancy_factor.T


@checked
def transport(fake: FeatureSet, real: FeatureSet) -> Transport:
    """Find the map between the Gaussians of two sets.

    Parameters
    ----------
    fake, real : Moments, or array of shape (n, d)
        Sets 1 and 2.

    Returns
    -------
    Transport

    Raises
    ------
    InputError
        For sets of different dimension or unusable features.

    Notes
    -----
    Costs two Cholesky factors, one symmetric eigen-decomposition and two products, O(d^3). Singular covariances are
    factored with pivoting; T then acts on the part of set 2 that set 1 reaches.
    """
    m1, m2 = as_moments("fake", fake), as_moments("real", real)
    check_same_dimension("real", m1.dimension, m2.dimension)
    roots, directions = _principal(m1, m2)
    reached = roots > np.sqrt(len(roots) * np.finfo(float).eps) * roots.max(initial=0.0)
    scaled = directions[:, reached] / np.sqrt(roots[reached])
    matrix = scaled @ scaled.T
    factor = _factor(m1)
    columns = [(m1.mean - m2.mean)[:, None], factor - matrix @ factor, directions[:, ~reached]]
    return Transport(m1, m2, matrix, np.hstack(columns))


@checked
def influence(plan: Transport, features: ArrayLike, *, side: str = "fake") -> Floats:
    """First-order change of the distance when each image gets more weight.

    Parameters
    ----------
    plan : Transport
        From the sets that `features` belong to.
    features : array, shape (n, d)
        The rows of one set.
    side : str
        `fake` or `real`: whose rows they are.

    Returns
    -------
    ndarray, shape (n,)
        IF_i, in units of FD: dFD/dw_i = IF_i / n for normalised weights. Its mean is 0. Positive: taking the image
        out lowers the distance, by about IF_i / n.

    Raises
    ------
    InputError
        If n <= d, where a first-order answer is wrong in kind: use `leave_one_out`; and for the rows of another set
        than the plan's, for which the influences have no meaning.

    Warns
    -----
    FirstOrderWarning
        If n < 10 d.

    Notes
    -----
    IF_i = 2 (mu1 - mu2) . c_i + n/(n-1) c_i^T G c_i - Tr(G S1), c_i = x_i - mu1.
    """
    rows = check_features("features", features)
    if side == "real":
        plan = transport(plan.real, plan.fake)
    elif side != "fake":
        raise InputError("side", found=repr(side), expected="'fake' or 'real'")
    check_first_order(len(rows), plan.fake.dimension)
    check_same_dimension("features", plan.fake.dimension, rows.shape[1])
    _check_members(plan.fake, rows, side)
    n, gradient = len(rows), plan.gradient
    trace = float(np.sum(gradient * plan.fake.covariance))
    parts = []
    for start in range(0, n, CHUNK):
        c = rows[start : start + CHUNK] - plan.fake.mean
        parts.append(2 * c @ plan.gap + n / (n - 1) * np.einsum("ij,ij->i", c @ gradient, c) - trace)
    return np.concatenate(parts)


@checked
def image_gradients(plan: Transport, features: ArrayLike, *, new: bool = False) -> Floats:
    """Derivative of the distance by each generated image's features.

    Parameters
    ----------
    plan : Transport
        Its `fake` moments must say n.
    features : array, shape (m, d)
        Rows of the generated set or, with `new`, of images that would join it as the (n + 1)-th, one at a time.
    new : bool
        Which of the two.

    Returns
    -------
    ndarray, shape (m, d)
        dFD/dx_i. For members (2/n) gap + 2/(n-1) G (x_i - mu1). A new image moves the mean itself, which is counted;
        G stays that of the n images, an error of order 1/n.
    """
    rows = check_features("features", features, at_least=1)
    check_same_dimension("features", plan.fake.dimension, rows.shape[1])
    n = plan.fake.n
    if n is None:
        raise InputError("plan", found="moments without n", expected="moments that say how many samples they hold")
    centred = rows - plan.fake.mean
    if not new:
        return 2 / n * plan.gap + 2 / (n - 1) * (centred @ plan.gradient)
    total = n + 1  # the covariance gains (1/N) (f - mu)(f - mu)^T, mu the mean of the N - 1 others
    return 2 / total * (plan.gap + centred / total) + 2 / total * (centred @ plan.gradient)


def _check_members(moments: Moments, rows: Floats, side: str) -> None:
    """Refuse rows that have other moments than the set: its means and standard deviations, to `SAME` of the latter."""
    expected = f"the rows of the set that the plan was made of as {side}"
    if moments.n is not None and len(rows) != moments.n:
        raise InputError("features", found=f"{len(rows)} rows for a set of {moments.n}", expected=expected)
    spread = np.sqrt(np.clip(np.diagonal(moments.covariance), 0.0, None))
    gaps = np.maximum(np.abs(rows.mean(axis=0) - moments.mean), np.abs(rows.std(axis=0, ddof=1) - spread))
    if (gaps > SAME * spread + ROUNDING * np.abs(moments.mean)).any():
        worst = float((gaps / np.maximum(spread, np.finfo(float).tiny)).max())
        found = f"rows whose mean or spread is off by {worst:.2g} standard deviations"
        raise InputError("features", found=found, expected=expected)


def check_first_order(n: int, d: int) -> None:
    """Refuse first-order influences at n <= d, and warn below n = 10 d."""
    if n <= d:
        expected = f"more than {d}: below that, taking out an image changes the distance at another order; "
        raise InputError("features", found=f"{n} images of {d} features", expected=expected + "use leave_one_out")
    if n < FIRST_ORDER * d:
        text = f"{n} images of {d} features: first-order influences are rough below n = {FIRST_ORDER} d"
        warnings.warn(text + "; leave_one_out is exact", FirstOrderWarning, stacklevel=3)


def _principal(m1: Moments, m2: Moments) -> tuple[Floats, Floats]:
    """Roots sqrt(w) and directions L V, with L^T S1 L = V diag(w) V^T."""
    lower = cholesky_factor(m2.covariance) if m2.n is None or m2.n > m2.dimension else None
    if lower is not None:
        factor, inner = lower, congruence(lower, m1.covariance)
    else:
        factor = pivoted_factor(m2.covariance)
        inner = factor.T @ m1.covariance @ factor
    if factor.shape[1] == 0:
        return np.zeros(0), factor
    values, vectors = scipy.linalg.eigh(inner, driver="evd", overwrite_a=True, check_finite=False)
    return np.sqrt(np.clip(values, 0.0, None)), factor @ vectors


def _factor(moments: Moments) -> Floats:
    lower = cholesky_factor(moments.covariance) if moments.n is None or moments.n > moments.dimension else None
    return pivoted_factor(moments.covariance) if lower is None else lower
