import pytest
import torch

from scorescope.data import InputError, load_digits
from scorescope.probes.approximations import Mixture, TrainingSet, isotropic


@pytest.fixture(scope="module")
def digits():
    return load_digits().train


@pytest.fixture(scope="module")
def exact(digits):
    return TrainingSet(digits.images.double(), digits.labels)


@pytest.fixture(scope="module")
def queries(digits):
    sigma = torch.tensor([0.02, 0.2, 0.5, 1, 2, 5, 80], dtype=torch.float64)
    x = load_digits().held_out.images[:7].double()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return x + sigma[:, None, None, None] * noise, sigma


def test_equals_a_brute_force_loop(exact, queries):
    x, sigma = queries
    for row in range(len(x)):
        distance = (x[row] - exact.points).flatten(1).square().sum(1)
        weights = torch.softmax(-distance / (2 * sigma[row] ** 2), 0)
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        denoised = (weights[:, None, None, None] * exact.points).sum(0)
        torch.testing.assert_close(exact(x, sigma)[row], denoised, rtol=1e-10, atol=1e-10)
        samples = 1 / weights.square().sum()
        torch.testing.assert_close(exact.effective_samples(x, sigma)[row], samples, rtol=1e-9, atol=0)
    torch.testing.assert_close(exact.weights(x, sigma).sum(1), torch.ones(7, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("chunk", [1, 97, 1436, 5000])
def test_does_not_depend_on_the_chunk(exact, queries, chunk):
    x, sigma = queries
    other = TrainingSet(exact.points, exact.labels, chunk=chunk)
    vector = torch.ones_like(x)
    for method, arguments in (
        ("__call__", ()), ("log_density", ()), ("effective_samples", ()), ("jacobian_trace", ()),
        ("jacobian_vector", (vector,)),
    ):  # fmt: skip
        one, two = (getattr(law, method)(x, sigma, *arguments) for law in (exact, other))
        assert (one - two).norm() <= 1e-12 * two.norm(), method


def test_density_score_and_jacobian_agree_with_derivatives(exact, queries):
    x, sigma = queries
    state = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(exact.log_density(state, sigma).sum(), state)
    torch.testing.assert_close(exact.score(x, sigma), gradient, rtol=1e-7, atol=1e-8)
    for row in (2, 3, 5):
        jacobian = torch.func.jacrev(lambda s, row=row: exact(s[None], sigma[row : row + 1])[0])(x[row]).reshape(64, 64)
        vector = torch.randn(x[row].shape, generator=torch.Generator().manual_seed(row), dtype=x.dtype)
        product = exact.jacobian_vector(x[row][None], sigma[row], vector[None])[0]
        torch.testing.assert_close(product.flatten(), jacobian @ vector.flatten(), rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(exact.jacobian_trace(x, sigma)[row], jacobian.trace(), rtol=1e-7, atol=1e-9)


def test_equals_a_mixture_of_points(exact, queries):
    x, sigma = queries
    few = TrainingSet(exact.points[:30])
    points = Mixture(tuple(isotropic(p, 0.0) for p in few.points), torch.full((30,), 1 / 30, dtype=torch.float64))
    torch.testing.assert_close(few.log_density(x, sigma), points.log_density(x, sigma), rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(few(x, sigma), points(x, sigma), rtol=1e-8, atol=1e-8)


def test_effective_samples_run_from_one_to_all(exact, queries):
    x, _ = queries
    assert exact.effective_samples(x, 0.01).max() == pytest.approx(1, abs=1e-6)
    assert exact.effective_samples(x, 1e4).min() == pytest.approx(1437, rel=1e-3)


def test_a_condition_leaves_its_class(exact, queries, digits):
    x, sigma = queries
    labels = torch.arange(7)
    for chunk in (50, 4096):  # a class may be absent from a chunk
        conditional = TrainingSet(exact.points, exact.labels, chunk=chunk)(x, sigma, labels)
        for row in range(7):
            own = TrainingSet(exact.points[digits.labels == row])
            torch.testing.assert_close(conditional[row : row + 1], own(x[row : row + 1], sigma[row : row + 1]))
    with pytest.raises(InputError, match="classes that have points"):
        exact(x, sigma, torch.full((7,), 12))


def test_data_that_do_not_fit_are_refused(digits):
    broken = digits.images.clone()
    broken[3, 0, 2, 2] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        TrainingSet(broken)
    with pytest.raises(InputError, match="floating point"):
        TrainingSet(torch.zeros(3, 4, dtype=torch.int64))
    with pytest.raises(InputError, match="sigma"):
        TrainingSet(digits.images)(digits.images[:2], 0.0)
