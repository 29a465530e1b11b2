"""Images, groups and classes: who raises a Frechet distance and who lowers it.

    images = influence_table(plan, fake_features)                 # sorted, largest influence first
    leave_one_out(fake_features, real, rows=images["image"][:8])  # exact, to check the first order
    influences = influence(plan, fake_features)                   # in the order of the images
    group_table(influences, prompts)                              # mean influence of any label
    class_table(plan, influences, top1_fake, top1_real, weight)

All tables have one unit, that of the distance itself. First order leaves out what a smaller set's larger bias adds to
every change alike, about the floor / n; `leave_one_out` has it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from scorescope.analysis.fid.contributions import class_scores
from scorescope.analysis.fid.floors import fourth_moment_floor
from scorescope.analysis.fid.frechet import FeatureSet, as_moments, frechet_distance
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, Transport, influence
from scorescope.analysis.statistics.arrays import Integers
from scorescope.analysis.statistics.intervals import mean_interval, share_gap
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, check_features

LEVEL = 0.95
ABOVE_FLOOR = 2.0  # correlation of influences with the populations' 0.85 and more; at the floor -0.5 to 0.4 (simulated)

INFLUENCE = Schema(
    "influence",
    (
        Column("image", int, "", "row of the generated set"),
        Column("name", str, "", "file or sample name; empty where there is none"),
        Column("influence", float, "feature^2", "IF_i; positive: without the image FD would be lower"),
        Column("removal_change", float, "feature^2", "change of FD when the image is left out, first order: -IF_i / n"),
        Column("trusted", bool, "", "n >= 10 d, and FD at least twice its floor: nearer, new images would rank others"),
    ),
)

LEFT_OUT = Schema(
    "leave_one_out",
    (
        Column("image", int, "", "row of the generated set"),
        Column("fd_without", float, "feature^2", "FD of the set without the image, exact"),
        Column("change", float, "feature^2", "fd_without minus FD of the whole set"),
    ),
)

GROUPS = Schema(
    "groups",
    (
        Column("group", str, "", "the label"),
        Column("n", int, "", "generated images with the label"),
        Column("influence", float, "feature^2", "mean IF: derivative of FD when the group gets more weight"),
        *ends("feature^2", "t; missing for one image"),
        Column("total_share", float, "1", "n / N times the mean IF, over FD: the group's part in the derivative"),
        Column(
            "removal_change",
            float,
            "feature^2",
            "change of FD when one such image is left out, first order: -influence / N",
        ),
    ),
)

CLASSES = Schema(
    "classes",
    (
        Column("class_index", int, "", "index of the logit, in the network's own order"),
        Column("class_name", str, "", "its name; the index where no names were given"),
        Column("n_fake", int, "", "generated images whose top-1 it is"),
        Column("n_real", int, "", "real images whose top-1 it is"),
        Column("share_fake", float, "1", "n_fake / N_fake"),
        Column("share_real", float, "1", "n_real / N_real"),
        Column("gap", float, "1", "share_fake minus share_real: the histogram gap"),
        *ends("1", "Newcombe 1998, method 10", of="gap"),
        Column("direction_score", float, "feature^2", "u^T M u along the class's weight; not additive over classes"),
        Column("influence", float, "feature^2", "mean IF of the generated images whose top-1 it is; missing for none"),
        *ends("feature^2", "t; missing below two", of="influence"),
        Column(
            "removal_change",
            float,
            "feature^2",
            "change of FD when one such image is left out, first order: -influence / N",
        ),
    ),
)


@checked
def influence_table(plan: Transport, features: ArrayLike, *, names: Sequence[str] | None = None) -> pd.DataFrame:
    """First-order influence of every generated image, largest first; see `INFLUENCE`.

    Parameters
    ----------
    plan : Transport
        Of the two sets.
    features : array, shape (n, d)
        The generated set.
    names : sequence of str, optional
        One an image, for the table.

    Returns
    -------
    DataFrame
        Columns declared in `INFLUENCE`, one row an image.

    Raises
    ------
    InputError
        If n <= d.

    Warns
    -----
    FirstOrderWarning
        If n < 10 d.
    """
    values = influence(plan, features)
    n = len(values)
    names = [""] * n if names is None else list(names)
    if len(names) != n:
        raise InputError("names", found=f"{len(names)} names", expected=f"{n}, one an image")
    trusted = n >= FIRST_ORDER * plan.fake.dimension and _above_floor(plan, features)
    table = pd.DataFrame(
        {
            "image": np.arange(n),
            "name": names,
            "influence": values,
            "removal_change": -values / n,
            "trusted": np.full(n, trusted),
        }
    )
    return INFLUENCE.check(table.sort_values("influence", ascending=False, kind="stable"))


def _above_floor(plan: Transport, features: ArrayLike) -> bool:
    """Whether the distance is at least `ABOVE_FLOOR` times that of two samples of the generated images."""
    rows = check_features("features", features)
    floor = fourth_moment_floor(rows, len(rows), plan.real.n or math.inf)  # a known law has no sampling error
    return frechet_distance(plan.fake, plan.real).value >= ABOVE_FLOOR * floor


@checked
def leave_one_out(
    fake: ArrayLike, real: FeatureSet, *, rows: Sequence[int] | None = None, progress: bool = False
) -> pd.DataFrame:
    """FD without each image, exactly: right at any n, one distance an image; see `LEFT_OUT`.

    Parameters
    ----------
    fake : array, shape (n, d)
        The generated set.
    real : Moments, or array of shape (m, d)
        The real set. Below n = d give features, so that the fast route for few images applies.
    rows : sequence of int, optional
        Images to leave out; by default each in turn.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns declared in `LEFT_OUT`, in the order of `rows`.
    """
    x = check_features("fake", fake, at_least=3)
    chosen = np.arange(len(x)) if rows is None else np.asarray(list(rows), dtype=np.int64)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(x)):
        raise InputError("rows", found=f"{chosen.min()} to {chosen.max()}", expected=f"rows from 0 to {len(x) - 1}")
    few = not isinstance(real, Moments) and len(x) <= x.shape[1]
    other = real if few else as_moments("real", real)
    whole = x if few else Moments.of(x)
    total = frechet_distance(whole, other).raw
    values = []
    for row in tqdm(chosen, desc="leaving out", disable=not progress, leave=False):
        rest = np.delete(x, row, axis=0) if not isinstance(whole, Moments) else whole.without(x[row])
        values.append(frechet_distance(rest, other).raw)
    without = np.asarray(values, np.float64)
    return LEFT_OUT.check(pd.DataFrame({"image": chosen, "fd_without": without, "change": without - total}))


@checked
def group_table(influences: ArrayLike, labels: Sequence[Any], *, distance: float = float("nan")) -> pd.DataFrame:
    """Mean influence of each group of generated images, largest first; see `GROUPS`.

    Parameters
    ----------
    influences : array, shape (n,)
        From `influence`, in the order of the images.
    labels : sequence, length n
        Any label: attribute, prompt, generator. Compared as text.
    distance : float, optional
        FD, for `total_share`.

    Returns
    -------
    DataFrame
        Columns declared in `GROUPS`.
    """
    values = np.asarray(influences, np.float64)
    names = [str(label) for label in labels]
    if len(names) != len(values):
        raise InputError("labels", found=f"{len(names)} labels", expected=f"{len(values)}, one an image")
    rows = []
    for name, part in pd.Series(values).groupby(names):
        mean, low, high = mean_interval(np.asarray(part, np.float64))
        share = len(part) / len(values) * mean / distance
        rows.append((str(name), len(part), mean, low, high, share, -mean / len(values)))
    table = pd.DataFrame(rows, columns=GROUPS.names).astype({"total_share": float})
    return GROUPS.check(table.sort_values("influence", ascending=False, kind="stable"))


@checked
def class_table(
    plan: Transport,
    influences: ArrayLike,
    top1_fake: ArrayLike,
    top1_real: ArrayLike,
    weight: ArrayLike,
    *,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a class, largest histogram gap first; see `CLASSES`.

    Parameters
    ----------
    plan : Transport
        Of the two sets.
    influences : array, shape (n,)
        IF of the generated images; NaN where there is none.
    top1_fake, top1_real : array of int, shapes (n,) and (m,)
        Index of the largest logit of each image.
    weight : array, shape (classes, d)
        The classifier's weight matrix.
    names : sequence of str, optional
        Class names, in the order of the logits.

    Returns
    -------
    DataFrame
        Columns declared in `CLASSES`.
    """
    scores = class_scores(plan, weight)
    count = len(scores)
    fake, real = _labels("top1_fake", top1_fake, count), _labels("top1_real", top1_real, count)
    names = [str(k) for k in range(count)] if names is None else list(names)
    if len(names) != count:
        raise InputError("names", found=f"{len(names)} names", expected=f"{count}, one a row of the weight")
    values = np.asarray(influences, np.float64)
    if values.shape != fake.shape:
        raise InputError("influences", found=f"shape {values.shape}", expected=f"shape {fake.shape}")
    n1, n2 = np.bincount(fake, minlength=count), np.bincount(real, minlength=count)
    gap, low, high = share_gap(n1, len(fake), n2, len(real))
    means = np.array([mean_interval(values[fake == k]) for k in range(count)])
    columns = [
        np.arange(count), names, n1, n2, n1 / len(fake), n2 / len(real), gap, low, high, scores, *means.T,
        -means[:, 0] / len(fake),
    ]  # fmt: skip
    table = pd.DataFrame(dict(zip(CLASSES.names, columns, strict=True)))
    return CLASSES.check(table.sort_values("gap", ascending=False, kind="stable", key=np.abs))


def _labels(argument: str, labels: ArrayLike, classes: int) -> Integers:
    values = np.asarray(labels)
    expected = f"(n,) integers from 0 to {classes - 1}"
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or len(values) == 0:
        raise InputError(argument, found=f"{values.dtype} of shape {values.shape}", expected=expected)
    if values.min() < 0 or values.max() >= classes:
        raise InputError(argument, found=f"values from {values.min()} to {values.max()}", expected=expected)
    return values.astype(np.int64)
