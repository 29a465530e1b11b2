"""Least squares from inner products: a prediction as a combination of branches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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
    """

    weights: Array
    mix: float
    residual: float
    tolerance: float
    total_error: float

    @property
    def exact(self) -> bool:
        """Whether the residual is no more than rounding."""
        return self.residual <= self.tolerance

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def used(self) -> list[int]:
        """Branches with a weight that rounding does not explain."""
        return [i for i, weight in enumerate(self.weights) if abs(weight) > max(1e-5, 10 * self.tolerance)]


def fit(gram: Array, precision: float, size: int, *, state: bool) -> Fit:
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
    """
    extra, x = len(gram) - 2, len(gram) - 1
    columns = [*range(extra), *([x] if state else [])]
    scale = np.sqrt(np.maximum(np.diag(gram), 0))
    largest = max(scale[0], scale[extra], 1e-300)
    kept = [c for c in columns if scale[c] > 4 * precision * largest or c == 0]
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
    reach = float(np.abs(weights) @ _norms(gram)) + abs(mix) * scale[x]
    spread = np.sqrt(squared / max(size, 1)) * np.sqrt(max(float(inverse[0, 0]), 0.0)) / max(scale[0], 1e-300)
    return Fit(weights, mix, np.sqrt(squared) / norm, 2 * precision * reach / norm + 1e-7, float(spread))


def _norms(gram: Array) -> Array:
    """|a|, |b|, ... of the branches."""
    extra = len(gram) - 2
    squares = [gram[0, 0]] + [gram[0, 0] + 2 * gram[0, j] + gram[j, j] for j in range(1, extra)]
    norms: Array = np.sqrt(np.maximum(np.array(squares), 0))
    return norms
