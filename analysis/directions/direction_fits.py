"""How a direction is fitted to rows and labels: the mathematics, without sites or noise levels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError

Method = Literal["difference", "lda", "logistic", "svm", "pca"]
METHODS: tuple[Method, ...] = ("difference", "lda", "logistic", "svm", "pca")


@displayed
@dataclass(frozen=True, eq=False)
class Options:
    """How to fit; the meaning of each is that of `find_direction`. `pairs` and `nuisance` are codes from 0."""

    method: Method
    shrinkage: float = 0.1
    penalty: float = 1e-3
    whiten: bool = False
    pairs: Tensor | None = None
    nuisance: Tensor | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError("method", found=repr(self.method), expected=f"one of {', '.join(METHODS)}")
        if not 0 <= self.shrinkage <= 1 or not self.penalty > 0:
            found = f"{self.shrinkage}, {self.penalty}"
            raise InputError("shrinkage, penalty", found=found, expected="within [0, 1], and positive")
        if (self.pairs is None) == (self.method == "pca"):
            found = f"{'no ' if self.pairs is None else ''}pairs for {self.method!r}"
            raise InputError("pairs", found=found, expected="pairs for 'pca', and for no other method")
        if self.nuisance is not None and self.method not in ("difference", "lda"):
            raise InputError("nuisance", found=f"method {self.method!r}", expected="'difference' or 'lda'")
        if self.whiten and self.method != "pca":
            raise InputError("whiten", found=f"method {self.method!r}", expected="'pca'")

    def rows(self, index: Tensor, draw: Tensor | None = None) -> "Options":
        """The same for some rows; a pair that was drawn twice is two pairs, told apart by the number of the draw."""
        pairs, nuisance = (None if v is None else v[index] for v in (self.pairs, self.nuisance))
        if pairs is not None and draw is not None:
            pairs = pairs * (1 + int(draw.max())) + draw
        return Options(self.method, self.shrinkage, self.penalty, self.whiten, pairs, nuisance)


def fit_vector(values: Tensor, y: Tensor, options: Options) -> Tensor:
    """The vector, shape (d,), float64, of any length, on whose side y grows.

    Raises
    ------
    InputError
        For classes where the method needs two, and rows too few to tell them apart.
    """
    if options.method in ("logistic", "svm"):
        return _plane(values, y, options)
    if options.method == "pca":
        return _paired(values, y, options)
    x, y = _centred(values, options.nuisance), _centred(y[:, None], options.nuisance)[:, 0]
    total = float(y @ y)
    if total <= 1e-12 * len(y):
        found = "labels that do not vary within the classes of the nuisance"
        raise InputError("labels", found=found, expected="both classes beside each value of the nuisance")
    slope = x.mT @ y / total  # for two classes this is the difference of their means
    if options.method == "difference":
        return slope
    scale = _scales(x)
    within = (x - y[:, None] * slope) / scale
    vector: Tensor = torch.linalg.solve(_shrunk(within, options.shrinkage), slope / scale) / scale
    return vector


def _centred(values: Tensor, codes: Tensor | None) -> Tensor:
    """Rows minus their mean, or minus the mean of their class of the nuisance."""
    if codes is None:
        return values - values.mean(0)
    count = int(codes.max()) + 1
    sums = torch.zeros(count, values.shape[1], dtype=values.dtype).index_add_(0, codes, values)
    return values - (sums / torch.bincount(codes, minlength=count).clamp(min=1)[:, None])[codes]


def _scales(x: Tensor) -> Tensor:
    scale = x.std(0, correction=0)
    return torch.where(scale > 0, scale, 1.0)


def _shrunk(x: Tensor, shrinkage: float) -> Tensor:
    """(1 - s) S + s tr(S) / d I of centred rows."""
    covariance = x.mT @ x / len(x)
    average = covariance.diagonal().mean()
    if shrinkage == 0 and len(x) <= x.shape[1]:
        expected = "a positive shrinkage, where there are fewer rows than channels"
        raise InputError("shrinkage", found=f"0 for {len(x)} rows of {x.shape[1]} channels", expected=expected)
    return (1 - shrinkage) * covariance + shrinkage * average * torch.eye(x.shape[1], dtype=x.dtype)


def _plane(values: Tensor, y: Tensor, options: Options) -> Tensor:
    """Normal of the separating plane in standardised channels, as a vector in the channels' own units."""
    from sklearn.linear_model import LogisticRegression  # one second to import, so only when asked
    from sklearn.svm import LinearSVC

    classes = np.unique(y.numpy())
    if len(classes) != 2:
        raise InputError("labels", found=f"{len(classes)} values", expected=f"two classes, for {options.method!r}")
    x = values - values.mean(0)
    scale = _scales(x)
    strength = 1 / (options.penalty * len(x))
    if options.method == "logistic":
        model = LogisticRegression(C=strength, max_iter=1000)
    else:
        model = LinearSVC(C=strength, dual=False, max_iter=5000)
    model.fit((x / scale).numpy(), y.numpy() == classes[1])
    return torch.from_numpy(model.coef_[0]) / scale


def _paired(values: Tensor, y: Tensor, options: Options) -> Tensor:
    """First principal component of positive minus negative row within pairs, about zero and not about their mean."""
    assert options.pairs is not None  # Options asks for them
    positive = y == y.max()
    first, second = (options.pairs[side].sort() for side in (positive, ~positive))
    single = len(torch.unique(first.values)) == len(first.values)
    if len(torch.unique(y)) != 2 or not torch.equal(first.values, second.values) or not single:
        raise InputError("pairs", found="pairs without one row of each class", expected="two rows a pair, one of each")
    differences = values[positive][first.indices] - values[~positive][second.indices]
    root = whitener(values, options.shrinkage) if options.whiten else None
    component = torch.linalg.svd(differences if root is None else differences @ root, full_matrices=False).Vh[0]
    if root is not None:
        component = torch.linalg.solve(root, component)
    side: Tensor = torch.sign(differences.mean(0) @ component)
    turned: Tensor = component * torch.where(side == 0, 1.0, side)
    return turned


def whitener(values: Tensor, shrinkage: float) -> Tensor:
    """The symmetric inverse square root of the shrunk covariance, (d, d): `values @ whitener` is white."""
    eigenvalues, vectors = torch.linalg.eigh(_shrunk(values - values.mean(0), shrinkage))
    if float(eigenvalues[0]) <= 0:
        raise InputError("shrinkage", found=f"{shrinkage}, a singular covariance", expected="a larger shrinkage")
    root: Tensor = (vectors / eigenvalues.sqrt()) @ vectors.mT
    return root
