import math

import mpmath
import numpy as np
import pytest
from scipy import linalg

from scorescope.analysis.fid.floors import fourth_moment_floor, null_floor
from scorescope.analysis.fid.frechet import frechet_distance, pivoted_factor
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.split_floors import split_floor
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments


def draw(n, d, seed, *, spread=1.0, shift=0.0):
    """Non-Gaussian, correlated features: set 1 and set 2 differ in mean, spread and correlation."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)) + shift, 0)


def gaussian(covariance, mean=0.0, n=1000):
    d = len(covariance)
    return Moments(np.broadcast_to(np.asarray(mean, float), (d,)).copy(), np.asarray(covariance, float), n)


def orthogonal(d, rng):
    return linalg.qr(rng.normal(size=(d, d)))[0]


def test_diagonal_gaussians_have_a_closed_form():
    a, b = np.array([1.0, 4.0, 0.25, 9.0]), np.array([2.0, 1.0, 0.5, 9.0])
    result = frechet_distance(gaussian(np.diag(a), 1.0), gaussian(np.diag(b), 3.0))
    assert result.value == pytest.approx(16 + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-14)
    assert result.mean_part == pytest.approx(16, rel=1e-15)


def test_zero_for_the_same_set_and_symmetric():
    x, y = draw(200, 12, 0), draw(150, 12, 1, spread=1.3)
    assert frechet_distance(x, x).value <= 1e-10
    assert abs(frechet_distance(x, x).raw) <= 1e-10
    assert frechet_distance(x, y).value == pytest.approx(frechet_distance(y, x).value, rel=1e-12)


def test_invariance_and_scaling():
    x, y = draw(200, 12, 0), draw(150, 12, 1, spread=1.3)
    q = orthogonal(12, np.random.default_rng(5))
    value = frechet_distance(x, y).value
    assert frechet_distance(x @ q + 7, y @ q + 7).value == pytest.approx(value, rel=1e-11)
    assert frechet_distance(3 * x, 3 * y).value == pytest.approx(9 * value, rel=1e-12)


def exact_trace(s1, s2):
    """Tr (S1 S2)^(1/2) with 60 digits."""
    with mpmath.workdps(60):
        a, b = mpmath.matrix(s1.tolist()), mpmath.matrix(s2.tolist())
        lower = mpmath.cholesky(a)
        inner = lower.T * b * lower
        return float(sum(mpmath.sqrt(e) for e in mpmath.eigsy((inner + inner.T) / 2, eigvals_only=True)))


@pytest.mark.parametrize("shared_axes", [False, True])
@pytest.mark.parametrize("condition", [0, 4, 8, 12])
def test_cholesky_route_against_mpmath(condition, shared_axes):
    rng = np.random.default_rng(condition)
    d = 48
    first = orthogonal(d, rng)
    second = first if shared_axes else orthogonal(d, rng)
    spectrum = np.logspace(0, -condition, d)
    s1 = first * spectrum @ first.T
    s2 = second * (spectrum * rng.uniform(0.5, 2, d)) @ second.T
    s1, s2 = (s1 + s1.T) / 2, (s2 + s2.T) / 2
    result = frechet_distance(gaussian(s1), gaussian(s2))
    trace = (np.trace(s1) + np.trace(s2) - result.covariance_part) / 2
    assert result.route == "cholesky"
    assert trace == pytest.approx(exact_trace(s1, s2), rel=1e-12)


@pytest.mark.parametrize(("n1", "n2"), [(60, 60), (60, 500), (500, 60), (199, 201)])
def test_singular_routes_agree(n1, n2):
    x, y = draw(n1, 200, 0), draw(n2, 200, 1, spread=1.3)
    features = frechet_distance(x, y)
    moments = frechet_distance(Moments.of(x), Moments.of(y))
    assert (features.route, moments.route) == ("cross_gram", "pivoted_cholesky")
    assert features.rank == moments.rank == min(n1, n2) - 1
    assert moments.value == pytest.approx(features.value, abs=1e-11 * np.trace(Moments.of(x).covariance))


@pytest.mark.slow
def test_singular_routes_agree_at_full_size():
    x, y = draw(500, 2048, 0), draw(500, 2048, 1, spread=1.3)
    features, moments = frechet_distance(x, y), frechet_distance(Moments.of(x), Moments.of(y))
    assert moments.rank == features.rank == 499
    assert abs(moments.value - features.value) <= 1e-9


def test_dead_features_and_unknown_n_take_the_pivoted_route():
    x, y = draw(400, 12, 0), draw(400, 12, 1)
    dead1, dead2 = np.hstack([x, np.ones((400, 3))]), np.hstack([y, np.ones((400, 3))])
    result = frechet_distance(dead1, dead2)
    assert result.route == "pivoted_cholesky"
    assert result.rank == 12
    assert result.value == pytest.approx(frechet_distance(x, y).value, rel=1e-11)
    few = Moments.of(draw(8, 12, 2))
    without_n = Moments(few.mean, few.covariance, None)
    for first, second in ((without_n, Moments.of(y)), (Moments.of(y), without_n), (without_n, without_n)):
        unknown = frechet_distance(first, second)
        assert unknown.route == "pivoted_cholesky"
        assert math.isnan(unknown.floor)
    assert frechet_distance(without_n, Moments.of(y)).value == pytest.approx(
        frechet_distance(draw(8, 12, 2), y, route="cross_gram").value, abs=1e-11
    )


def test_constant_features():
    same = frechet_distance(np.full((5, 3), 2.0), np.full((4, 3), 5.0))
    assert same.value == pytest.approx(27)
    assert frechet_distance(gaussian(np.zeros((3, 3))), gaussian(np.eye(3))).value == pytest.approx(3)


def test_pivoted_factor_reproduces_its_matrix():
    covariance = Moments.of(draw(30, 50, 0)).covariance
    factor = pivoted_factor(covariance)
    assert factor.shape == (50, 29)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-14 * np.trace(covariance))


@pytest.mark.parametrize("n", [48, 96, 400])
def test_null_floor_against_simulation(n):
    d, repeats = 16, 300
    rng = np.random.default_rng(n)
    spectrum = np.linspace(0.2, 3, d)
    mixing = orthogonal(d, rng) * np.sqrt(spectrum)
    covariance = mixing @ mixing.T
    values = [
        frechet_distance(rng.normal(size=(n, d)) @ mixing.T, rng.normal(size=(2 * n, d)) @ mixing.T).value
        for _ in range(repeats)
    ]
    floor = null_floor(covariance, n, 2 * n)
    error = np.std(values) / math.sqrt(repeats)  # about 1 % here
    assert abs(np.mean(values) - floor) <= 0.03 * floor + 2 * error
    assert error < 0.02 * floor


def test_floor_is_that_of_the_real_set():
    x, y = draw(300, 6, 0, spread=2), draw(200, 6, 1)
    expected = null_floor(np.cov(y, rowvar=False), 300, 200)
    by_moments = frechet_distance(Moments.of(x), Moments.of(y))
    assert by_moments.floor == pytest.approx(expected, rel=1e-12) and by_moments.floor_kind == "Gaussian"
    for found in (frechet_distance(x, y), frechet_distance(x, y, route="cross_gram")):
        assert found.floor == pytest.approx(fourth_moment_floor(y, 300, 200), rel=1e-12)
        assert found.floor_kind == "fourth moments"
    assert math.isnan(frechet_distance(x, y[:6]).floor) and frechet_distance(x, y[:6]).floor_kind == ""


def test_bad_input():
    x = draw(50, 6, 0)
    with pytest.raises(InputError, match="5 features beside 6"):
        frechet_distance(x, x[:, :5])
    with pytest.raises(InputError, match="'cross_gram' with moments"):
        frechet_distance(Moments.of(x), x, route="cross_gram")
    with pytest.raises(InputError, match="singular"):
        frechet_distance(x[:4], x, route="cholesky")
    with pytest.raises(InputError, match="n >= 2"):
        frechet_distance(x[:1], x)
    with pytest.raises(InputError, match="float64"):
        Moments(np.zeros(2, np.float32), np.eye(2, dtype=np.float32), 5)
    with pytest.raises(InputError, match="sizes"):
        split_floor(x, sizes=(40, 40))
    with pytest.raises(InputError, match="6 images of 6 features"):
        frechet_interval(x[:6], x)
    with pytest.raises(InputError, match="groups"):
        frechet_interval(x[:10], x, method="jackknife")


@pytest.mark.parametrize("duplicates", [0, 20])
def test_cross_gram_falls_back_on_singular_values(duplicates):
    """Repeated images make small singular values that eigenvalues of a Gram matrix would lose."""
    x, y = draw(60, 100, 0), draw(60, 100, 1)
    x[:duplicates] = x[30 : 30 + duplicates] + 1e-9 * x[:duplicates]
    a, b = (rows - rows.mean(axis=0) for rows in (x, y))
    exact = linalg.svdvals(a @ b.T).sum() / 59
    expected = np.square(a).sum() / 59 + np.square(b).sum() / 59 - 2 * exact
    assert frechet_distance(x, y).covariance_part == pytest.approx(expected, rel=1e-12)
