"""How much each noise level counts when losses decide between classes.

    likelihood_weights(sigmas)                    # what makes the sum of eps losses a negative log-likelihood
    fit_level_weights(losses, labels, sigmas)     # what classifies a held-out split best

This module sees losses, no denoiser, and trusts its caller that the split is held out.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from scorescope.analysis.information.log_snr import trapezoid_levels
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]


def likelihood_weights(sigmas: Floats) -> Floats:
    """Half the trapezoid weights in log-SNR: with them, differences of summed eps losses are log-likelihood ratios."""
    return trapezoid_levels(sigmas).weights / 2


def fit_level_weights(losses: Floats, labels: NDArray[np.int64], sigmas: Floats, *, ridge: float = 0.01) -> Floats:
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
        share = special.softmax(logits, axis=0)
        slope = -np.einsum("kn,knl->l", share, apart) / len(labels)
        off = ratio - ratio.mean()
        value = special.logsumexp(logits, axis=0).mean() + ridge * (off**2).mean()
        return float(value), slope + 2 * ridge * off / len(ratio)

    start = np.ones(len(base))
    found = optimize.minimize(objective, start, jac=True, bounds=[(0, None)] * len(base), method="L-BFGS-B")
    if not found.success or not found.x.any():
        text = (
            "weights of 0 at every level: the true class has no lower loss than the others"
            if found.success
            else found.message
        )
        expected = "losses that tell the classes apart, and a fit that converges; or weights='likelihood'"
        raise InputError("losses", found=text, expected=expected)
    return np.asarray(base * found.x, np.float64)
