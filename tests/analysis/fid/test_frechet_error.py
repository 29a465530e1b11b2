import math

import numpy as np
import pytest

from scorescope.analysis.fid.floors import null_floor
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.split_floors import split_floor


@pytest.mark.parametrize("method", ["influence", "jackknife"])
def test_intervals_cover(method):
    """The population distance for the jackknife; the scatter of the measured one for influences."""
    d, n1, n2, repeats = 4, 300, 250, 120
    rng = np.random.default_rng(3)
    a, b = np.array([1.0, 2.0, 0.5, 1.0]), np.array([2.0, 1.0, 0.5, 1.5])
    truth = d * 0.09 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    results = []
    for _ in range(repeats):
        x, y = rng.normal(size=(n1, d)) * np.sqrt(a) + 0.3, rng.normal(size=(n2, d)) * np.sqrt(b)
        results.append(frechet_interval(x, y, method=method))
    centre = truth if method == "jackknife" else np.mean([r.value for r in results])
    ends = [(r.low, r.high) if method == "jackknife" else (r.scatter_low, r.scatter_high) for r in results]
    covered = np.mean([low <= centre <= high for low, high in ends])
    assert 0.89 <= covered <= 0.99  # 95 % with a standard error of 2 %
    spread = np.std([r.debiased if method == "jackknife" else r.value for r in results])
    assert np.mean([r.standard_error for r in results]) == pytest.approx(spread, rel=0.2)
    if method == "jackknife":
        bias = np.mean([r.value for r in results]) - truth
        left = np.mean([r.debiased for r in results]) - truth
        assert abs(left) < max(0.2 * bias, 3 * spread / math.sqrt(repeats))


def test_split_floor_matches_the_formula_for_gaussian_features():
    x = np.random.default_rng(0).normal(size=(2000, 8))
    mean, low, high = split_floor(x, sizes=(600, 800), repeats=20)
    assert low <= mean <= high
    assert mean == pytest.approx(null_floor(np.eye(8), 600, 800), rel=0.15)
