"""Where a Frechet distance comes from: features, directions, and what the classifier can see.

    plan = transport(fake, real)
    feature_contributions(plan)          # one row a feature, non-negative, summing to FD
    direction_spectrum(plan)             # the distance's principal directions
    visible_share(plan, weight)          # part inside the row space of a classifier's weight matrix

All of it reads the matrix M of `Transport.discrepancy`, whose trace is the distance, so that parts add up exactly.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.optimal_transport import Transport
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

CONTRIBUTIONS = Schema(
    "feature_contributions",
    (
        Column("feature", int, "", "index of the feature"),
        Column("contribution", float, "feature^2", "part of FD, mean_part + covariance_part; sums to FD"),
        Column("share", float, "1", "contribution / FD"),
        Column("mean_part", float, "feature^2", "(mu1 - mu2)^2 of the feature"),
        Column("covariance_part", float, "feature^2", "(G S1 G) of the feature"),
        Column("mean_gap", float, "feature", "mu1 - mu2, signed: generated minus real"),
        Column("sd_fake", float, "feature", "standard deviation over generated images"),
        Column("sd_real", float, "feature", "standard deviation over real images"),
    ),
)

SPECTRUM = Schema(
    "direction_spectrum",
    (
        Column("direction", int, "", "rank, largest first"),
        Column("contribution", float, "feature^2", "eigenvalue of M; sums to FD"),
        Column("share", float, "1", "contribution / FD"),
        Column("cumulative", float, "1", "share of this direction and those before it"),
        Column("mean_part", float, "feature^2", "squared mean gap along the direction"),
        Column("dispersion_ratio", float, "1", "variance of set 1 / variance of set 2 along the direction"),
    ),
)


@displayed
@dataclass(frozen=True, eq=False)
class Spectrum:
    """Principal discrepancy directions.

    Attributes
    ----------
    table : DataFrame
        See `SPECTRUM`.
    directions : ndarray, shape (k, d)
        Unit vectors, in the order of the table.
    """

    table: pd.DataFrame
    directions: Floats


@dataclass(frozen=True)
class VisibleShare:
    """How much of a distance lies where a classifier can see it.

    Attributes
    ----------
    visible, hidden : float
        Parts of FD inside and outside the row space of the weight; they sum to FD.
    share : float
        visible / FD; NaN for FD = 0.
    chance : float
        rank / d, the share of an isotropic discrepancy.
    rank : int
        Dimension of the row space.
    """

    visible: float
    hidden: float
    share: float
    chance: float
    rank: int


@checked
def feature_contributions(plan: Transport) -> pd.DataFrame:
    """Part of FD in each feature, largest first; see `CONTRIBUTIONS`.

    Parameters
    ----------
    plan : Transport
        Of the two sets.

    Returns
    -------
    DataFrame
        Columns declared in `CONTRIBUTIONS`, one row a feature.
    """
    parts = np.square(plan.discrepancy_factor)
    mean_part, covariance_part = parts[:, 0], parts[:, 1:].sum(axis=1)
    total = mean_part + covariance_part
    table = pd.DataFrame(
        {
            "feature": np.arange(len(total)),
            "contribution": total,
            "share": _shares(total),
            "mean_part": mean_part,
            "covariance_part": covariance_part,
            "mean_gap": plan.gap,
            "sd_fake": np.sqrt(np.diagonal(plan.fake.covariance)),
            "sd_real": np.sqrt(np.diagonal(plan.real.covariance)),
        }
    )
    return CONTRIBUTIONS.check(table.sort_values("contribution", ascending=False, kind="stable"))


@checked
def direction_spectrum(plan: Transport, *, count: int | None = None) -> Spectrum:
    """Eigenvectors of M, largest contribution first.

    Parameters
    ----------
    plan : Transport
        Of the two sets.
    count : int, optional
        How many to return; by default all d. Shares are of the whole distance in any case.

    Returns
    -------
    Spectrum
        Its table, and the directions themselves.
    """
    values, vectors = scipy.linalg.eigh(plan.discrepancy, driver="evd")
    values, vectors = np.clip(values[::-1], 0.0, None), vectors[:, ::-1]
    kept = vectors[:, :count]
    shares = _shares(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _along(kept, plan.fake.covariance) / _along(kept, plan.real.covariance)
    table = pd.DataFrame(
        {
            "direction": np.arange(kept.shape[1]),
            "contribution": values[:count],
            "share": shares[:count],
            "cumulative": np.cumsum(shares)[:count],
            "mean_part": np.square(kept.T @ plan.gap),
            "dispersion_ratio": ratio,
        }
    )
    return Spectrum(SPECTRUM.check(table), np.ascontiguousarray(kept.T))


@checked
def visible_share(plan: Transport, weight: ArrayLike) -> VisibleShare:
    """Split FD into what a linear classifier on the features sees and what it cannot.

    Parameters
    ----------
    plan : Transport
        Of the two sets.
    weight : array, shape (classes, d)
        The classifier's weight matrix; 1008 x 2048 for the 2015 network.

    Returns
    -------
    VisibleShare
        Both parts, and the share that chance would give.

    Raises
    ------
    InputError
        If the weight does not take d features.
    """
    rows = check_weight(plan, weight)
    _, values, basis = scipy.linalg.svd(rows, full_matrices=False)
    rank = int((values > max(rows.shape) * np.finfo(float).eps * values.max(initial=0.0)).sum())
    total = float(np.square(plan.discrepancy_factor).sum())
    visible = float(np.square(basis[:rank] @ plan.discrepancy_factor).sum())
    share = visible / total if total else float("nan")
    return VisibleShare(visible, total - visible, share, rank / rows.shape[1], rank)


def class_scores(plan: Transport, weight: ArrayLike) -> Floats:
    """u_c^T M u_c for the unit vector u_c along each class's weight row, shape (classes,).

    Rows of different classes are not orthogonal: a score, in units of FD, that does not add up over classes.
    """
    rows = check_weight(plan, weight)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scores: Floats = np.square((rows / np.where(norms == 0, 1, norms)) @ plan.discrepancy_factor).sum(axis=1)
    return scores


def check_weight(plan: Transport, weight: ArrayLike) -> Floats:
    """The weight as float64, after checking that it takes the plan's features."""
    rows = np.asarray(weight, np.float64)
    if rows.ndim != 2 or rows.shape[1] != plan.fake.dimension or not np.isfinite(rows).all():
        expected = f"finite, shape (classes, {plan.fake.dimension})"
        raise InputError("weight", found=f"shape {rows.shape}", expected=expected)
    return rows


def _shares(values: Floats) -> Floats:
    total = values.sum()
    return values / total if total > 0 else np.full(len(values), np.nan)


def _along(directions: Floats, covariance: Floats) -> Floats:
    """Variance along each column of `directions`."""
    variances: Floats = np.einsum("ij,ij->j", covariance @ directions, directions)
    return variances
