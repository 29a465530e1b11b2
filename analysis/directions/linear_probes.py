"""Linear probes of many noise levels at once: ridge and LDA in closed form, logistic regression by scikit-learn.

    paths = fit_paths("ridge", x, [Target(labels)], strengths=[0.01, 0.1])   # x: (level, row, d)
    paths[0].probe(level=3, strength=1).predict(values)

What is scored is balanced accuracy, so that is what is fitted: every class has the same total weight, however rare it
is. One eigendecomposition of a level and target serves all strengths of the regularisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.statistics.arrays import Integers
from scorescope.data.display import displayed
from scorescope.data.errors import InputError

ProbeMethod = Literal["ridge", "lda", "logistic"]
PROBE_METHODS: tuple[ProbeMethod, ...] = ("ridge", "lda", "logistic")


@displayed
@dataclass(frozen=True, eq=False)
class Target:
    """What a probe is to predict, one value a row.

    Attributes
    ----------
    values : array, shape (row,)
        Classes, where of an integer type; a continuous attribute otherwise.
    """

    values: NDArray[np.generic]

    @cached_property
    def classes(self) -> Integers:
        """Sorted classes; none for a continuous attribute."""
        integer = np.issubdtype(self.values.dtype, np.integer)
        return np.unique(self.values).astype(np.int64) if integer else np.empty(0, dtype=np.int64)

    @property
    def continuous(self) -> bool:
        """Whether the values are numbers rather than classes."""
        return len(self.classes) == 0

    def weights(self) -> Tensor:
        """Weight of each row, (row,), float64, 1 on average: the same for all classes together, 1 for numbers."""
        if self.continuous:
            return torch.ones(len(self.values), dtype=torch.float64)
        place, count = np.unique(self.values, return_inverse=True, return_counts=True)[1:]
        return torch.from_numpy(len(self.values) / (len(count) * count.astype(np.float64)))[place]

    def coded(self) -> Tensor:
        """Regression targets (row, column): +1 for the row's class and -1 for others, or the value."""
        if self.continuous:
            return torch.from_numpy(self.values.astype(np.float64))[:, None]
        return torch.from_numpy(2.0 * (self.values[:, None] == self.classes) - 1)


@displayed
@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A fitted probe: outputs are (values - mean) / scale @ weights + bias.

    Attributes
    ----------
    mean, scale : Tensor, shape (d,)
        Of the training rows, float64.
    weights : Tensor, shape (d, column)
    bias : Tensor, shape (column,)
    classes : array
        Class of each column; empty for a continuous attribute.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    classes: Integers

    def outputs(self, values: Tensor) -> Tensor:
        """(row, d) to (row, column), float64.

        Raises
        ------
        InputError
            For values of another width.
        """
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            found = f"shape {tuple(values.shape)}"
            raise InputError("values", found=found, expected=f"(row, {len(self.mean)}), as the probe was fitted on")
        return (values.double() - self.mean) / self.scale @ self.weights + self.bias

    def predict(self, values: Tensor) -> NDArray[np.generic]:
        """Class, or value, of each row."""
        outputs = self.outputs(values)
        return outputs[:, 0].numpy() if len(self.classes) == 0 else self.classes[outputs.argmax(1).numpy()]


@displayed
@dataclass(frozen=True, eq=False)
class Path:
    """Probes of one target at all levels and strengths.

    Attributes
    ----------
    mean, scale : Tensor, shape (level, d)
    weights : Tensor, shape (strength, level, d, column)
    bias : Tensor, shape (strength, level, column)
    classes : array
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor
    classes: Integers

    def probe(self, *, level: int, strength: int) -> LinearProbe:
        """The probe of one level at the strength of this index."""
        weights, bias = self.weights[strength, level], self.bias[strength, level]
        return LinearProbe(self.mean[level], self.scale[level], weights, bias, self.classes)

    def outputs(self, values: Tensor) -> Tensor:
        """(level, row, d) to (strength, level, row, column), float64."""
        x = (values.double() - self.mean[:, None]) / self.scale[:, None]
        return x @ self.weights + self.bias[:, :, None]

    def predictions(self, values: Tensor) -> NDArray[np.generic]:
        """Class or value of (level, row, d), as (strength, level, row)."""
        outputs = self.outputs(values)
        return outputs[..., 0].numpy() if len(self.classes) == 0 else self.classes[outputs.argmax(-1).numpy()]


def fit_paths(
    method: ProbeMethod, values: Tensor, targets: Sequence[Target], *, strengths: Sequence[float]
) -> list[Path]:
    """Fit probes of every target at every level and strength.

    Parameters
    ----------
    method : {"ridge", "lda", "logistic"}
        `ridge`: least squares on targets of -1 and +1, classes of equal weight, with the penalty strength * rows on
        squared weights.
        `lda`: pooled covariance (1 - s) S + s tr(S) / d I with strength s, equal class priors. `logistic`: the
        multinomial loss, classes of equal weight, with the same penalty as ridge, halved; slow. A continuous target is
        always fitted by ridge.
    values : Tensor, shape (level, row, d)
        Training rows; standardised inside, channel by channel and level by level.
    targets : sequence of Target
        One value a row.
    strengths : sequence of float
        Strengths of the regularisation.

    Returns
    -------
    list of Path
        One a target.

    Raises
    ------
    InputError
        For an unknown method, and strengths out of range.
    """
    if method not in PROBE_METHODS:
        raise InputError("method", found=repr(method), expected=f"one of {', '.join(PROBE_METHODS)}")
    if not strengths or min(strengths) <= 0 or (method == "lda" and max(strengths) > 1):
        raise InputError("strengths", found=str(list(strengths)), expected="positive numbers, at most 1 for lda")
    x = values.double()
    mean, scale = x.mean(1), x.std(1, correction=0)
    scale = torch.where(scale > 1e-12 * (1 + mean.abs()), scale, 1.0)  # a constant channel stays constant
    x = (x - mean[:, None]) / scale[:, None]
    closed = [i for i, target in enumerate(targets) if method == "ridge" or target.continuous]
    fitted = {i: _ridge(x, targets[i], strengths) for i in closed}
    for i, target in enumerate(targets):
        if i not in fitted:
            fitted[i] = _lda(x, target, strengths) if method == "lda" else _logistic(x, target, strengths)
    return [Path(mean, scale, *fitted[i], target.classes) for i, target in enumerate(targets)]


def _eigen(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (level, r) and orthonormal vectors (level, d, r) of x^T x, through the smaller Gram matrix."""
    rows, width = x.shape[1:]
    if width <= rows:
        values, vectors = torch.linalg.eigh(x.mT @ x)
        return values.clamp(min=0), vectors
    values, left = torch.linalg.eigh(x @ x.mT)
    keep = values > 1e-12 * values[:, -1:]
    root = torch.where(keep, values, 1.0).sqrt()
    return torch.where(keep, values, 0.0), x.mT @ (left * keep[:, None] / root[:, None])


def _ridge(x: Tensor, target: Target, strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
    weight, y = target.weights()[:, None], target.coded()
    mean, centre = (weight * x).mean(1), (weight * y).mean(0)
    rows = weight.sqrt() * (x - mean[:, None])
    values, vectors = _eigen(rows)
    rotated = vectors.mT @ (rows.mT @ (weight.sqrt() * (y - centre)))
    weights = torch.stack([vectors @ (rotated / (values + s * x.shape[1])[..., None]) for s in strengths])
    return weights, centre - (mean[:, None] @ weights)[:, :, 0]


def _lda(x: Tensor, target: Target, strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
    members = [torch.from_numpy(target.values == c) for c in target.classes]
    means = torch.stack([x[:, member].mean(1) for member in members], dim=1)  # (level, class, d)
    within = torch.cat(
        [
            (x[:, member] - means[:, k, None]) / float(member.sum() * len(members)) ** 0.5
            for k, member in enumerate(members)
        ],
        dim=1,
    )
    values, vectors = _eigen(within)
    average = values.sum(1) / x.shape[2]  # of the eigenvalues: tr S / d
    rotated = vectors.mT @ means.mT
    rest = means.mT - vectors @ rotated  # outside the span of the training rows the covariance is s tr(S)/d alone
    weights = torch.stack(
        [
            vectors @ (rotated / ((1 - s) * values + s * average[:, None])[..., None])
            + rest / (s * average[:, None, None])
            for s in strengths
        ]
    )
    bias = -0.5 * (weights * means.mT).sum(2)
    return weights, bias


def _logistic(x: Tensor, target: Target, strengths: Sequence[float]) -> tuple[Tensor, Tensor]:
    from sklearn.linear_model import LogisticRegression  # one second to import, so only when asked

    rows = x.shape[1]
    weights = torch.zeros(len(strengths), len(x), x.shape[2], len(target.classes), dtype=torch.float64)
    bias = torch.zeros(len(strengths), len(x), len(target.classes), dtype=torch.float64)
    for i, strength in enumerate(strengths):
        for level, part in enumerate(x.numpy()):
            model = LogisticRegression(C=1 / (strength * rows), class_weight="balanced", max_iter=1000, tol=1e-6)
            model.fit(part, target.values)
            found, offset = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
            if len(found) == 1:  # two classes: one column stands for both
                found, offset = torch.cat([-found, found]) / 2, torch.cat([-offset, offset]) / 2
            weights[i, level], bias[i, level] = found.mT, offset
    return weights, bias
