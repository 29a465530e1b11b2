"""How far the law of one checkpoint is from that of another, in nats, and at which noise levels.

table = divergence(later, earlier, samples_of_the_later, log_snr_grid(-8, 8, 25))
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
from torch import Tensor

from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.probes.bank import Arm, Bank, compare_arms
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import check_sigmas

DIVERGENCE = Schema(
    "divergence",
    (
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples of the first, one noise draw each a level"),
        Column("density", float, "nats per octave", "ln 2 E|D_first - D_second|^2 / sigma^2: gained per halving"),
        *ends("nats per octave", "over samples, corrected for skewness"),
        Column("divergence", float, "nats", "KL(first || second) at this level less that at the highest"),
        *ends("nats", "over samples, corrected for skewness", of="divergence"),
    ),
)


@checked
def divergence(
    first: Denoiser,
    second: Denoiser,
    samples: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition = None,
    seed: int = 0,
    batch: int = 256,
) -> pd.DataFrame:
    """Kullback-Leibler divergence of the noised laws of two denoisers, from the highest level down.

    Parameters
    ----------
    first, second : Denoiser
        Of the law that the samples are of, and the other.
    samples : Tensor, shape (n, *shape)
        Of the first law: they are noised, so others than its own give another number than the divergence.
    sigmas : sequence of float
        Falling positive noise levels, the highest so high that the two laws are one there.
    condition : optional
        One row a sample, of both.
    seed : int
        Of the noise.
    batch : int
        See `compare_arms`.

    Returns
    -------
    DataFrame
        `DIVERGENCE`: one row a level.

    Raises
    ------
    InputError
        For levels that do not fall, and what `compare_arms` refuses.

    Notes
    -----
    d KL(p_sigma || q_sigma) / d ln sigma = -E_p |D_p - D_q|^2 / sigma^2 for denoisers that are the posterior means of
    their laws: of a network it is the divergence of the paths that it draws from where noise is added step by step.
    The integral is that of a cubic spline through the levels in ln sigma.
    """
    check_sigmas(sigmas)
    arms = [Arm("first", first, condition), Arm("second", second, condition)]
    found = compare_arms(Bank(samples, sigmas, seed=seed), arms, batch=batch)
    values = found.distance("first", "second")
    places = -np.log(found.sigmas)
    integrals = scipy.interpolate.CubicSpline(places, values, axis=1).antiderivative()(places)
    table = {"sigma": found.sigmas, "n": len(values)}
    for name, each, ends_of in (("density", np.log(2) * values, ""), ("divergence", integrals, "divergence_")):
        low, high = skewed_mean_interval(each)
        table |= {name: each.mean(0), f"{ends_of}low": low, f"{ends_of}high": high}
    return DIVERGENCE.check(pd.DataFrame(table))
