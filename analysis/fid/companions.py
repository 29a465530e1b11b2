"""What should stand next to a FID: the other metrics of the same features, each with its error, in one table.

    companion_table(fake_features, real_features, logits=fake_logits, bias=head_bias)
    fid_infinity(fake_features, real)
    inception_score(logits)

One number hides what the others show: `scorescope.analysis.fid.gaming` prints them side by side for resampled sets.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from scorescope.analysis.fid.frechet import FeatureSet, as_moments, frechet_distance
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, FirstOrderWarning
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features

JACKKNIFE_DIMENSIONS = 512  # more features make 40 distances a matter of minutes: ask frechet_interval
_Row = tuple[str, float, float, float, float, str]

COMPANIONS = Schema(
    "companions",
    (
        Column("metric", str, "", "which metric"),
        Column("space", str, "", "feature space"),
        Column("value", float, "", "its value"),
        *ends("", "missing where there is none"),
        Column("floor", float, "", "expected value for two real sets of these sizes; missing where unknown"),
        Column("n_fake", int, "", "generated images"),
        Column("n_real", int, "", "real images"),
        Column("note", str, "", "setting, and how the interval was found"),
    ),
)


@dataclass(frozen=True)
class Extrapolated:
    """FID_infinity: the distance extrapolated to infinitely many generated images.

    Attributes
    ----------
    value : float
        Intercept of the regression of FD on 1/n.
    slope : float
        Bias for each 1/n.
    low, high : float
        95 % t interval of the intercept; covers the scatter about the line, not that of the images themselves.
    table : DataFrame
        Columns n and value: what was fitted.
    """

    value: float
    slope: float
    low: float
    high: float
    table: pd.DataFrame


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mean KL divergence of each image's classes from the mean over images.

    Attributes
    ----------
    mean, std : float
        Over the splits, as published.
    splits : int
        Number of splits.
    """

    mean: float
    std: float
    splits: int


@checked
def fid_infinity(
    fake: ArrayLike, real: FeatureSet, *, points: int = 15, smallest: int | None = None, seed: int = 0
) -> Extrapolated:
    """Regress FD on 1/n over random subsets of the generated set (Chong & Forsyth 2020, arXiv 1911.07023).

    Parameters
    ----------
    fake : array, shape (n, d)
        The generated set.
    real : Moments, or array of shape (m, d)
        The real set, whole in every fit: its own bias stays.
    points : int
        Sizes, equally spaced from `smallest` to n.
    smallest : int, optional
        By default min(5000, n / 2), as the law FD = a + b/n holds from n of several d only.
    seed : int
        Seed of the subsets.

    Returns
    -------
    Extrapolated
        The intercept with its interval, and what was fitted.

    Raises
    ------
    InputError
        If the smallest subset has no more rows than features: there the distance is not linear in 1/n.
    """
    x, other = check_features("fake", fake), as_moments("real", real)
    smallest = min(5000, len(x) // 2) if smallest is None else smallest
    if not x.shape[1] < smallest < len(x) or points < 3:
        found = f"subsets from {smallest} of {len(x)} images, d = {x.shape[1]}, {points} points"
        raise InputError("smallest", found=found, expected="d < smallest < n, and at least 3 points")
    generator = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(smallest, len(x), points).astype(int))
    values = []
    for size in sizes:
        rows = generator.choice(len(x), size, replace=False)
        values.append(frechet_distance(Moments.of(x[rows]), other).raw)
    fit = stats.linregress(1 / sizes, values)
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.intercept_stderr
    table = pd.DataFrame({"n": sizes, "value": np.asarray(values)})
    return Extrapolated(
        float(fit.intercept), float(fit.slope), float(fit.intercept - half), float(fit.intercept + half), table
    )


@checked
def inception_score(logits: ArrayLike, *, bias: ArrayLike | None = None, splits: int = 10) -> InceptionScore:
    """Inception Score (Salimans et al. 2016, arXiv 1606.03498) of generated images.

    Parameters
    ----------
    logits : array, shape (n, classes)
        In the order of the images: the splits are consecutive.
    bias : array, shape (classes,), optional
        Taken off first: the published score uses logits without the last layer's bias.
    splits : int
        Parts of equal size; up to splits - 1 images at the end are left out.

    Returns
    -------
    InceptionScore
        Mean and standard deviation over the splits.
    """
    rows = check_features("logits", logits, at_least=splits)
    if bias is not None:
        rows = rows - np.asarray(bias, np.float64)
    logs = special.log_softmax(rows, axis=1)
    scores = []
    for part in logs[: len(logs) // splits * splits].reshape(splits, -1, rows.shape[1]):
        mean = special.logsumexp(part, axis=0) - math.log(len(part))
        scores.append(math.exp(float((np.exp(part) * (part - mean)).sum(axis=1).mean())))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


@checked
def companion_table(
    fake: ArrayLike,
    real: ArrayLike,
    *,
    space: str = "",
    logits: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    companions: bool = True,
) -> pd.DataFrame:
    """Frechet distance and its companions in one feature space; see `COMPANIONS`.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        Features of the two sets.
    space : str
        Name of the feature space.
    logits : array, shape (n, classes), optional
        Of the generated set, for the Inception Score.
    bias : array, shape (classes,), optional
        See `inception_score`.
    companions : bool
        False gives the row of FD alone, for feature spaces in which nothing else is asked.

    Returns
    -------
    DataFrame
        Columns declared in `COMPANIONS`, one row a metric.

    Notes
    -----
    What the number of images does not allow is left out: the interval of FD for n <= d, FID_infinity for n <= 4 d,
    neighbours for n <= 5.
    """
    x, y = check_features("fake", fake, at_least=3), check_features("real", real, at_least=3)
    rows = [_frechet_row(x, y)]
    if companions:
        rows += [*_companion_rows(x, y), *_score_rows(logits, bias, len(x))]
    table = pd.DataFrame(rows, columns=["metric", "value", "low", "high", "floor", "note"])
    return COMPANIONS.check(table.assign(space=space, n_fake=len(x), n_real=len(y)))


def _companion_rows(x: Floats, y: Floats) -> list[_Row]:
    """What the number of images allows of FD without its bias, FID_infinity, KID and the neighbours' metrics."""
    rows: list[_Row] = []
    d, smallest = x.shape[1], min(len(x), len(y))
    if smallest * 19 > d * 20 and smallest >= 40 and d <= JACKKNIFE_DIMENSIONS:
        left = frechet_interval(x, y, method="jackknife")
        rows.append(("FD without bias", left.debiased, left.low, left.high, 0.0, "20 groups left out on each side"))
    if len(x) > 4 * d and len(y) > d:
        found = fid_infinity(x, y)
        rows.append(("FID_infinity", found.value, found.low, found.high, math.nan, "15 sizes; interval of the fit"))
    found_kid = kid(x, y)
    scaled = 1000 * found_kid.value, 1000 * found_kid.low, 1000 * found_kid.high
    rows.append(("KID x 1000", *scaled, 0.0, "all pairs; jackknife"))
    if smallest > 5:
        for row in neighbour_table(x, y).to_dict("records"):
            note = f"k = {row['k']}; given the other set"
            rows.append((str(row["metric"]), row["value"], row["low"], row["high"], math.nan, note))
    return rows


def _score_rows(logits: ArrayLike | None, bias: ArrayLike | None, count: int) -> list[_Row]:
    if logits is None or count < 10:
        return []
    score = inception_score(logits, bias=bias)
    note = f"{score.splits} splits, standard deviation {score.std:.3g}"
    return [("Inception Score", score.mean, math.nan, math.nan, math.nan, note)]


def _frechet_row(x: Floats, y: Floats) -> _Row:
    """FD with the interval that n allows."""
    found = frechet_distance(x, y)
    note = f"route {found.route}, rank {found.rank}"
    d, smallest = x.shape[1], min(len(x), len(y))
    if smallest <= d:
        return "FD", found.value, math.nan, math.nan, found.floor, note + "; no interval for n <= d"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the note says so
        interval = frechet_interval(x, y)
    note += "; influences" + ("" if smallest >= FIRST_ORDER * d else f", rough below n = {FIRST_ORDER} d")
    return "FD", found.value, interval.low, interval.high, found.floor, note
