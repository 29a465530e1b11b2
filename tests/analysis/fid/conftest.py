"""Fixtures that several files of this wing use."""

import math

import numpy as np
import pytest

from scorescope.analysis.fid.optimal_transport import transport


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)), 0)


@pytest.fixture(scope="module")
def sets():
    return draw(400, 20, 0, spread=1.4), draw(500, 20, 1)


@pytest.fixture(scope="module")
def plan(sets):
    return transport(*sets)
