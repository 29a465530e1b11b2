"""How losses decide between classes: what each noise level counts, and when a class is out of the running.

    likelihood_weights(sigmas)                    # what makes the sum of eps losses a negative log-likelihood
    fit_level_weights(losses, labels, sigmas)     # what classifies a held-out split best
    plan = plan_looks(levels=25, draws=4, looks=6, seed=0)
    alive = eliminate(values, alive, total=100, error=0.01, looks=6)

This module sees losses, no denoiser, and trusts its caller that the split is held out.

Elimination: the points of an image (level, draw) are a finite population; its winner is the class with the lowest
mean over all of them. A look adds a sample of points; a class is dropped if its paired difference to the leader so far
is positive by Student's t with the correction for a finite population. At each look the error is shared among live
classes and looks (Bonferroni), so that an image loses its winner with at most the stated probability, as far as the
mean of the sample is close to normal. Each look spreads over all levels, which makes the test conservative.
"""

from collections.abc import Sequence

import numpy as np
import scipy

from scorescope.analysis.information.log_snr import trapezoid_levels
from scorescope.analysis.statistics.arrays import Bools, Floats, Integers
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

FEWEST = 4  # points a look


@checked
def likelihood_weights(sigmas: Floats | Sequence[float]) -> Floats:
    """Half the trapezoid weights in log-SNR: with them, differences of summed eps losses are log-likelihood ratios.

    Parameters
    ----------
    sigmas : array, shape (levels,)
        Noise levels, falling.

    Returns
    -------
    array, shape (levels,)
        Of the eps loss, summed over an image.
    """
    return trapezoid_levels(np.asarray(sigmas, np.float64)).weights / 2


@checked
def fit_level_weights(losses: Floats, labels: Integers, sigmas: Floats, *, ridge: float = 0.01) -> Floats:
    """Weights >= 0 that minimise the cross-entropy of softmax(-sum_level weight * loss).

    A convex problem. The ridge pulls the ratio to the likelihood weights towards one common value, which is free: a
    network's likelihoods are often overconfident by some factor.

    Parameters
    ----------
    losses : array, shape (classes, images, levels)
        eps losses of a split that no accuracy is measured on.
    labels : array of int, shape (images,)
        True classes.
    sigmas : array, shape (levels,)
        Noise levels, falling.
    ridge : float
        Weight of the squared deviation of the ratios, averaged over levels; not negative.

    Returns
    -------
    array, shape (levels,)

    Raises
    ------
    InputError
        For a negative ridge, labels of fewer than two classes, a fit that does not converge, and one that finds
        weights of 0 only: with them every image would be of the first class.
    """
    if not 0 <= ridge < np.inf or len(np.unique(labels)) < 2:
        found = f"{ridge}, classes {np.unique(labels).tolist()}"
        raise InputError("ridge, labels", found=found, expected="ridge >= 0 and at least two classes in the split")
    base = likelihood_weights(sigmas)
    # relative to the true class, so that large losses common to all classes do not cost digits
    apart = (losses - losses[labels, np.arange(len(labels))]) * base

    def objective(ratio: Floats) -> tuple[float, Floats]:
        logits = -apart @ ratio
        share = scipy.special.softmax(logits, axis=0)
        slope = -np.einsum("kn,knl->l", share, apart) / len(labels)
        off = ratio - ratio.mean()
        value = scipy.special.logsumexp(logits, axis=0).mean() + ridge * (off**2).mean()
        return float(value), slope + 2 * ridge * off / len(ratio)

    start = np.ones(len(base))
    found = scipy.optimize.minimize(objective, start, jac=True, bounds=[(0, None)] * len(base), method="L-BFGS-B")
    if not found.success or not found.x.any():
        text = (
            "weights of 0 at every level: the true class has no lower loss than the others"
            if found.success
            else found.message
        )
        expected = "losses that tell the classes apart, and a fit that converges; or weights='likelihood'"
        raise InputError("losses", found=text, expected=expected)
    return np.asarray(base * found.x, np.float64)


def plan_looks(levels: int, draws: int, looks: int, *, seed: int) -> list[Integers]:
    """Points of each look, as numbers level * draws + draw: every look takes one at random of each few neighbours.

    There are fewer looks than asked for where they would have less than four points each.

    Raises
    ------
    InputError
        For less than one look, or fewer than four points: too few for a paired test.
    """
    total = levels * draws
    if looks < 1 or total < FEWEST:
        found = f"{looks} looks at {total} points"
        raise InputError("looks, bank", found=found, expected=f"at least 1 look and {FEWEST} points, or error=None")
    looks = max(1, min(looks, total // FEWEST))
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(looks)]
    for start in range(0, total, looks):
        members = range(start, min(start + looks, total))
        for member, look in zip(members, rng.permutation(looks), strict=False):
            parts[look].append(member)
    return [np.array(part, np.int64) for part in parts]


def eliminate(values: Floats, alive: Bools, *, total: int, error: float, looks: int) -> Bools:
    """Which classes live on after a look.

    Parameters
    ----------
    values : array, shape (classes, images, points)
        Weighted losses at the points so far; NaN for classes that were dropped before.
    alive : array of bool, shape (classes, images)
        Classes that have not been dropped.
    total : int
        Points of the whole population.
    error : float
        Probability of losing the winner of an image, over all looks.
    looks : int
        Number of looks in all.
    """
    points = values.shape[2]
    leader = np.where(alive, values.mean(2), np.inf).argmin(0)
    apart = values - values[leader, np.arange(values.shape[1])]
    rivals = np.maximum(alive.sum(0) - 1, 1)
    quantile = scipy.stats.t.isf(error / (looks * rivals), points - 1)
    spread = apart.std(2, ddof=1) * np.sqrt((1 - points / total) / points)
    with np.errstate(invalid="ignore"):  # dropped classes are NaN and stay dropped
        worse = apart.mean(2) > quantile * spread
    worse[leader, np.arange(values.shape[1])] = False
    kept: Bools = np.logical_and(alive, ~worse)
    return kept
