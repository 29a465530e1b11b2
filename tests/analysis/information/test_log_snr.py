import numpy as np
import pytest

from scorescope.analysis.information import grid_levels, logistic_levels
from scorescope.analysis.information.log_snr import extrapolate, trapezoid_levels
from scorescope.data import InputError


def bump(log_snr):
    """A logistic density around 1: integrates to 1, falls with slope 1 on both sides."""
    z = (log_snr - 1) / 1.0
    return 1 / (np.exp(z / 2) + np.exp(-z / 2)) ** 2


def test_rules_integrate_a_known_function():
    grid = grid_levels(-12, 14, 53)
    assert grid.weights @ bump(grid.log_snr) == pytest.approx(1, abs=1e-5)
    for levels in (logistic_levels(60), logistic_levels(60, location=0, scale=1.5, clip=5)):
        covered = 1 / (1 + np.exp(1 - levels.high)) - 1 / (1 + np.exp(1 - levels.low))
        # midpoints in the law's own coordinate: second order, 60 levels
        assert levels.weights @ bump(levels.log_snr) == pytest.approx(covered, abs=3e-3)


def test_random_levels_are_unbiased_and_spread_as_they_should():
    found = [(levels := logistic_levels(100, seed=seed)).weights @ bump(levels.log_snr) for seed in range(200)]
    covered = 1 / (1 + np.exp(1 - 7)) - 1 / (1 + np.exp(1 + 5))
    assert np.mean(found) == pytest.approx(covered, abs=4 * np.std(found) / np.sqrt(200))
    assert 0.01 < np.std(found) < 0.1  # what midpoints avoid


def test_weights_fill_the_covered_range():
    for levels in (grid_levels(-3, 5, 7), logistic_levels(40), trapezoid_levels([9.0, 2.0, 0.5])):
        assert levels.weights.sum() == pytest.approx(levels.high - levels.low)
        assert (
            (np.diff(levels.log_snr) > 0).all()
            and levels.low <= levels.log_snr[0]
            and levels.high >= levels.log_snr[-1]
        )
        np.testing.assert_allclose(-2 * np.log(levels.sigmas), levels.log_snr)


def test_tails_are_what_lies_outside():
    levels = grid_levels(-6, 8, 29)
    low, high = extrapolate(levels, bump(levels.log_snr))
    assert low.tail == pytest.approx(1 / (1 + np.exp(7)), rel=1e-2)
    assert high.tail == pytest.approx(1 - 1 / (1 + np.exp(-7)), rel=1e-2)
    assert low.slope == pytest.approx(1, abs=0.01) and high.slope == pytest.approx(-1, abs=0.01)
    assert low.basis.startswith("extrapolated")


def test_tails_that_cannot_be_known_are_missing():
    levels = grid_levels(0, 4, 5)
    for integrand, basis in ([[1, 1, 1, 1, 1], "does not fall"], [[1, -1, 1, -1, 1], "not positive"]):
        for tail in extrapolate(levels, integrand):
            assert np.isnan(tail.tail) and basis in tail.basis
    assert all("not positive" in tail.basis for tail in extrapolate(grid_levels(0, 1, 2), [1, 1]))


def test_bad_input():
    with pytest.raises(InputError, match="count"):
        grid_levels(0, 1, 1)
    with pytest.raises(InputError, match="scale"):
        logistic_levels(10, scale=0)
    with pytest.raises(InputError, match="falling"):
        trapezoid_levels([1.0, 2.0])
    with pytest.raises(InputError, match="integrand"):
        extrapolate(grid_levels(0, 1, 4), [1, 2])
