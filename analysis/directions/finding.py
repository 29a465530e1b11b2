"""Directions of an attribute: found by several methods, or elsewhere, and the angles between them.

    direction = find_direction(found.at(site, 3), labels, method="difference", site=site, attribute="size")
    by_level = directions_by_level(found, labels, site=site, attribute="size", method="lda")
    direction_stability(found.at(site, 3), labels, method="lda")
    direction_angles([difference, lda, jacobian])

The difference of means and the discriminant answer different questions: the discriminant reads best, also by
subtracting what else varies, and so moves that as well when it is added (Marks and Tegmark 2024, arXiv 2310.06824).
Neither accuracy nor stability certifies a direction that steers: `compare_directions`, in `comparison`, takes a
measured effect.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.directions.direction_fits import Method, Options, fit_vector
from scorescope.analysis.statistics.arrays import host_array
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.sites.direction import Direction

ANGLES = Schema(
    "direction_angles",
    (
        Column("attribute_a", str, "", "attribute of the first direction"),
        Column("method_a", str, "", "how it was found"),
        Column("sigma_a", float, "data", "noise level where it was found; missing where it has none"),
        Column("attribute_b", str, "", "attribute of the second direction"),
        Column("method_b", str, "", "how it was found"),
        Column("sigma_b", float, "data", "noise level where it was found; missing where it has none"),
        Column("site", str, "", "site of both"),
        Column("cosine", float, "1", "cosine between them"),
        Column("degrees", float, "degrees", "angle, 0 to 180"),
    ),
)


@checked
def find_direction(
    values: Tensor,
    labels: ArrayLike,
    *,
    method: Method = "difference",
    site: str,
    attribute: str,
    sigma: float | None = None,
    output: int | None = None,
    pairs: ArrayLike | None = None,
    nuisance: ArrayLike | None = None,
    shrinkage: float = 0.1,
    penalty: float = 1e-3,
    whiten: bool = False,
) -> Direction:
    """Find the direction in which an attribute grows.

    Parameters
    ----------
    values : Tensor, shape (row, d)
        Activations averaged over space or tokens; or condition tokens `denoiser.embed(labels)[:, k]`, for a
        direction in condition space with the site "condition.<k>".
    labels : array, shape (row,)
        Two classes (the larger is positive), or a continuous attribute where the method allows.
    method : {"difference", "lda", "logistic", "svm", "pca"}
        `difference` of class means (continuous: the slope of the values on the attribute); `lda`: the inverse of the
        shrunk within-class covariance times that; `logistic`, `svm`: normal of the L2-regularised separating plane;
        `pca`: first principal component of the differences within pairs.
    site, attribute, sigma, output
        What is written into the direction. Of a site that puts out several tensors (text and image) say which one the
        values are of, `activations.output_of(site)`: interventions go there, and without it to that of the image.
    pairs : array, shape (row,), optional
        For `pca`: pair of each row; a pair has one row of each class (counterfactual images).
    nuisance : array, shape (row,), optional
        Classes of something correlated with the attribute, whose part is taken out (difference and lda only): both
        sides are centred within each class of it.
    shrinkage : float
        Of the covariance, in standardised channels, for `lda` and for whitening.
    penalty : float
        For `logistic` and `svm`: on half the squared weights of standardised channels, a row.
    whiten : bool
        For `pca`: find the component in whitened coordinates, and map it back as a displacement.

    Returns
    -------
    Direction
        float32; scale is the standard deviation of the projections of `values` on the unit vector.

    Raises
    ------
    InputError
        For labels of one class or of more than two, too few rows, values that are not finite, and options that do
        not go with the method.
    """
    values, y = checked_rows(values, labels)
    options = Options(method, shrinkage, penalty, whiten, _codes(pairs, values), _codes(nuisance, values))
    vector = fit_vector(values, y, options)
    return as_direction(vector, values, site=site, attribute=attribute, method=method, sigma=sigma, output=output)


@checked
def as_direction(
    vector: Tensor,
    values: Tensor,
    *,
    site: str,
    attribute: str,
    method: str,
    sigma: float | None = None,
    output: int | None = None,
    labels: ArrayLike | None = None,
) -> Direction:
    """A direction from a vector found elsewhere: a Jacobian's singular vector, an embedding difference, a file.

    Parameters
    ----------
    vector : Tensor, shape (d,)
    values : Tensor, shape (row, d)
        Activations whose projections give the scale.
    labels : array, shape (row,), optional
        Where given, the vector is turned to the side on which they grow.

    Returns
    -------
    Direction
        float32; scale is the standard deviation of the projections of `values`.

    Raises
    ------
    InputError
        For a vector of another size than the values, and values that do not vary along it.
    """
    vector = vector.detach().to(values.device, torch.float32)
    direction = Direction(vector, site, attribute, method, scale=1.0, sigma=sigma, output=output)
    direction.check_width(values.shape[1])
    projected = values.double() @ direction.unit.double()
    scale = float(projected.std(correction=0))
    if not scale > 0:
        raise InputError("values", found=f"no variation along the direction of {attribute!r}", expected="some")
    sign = 1.0
    if labels is not None:
        y = torch.from_numpy(host_array(labels).astype(np.float64)).to(projected)
        sign = -1.0 if float((projected - projected.mean()) @ y) < 0 else 1.0
    return replace(direction, vector=sign * direction.vector, scale=scale)


@checked
def directions_by_level(
    activations: Activations, labels: ArrayLike, *, site: str, attribute: str, pairs: ArrayLike | None = None,
    nuisance: ArrayLike | None = None, **options: Any,
) -> list[Direction]:  # fmt: skip
    """`find_direction` at every noise level of a site.

    Parameters
    ----------
    activations : Activations
        Collected with how="mean", so that a vector is over the site's channels.
    labels, pairs, nuisance : array, shape (images,)
        One entry an image.
    site, attribute, **options
        As in `find_direction`: method, shrinkage, penalty, whiten.

    Returns
    -------
    list of Direction
        One a noise level, in the order of the activations.

    Raises
    ------
    InputError
        As `find_direction`; for a site that was not averaged.
    """
    check_averaged(activations, site)
    images = activations.images.numpy()
    rows: dict[str, Any] = {
        name: None if value is None else host_array(value)[images]
        for name, value in {"pairs": pairs, "nuisance": nuisance}.items()
    }
    y = host_array(labels)
    if rows["pairs"] is not None:  # the draws of a pair are pairs of their own
        draw = np.arange(len(images)) // (1 + int(images.max()))
        rows["pairs"] = rows["pairs"] + draw * (1 + int(rows["pairs"].max()))
    where: dict[str, Any] = {"site": site, "attribute": attribute, "output": activations.output_of(site)}
    return [
        find_direction(activations.at(site, level), y[images], sigma=sigma, **where, **rows, **options)
        for level, sigma in enumerate(activations.sigmas)
    ]


def check_averaged(activations: Activations, site: str) -> None:
    """Raise `InputError` unless a vector over a site's activations is one over its channels."""
    activations.site(site)
    if activations.how[site] != "mean":
        found = f"{site!r} reduced by {activations.how[site]!r}"
        raise InputError("activations", found=found, expected="how='mean': directions are over channels")


@checked
def direction_angles(directions: Sequence[Direction]) -> pd.DataFrame:
    """Cosine and angle of every two directions at one site.

    Parameters
    ----------
    directions : sequence of Direction
        At least two, at one site.

    Returns
    -------
    DataFrame
        Columns declared in `ANGLES`, one row an unordered pair.

    Raises
    ------
    InputError
        For fewer than two directions, or different sites or sizes.
    """
    if len(directions) < 2 or len({direction.site for direction in directions}) > 1:
        found = f"{len(directions)} directions at {sorted({direction.site for direction in directions})}"
        raise InputError("directions", found=found, expected="at least two, at one site")
    rows = []
    for i, a in enumerate(directions):
        for b in directions[i + 1 :]:
            row = {f"{name}_a": getattr(a, name) for name in ("attribute", "method")}
            row |= {f"{name}_b": getattr(b, name) for name in ("attribute", "method")}
            row |= {"sigma_a": number(a.sigma), "sigma_b": number(b.sigma), "site": a.site}
            rows.append(row | {"cosine": cosine(a, b), "degrees": degrees(a, b)})
    return ANGLES.check(pd.DataFrame(rows))


def checked_rows(values: Tensor, labels: ArrayLike) -> tuple[Tensor, Tensor]:
    """Rows in float64 and labels as numbers, both on the CPU, after checking them."""
    y = host_array(labels)
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) < 2:
        found = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise InputError("values", found=found, expected="a tensor of (row, d), at least two rows")
    if y.shape != (len(values),) or y.dtype.kind not in "iufb":
        found = f"{y.dtype} of shape {y.shape}"
        raise InputError("labels", found=found, expected=f"({len(values)},) classes or numbers")
    if not torch.isfinite(values).all() or not np.isfinite(y.astype(np.float64)).all():
        raise InputError("values, labels", found="NaN or infinite values", expected="finite ones")
    unique = np.unique(y)
    if len(unique) < 2:
        raise InputError("labels", found=f"a single class, {unique[0]}", expected="two classes, or numbers")
    if len(unique) > 2 and y.dtype.kind != "f":
        expected = "two (labels == value makes one against the rest), or floating point numbers"
        raise InputError("labels", found=f"{len(unique)} classes", expected=expected)
    return values.detach().double().cpu(), torch.from_numpy(y.astype(np.float64))


def _codes(values: ArrayLike | None, like: Tensor) -> Tensor | None:
    if values is None:
        return None
    codes = np.unique(host_array(values), return_inverse=True)[1]
    if codes.shape != (len(like),):
        raise InputError("pairs, nuisance", found=f"shape {codes.shape}", expected=f"({len(like)},), one a row")
    return torch.from_numpy(codes)


def cosine(a: Direction, b: Direction) -> float:
    """Cosine of two directions; `InputError` if they are of different sizes."""
    b.check_width(len(a))
    return float(torch.nn.functional.cosine_similarity(a.vector.double().cpu(), b.vector.double().cpu(), dim=0))


def degrees(a: Direction, b: Direction) -> float:
    """Angle between two directions, 0 to 180."""
    return float(np.degrees(np.arccos(np.clip(cosine(a, b), -1, 1))))


def number(value: float | None) -> float:
    """A noise level in a column: NaN where there is none."""
    return float("nan") if value is None else float(value)
