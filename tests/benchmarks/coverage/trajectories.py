"""Divergences and losses of checkpoints, at known laws."""

from functools import cache, partial

import numpy as np
import torch

from scorescope.analysis.trajectories.divergence import divergence
from scorescope.analysis.trajectories.losses import weighted_losses
from scorescope.probes import log_snr_grid
from tests.benchmarks.coverage.case import Case, pick

SIGMAS = tuple(log_snr_grid(-6, 2, 9))
D = 4


def shrink(variance, shift=0.0):
    """The exact denoiser of N(shift, variance)."""

    def denoiser(x, sigma, condition=None):
        share = (variance / (variance + sigma**2))[:, None]
        return shift + share * (x - shift)

    return denoiser


def _divergence(n, rng):
    samples = torch.from_numpy(rng.normal(size=(n, D)))
    row = divergence(shrink(1.0), shrink(1.5, 0.3), samples, SIGMAS, seed=int(rng.integers(2**31))).iloc[-1]
    return {"divergence": pick(row, "divergence")["divergence"], "its density": pick(row, "")[""]}


@cache
def _divergence_truth():
    samples = torch.from_numpy(np.random.default_rng(40).normal(size=(20_000, D)))
    row = divergence(shrink(1.0), shrink(1.5, 0.3), samples, SIGMAS, batch=8192).iloc[-1]
    return {"divergence": row["divergence"], "its density": row["density"]}


def _losses(n, rng):
    samples = torch.from_numpy(rng.normal(size=(n, D)))
    row = weighted_losses(
        {"a": shrink(1.5)}, {"x": samples}, [1.0], sigma_data=1.0, seed=int(rng.integers(2**31))
    ).iloc[0]
    return {"weighted loss": pick(row, "")[""]}


def _loss_truth():
    share = 1.5 / 2.5
    return {"weighted loss": 2 * ((1 - share) ** 2 + share**2)}


CASES = (
    *(
        Case(
            f"trajectories: divergence, {n}", "Hall's corrected t", str(n), "two Gaussians, d = 4", _divergence_truth,
            partial(_divergence, n), ("divergence", "divergence:divergence"),
        )
        for n in (8, 32)
    ),
    Case(
        "trajectories: losses, 8", "Hall's corrected t", "8", "a Gaussian, d = 4", _loss_truth, partial(_losses, 8),
        ("weighted_losses",),
    ),
)  # fmt: skip
