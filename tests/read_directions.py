"""Directions that are found in the networks of `read_networks`, and the verdicts on them."""

import math

import numpy as np
import torch

from scorescope.analysis.directions import find_direction, steer_curve
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Sampling
from scorescope.probes.sites import shuffled_directions
from tests.read_networks import score

SIGMAS = edm_sigmas(6, sigma_min=0.05, sigma_max=10.0)
SAMPLING = Sampling(solver=Euler(), sigmas=SIGMAS)
IMAGES, SIGMA = 200, 1.0


def activations(model, seed):
    """Values of `mid` at sigma = 1 of images from a standard normal law."""
    x = math.sqrt(1 + SIGMA**2) * torch.randn(IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return model.hidden(x, torch.full((IMAGES,), SIGMA))


def meaningless(values, seed):
    return torch.from_numpy(np.random.default_rng([7, seed]).permutation(IMAGES) % 2)


def found(values, labels, method="difference"):
    return find_direction(values, labels.numpy(), method=method, site="mid", attribute="target")


def judged(model, values, labels, *, random=8, shuffled=8, seed=0):
    direction = found(values, labels)
    law = shuffled_directions(direction, values, labels, count=shuffled, seed=seed) if shuffled else None
    curve = steer_curve(
        model, direction, score, target="target", seeds=range(12), strengths=(-2, 2), random=random, shuffled=law,
        sampling=SAMPLING, resamples=2, seed=seed, progress=False,
    )  # fmt: skip
    return curve.verdicts.iloc[0]
