"""What should stand next to a FID: the other metrics of the same features, each with its error, in one table.

    companion_table(fake_features, real_features, logits=fake_logits, bias=head_bias)
    inception_score(logits)

One number hides what the others show: `scorescope.analysis.fid.gaming` prints them side by side for resampled sets.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.analysis.fid.companion_rows import (
    INFINITY_FROM,
    WITHOUT_BIAS,
    Row,
    enough,
    infinity_row,
    reference_rows,
    row,
)
from scorescope.analysis.fid.floors import null_floor
from scorescope.analysis.fid.frechet import FeatureSet, frechet_distance
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, FirstOrderWarning
from scorescope.analysis.fid.split_floors import RealFloor, other_real_floor, real_floor
from scorescope.analysis.statistics.arrays import Floats, require_logarithms
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features, check_same_dimension

GROUPS, FEWER_GROUPS = 20, 10  # of the jackknife; above MANY_FEATURES 20 distances take half a minute, 40 a minute
REPEATS, FEWER_REPEATS = 10, 4  # splits of the real set for its floor; many features make a single split exact enough
MANY_FEATURES = 512
HEAVY_TAILED = 1.8  # floor by fourth moments over the Gaussian one: 1.3 for rectified features, 2 in heavy tails

COMPANIONS = Schema(
    "companions",
    (
        Column("metric", str, "", "which metric"),
        Column("space", str, "", "feature space"),
        Column("value", float, "", "its value"),
        *ends("", "of the populations' value; missing where the note says why"),
        Column("scatter_low", float, "", "lower end of where 95 % of values measured at these sizes fall"),
        Column("scatter_high", float, "", "upper end; bias and all: no interval of the populations' value"),
        Column("floor", float, "", "expected value for two real sets of these sizes; missing where unknown"),
        Column("floor_kind", str, "", "how it was found: halves of the real set, fourth moments, others; or why not"),
        Column("n_fake", int, "", "generated images"),
        Column("n_real", int, "", "real images; missing where a reference does not say"),
        Column("note", str, "", "setting, and how the interval was found"),
    ),
)


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

    Raises
    ------
    InputError
        For probabilities in place of logits, and values that are not finite.
    """
    rows = check_features("logits", logits, at_least=splits)
    require_logarithms("logits", rows)
    if bias is not None:
        rows = rows - np.asarray(bias, np.float64)
    logs = scipy.special.log_softmax(rows, axis=1)
    scores = []
    for part in logs[: len(logs) // splits * splits].reshape(splits, -1, rows.shape[1]):
        mean = scipy.special.logsumexp(part, axis=0) - math.log(len(part))
        scores.append(math.exp(float((np.exp(part) * (part - mean)).sum(axis=1).mean())))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


@checked
def companion_table(
    fake: ArrayLike,
    real: FeatureSet,
    *,
    space: str = "",
    logits: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    companions: bool = True,
    fake_classes: ArrayLike | None = None,
    real_classes: ArrayLike | None = None,
    spare: ArrayLike | None = None,
) -> pd.DataFrame:
    """Frechet distance and its companions in one feature space; see `COMPANIONS`.

    Parameters
    ----------
    fake : array, shape (n, d)
        Features of the generated set.
    real : array, shape (m, d), or Moments
        Features of the real set; or its moments, which leave out what needs the images one by one.
    space : str
        Name of the feature space.
    logits : array, shape (n, classes), optional
        Of the generated set, for the Inception Score.
    bias : array, shape (classes,), optional
        See `inception_score`.
    companions : bool
        False gives the rows of FD alone, for feature spaces in which nothing else is asked.
    fake_classes, real_classes : array, shape (n,), optional
        Class of each image. Where the numbers a class are too even for independent draws (`suspiciously_even`), the
        floor, the value without bias, FID_infinity and KID are those of a set drawn by class; the notes say so.
    spare : array, shape (k, d), optional
        Features of other real images. Where they are at least as many as the generated ones the floor is their own
        distance, measured; beside sets drawn by class it is not.

    Returns
    -------
    DataFrame
        Columns declared in `COMPANIONS`, one row a metric.

    Notes
    -----
    What the number of images does not allow is missing: the value of FD without bias for n <= d 20 / 19 and below 40
    images, with the reason in its note; FID_infinity for n <= 4 d, neighbours for n <= 5 have no row.
    """
    x = check_features("fake", fake, at_least=3)
    others = None if spare is None else check_features("spare", spare)
    if isinstance(real, Moments):
        check_same_dimension("real", x.shape[1], real.dimension)
        rows, n_real = reference_rows(x, real, others, _even(fake_classes)), real.n
    else:
        y = check_features("real", real, at_least=3)
        sets = _Sets(x, y, _even(fake_classes), _even(real_classes), real_classes, others)
        rows, n_real = [_frechet_row(sets), _debiased_row(sets)], len(y)
        rows += _companion_rows(sets) if companions else []
    rows += _score_rows(logits, bias, len(x)) if companions else []
    table = pd.DataFrame(rows).assign(space=space, n_fake=len(x))
    table["n_real"] = pd.array([n_real] * len(table), "Int64") if n_real is None else n_real
    return COMPANIONS.check(table[COMPANIONS.names])


@dataclass(frozen=True, eq=False)
class _Sets:
    """What is compared; classes of a side drawn by class, all that are known of the real images; other real images."""

    x: Floats
    y: Floats
    fake_classes: ArrayLike | None
    real_classes: ArrayLike | None
    known: ArrayLike | None
    spare: Floats | None

    @property
    def smallest(self) -> int:
        """Images on the smaller side."""
        return min(len(self.x), len(self.y))

    @property
    def by_class(self) -> str:
        """What a note says of the sides that were drawn by class."""
        sides = (("generated", self.fake_classes), ("real", self.real_classes))
        names = [name for name, classes in sides if classes is not None]
        return f"; {' and '.join(names)} set drawn by class" if names else ""


def _even(classes: ArrayLike | None) -> ArrayLike | None:
    return classes if classes is not None and suspiciously_even(classes) else None


def _companion_rows(sets: _Sets) -> list[Row]:
    """What the number of images allows of FID_infinity, KID and the neighbours' metrics."""
    rows = []
    (n, d), y = sets.x.shape, sets.y
    if n > INFINITY_FROM * d and len(y) > d:
        rows.append(infinity_row(sets.x, y, sets.fake_classes))
    found_kid = kid(sets.x, y, fake_classes=sets.fake_classes, real_classes=sets.real_classes)
    ends = {"low": 1000 * found_kid.low, "high": 1000 * found_kid.high}
    note = f"all pairs; jackknife{sets.by_class}"
    rows.append(row("KID x 1000", 1000 * found_kid.value, note, **ends, floor=0.0, floor_kind="no bias"))
    if sets.smallest > 5:
        for near in neighbour_table(sets.x, y).to_dict("records"):
            few = "" if math.isfinite(near["low"]) else ": too few images for an interval"
            note = f"k = {near['k']}; random halves of both sets{few}"
            rows.append(row(str(near["metric"]), near["value"], note, low=near["low"], high=near["high"]))
    return rows


def _score_rows(logits: ArrayLike | None, bias: ArrayLike | None, count: int) -> list[Row]:
    if logits is None or count < 10:
        return []
    score = inception_score(logits, bias=bias)
    return [row("Inception Score", score.mean, f"{score.splits} splits, standard deviation {score.std:.3g}")]


def _frechet_row(sets: _Sets) -> Row:
    """FD as measured, with the scatter that n allows to tell, beside what real images of these sizes would have."""
    x, y = sets.x, sets.y
    found, d = frechet_distance(x, y), x.shape[1]
    floor = _floor(sets)
    beside: dict[str, float | str] = {"floor": floor.value, "floor_kind": floor.kind}
    note = f"route {found.route}, rank {found.rank}; biased: its interval is that of FD without bias"
    if math.isfinite(found.floor):
        gaussian = null_floor(np.cov(y, rowvar=False), len(x), len(y))
        note += f"; floor by fourth moments {found.floor:.3g}, were the features Gaussian {gaussian:.3g}"
        if math.isfinite(floor.value) and found.floor > HEAVY_TAILED * gaussian:
            beside["floor_kind"] = f"{floor.kind}; few images weigh most: it may be a quarter too low"
    if sets.smallest <= d:
        return row("FD", found.value, note + "; no scatter for n <= d", **beside)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the note says so
        interval = frechet_interval(
            x, y, method="influence", fake_classes=sets.fake_classes, real_classes=sets.real_classes
        )
    rough = "" if sets.smallest >= FIRST_ORDER * d else f", rough below n = {FIRST_ORDER} d"
    beside |= {"scatter_low": interval.scatter_low, "scatter_high": interval.scatter_high}
    return row("FD", found.value, f"{note}; scatter by influences{rough}{sets.by_class}", **beside)


def _floor(sets: _Sets) -> RealFloor:
    drawn = sets.fake_classes is not None, sets.real_classes is not None
    if enough(sets.spare, len(sets.x)) and not any(drawn):
        return other_real_floor(sets.spare, sets.y, len(sets.x))
    if len(sets.y) < 4:
        return RealFloor(math.nan, "no floor below 4 real images")
    repeats = REPEATS if sets.x.shape[1] <= MANY_FEATURES else FEWER_REPEATS
    sizes = len(sets.x), len(sets.y)
    try:
        return real_floor(sets.y, *sizes, real_classes=sets.known, by_class=drawn, repeats=repeats)
    except InputError as error:  # a class of one real image has no halves
        return RealFloor(math.nan, f"no floor by class: {error}")


def _debiased_row(sets: _Sets) -> Row:
    """FD of the populations, with its interval; missing with the reason where groups cannot be left out."""
    name, d = WITHOUT_BIAS, sets.x.shape[1]
    groups = GROUPS if d <= MANY_FEATURES else FEWER_GROUPS
    if sets.smallest * (groups - 1) <= d * groups or sets.smallest < 2 * groups:
        why = f"{sets.smallest} images of {d} features: too few to leave out one of {groups} groups"
        return row(name, math.nan, why)
    try:
        found = frechet_interval(
            sets.x, sets.y, groups=groups, fake_classes=sets.fake_classes, real_classes=sets.real_classes
        )
    except InputError as error:
        return row(name, math.nan, str(error))
    note = f"{groups} groups left out on each side{sets.by_class}"
    ends = {"low": found.low, "high": found.high}
    return row(name, found.debiased, note, **ends, floor=0.0, floor_kind="no bias")
