"""How far a direction is decided by the data: split-half, bootstrap and between noise levels, against its null.

    direction_stability(found.at(site, 3), labels, method="lda")
    step_cosines(found, labels, site=site, method="difference")

Two directions of random labels are draws with the covariance S of the activations, so that their cosine has standard
deviation 1 / sqrt(d_eff), with d_eff = (tr S)^2 / tr S^2 and not the width d. That null is of the difference of
means; the cosine of halves with shuffled labels is measured as well, for the method at hand.
"""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.directions.direction_fits import Method, Options, fit_vector, whitener
from scorescope.analysis.directions.finding import check_averaged
from scorescope.analysis.statistics.arrays import host_array
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations

STABILITY = Schema(
    "direction_stability",
    (
        Column("method", str, "", "how the direction was found"),
        Column("cosine", str, "", "split_half, bootstrap (to the direction of all rows), or shuffled (labels, halves)"),
        Column("n", int, "", "images (groups)"),
        Column("draws", int, "", "cosines"),
        Column("mean", float, "1", "their mean"),
        Column("low", float, "1", "their 2.5 % quantile"),
        Column("high", float, "1", "their 97.5 % quantile"),
        Column("d", int, "", "channels"),
        Column("d_eff", float, "1", "(tr S)^2 / tr S^2 of the covariance S, with its bias taken out"),
        Column("null", float, "1", "1.96 / sqrt(d_eff), at most 1: then no cosine is beyond chance"),
    ),
)
STEP_COSINES = Schema(
    "step_cosines",
    (
        Column("site", str, "", "site"),
        Column("method", str, "", "how the directions were found"),
        Column("sigma_a", float, "data", "noise level of the first"),
        Column("log_snr_a", float, "1", "-2 ln sigma_a"),
        Column("sigma_b", float, "data", "noise level of the second"),
        Column("log_snr_b", float, "1", "-2 ln sigma_b"),
        Column("n", int, "", "images (groups)"),
        Column("cosine", float, "1", "between the directions of all images: chance is common to both"),
        Column("crossed", float, "1", "mean over halves, the second direction being that of the other half's images"),
        Column("low", float, "1", "2.5 % quantile of the crossed cosines"),
        Column("high", float, "1", "97.5 % quantile"),
        Column("null", float, "1", "1.96 / sqrt(d_eff), at most 1, of the geometric mean of the two levels' d_eff"),
    ),
)


@checked
def effective_dimension(values: Tensor) -> float:
    """(tr S)^2 / tr S^2 of the covariance S of rows (row, d): how many directions they vary in.

    The plain estimate of tr S^2 grows with d / rows; it is corrected as for normal rows (Srivastava 2005, J. Japan
    Statist. Soc. 35, eq. 2.10).

    Parameters
    ----------
    values : Tensor, shape (row, d)
        Activations.

    Returns
    -------
    float
        Between 1 and d.

    Raises
    ------
    InputError
        For fewer than three rows, or rows that do not vary.
    """
    if len(values) < 3:
        raise InputError("values", found=f"{len(values)} rows", expected="at least three")
    x = values.double() - values.double().mean(0)
    free = len(x) - 1
    gram = x @ x.mT if len(x) < x.shape[1] else x.mT @ x
    trace, squares = float(gram.trace()) / free, float(gram.square().sum()) / free**2
    if trace <= 0:
        raise InputError("values", found="rows that do not vary", expected="rows that do")
    corrected = free**2 / ((free - 1) * (free + 2)) * (squares - trace**2 / free)
    return trace**2 / max(corrected, trace**2 / x.shape[1])


@checked
def direction_stability(
    values: Tensor,
    labels: ArrayLike,
    *,
    method: Method = "difference",
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    shrinkage: float = 0.1,
    penalty: float = 1e-3,
    whiten: bool = False,
    resamples: int = 200,
    halves: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Cosines between halves, between bootstrap draws and the whole, and between halves of shuffled labels.

    Parameters
    ----------
    values : Tensor, shape (row, d)
    labels : array, shape (row,)
        Two classes, or a continuous attribute.
    method, pairs, shrinkage, penalty
        As in `find_direction`.
    groups : array, shape (row,), optional
        Rows that are drawn together: images, or pairs. Shuffled, a group has one label; a group that holds both
        classes keeps its labels or swaps them. By default pairs where given, otherwise each row its own.
    whiten : bool
        Take cosines between whitened displacements, so that the largest principal component does not decide them.
    resamples, halves : int
        Bootstrap draws; random halves, as many with shuffled labels.
    seed : int
        Of all draws.

    Returns
    -------
    DataFrame
        Columns declared in `STABILITY`, three rows.

    Raises
    ------
    InputError
        As `find_direction`, for fewer groups than two halves with both classes need, and for no halves or resamples.
    """
    if min(halves, resamples) < 1:
        raise InputError("halves, resamples", found=f"{halves}, {resamples}", expected="at least one of each")
    y = torch.from_numpy(host_array(labels).astype(np.float64))
    x = values.detach().double().cpu()
    codes = None if pairs is None else torch.from_numpy(np.unique(host_array(pairs), return_inverse=True)[1])
    options = Options(method, shrinkage, penalty, False, codes)
    if groups is None:
        groups = np.arange(len(y)) if pairs is None else host_array(pairs)
    group = np.unique(host_array(groups), return_inverse=True)[1]
    _check_rows(x, y, group)
    root = whitener(x, shrinkage) if whiten else None
    rng = np.random.default_rng(seed)
    whole = _unit(fit_vector(x, y, options), root)
    found = {
        "split_half": _half_cosines(x, y, group, options, root, halves, rng),
        "bootstrap": [
            float(whole @ _unit(fit_vector(x[rows], y[rows], options.rows(rows, draw)), root))
            for rows, draw in _bootstrap_rows(group, y, resamples, rng)
        ],
        "shuffled": [
            _half_cosines(x, _shuffled(y, group, rng), group, options, root, 1, rng)[0] for _ in range(halves)
        ],
    }
    size = effective_dimension(x if root is None else x @ root)
    rows = []
    for name, cosines in found.items():
        low, high = np.quantile(cosines, [0.025, 0.975])
        rows.append((method, name, int(group.max()) + 1, len(cosines), np.mean(cosines), low, high, x.shape[1]))
    table = pd.DataFrame(rows, columns=STABILITY.names[:-2]).assign(d_eff=size, null=_null(size))
    return STABILITY.check(table)


def _null(size: float) -> float:
    """What 95 % of cosines of random directions stay within."""
    return min(1.0, 1.96 / math.sqrt(size))


@checked
def step_cosines(
    activations: Activations,
    labels: ArrayLike,
    *,
    site: str,
    method: Method = "difference",
    shrinkage: float = 0.1,
    penalty: float = 1e-3,
    groups: ArrayLike | None = None,
    halves: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Cosines between the directions of every two noise levels at a site.

    Parameters
    ----------
    activations : Activations
        Collected with how="mean".
    labels : array, shape (images,)
        Two classes, or a continuous attribute.
    groups : array, shape (images,), optional
        Images that are in one half together: pairs, or those that began with the same noise. By default each its own.
    halves : int
        Random halves of the images (groups) for the crossed cosines.

    Returns
    -------
    DataFrame
        Columns declared in `STEP_COSINES`, one row an ordered pair of levels; on the diagonal `crossed` is the
        split-half cosine.

    Raises
    ------
    InputError
        As `find_direction`.
    """
    check_averaged(activations, site)
    images = activations.images.numpy()
    y = torch.from_numpy(host_array(labels).astype(np.float64))[activations.images]
    group = images if groups is None else np.unique(host_array(groups)[images], return_inverse=True)[1]
    x = activations.site(site).double()
    _check_rows(x[0], y, group)
    options = Options(method, shrinkage, penalty)
    whole = torch.stack([_unit(fit_vector(level, y, options)) for level in x])
    crossed = []
    rng = np.random.default_rng(seed)
    for _ in range(halves):
        a, b = (
            torch.stack([_unit(fit_vector(level[rows], y[rows], options)) for level in x])
            for rows in _halves(group, y, rng)
        )
        crossed.append((a @ b.mT + b @ a.mT) / 2)
    low, high = np.quantile(torch.stack(crossed).numpy(), [0.025, 0.975], axis=0)
    sizes = [effective_dimension(level) for level in x]
    rows = [
        {
            "site": site, "method": method, "n": len(np.unique(group)),
            "sigma_a": activations.sigmas[a], "log_snr_a": activations.log_snr[a],
            "sigma_b": activations.sigmas[b], "log_snr_b": activations.log_snr[b],
            "cosine": float(whole[a] @ whole[b]), "crossed": float(torch.stack(crossed)[:, a, b].mean()),
            "low": float(low[a, b]), "high": float(high[a, b]), "null": _null((sizes[a] * sizes[b]) ** 0.5),
        }
        for a in range(len(x)) for b in range(len(x))
    ]  # fmt: skip
    return STEP_COSINES.check(pd.DataFrame(rows))


def _check_rows(values: Tensor, y: Tensor, group: np.ndarray) -> None:
    if values.ndim != 2 or len(y) != len(values) or len(group) != len(values):
        found = f"{len(y)} labels and {len(group)} groups for values of shape {tuple(values.shape)}"
        raise InputError("labels, groups", found=found, expected="one a row of (row, d)")
    if not torch.isfinite(values).all() or not torch.isfinite(y).all():
        raise InputError("values, labels", found="NaN or infinite values", expected="finite ones")
    classes = torch.unique(y)
    if len(classes) < 2:
        raise InputError("labels", found=f"a single class, {float(classes[0]):g}", expected="two classes, or numbers")
    if min(len(np.unique(group[(y == c).numpy()])) for c in (classes[0], classes[-1])) < 4 and len(classes) == 2:
        raise InputError("labels", found="a class of fewer than 4 images", expected="at least 4: two in each half")


def _unit(vector: Tensor, root: Tensor | None = None) -> Tensor:
    white = vector if root is None else vector @ root
    unit: Tensor = white / white.norm()
    return unit


def _varied(y: Tensor) -> bool:
    """Whether both halves of a draw can give a direction: each class has two rows, or numbers vary."""
    classes, counts = torch.unique(y, return_counts=True)
    return len(classes) > 2 or (len(classes) == 2 and int(counts.min()) >= 2)


def _halves(group: np.ndarray, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rows of two random halves of the groups, drawn again until both hold both classes."""
    count = int(group.max()) + 1
    for _ in range(100):
        first = np.isin(group, rng.permutation(count)[: count // 2])
        a, b = torch.from_numpy(np.flatnonzero(first)), torch.from_numpy(np.flatnonzero(~first))
        if _varied(y[a]) and _varied(y[b]):
            return a, b
    raise InputError("labels", found="halves without both classes", expected="more images of the rarer class")


def _half_cosines(
    x: Tensor, y: Tensor, group: np.ndarray, options: Options, root: Tensor | None, count: int, rng: np.random.Generator
) -> list[float]:
    found = []
    for _ in range(count):
        a, b = (_unit(fit_vector(x[r], y[r], options.rows(r)), root) for r in _halves(group, y, rng))
        found.append(float(a @ b))
    return found


def _bootstrap_rows(
    group: np.ndarray, y: Tensor, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of groups drawn with replacement, and for each row which draw it came with: a repeat is a group anew."""
    order, sizes = np.argsort(group, kind="stable"), np.bincount(group)
    starts = np.cumsum(sizes) - sizes  # of each group in that order
    for _ in range(resamples):
        while True:
            drawn = rng.integers(0, len(sizes), len(sizes))
            draw = np.repeat(np.arange(len(drawn)), sizes[drawn])
            before = np.cumsum(sizes[drawn]) - sizes[drawn]  # rows of the draws before
            rows = torch.from_numpy(order[(starts[drawn] - before)[draw] + np.arange(len(draw))])
            if _varied(y[rows]):
                break
        yield rows, torch.from_numpy(draw)


def _shuffled(y: Tensor, group: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Labels at random: those of groups of one label permuted, those of a group of several turned over or not."""
    labels, count = y.numpy(), int(group.max()) + 1
    first = np.unique(group, return_index=True)[1]
    mixed = np.bincount(group, labels != labels[first][group], minlength=count) > 0
    drawn = labels[first]
    drawn[~mixed] = rng.permutation(drawn[~mixed])
    swapped = np.zeros(count, bool)
    swapped[mixed] = rng.random(int(mixed.sum())) < 0.5
    turned = np.where(swapped[group], labels.max() + labels.min() - labels, labels)
    return torch.from_numpy(np.where(mixed[group], turned, drawn[group]))
