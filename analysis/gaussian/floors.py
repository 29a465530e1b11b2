"""What the samples that a law was fitted to leave open: the error that a perfect network would show against it.

    moment_floor(gaussian, fit, sigma, on, off)      # expected |D - A|^2 a point, and its 97.5 % quantile

Mean and covariance of n samples are off by tr(C) / n and by `Fit.covariance_error`. To first order in those errors,
with A = C (C + sigma^2)^-1 and R = (C + sigma^2)^-1, the prediction is off by

    (1 - A) d_mean + sigma^2 R d_C R (x - mean)

At high noise that is tr(C) sigma^2 / (n |C|_F^2) of |D - mean|^2, and no more data of the query help. All laws that
have the samples' mean and covariance share it there; at low noise laws with more parameters have more.

The first order grows by (n / (n - p - 1))^2, p = tr A, as errors of inverses of covariances do. Simulated with normal
and scaled data (tests/benchmarks/RESULTS.md), the expectation is that of repeated fits to a tenth, and 1 to 9 % of them
pass the quantile (nominally 2.5 %), most at low noise and few samples. It is given at p <= n / 40, as shrinkage, whose
bias is not counted, leaves it; elsewhere it is missing.
"""

import math

import scipy

from scorescope.analysis.statistics.arrays import Floats
from scorescope.probes.approximations import Fit, Gaussian

TAIL = 0.975


def fit_of(gaussian: Gaussian, samples: int | None) -> Fit | None:
    """The Gaussian's own fit; else that of so many samples of a Gaussian law; else none."""
    if gaussian.fit is not None or samples is None:
        return gaussian.fit
    return Fit(samples, _normal_error(gaussian) / samples)


def moment_floor(gaussian: Gaussian, fit: Fit, sigma: float, on: Floats, off: float) -> tuple[float, float]:
    """Expected squared error of the Gaussian's prediction from the error of its moments, and its 97.5 % quantile.

    The error of covariance entries is that of normal data times one factor, which makes their sum right.

    Parameters
    ----------
    gaussian : Gaussian
        The law; its spectrum stands for the true one.
    fit : Fit
        What it was fitted to.
    sigma : float
        Noise level.
    on : array, shape (rank,)
        Mean square of (x - mean) along each eigen-mode over the points asked about.
    off : float
        Mean of |x - mean|^2 off the span of the modes.

    Returns
    -------
    expected, quantile : float
        Mean over the points, in data^2. The quantile is that of a gamma law with the right mean and variance. Both are
        missing at noise too low for the number of samples.
    """
    s2, left, n = sigma**2, gaussian.dimension - gaussian.rank, fit.samples
    values, rest = gaussian.eigenvalues.double().cpu().numpy(), gaussian.residual
    freedom = float((values / (values + s2)).sum()) + left * rest / (rest + s2)
    if freedom > n / 40:
        return math.nan, math.nan
    r, r_rest = 1 / (values + s2), 1 / (rest + s2)
    u, u_rest = (s2 * r) ** 2 * values, (s2 * r_rest) ** 2 * rest
    v, v_rest = values * r**2 * on, rest * r_rest**2 * off
    scale = fit.covariance_error / max(_normal_error(gaussian), 1e-300)
    sums, cross = u.sum() + left * u_rest, (u * v).sum() + u_rest * v_rest
    expected = sums / n + scale * (sums * (v.sum() + v_rest) + cross)
    each = v_rest / max(left, 1)
    squares = (u**2).sum() + left * u_rest**2
    second = squares * ((v**2).sum() + left * each**2) + cross**2
    second += 2 * ((u * v) ** 2).sum() + 2 * left * (u_rest * each) ** 2
    variance = 2 * squares / n**2 + 2 * scale**2 * second
    if not expected > 0:
        return 0.0, 0.0
    growth = (n / (n - freedom - 1)) ** 2
    law = scipy.stats.gamma(expected**2 / variance, scale=growth * variance / expected)
    return float(growth * expected), float(law.ppf(TAIL))


def _normal_error(gaussian: Gaussian) -> float:
    """n times `Fit.covariance_error` for normal data."""
    return gaussian.variance**2 + gaussian.energy
