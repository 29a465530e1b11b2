"""Directions of an attribute: found by six methods, each with its stability, and reader set against mover.

    direction = find_direction(found.at(site, 3), labels, method="difference", site=site, attribute="size")
    by_level = directions_by_level(found, labels, site=site, attribute="size", method="lda")
    direction_stability(found.at(site, 3), labels, method="lda")
    direction_angles([difference, lda, jacobian])
    compare_directions([difference, lda], held_out, labels, effect=steer)

The difference of means and the discriminant answer different questions: the discriminant reads best, also by
subtracting what else varies, and so moves that as well when it is added (Marks and Tegmark 2024, arXiv 2310.06824).
Neither accuracy nor stability certifies a direction that steers; `compare_directions` takes a measured effect.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from torch import Tensor

from scorescope.analysis.direction_methods import Method, Options, fit_vector
from scorescope.analysis.labels import host_array
from scorescope.analysis.tables import Column, Schema
from scorescope.data.errors import InputError
from scorescope.probes.activations import Activations
from scorescope.probes.direction import Direction

Effect = Callable[[Direction], Mapping[str, Tensor]]
"""What one unit of strength changes: by score, one number a seed; the target's score bears the attribute's name."""

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
READERS = Schema(
    "readers_and_movers",
    (
        Column("attribute", str, "", "attribute"),
        Column("site", str, "", "site"),
        Column("sigma", float, "data", "noise level where it was found"),
        Column("method", str, "", "method"),
        Column("n", int, "", "rows read"),
        Column("auc", float, "1", "chance that a positive row projects higher than a negative one; ties count half"),
        Column("accuracy", float, "1", "balanced accuracy of the projection, cut midway between the class means"),
        Column("seeds", int, "", "seeds moved"),
        Column("effect", float, "1", "mean change of the target's score a unit of strength"),
        Column("effect_low", float, "1", "lower end of its 95 % interval, bootstrap over seeds"),
        Column("effect_high", float, "1", "upper end"),
        Column("off_target", float, "1", "root of the sum of squares of the other scores' mean changes"),
        Column("purity", float, "1", "|effect| / (|effect| + off_target)"),
        Column("reads_best", bool, "", "highest auc of this table"),
        Column("moves_best", bool, "", "highest purity among those whose effect's interval is above zero"),
        Column("degrees_to_mover", float, "degrees", "angle to the direction that moves best; missing without one"),
    ),
)


def find_direction(
    values: Tensor,
    labels: ArrayLike,
    *,
    method: Method = "difference",
    site: str,
    attribute: str,
    sigma: float | None = None,
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
    site, attribute, sigma
        What is written into the direction.
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
    values, y = _checked(values, labels)
    options = Options(method, shrinkage, penalty, whiten, _codes(pairs, values), _codes(nuisance, values))
    vector = fit_vector(values, y, options)
    return as_direction(vector, values, site=site, attribute=attribute, method=method, sigma=sigma)


def as_direction(
    vector: Tensor,
    values: Tensor,
    *,
    site: str,
    attribute: str,
    method: str,
    sigma: float | None = None,
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

    Raises
    ------
    InputError
        For a vector of another size than the values, and values that do not vary along it.
    """
    vector = vector.detach().to(values.device, torch.float32)
    direction = Direction(vector, site, attribute, method, scale=1.0, sigma=sigma)
    direction.check_width(values.shape[1])
    projected = values.double() @ direction.unit.double()
    scale = float(projected.std(correction=0))
    if not scale > 0:
        raise InputError("values", found=f"no variation along the direction of {attribute!r}", expected="some")
    sign = 1.0
    if labels is not None:
        y = torch.from_numpy(host_array(labels).astype(np.float64)).to(projected)
        sign = -1.0 if float((projected - projected.mean()) @ y) < 0 else 1.0
    return Direction(sign * direction.vector, site, attribute, method, scale=scale, sigma=sigma)


def directions_by_level(
    activations: Activations, labels: ArrayLike, *, site: str, attribute: str, method: Method = "difference",
    pairs: ArrayLike | None = None, nuisance: ArrayLike | None = None, shrinkage: float = 0.1, penalty: float = 1e-3,
    whiten: bool = False,
) -> list[Direction]:  # fmt: skip
    """`find_direction` at every noise level of a site.

    Parameters
    ----------
    activations : Activations
        Collected with how="mean", so that a vector is over the site's channels.
    labels, pairs, nuisance : array, shape (images,)
        One entry an image.

    Raises
    ------
    InputError
        As `find_direction`; for a site that was not averaged.
    """
    check_averaged(activations, site)
    images = activations.images.numpy()
    rows = {
        name: None if value is None else host_array(value)[images]
        for name, value in {"pairs": pairs, "nuisance": nuisance}.items()
    }
    y = host_array(labels)
    if rows["pairs"] is not None:  # the draws of a pair are pairs of their own
        draw = np.arange(len(images)) // (1 + int(images.max()))
        rows["pairs"] = rows["pairs"] + draw * (1 + int(rows["pairs"].max()))
    return [
        find_direction(
            activations.at(site, level), y[images], method=method, site=site, attribute=attribute, sigma=sigma,
            pairs=rows["pairs"], nuisance=rows["nuisance"], shrinkage=shrinkage, penalty=penalty, whiten=whiten,
        )
        for level, sigma in enumerate(activations.sigmas)
    ]  # fmt: skip


def check_averaged(activations: Activations, site: str) -> None:
    """Raise `InputError` unless a vector over a site's activations is one over its channels."""
    activations.site(site)
    if activations.how[site] != "mean":
        found = f"{site!r} reduced by {activations.how[site]!r}"
        raise InputError("activations", found=found, expected="how='mean': directions are over channels")


def direction_angles(directions: Sequence[Direction]) -> pd.DataFrame:
    """Cosine and angle of every two directions at one site.

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
            cosine = _cosine(a, b)
            row = {f"{name}_a": getattr(a, name) for name in ("attribute", "method")}
            row |= {f"{name}_b": getattr(b, name) for name in ("attribute", "method")}
            row |= {"sigma_a": _number(a.sigma), "sigma_b": _number(b.sigma), "site": a.site}
            rows.append(row | {"cosine": cosine, "degrees": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))})
    return ANGLES.check(pd.DataFrame(rows))


def compare_directions(
    directions: Sequence[Direction],
    values: Tensor,
    labels: ArrayLike,
    *,
    effect: Effect,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Which direction reads best, which moves best, and the angle between them.

    Parameters
    ----------
    directions : sequence of Direction
        Of one attribute at one site.
    values : Tensor, shape (row, d)
        Held-out activations: not those that the directions were found on.
    labels : array, shape (row,)
        Two classes.
    effect : callable
        (direction) -> {score: (seed,) change a unit of strength}; one score bears the attribute's name. Measured by
        steering, on the same seeds for all.

    Returns
    -------
    DataFrame
        Columns declared in `READERS`.

    Raises
    ------
    InputError
        For directions of another size, and effects without the attribute's score.
    """
    values, y = _checked(values, labels)
    positive = y == y.max()
    rows = [
        _reading(direction, values, positive) | _moving(direction, effect(direction), resamples, seed)
        for direction in directions
    ]
    table = pd.DataFrame(rows)
    movers = table["purity"].where(table["effect_low"] > 0)
    table["reads_best"] = table["auc"] == table["auc"].max()
    table["moves_best"] = movers.notna() & (movers == movers.max())
    best = directions[int(movers.argmax())] if movers.notna().any() else None
    angles = [np.nan if best is None else np.degrees(np.arccos(np.clip(_cosine(d, best), -1, 1))) for d in directions]
    return READERS.check(table.assign(degrees_to_mover=np.asarray(angles, dtype=np.float64)))


def _reading(direction: Direction, values: Tensor, positive: Tensor) -> dict[str, object]:
    direction.check_width(values.shape[1])
    projected = values.double() @ direction.unit.double().to(values.device)
    above, below = projected[positive], projected[~positive]
    ranks = rankdata(projected.numpy())
    auc = (float(ranks[positive.numpy()].mean()) - (len(above) + 1) / 2) / len(below)
    cut = (above.mean() + below.mean()) / 2
    accuracy = float(((above > cut).double().mean() + (below <= cut).double().mean()) / 2)
    return {
        "attribute": direction.attribute, "site": direction.site, "sigma": _number(direction.sigma),
        "method": direction.method, "n": len(values), "auc": auc, "accuracy": accuracy,
    }  # fmt: skip


def _moving(direction: Direction, found: Mapping[str, Tensor], resamples: int, seed: int) -> dict[str, object]:
    if direction.attribute not in found:
        expected = f"the score of {direction.attribute!r} among them"
        raise InputError("effect", found=f"scores {sorted(found)}", expected=expected)
    target = found[direction.attribute].detach().double().cpu().numpy()
    drawn = np.random.default_rng(seed).integers(0, len(target), size=(resamples, len(target)))
    low, high = np.quantile(target[drawn].mean(1), [0.025, 0.975])
    others = [float(value.double().mean()) for name, value in found.items() if name != direction.attribute]
    off, effect = float(np.linalg.norm(others)) if others else 0.0, float(target.mean())
    size = abs(effect) + off
    return {
        "seeds": len(target), "effect": effect, "effect_low": float(low), "effect_high": float(high),
        "off_target": off, "purity": abs(effect) / size if size else 0.0,
    }  # fmt: skip


def _checked(values: Tensor, labels: ArrayLike) -> tuple[Tensor, Tensor]:
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


def _cosine(a: Direction, b: Direction) -> float:
    b.check_width(len(a))
    return float(torch.nn.functional.cosine_similarity(a.vector.double().cpu(), b.vector.double().cpu(), dim=0))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
