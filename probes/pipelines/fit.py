"""Least squares from inner products: a prediction as a combination of branches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scorescope.data.display import displayed

Array = NDArray[np.float64]

_SURE = 4.0  # standard errors
_PRODUCTS = 3e-8  # a residual is the root of a difference of inner products, which are good to 1e-16


@displayed
@dataclass(frozen=True)
class Fit:
    """g as a combination of branches, for one sample or one position of it.

    Attributes
    ----------
    weights : array, shape (branches,)
        Weight of each branch.
    mix : float
        Weight of the state x.
    residual : float
        |g - fit| / |g|.
    tolerance : float
        What rounding explains, same unit.
    total_error : float
        Standard error of the sum of the weights.
    errors : array, shape (branches,)
        Standard error of each weight, from the residual: large where branches are close.
    mix_error : float
        Standard error of the weight of the state.
    """

    weights: Array
    mix: float
    residual: float
    tolerance: float
    total_error: float
    errors: Array
    mix_error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the residual is no more than rounding."""
        return self.residual <= self.tolerance

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(sum(self.weights.tolist()))  # of two or three numbers: an array operation costs ten times as much

    def used(self) -> list[int]:
        """Branches with a weight that rounding does not explain."""
        least, pairs = max(1e-5, self.tolerance), zip(self.weights.tolist(), self.errors.tolist(), strict=True)
        return [i for i, (weight, error) in enumerate(pairs) if abs(weight) > max(least, _SURE * error)]


def negligible(precision: float) -> float:
    """Share of a branch below which a difference from it is none.

    A network in half precision can return predictions that are much closer than its rounding: most elements are the
    same, and those that are not differ by one step of the type. They are exact numbers all the same.
    """
    return min(4 * precision, 1e-6)


def fit(gram: Array, precision: float, size: int, *, state: bool, space: tuple[float, float] | None = None) -> Fit:
    """Least squares from the inner products of (a, b - a, ..., g - a, x).

    Parameters
    ----------
    gram : array, shape (m, m)
        Inner products.
    precision : float
        Machine epsilon of the coarsest type that the predictions passed through.
    size : int
        Number of elements.
    state : bool
        Let x enter the combination.
    space : (float, float), optional
        (skip, out) with D = skip x + out g, where g may have been made in denoised space and taken back.

    Notes
    -----
    Rounding: one rounding of each weighted branch, of the state and of the result, in quadrature. The root mean
    square of a rounding is at most precision / (2 sqrt 3) of the number; half the precision leaves room for a few of
    them at each size. A rule that differs from a combination by less cannot be told from one. What was rounded in
    denoised space, x and each branch, is 1 / |out| times as large in g: (x - D) / sigma at small sigma.
    """
    extra, x = len(gram) - 2, len(gram) - 1
    columns = [*range(extra), *([x] if state else [])]
    scale = np.sqrt(np.maximum(np.diag(gram), 0))
    largest = max(scale[0], scale[extra], 1e-300)
    kept = [c for c in columns if scale[c] > negligible(precision) * largest or c == 0]
    system = gram[np.ix_(kept, kept)] / np.outer(scale[kept], scale[kept]) if scale[0] > 0 else np.eye(len(kept))
    right = gram[kept, extra] / np.where(scale[kept] > 0, scale[kept], 1)
    inverse = np.linalg.pinv(system, rcond=1e-13, hermitian=True)
    found = np.zeros(len(gram))
    found[kept] = (inverse @ right) / np.where(scale[kept] > 0, scale[kept], 1)
    error = -found
    error[extra] = 1.0
    squared = max(float(error @ gram @ error), 0.0)
    g = np.zeros(len(gram))
    g[0] = g[extra] = 1.0
    norm = np.sqrt(max(float(g @ gram @ g), 1e-300))
    weights = found[:extra].copy()
    weights[0] = found[0] + 1 - found[1:extra].sum()
    mix = float(found[x]) if state else 0.0
    parts = [*(weights * _norms(gram)), mix * scale[x], norm]
    if space is not None and weights.sum():
        parts += _taken_back(gram, weights, mix, *space)
    tolerance = 0.5 * max(precision, _PRODUCTS) * float(np.linalg.norm(parts)) / norm + 1e-7
    noise = np.sqrt(squared / max(size, 1))
    covariance = np.zeros_like(gram)
    covariance[np.ix_(kept, kept)] = inverse / np.outer(*[np.where(scale[kept] > 0, scale[kept], np.inf)] * 2)
    total_error, mix_error = (noise * np.sqrt(max(float(covariance[c, c]), 0.0)) for c in (0, x))
    errors = noise * _spread(covariance, extra)
    return Fit(weights, mix, np.sqrt(squared) / norm, tolerance, float(total_error), errors, float(mix_error))


def _taken_back(gram: Array, weights: Array, mix: float, skip: float, out: float) -> list[float]:
    """Sizes, in g, of what is rounded in denoised space: the state, and each branch times its weight."""
    x, total = len(gram) - 1, weights.sum()
    vectors = np.zeros((len(weights), len(gram)))
    vectors[:, 0] = out * total
    vectors[1:, 1 : len(weights)] += out * total * np.eye(len(weights) - 1)
    vectors[:, x] = skip + out * mix
    norms = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", vectors, gram, vectors), 0))
    return [float(skip / out * np.sqrt(max(gram[x, x], 0))), *(weights / total * norms / out)]


def fit_all(grams: Array, precision: float, size: int) -> list[Fit]:
    """`fit` of each sample without the state, shape (batch, m, m), in one go, which is ten times as fast."""
    count, extra = len(grams), grams.shape[-1] - 2
    fits: dict[int, Fit] = {}
    scale = np.sqrt(np.maximum(np.diagonal(grams, axis1=1, axis2=2), 0))
    largest = np.maximum(np.maximum(scale[:, 0], scale[:, extra]), 1e-300)
    kept = scale[:, :extra] > negligible(precision) * largest[:, None]
    kept[:, 0] = True
    codes = kept @ (1 << np.arange(extra))
    for code in set(codes.tolist()):
        places = np.flatnonzero((codes == code) & np.isfinite(grams[:, :-1, :-1]).all((1, 2)))
        columns = np.flatnonzero(kept[places[0]]) if len(places) else np.arange(0)
        for place, found in zip(places, _fit_alike(grams[places], columns, precision, size), strict=True):
            fits[int(place)] = found
    return [fits[place] if place in fits else fit(grams[place], precision, size, state=False) for place in range(count)]


def _fit_alike(grams: Array, kept: NDArray[np.intp], precision: float, size: int) -> list[Fit]:
    """Of samples of which the same columns count."""
    count, m = grams.shape[:2]
    if not count:
        return []
    extra = m - 2
    scale = np.sqrt(np.maximum(np.diagonal(grams, axis1=1, axis2=2), 0))
    unit = np.where(scale[:, kept] > 0, scale[:, kept], 1)
    system = grams[:, kept][:, :, kept] / (unit[:, :, None] * unit[:, None, :])
    system[scale[:, 0] == 0] = np.eye(len(kept))
    inverse = np.linalg.pinv(system, rcond=1e-13, hermitian=True)
    found = np.zeros((count, m))
    found[:, kept] = (inverse @ (grams[:, kept, extra] / unit)[:, :, None])[:, :, 0] / unit
    error = -found
    error[:, extra] = 1.0
    squared = np.maximum(np.einsum("ni,nij,nj->n", error, grams, error), 0.0)
    g = np.zeros(m)
    g[0] = g[extra] = 1.0
    norm = np.sqrt(np.maximum(np.einsum("i,nij,j->n", g, grams, g), 1e-300))
    weights = found[:, :extra].copy()
    weights[:, 0] = found[:, 0] + 1 - found[:, 1:extra].sum(1)
    first, diagonal = grams[:, :1, 0], np.diagonal(grams, axis1=1, axis2=2)[:, 1:extra]
    branches = np.sqrt(np.maximum(np.concatenate([first, first + 2 * grams[:, 0, 1:extra] + diagonal], axis=1), 0))
    sizes = np.linalg.norm(np.concatenate([weights * branches, norm[:, None]], axis=1), axis=1)
    tolerance = 0.5 * max(precision, _PRODUCTS) * sizes / norm + 1e-7
    noise = np.sqrt(squared / max(size, 1))
    inner = np.zeros((count, extra, extra))
    inner[:, kept[:, None], kept] = np.where(
        (scale[:, kept] > 0)[:, :, None] & (scale[:, kept] > 0)[:, None, :],
        inverse / (unit[:, :, None] * unit[:, None, :]), 0.0,
    )  # fmt: skip
    total_error = noise * np.sqrt(np.maximum(inner[:, 0, 0], 0.0))
    sum_of = np.array([1.0, *(-1.0,) * (extra - 1)])
    spread = np.diagonal(inner, axis1=1, axis2=2).copy()
    spread[:, 0] = np.einsum("i,nij,j->n", sum_of, inner, sum_of)
    errors = noise[:, None] * np.sqrt(np.maximum(spread, 0))
    residual = np.sqrt(squared) / norm
    rows = zip(weights, residual.tolist(), tolerance.tolist(), total_error.tolist(), errors, strict=True)
    return [Fit(one, 0.0, left, most, total, each) for one, left, most, total, each in rows]


def _spread(covariance: Array, branches: int) -> Array:
    """Standard errors of the weights in units of the noise; the first weight is 1 + f_a - f_b - ..."""
    first = np.array([1.0, *(-1.0,) * (branches - 1)])
    inner = covariance[:branches, :branches]
    spread: Array = np.sqrt(np.maximum(np.array([first @ inner @ first, *np.diag(inner)[1:]]), 0))
    return spread


def _norms(gram: Array) -> Array:
    """|a|, |b|, ... of the branches."""
    extra = len(gram) - 2
    squares = [gram[0, 0]] + [gram[0, 0] + 2 * gram[0, j] + gram[j, j] for j in range(1, extra)]
    norms: Array = np.sqrt(np.maximum(np.array(squares), 0))
    return norms
