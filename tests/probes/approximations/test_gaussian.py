import math

import pytest
import torch

from scorescope.data import InputError, load_digits
from scorescope.probes import NoiseLevel
from scorescope.probes.approximations import Gaussian, fit_gaussian, fit_isotropic, isotropic
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Heun


@pytest.fixture(scope="module")
def digits():
    return load_digits().train.images.double()


@pytest.fixture(scope="module")
def gaussian(digits):
    return fit_gaussian(digits, shrinkage="none")


def noisy(images, sigma, count=7, seed=0):
    x = images[:count]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return x + torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1) * noise


def variants(digits):
    return [
        fit_gaussian(digits, shrinkage="none"),
        fit_gaussian(digits, rank=9),
        fit_isotropic(digits),
        fit_isotropic(digits, variance=False),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_score_density_and_denoiser_agree_with_dense_algebra(digits, kind, sigma):
    gaussian = variants(digits)[kind]
    x = noisy(digits, sigma)
    noised = gaussian.covariance() + sigma**2 * torch.eye(64, dtype=torch.float64)
    offset = (x - gaussian.mean).flatten(1)
    score = -torch.linalg.solve(noised, offset.mT).mT
    law = torch.distributions.MultivariateNormal(gaussian.mean.flatten(), noised)
    torch.testing.assert_close(gaussian.score(x, sigma).flatten(1), score, rtol=1e-9, atol=1e-9 / sigma)
    torch.testing.assert_close(gaussian.log_density(x, sigma), law.log_prob(x.flatten(1)), rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(gaussian(x, sigma), x + sigma**2 * gaussian.score(x, sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", range(4))
def test_score_is_the_gradient_of_the_log_density(digits, kind):
    gaussian = variants(digits)[kind]
    sigma = torch.tensor([0.05, 0.3, 1, 5, 20, 80, 0.1], dtype=torch.float64)
    x = noisy(digits, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(gaussian.log_density(x, sigma).sum(), x)
    torch.testing.assert_close(gaussian.score(x, sigma), gradient, rtol=1e-9, atol=1e-9)


def test_full_rank_ppca_is_the_full_gaussian(digits, gaussian):
    other = fit_gaussian(digits, rank=64, shrinkage="none")
    x = noisy(digits, 0.4)
    torch.testing.assert_close(other(x, 0.4), gaussian(x, 0.4), rtol=1e-12, atol=1e-12)
    assert other.residual == 0


def test_moments_are_those_of_the_data(digits, gaussian):
    rows = digits.flatten(1)
    torch.testing.assert_close(gaussian.mean.flatten(), rows.mean(0))
    torch.testing.assert_close(gaussian.covariance(), torch.cov(rows.mT, correction=0), atol=1e-12, rtol=1e-12)
    for approximation in variants(digits)[:3]:  # every one keeps the total variance
        assert approximation.variance == pytest.approx(gaussian.variance, rel=1e-12)


def test_jacobian_is_posterior_covariance_over_variance(digits, gaussian):
    """Monte Carlo over x0 | x, drawn exactly: x = x0 + sigma n, weighted by nothing, for a Gaussian law."""
    ppca = fit_gaussian(digits, rank=9)
    for law, sigma in ((gaussian, 1.5), (ppca, 0.3)):
        generator = torch.Generator().manual_seed(1)
        clean = law.sample(200_000, generator=generator)
        residual = clean - law(clean + sigma * torch.randn(clean.shape, generator=generator, dtype=clean.dtype), sigma)
        estimate = torch.cov(residual.flatten(1).mT) / sigma**2  # for a Gaussian, the same at every x
        identity = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
        jacobian = law.jacobian_vector(digits[:1].expand(64, -1, -1, -1), sigma, identity).flatten(1)
        assert (estimate - jacobian).norm() / jacobian.norm() < 0.02  # sampling error: sqrt(64 / 200 000)
        levels = torch.tensor([sigma], dtype=torch.float64)
        spectrum = torch.linalg.eigvalsh(jacobian).flip(0)
        torch.testing.assert_close(law.jacobian_spectrum(levels)[0], spectrum, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(law.jacobian_trace(digits[:1], sigma)[0], spectrum.sum())


def test_flow_matches_heun_to_order_two(gaussian):
    """The reference table: 4.7 % at 18 steps, order 2.0 at fine steps, 2.4e-6 at 2240 (grid 80 -> 0.002)."""
    noise = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = 80.0 * noise
    exact = gaussian.flow(start, 80.0, 0.002)

    def error(steps):
        def evaluate(x, *, sigma, **_):
            return gaussian(x, sigma)

        end = Heun().run(evaluate, start, edm_sigmas(steps)[:-1], lambda: noise)
        return float((end - exact).norm() / (exact - gaussian.mean).norm())

    coarse, fine, finest = error(18), error(560), error(2240)
    assert coarse == pytest.approx(0.047, abs=0.003)
    assert finest == pytest.approx(2.4e-6, rel=0.1)
    assert math.log(fine / finest, 4) == pytest.approx(2.0, abs=0.05)


def test_flow_composes_inverts_and_carries_the_law(digits, gaussian):
    x = noisy(digits, 10.0)
    there = gaussian.flow(x, 10.0, 0.5)
    torch.testing.assert_close(gaussian.flow(there, 0.5, 10.0), x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gaussian.flow(gaussian.flow(x, 10.0, 3.0), 3.0, 0.5), there, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian.denoised_on_path(x, 10.0, 0.5), gaussian(there, 0.5), rtol=1e-9, atol=1e-9)
    change = gaussian.log_density(x, 10.0) - gaussian.log_density(there, 0.5)
    logdet = -0.5 * ((gaussian.eigenvalues + 0.25) / (gaussian.eigenvalues + 100)).log().sum()
    torch.testing.assert_close(change, -logdet.expand_as(change), rtol=1e-9, atol=1e-9)  # change of variables


def test_samples_have_the_moments(digits):
    ppca = fit_gaussian(digits, rank=9)
    drawn = ppca.sample(100_000, generator=torch.Generator().manual_seed(0), sigma=0.7).flatten(1)
    expected = ppca.covariance() + 0.49 * torch.eye(64, dtype=torch.float64)
    error = (torch.cov(drawn.mT) - expected).norm()
    assert error < 1.3 * expected.trace() / 100_000**0.5  # expected error of a sample covariance: trace / sqrt(n)
    assert (drawn.mean(0) - ppca.mean.flatten()).abs().max() < 0.03


def test_float32_states_keep_their_dtype_and_the_precision_of_the_statistics(digits, gaussian):
    x = noisy(digits, 10.0)
    out = gaussian.flow(x.float(), 10.0, 0.002)
    assert out.dtype == torch.float32
    assert (out.double() - gaussian.flow(x, 10.0, 0.002)).abs().max() < 2e-5


def test_other_conventions_go_through_the_variance_exploding_one(digits, gaussian):
    """A variance-preserving and a flow-matching state of the same x0 and n give the same denoised prediction."""
    sigma = torch.full((5,), 1.7, dtype=torch.float64)
    x = noisy(digits, sigma[0], count=5)
    for level in (NoiseLevel.vp(sigma), NoiseLevel.flow(sigma / (1 + sigma))):
        torch.testing.assert_close(level.sigma, sigma)
        state = level.from_ve(x)
        torch.testing.assert_close(gaussian(level.to_ve(state), level.sigma), gaussian(x, sigma))


def test_rescaling_carries_eigenvalues_by_the_square(digits):
    shifted = fit_gaussian((digits + 1) / 2, rank=9, units="[0, 1]").rescaled(2, -1, units="[-1, 1]")
    direct = fit_gaussian(digits, rank=9)
    torch.testing.assert_close(shifted.eigenvalues, direct.eigenvalues)
    assert shifted.residual == pytest.approx(direct.residual)
    torch.testing.assert_close(shifted(digits[:3], 0.5), direct(digits[:3], 0.5))
    assert shifted.units == "[-1, 1]"


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_level_without_a_score_is_refused(digits, gaussian, sigma):
    for method in (gaussian, gaussian.score, gaussian.log_density):
        with pytest.raises(InputError, match="sigma"):
            method(digits[:2], sigma)


def test_shapes_that_do_not_fit_are_refused(digits, gaussian):
    with pytest.raises(InputError, match="x: found shape"):
        gaussian(digits[:2, :, :4], 1.0)
    with pytest.raises(InputError, match="sigma"):
        gaussian(digits[:2], torch.ones(3))
    with pytest.raises(InputError, match="basis"):
        Gaussian(digits[0], torch.zeros(3, 2), torch.ones(2))
    with pytest.raises(InputError, match="variances"):
        isotropic(digits[0], -1.0)
