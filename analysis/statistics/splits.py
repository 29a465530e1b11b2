"""Splits of images that share no image and no group, and the bootstrap over those groups.

    split = grouped_split(groups, seed=0)
    split.train                                   # image indices; also validation and test
    fit, test = split_rows(bank, fit_rows, None)  # of a bank

Rows that share an image (its noise levels, its draws) are never on two sides, and are drawn together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, Integers, host_array
from scorescope.analysis.statistics.bootstrap import sample_and_draws
from scorescope.analysis.statistics.intervals import skewed_ratio_interval, wilson
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.compare import checked_rows
from scorescope.probes.bank.points import Bank

PARTS = ("train", "validation", "test")


@checked
@dataclass(frozen=True)
class Split:
    """Images of each part, as indices.

    Attributes
    ----------
    train, validation, test : array of int
        Indices of images.

    Raises
    ------
    InputError
        If a part is empty, or an image is in two of them.
    """

    train: Integers
    validation: Integers
    test: Integers

    def __post_init__(self) -> None:
        for name in PARTS:
            if len(getattr(self, name)) == 0:
                raise InputError("split", found=f"no image in {name}", expected="images in every part")
        self.check(np.arange(1 + max(int(getattr(self, name).max()) for name in PARTS)), what="image")

    def check(self, groups: Integers, *, what: str = "group") -> None:
        """Raise `InputError` if a group (one entry an image) has images in two parts: that is leakage."""
        if max(int(getattr(self, name).max()) for name in PARTS) >= len(groups):
            raise InputError("split", found="images beyond the labels", expected=f"indices below {len(groups)}")
        for first, second in (PARTS[:2], PARTS[1:], PARTS[::2]):
            shared = np.intersect1d(groups[getattr(self, first)], groups[getattr(self, second)])
            if len(shared):
                found = f"{what} {shared[0]} in {first} and in {second} ({len(shared)} such)"
                raise InputError("split", found=found, expected=f"every {what} in one part only: leakage")


@checked
def grouped_split(
    groups: Integers | Sequence[int], *, shares: Sequence[float] = (0.6, 0.2, 0.2), seed: int = 0
) -> Split:
    """Draw the groups into train, validation and test.

    Parameters
    ----------
    groups : array, shape (images,)
        Group of each image: images of one group stay together.
    shares : three floats
        Of groups; they sum to one.
    seed : int
        Seed of the draw.

    Returns
    -------
    Split
        Indices of images.

    Raises
    ------
    InputError
        For shares that are no shares, or fewer groups than fill every part.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError("shares", found=str(shares), expected="three positive shares that sum to 1")
    unique, code = np.unique(groups, return_inverse=True)
    ends = np.round(np.cumsum(shares) * len(unique)).astype(int)
    if min(ends[0], ends[1] - ends[0], ends[2] - ends[1]) < 1:
        raise InputError("groups", found=f"{len(unique)} groups of images", expected="enough for all three parts")
    place = np.empty(len(unique), dtype=int)
    place[np.random.default_rng(seed).permutation(len(unique))] = np.arange(len(unique))
    part = np.searchsorted(ends, place, side="right")[code]
    return Split(*(np.flatnonzero(part == number) for number in range(3)))


@displayed
@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one part, with the bootstrap draws of its clusters.

    Attributes
    ----------
    rows : array, shape (row,)
        Rows of the activations.
    images : array, shape (row,)
        Image of each of these rows.
    cluster : array, shape (row,)
        Group of each of these rows, numbered from 0.
    weights : array, shape (1 + resamples, clusters)
        How often each group is drawn; the first draw is the sample itself.
    """

    rows: Integers
    images: Integers
    cluster: Integers
    weights: Floats

    @classmethod
    def of(cls, members: Integers, images: Integers, groups: Integers, *, resamples: int, seed: int) -> "Part":
        """The rows whose image is a member; `images` has one entry a row, `groups` one an image."""
        rows = np.flatnonzero(np.isin(images, members))
        clusters, cluster = np.unique(groups[images[rows]], return_inverse=True)
        weights = sample_and_draws(len(clusters), resamples=resamples, seed=seed)
        return cls(rows, images[rows], cluster, weights)

    @property
    def count(self) -> int:
        """Images."""
        return len(np.unique(self.images))

    def sums(self, values: Floats, *, draws: bool = True) -> Floats:
        """Sums over rows of (row, column) in each draw, (draw, column); of the sample alone without `draws`."""
        sums: Floats = self.weights[: None if draws else 1] @ self.by_cluster(values)
        return sums

    def by_cluster(self, values: Floats) -> Floats:
        """Sums over the rows of each cluster, of (row, column): (cluster, column)."""
        shape = (self.weights.shape[1], len(self.rows))
        places = (self.cluster, np.arange(len(self.rows)))
        member = scipy.sparse.csr_matrix((np.ones(len(self.rows)), places), shape=shape)
        sums: Floats = np.asarray(member @ values)
        return sums


def balanced_accuracy(
    predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part, *, draws: bool = True
) -> Floats:
    """Mean over classes of the share of their rows that is named right.

    Parameters
    ----------
    predicted : array, shape (cell, row)
        Of the rows of `part`.
    truth : array, shape (row,)

    Returns
    -------
    array, shape (draw, cell)
        The first draw is the sample itself. A class that is absent from a draw is left out of its mean.
    """
    recalls = []
    for label in np.unique(truth):
        member = (truth == label)[:, None]
        with np.errstate(invalid="ignore"):
            right = part.sums((label == predicted.T) * member * 1.0, draws=draws)
            recalls.append(right / part.sums(member * 1.0, draws=draws))
    stacked: Floats = np.nanmean(recalls, axis=0)
    return stacked


def recall_interval(predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part) -> tuple[Floats, Floats]:
    """95 % interval of the balanced accuracy that has a width even where every prediction of a class is right or wrong.

    Wilson's intervals of the recalls, put together by the squares of their arms (Newcombe 1998, Stat. Med. 17, 873);
    rows of one group count as one. With 10, 20 and 100 rows of the rarer of two classes it covers 0.97, 0.97 and 0.95;
    percentiles of a bootstrap 0.89, 0.94 and 0.95. Arguments as of `balanced_accuracy`; each end has shape (cell,).
    """
    classes = np.unique(truth)
    recall, below, above = (np.empty((len(classes), len(predicted))) for _ in range(3))
    for k, label in enumerate(classes):
        member = truth == label
        count = len(np.unique(part.cluster[member]))
        recall[k], low, high = wilson((predicted[:, member] == label).mean(1) * count, count)
        below[k], above[k] = recall[k] - low, high - recall[k]
    lower, upper = (np.sqrt((arms**2).sum(0)) / len(classes) for arms in (below, above))
    return recall.mean(0) - lower, recall.mean(0) + upper


def one_against_rest(outputs: Floats, truth: NDArray[np.generic]) -> Floats:
    """Area under the curve of each class against all others by its output less the mean output, mean over classes.

    Parameters
    ----------
    outputs : array, shape (cell, row, class)
    truth : array, shape (row,)

    Returns
    -------
    array, shape (cell,)
        Ties count half.
    """
    rank = scipy.stats.rankdata(outputs - outputs.mean(-1, keepdims=True), axis=1)
    areas = []
    for k, label in enumerate(np.unique(truth)):
        member = truth == label
        hits = int(member.sum())
        areas.append((rank[:, member, k].sum(1) - hits * (hits + 1) / 2) / (hits * (len(truth) - hits)))
    found: Floats = np.mean(areas, axis=0)
    return found


@checked
def stratified_halves(labels: ArrayLike, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of two halves, in order, that hold every class alike, to one row, whatever the order of the labels.

    Parameters
    ----------
    labels : array, shape (row,)
        Classes.
    seed : int
        Of the draw within each class.
    """
    rng = np.random.default_rng(seed)
    code = np.unique(host_array(labels), return_inverse=True)[1]
    first = np.zeros(len(code), bool)
    taken = 0
    for k in np.unique(code):
        rows = rng.permutation(np.flatnonzero(code == k))
        share = (len(rows) + (len(rows) % 2) * (taken % 2)) // 2  # of odd classes, the halves get one more in turn
        taken += len(rows) % 2
        first[rows[:share]] = True
    return torch.from_numpy(np.flatnonzero(first)), torch.from_numpy(np.flatnonzero(~first))


def r_squared(predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part, *, draws: bool = True) -> Floats:
    """1 - squared error / variance, (draw, cell); arguments as of `balanced_accuracy`."""
    y = truth.astype(np.float64)[:, None]
    rows, total, squares = (part.sums(y**power, draws=draws) for power in range(3))
    error = part.sums((predicted.astype(np.float64).T - y) ** 2, draws=draws)
    found: Floats = 1 - error / (squares - total**2 / rows)
    return found


def r_squared_interval(predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part) -> tuple[Floats, Floats]:
    """95 % interval of `r_squared`: of the ratio of two sums over clusters, corrected for skewness.

    With 20 rows it covers 0.92, where percentiles of a bootstrap cover 0.87. Arguments as of `r_squared`; each end has
    shape (cell,).
    """
    y = truth.astype(np.float64)[:, None]
    error = part.by_cluster((predicted.astype(np.float64).T - y) ** 2)
    total = part.by_cluster((y - y.mean()) ** 2)
    low, high = skewed_ratio_interval(error, np.broadcast_to(total, error.shape))
    return 1 - high, 1 - low


def split_rows(bank: Bank, fit_rows: Tensor | None, test_rows: Tensor | None) -> tuple[Tensor | None, Tensor]:
    """Rows of the two splits.

    Parameters
    ----------
    bank : Bank
        The images.
    fit_rows, test_rows : Tensor of int, optional
        By default there is no fit split, and the test split is everything else.

    Raises
    ------
    InputError
        For rows that are not there, no image left for the test, or an image in both splits: the same row, or another
        row with the same pixels.
    """
    if fit_rows is None:
        return None, checked_rows(test_rows, len(bank))
    fit = checked_rows(fit_rows, len(bank))
    if test_rows is None:
        others = torch.ones(len(bank), dtype=torch.bool).index_fill(0, fit, False).nonzero()[:, 0]
        if not len(others):
            raise InputError("fit_rows", found="every image", expected="some left for the test")
        test_rows = others
    test = checked_rows(test_rows, len(bank))
    contents = bank.contents()
    if shared := set(contents[fit].tolist()) & set(contents[test].tolist()):
        rows = [row for row in test.tolist() if int(contents[row]) in shared]
        expected = "splits that share no image: weights fitted on test images make its accuracy meaningless"
        raise InputError("fit_rows, test_rows", found=f"leakage: images {sorted(rows)[:5]} in both", expected=expected)
    return fit, test
