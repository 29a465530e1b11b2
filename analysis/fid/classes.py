"""Sets drawn with a fixed number a class: whether one was, and how to leave out parts of every class alike.

    suspiciously_even(classes)          # independent draws would hardly be that even
    class_parts("classes", classes, n, 20)

A set of 50 images of each class is no independent draw. The share of a class does not vary, so that means and
covariances vary less, and pairs of one class are rarer than among independent images: KID and a Frechet distance
without its bias then fall below 0, with intervals wholly below it, unless they are told.
"""

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

TOO_EVEN = 1e-3  # probability of counts as even as these, for independent draws, below which a set was drawn by class
Classes = NDArray[np.intp]


@checked
def suspiciously_even(classes: ArrayLike) -> bool:
    """Whether the numbers a class are more even than independent draws would make them.

    Parameters
    ----------
    classes : array, shape (n,)
        Label of each image.

    Returns
    -------
    bool
        True where chi-square of the counts against equal ones lies in the lowest 0.1 % of its law for independent draws
        of equally likely classes, rounding of whole numbers allowed for; other shares make counts less even. A fixed
        number a class that differs between classes is not noticed, nor one of
        single images.
    """
    counts = np.unique(np.asarray(classes), return_counts=True)[1]
    n, kinds = counts.sum(), len(counts)
    if kinds < 2 or counts.min() < 2:
        return False  # one image of a label: a name, no class
    expected = n / kinds
    found = np.square(counts - expected).sum() / expected + 0.25 * kinds / expected
    return bool(scipy.stats.chi2.cdf(found, kinds - 1) < TOO_EVEN)


def class_codes(argument: str, classes: ArrayLike, n: int, *, at_least: int) -> tuple[Classes, Integers]:
    """Number of each image's class, and the images of each class."""
    labels = np.asarray(classes)
    if labels.shape != (n,):
        raise InputError(argument, found=f"shape {labels.shape}", expected=f"({n},), one an image")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise InputError(
            argument, found=f"{int(np.isnan(labels).sum())} NaN", expected=f"a class for each of {n} images"
        )
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < at_least:
        found = f"{counts.min()} of class {names[counts.argmin()]}"
        raise InputError(argument, found=found, expected=f"at least {at_least} images of each class")
    return codes, counts


def random_parts(n: int, groups: int, *, seed: int = 0) -> list[Integers]:
    """Rows 0 to n - 1 in random groups of one size."""
    return [np.sort(part) for part in np.array_split(np.random.default_rng(seed).permutation(n), groups)]


def class_parts(argument: str, classes: ArrayLike, n: int, groups: int, *, seed: int = 0) -> list[Integers]:
    """Random groups with the shares of the classes that the whole set has, or nearly.

    There are no more groups than the smallest class has images. What does not divide is in no group: a group with
    one image of a class too many would bring back the variance between classes.
    """
    codes, counts = class_codes(argument, classes, n, at_least=min(groups, 3))
    groups = min(groups, int(counts.min()))
    each = counts * (counts.min() // groups) // counts.min()
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.flatnonzero(codes == code)) for code in range(len(counts))]
    return [
        np.sort(np.concatenate([own[k * size : (k + 1) * size] for own, size in zip(rows, each, strict=True)]))
        for k in range(groups)
    ]


def within_class_variance(argument: str, values: Floats, classes: ArrayLike | None) -> float:
    """Variance of the mean of `values` over draws, of each class its number where classes are given."""
    n = len(values)
    if classes is None:
        return float(values.var()) / n
    codes, counts = class_codes(argument, classes, n, at_least=2)
    means = np.bincount(codes, values) / counts
    return float((counts / (counts - 1) * np.bincount(codes, np.square(values - means[codes]))).sum()) / n**2
