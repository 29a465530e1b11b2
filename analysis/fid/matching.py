"""Choosing candidates so that their classes match those of real images.

    match = match_histogram(top1_fake, top1_real)
    match.rate, match.unreachable, match.gap_before
    rows = match.accept(seed=0)
    class_shares(top1_fake, top1_real, {"matched": match.weights})     # histograms before and after

Exact for top-1 classes; for several classes an image, the weights nearest to equal that match the class counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.weights import effective_size
from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

RIDGE = 1e-6  # keeps tilts finite where a class combination cannot be matched

CLASS_SHARES = Schema(
    "class_shares",
    (
        Column("class_index", int, "", "index of the logit"),
        Column("class_name", str, "", "its name; the index where no names were given"),
        Column("series", str, "", "real, generated, or by which weights the generated images count"),
        Column("share", float, "1", "share of the images, by weight, whose top-1 class it is"),
        *ends("1", "Wilson; missing for weighted images"),
        Column("images", float, "", "images that the share is of; of weighted ones the effective number"),
    ),
)


@displayed
@dataclass(frozen=True, eq=False)
class HistogramMatch:
    """How to choose candidates so that their classes match the real ones.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        Expected copies of each candidate, mean 1.
    acceptance : ndarray, shape (n,)
        Probability to keep each candidate in exact rejection sampling: weights over their maximum.
    rate : float
        Mean acceptance: the share of candidates that is kept.
    unreachable : float
        Real mass of classes that no candidate shows: cannot be matched.
    gap_before, gap_after : float
        Total variation distance of the histograms, before and (in expectation, unreachable mass included) after.
    effective_size : float
        (sum w)^2 / sum w^2.
    """

    weights: Floats
    acceptance: Floats
    rate: float
    unreachable: float
    gap_before: float
    gap_after: float
    effective_size: float

    def accept(self, seed: int) -> Integers:
        """Candidates that one run of rejection sampling keeps."""
        return np.flatnonzero(np.random.default_rng(seed).random(len(self.acceptance)) < self.acceptance)


@checked
def match_histogram(candidates: ArrayLike, real: ArrayLike) -> HistogramMatch:
    """Weights that give the candidates the real images' class histogram.

    Parameters
    ----------
    candidates, real : array of int, shape (n,) or (n, N)
        Top class of each image, or its N top classes.

    Returns
    -------
    HistogramMatch

    Raises
    ------
    InputError
        If no class of the real images occurs among the candidates.

    Notes
    -----
    For N = 1 the weights are p_c / q_c, the real over the candidate share of the image's class. For N > 1 they are
    the exponential tilt exp(sum of theta_c over its classes) whose expected class counts match: of all weights that
    match, those nearest to equal in relative entropy. Candidates with a class that no real image has are left out.
    """
    top, wanted = _classes("candidates", candidates), _classes("real", real)
    if top.shape[1] != wanted.shape[1]:
        found = f"{top.shape[1]} and {wanted.shape[1]} classes an image"
        raise InputError("candidates, real", found=found, expected="the same number on both sides")
    count = int(max(top.max(), wanted.max())) + 1
    p, q = _shares(wanted, count), _shares(top, count)
    reachable = (p > 0) & (q > 0)
    allowed = (p > 0)[top].all(axis=1)
    if not reachable.any() or not allowed.any():
        raise InputError("candidates", found="no class of the real images", expected="at least one class in common")
    weights = np.zeros(len(top))
    if top.shape[1] == 1:
        weights[allowed] = (p / np.where(q > 0, q, 1))[top[allowed, 0]]
    else:
        weights[allowed] = _tilt(top[allowed], p, count)
    weights *= len(weights) / weights.sum()
    after = np.bincount(top.ravel(), np.repeat(weights, top.shape[1]), minlength=count) / top.size
    acceptance = weights / weights.max()
    return HistogramMatch(
        weights, acceptance, float(acceptance.mean()), float(p[~reachable].sum()),
        float(np.abs(p - q).sum() / 2), float(np.abs(p - after).sum() / 2), effective_size(weights),
    )  # fmt: skip


@checked
def class_shares(
    top1_fake: ArrayLike, top1_real: ArrayLike, weights: Mapping[str, Floats], *, names: Sequence[str] = ()
) -> pd.DataFrame:
    """Class histograms of real, generated and weighted generated images, the largest class first; see `CLASS_SHARES`.

    Parameters
    ----------
    top1_fake, top1_real : array of int, shapes (n,) and (m,)
        Top class of each image.
    weights : mapping of str to array of shape (n,)
        Weights of the generated images, by what they do.
    names : sequence of str
        Class names, in the order of the logits.

    Returns
    -------
    DataFrame
        Columns declared in `CLASS_SHARES`: a row a series for each class that either set has, in the order of the
        larger of its two shares.
    """
    fake, real = (_classes(name, top)[:, 0] for name, top in (("top1_fake", top1_fake), ("top1_real", top1_real)))
    count = int(max(fake.max(), real.max())) + 1
    largest = np.maximum(_shares(fake, count), _shares(real, count))
    kept = np.argsort(-largest, kind="stable")[: np.count_nonzero(largest)]
    parts = [_share_rows(series, top, kept) for series, top in (("real", real), ("generated", fake))]
    for series, each in weights.items():
        share = np.bincount(fake, each, minlength=count)[kept] / each.sum()
        missing = {"low": np.nan, "high": np.nan}
        parts.append(pd.DataFrame({"series": series, "share": share, **missing, "images": effective_size(each)}))
    table = pd.concat(parts).sort_index(kind="stable")  # the rows of a class together
    table["class_index"] = kept[table.index]
    table["class_name"] = [names[k] if names else str(k) for k in table["class_index"]]
    return CLASS_SHARES.check(table)


def _share_rows(series: str, top: Integers, kept: Integers) -> pd.DataFrame:
    share, low, high = wilson(np.bincount(top, minlength=kept.max() + 1)[kept], len(top))
    return pd.DataFrame({"series": series, "share": share, "low": low, "high": high, "images": float(len(top))})


def _classes(argument: str, classes: ArrayLike) -> Integers:
    values = np.asarray(classes)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer) or values.size == 0 or values.min() < 0:
        found = f"{values.dtype} of shape {values.shape}"
        raise InputError(argument, found=found, expected="class indices of shape (n,) or (n, N)")
    return values.astype(np.int64)


def _shares(top: Integers, count: int) -> Floats:
    return np.bincount(top.ravel(), minlength=count) / top.size


def _tilt(top: Integers, wanted: Floats, count: int) -> Floats:
    """Weights exp(theta . indicators) whose class shares are those wanted, by the convex dual."""
    present = np.zeros(count, bool)
    present[top.ravel()] = True
    target = np.where(present, wanted, 0) / wanted[present].sum() * top.shape[1]

    def dual(theta: Floats) -> tuple[float, Floats]:
        scores = theta[top].sum(axis=1)
        p = scipy.special.softmax(scores)
        expected = np.bincount(top.ravel(), np.repeat(p, top.shape[1]), minlength=count)
        value = float(scipy.special.logsumexp(scores) - theta @ target + RIDGE / 2 * theta @ theta)
        return value, expected - target + RIDGE * theta

    options = {"gtol": 1e-9, "ftol": 1e-15}
    found = scipy.optimize.minimize(dual, np.zeros(count), jac=True, method="L-BFGS-B", options=options)
    weights: Floats = scipy.special.softmax(found.x[top].sum(axis=1))
    return weights
