"""Precision, recall, density and coverage: which images lie near those of the other set.

    neighbour_table(fake, real)
    against = RealNeighbours(real)                # several generated sets: what takes long is done once
    [against.table(fake) for fake in fakes]

Precision and recall are those of Kynkaanniemi et al. 2019 (arXiv 1904.06991; k = 3, distance <= radius), density and
coverage those of Naeem et al. 2020 (arXiv 2002.09797; k = 5, distance < radius). Both change with the number of
images: compare only sets of the same size.
"""

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from scorescope.analysis.fid.influence_tables import LEVEL
from scorescope.analysis.statistics.arrays import Bools, Floats
from scorescope.analysis.statistics.intervals import mean_interval, wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import check_features, check_same_dimension

BLOCK = 1024
K_PRECISION, K_DENSITY = 3, 5  # as published
WHOLE = 2**25  # distances that are held at once
HALVES = 40  # random parts of both sets, for the intervals
LARGEST_PART = 4000  # images of a set in such a part: 40 parts then cost what one table of 25 000 images does

NEIGHBOURS = Schema(
    "neighbours",
    (
        Column("metric", str, "", "precision, recall, density or coverage"),
        Column("k", int, "", "which neighbour's distance is the radius"),
        Column("value", float, "1", "the metric"),
        Column("n", int, "", "images that it is a mean over"),
        *ends("1", "over draws of both sets, by random halves; missing where a half has no more than k images"),
        Column("given_low", float, "1", "lower end of the scatter over the n images, radii given (Wilson; density: t)"),
        Column("given_high", float, "1", "upper end; a 95 % interval of the metric it is not: 72 to 91 % for coverage"),
    ),
)


@checked
def neighbour_table(
    fake: ArrayLike, real: ArrayLike, *, k_precision: int = K_PRECISION, k_density: int = K_DENSITY
) -> pd.DataFrame:
    """The four metrics, one row each; see `NEIGHBOURS`.

    Parameters
    ----------
    fake, real : array, shape (n, d)
        Features; more rows than either k.
    k_precision : int
        Neighbour for precision and recall.
    k_density : int
        Neighbour for density and coverage.

    Returns
    -------
    DataFrame
        Columns declared in `NEIGHBOURS`.

    Notes
    -----
    The intervals are on the wide side: simulated from 100 images a side they cover 93 to 100 % and are 0.9 to 1.35
    times as wide as the scatter. Those with the radii given cover 72 to 98 %.
    """
    return RealNeighbours(real, k_precision=k_precision, k_density=k_density).table(fake)


class RealNeighbours:
    """The real images of several `neighbour_table`: their radii, whole and in random halves, are computed once.

    Parameters
    ----------
    real, k_precision, k_density
        As for `neighbour_table`.
    """

    def __init__(self, real: ArrayLike, *, k_precision: int = K_PRECISION, k_density: int = K_DENSITY) -> None:
        self._real, self._ks = check_features("real", real), (k_precision, k_density)
        self._radii: dict[tuple[int, int], list[Floats]] = {}  # by the number of generated images, and the draw

    def table(self, fake: ArrayLike) -> pd.DataFrame:
        """What `neighbour_table` gives for these generated images."""
        x, y, ks = check_features("fake", fake), self._real, self._ks
        check_same_dimension("real", x.shape[1], y.shape[1])
        if min(len(x), len(y)) <= max(ks) or min(ks) < 1:
            found = f"{len(x)} and {len(y)} images"
            raise InputError("fake, real", found=found, expected=f"more than k = {max(ks)} images on each side, k >= 1")
        rows = []
        counted = _counted(x, y, ks, self._radii_of(y, (0, 0)))
        ranges = self._ranges(x, {metric: float(values.mean()) for metric, values in counted.items()})
        for metric, values in counted.items():
            value, low, high = (
                mean_interval(values)
                if metric == "density"
                else (float(v) for v in wilson(int(values.sum()), len(values)))
            )
            k = ks[0] if metric in ("precision", "recall") else ks[1]
            rows.append((metric, k, value, len(values), *ranges[metric], low, high))
        return NEIGHBOURS.check(pd.DataFrame(rows, columns=NEIGHBOURS.names))

    def _ranges(self, x: Floats, values: dict[str, float]) -> dict[str, tuple[float, float]]:
        """95 % intervals over draws of both sets, by the delete-half jackknife (Shao & Wu 1989), of t form."""
        y, ks = self._real, self._ks
        share = min(0.5, LARGEST_PART / max(len(x), len(y)))
        kept = int(share * len(x)), int(share * len(y))
        if min(kept) <= max(ks):
            return dict.fromkeys(values, (np.nan, np.nan))
        generator = np.random.default_rng(0)
        found = []
        for draw in range(HALVES):
            part_x, part_y = (rows[generator.permutation(len(rows))[:n]] for rows, n in zip((x, y), kept, strict=True))
            # the draws of y depend on the length of x alone
            found.append(neighbour_values(part_x, part_y, ks, self._radii_of(part_y, (len(x), draw))))
        parts = pd.DataFrame(found)
        half = scipy.stats.t.ppf((1 + LEVEL) / 2, HALVES - 1) * parts.std(ddof=1) * np.sqrt(share / (1 - share))
        tops = {metric: np.inf if metric == "density" else 1.0 for metric in values}
        return {
            metric: (float(max(value - half[metric], 0.0)), float(min(value + half[metric], tops[metric])))
            for metric, value in values.items()
        }

    def _radii_of(self, part: Floats, draw: tuple[int, int]) -> list[Floats]:
        if draw not in self._radii:
            self._radii[draw] = _radii(part, self._ks)
        return self._radii[draw]


def neighbour_values(
    x: Floats, y: Floats, ks: tuple[int, int] = (K_PRECISION, K_DENSITY), real_radii: list[Floats] | None = None
) -> dict[str, float]:
    """The four metrics of checked features alone, without intervals; the radii of y are computed where not given."""
    return {metric: float(values.mean()) for metric, values in _counted(x, y, ks, real_radii).items()}


def _counted(x: Floats, y: Floats, ks: tuple[int, int], real_radii: list[Floats] | None = None) -> dict[str, Floats]:
    """What each metric is the mean of, over generated (precision, density) or real images (recall, coverage)."""
    fake_radius = _radii(x, ks[:1])[0]
    real_radius, density_radius = real_radii or _radii(y, ks)
    inside, near, reached, closest = _cross(x, y, real_radius, density_radius, fake_radius)
    covered = closest < density_radius
    return {
        "precision": inside.astype(np.float64),
        "recall": reached.astype(np.float64),
        "density": near / ks[1],
        "coverage": covered.astype(np.float64),
    }


def recall_interval(fake: ArrayLike, real: ArrayLike) -> tuple[float, float]:
    """95 % interval of the recall of `neighbour_table` over draws of both sets; at least 2 (k + 1) fake rows.

    Recall is a mean over real images, but each generated image that is drawn opens a ball around itself and shrinks
    those of its neighbours. Its variance is that over random halves of the generated images (the delete-half
    jackknife: Shao & Wu 1989; leaving out less gives too wide an interval, for a nearest neighbour is no smooth
    function of the set), and p (1 - p) / n for the real ones. Of t form, cut at 0 and 1.
    """
    x, y = check_features("fake", fake), check_features("real", real)
    check_same_dimension("real", x.shape[1], y.shape[1])
    kept = len(x) // 2
    if kept <= K_PRECISION:
        raise InputError("fake", found=f"{len(x)} images, k = {K_PRECISION}", expected="more than k images in a half")
    generator = np.random.default_rng(0)
    drawn = (np.sort(generator.permutation(len(x))[:kept]) for _ in range(HALVES))
    if len(x) * (len(x) + len(y)) <= WHOLE:
        own, across = _squared_distances(x, x), _squared_distances(x, y)  # once, not for every half
        recalls = np.array([_recall_of(own[np.ix_(rows, rows)], across[rows], K_PRECISION) for rows in drawn])
    else:
        recalls = np.array([_recall(x[rows], y, K_PRECISION) for rows in drawn])
    value = _recall(x, y, K_PRECISION)
    variance = kept / (len(x) - kept) * recalls.var(ddof=1) + value * (1 - value) / len(y)
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, HALVES - 1) * np.sqrt(variance)
    return float(max(value - half, 0.0)), float(min(value + half, 1.0))


def _recall(x: Floats, y: Floats, k: int) -> float:
    radius = _radii(x, (k,))[0]
    reached = np.zeros(len(y), bool)
    for start in range(0, len(x), BLOCK):
        reached |= (_squared_distances(x[start : start + BLOCK], y) <= radius[start : start + BLOCK, None]).any(axis=0)
    return float(reached.mean())


def _recall_of(own: Floats, across: Floats, k: int) -> float:
    """The same from squared distances of generated images to each other, and to the real ones."""
    np.fill_diagonal(own, -1.0)  # itself comes first
    radius = np.partition(own, k, axis=1)[:, k]
    return float((across <= radius[:, None]).any(axis=0).mean())


def _radii(rows: Floats, ks: tuple[int, ...]) -> list[Floats]:
    """Squared distance of each row to its k-th neighbour, itself not counted, for each k."""
    parts = []
    for start in range(0, len(rows), BLOCK):
        distances = _squared_distances(rows[start : start + BLOCK], rows)
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = -1.0  # itself comes first
        parts.append(np.partition(distances, sorted(set(ks)), axis=1)[:, list(ks)])
    return list(np.concatenate(parts).T)


def _cross(
    x: Floats, y: Floats, real_radius: Floats, density_radius: Floats, fake_radius: Floats
) -> tuple[Bools, Floats, Bools, Floats]:
    """Fake in a real ball; number of density balls that hold it; real in a fake ball; nearest fake of each real."""
    inside, near = [], []
    reached, closest = np.zeros(len(y), bool), np.full(len(y), np.inf)
    for start in range(0, len(x), BLOCK):
        distances = _squared_distances(x[start : start + BLOCK], y)
        inside.append((distances <= real_radius).any(axis=1))
        near.append((distances < density_radius).sum(axis=1).astype(np.float64))
        reached |= (distances <= fake_radius[start : start + BLOCK, None]).any(axis=0)
        closest = np.minimum(closest, distances.min(axis=0))
    return np.concatenate(inside), np.concatenate(near), reached, closest


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squares = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    distances: Floats = np.maximum(squares - 2 * a @ b.T, 0.0)
    return distances
