"""Laws of features for simulations: Gaussian, and of other fourth moments; populations of rectified ones."""

from functools import partial

import numpy as np

D = 12
POPULATIONS = {"equal": {}, "near": {"spread": 1.1, "shift": -0.2}, "far": {"spread": 1.4, "shift": 0.1}}
_MIXING = np.random.default_rng(99).normal(size=(D, D)) / np.sqrt(D)
_CENTRES = np.random.default_rng(7).normal(size=(10, D))


def draw_rectified(n, rng, *, spread=1.0, shift=-0.3):
    return np.maximum(rng.normal(size=(n, D)) @ _MIXING * spread + shift, 0)


def _pooled(n, rng):
    shared = 0.7 * rng.normal(size=(n, 1, D)) @ _MIXING
    return np.maximum(rng.normal(size=(n, 4, D)) - 0.5 + shared, 0).mean(axis=1)


def _scaled(n, rng):
    return rng.normal(size=(n, D)) @ _MIXING * np.exp(0.6 * rng.normal(size=(n, 1)))


def _sparse(n, rng):
    return np.where(rng.random((n, D)) < 0.03, rng.exponential(size=(n, D)), 0)


def draw_classes(codes, rng):
    """Rectified features about the centre of each image's class."""
    return np.maximum(_CENTRES[codes] + rng.normal(size=(len(codes), D)) @ _MIXING, 0)


LAWS = {
    "Gaussian": lambda n, rng: rng.normal(size=(n, D)) @ _MIXING,
    "rectified": partial(draw_rectified),
    "pooled": _pooled,
    "a scale an image": _scaled,
    "sparse": _sparse,
}
