import pytest
import torch

from scorescope.data import InputError, load_digits
from scorescope.probes.approximations import Mixture, fit_gaussian, fit_kmeans, fit_per_class, mixture_fit


@pytest.fixture(scope="module")
def digits():
    return load_digits().train


@pytest.fixture(scope="module")
def images(digits):
    return digits.images.double()


@pytest.fixture(scope="module")
def mixtures(digits, images):
    return {
        "full": fit_per_class(images, digits.labels, shrinkage="none"),
        "ppca": fit_per_class(images, digits.labels, rank=6),
        "kmeans": fit_kmeans(images, clusters=20, rank=8),  # ranks differ between components
    }


KINDS = ["full", "ppca", "kmeans"]


def noisy(images, sigma, seed=0):
    x = images[: len(sigma)]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return x + sigma[:, None, None, None] * noise


@pytest.fixture(scope="module")
def queries(images):
    sigma = torch.tensor([0.05, 0.3, 1, 2, 5, 80], dtype=torch.float64)
    return noisy(images, sigma), sigma


@pytest.mark.parametrize("kind", KINDS)
def test_denoiser_and_density_equal_a_loop_over_components(mixtures, queries, kind):
    mixture, (x, sigma) = mixtures[kind], queries
    joint = torch.stack(
        [w.log() + g.log_density(x, sigma) for w, g in zip(mixture.weights, mixture.components, strict=True)], 1
    )
    share = joint.softmax(1)
    denoised = sum(share[:, k, None, None, None] * g(x, sigma) for k, g in enumerate(mixture.components))
    torch.testing.assert_close(mixture.log_density(x, sigma), joint.logsumexp(1), rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(mixture(x, sigma), denoised, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(mixture.responsibilities(x, sigma).sum(1), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_score_is_the_gradient_of_the_log_density(mixtures, queries, kind):
    mixture, (x, sigma) = mixtures[kind], queries
    state = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_density(state, sigma).sum(), state)
    torch.testing.assert_close(mixture.score(x, sigma), gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_is_the_derivative_of_the_denoiser(mixtures, queries, kind):
    mixture, (x, sigma) = mixtures[kind], queries
    vector = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    state = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((mixture(state, sigma) * vector).sum(), state)  # J^T v = J v, J is symmetric
    torch.testing.assert_close(mixture.jacobian_vector(x, sigma, vector), expected, rtol=1e-6, atol=1e-8)
    jacobian = torch.func.jacrev(lambda state: mixture(state[None], sigma[2:3])[0])(x[2]).reshape(64, 64)
    torch.testing.assert_close(jacobian, jacobian.mT, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(mixture.jacobian_trace(x, sigma)[2], jacobian.trace(), rtol=1e-8, atol=1e-8)


def test_one_component_is_the_gaussian(images, queries):
    x, sigma = queries
    gaussian = fit_gaussian(images, rank=9)
    mixture = Mixture((gaussian,), torch.ones(1, dtype=torch.float64))
    for method in ("__call__", "score", "log_density"):
        one, other = getattr(mixture, method)(x, sigma), getattr(gaussian, method)(x, sigma)
        assert ((one - other).norm() / other.norm()) < 1e-12


def test_moments_of_the_whole_are_those_of_the_data(mixtures, images):
    mixture = mixtures["full"]
    torch.testing.assert_close(mixture.mean, images.mean(0))
    within = sum(w * g.covariance() for w, g in zip(mixture.weights, mixture.components, strict=True))
    means = torch.stack([g.mean.flatten() for g in mixture.components]) - mixture.mean.flatten()
    between = (means * mixture.weights[:, None]).mT @ means
    torch.testing.assert_close(within + between, torch.cov(images.flatten(1).mT, correction=0))


def test_conditional_prediction_uses_one_class(mixtures, digits, images):
    mixture, labels = mixtures["full"], digits.labels[:9]
    sigma = torch.full((9,), 0.8, dtype=torch.float64)
    x = noisy(images, sigma)
    conditional = mixture(x, sigma, labels)
    for row, label in enumerate(labels.tolist()):
        torch.testing.assert_close(conditional[row : row + 1], mixture.components[label](x[row : row + 1], 0.8))
    with pytest.raises(InputError, match="condition"):
        mixture(x, sigma, torch.full((9,), 11))
    torch.testing.assert_close(mixtures["kmeans"](x, sigma, labels), mixtures["kmeans"](x, sigma))  # no labels: ignored


def test_samples_have_the_moments(mixtures):
    mixture = mixtures["ppca"]
    drawn = mixture.sample(100_000, generator=torch.Generator().manual_seed(0)).flatten(1)
    assert (drawn.mean(0) - mixture.mean.flatten()).abs().max() < 0.02
    share = mixture.responsibilities(drawn.reshape(-1, 1, 8, 8), 0.01).mean(0)
    torch.testing.assert_close(share, mixture.weights, atol=0.01, rtol=0)


def test_components_with_too_few_samples_fall_back_and_say_so(images):
    labels = torch.zeros(60, dtype=torch.int64)
    labels[0], labels[1:5] = 1, 2
    mixture = fit_per_class(images[:60], labels, rank=8)
    single, few = mixture.components[1], mixture.components[2]
    assert single.rank == 0
    assert single.residual > 0
    assert few.rank == 3
    assert "1 sample: isotropic" in mixture.note
    assert "rank 3 for 4 samples" in mixture.note


def test_classes_and_labels_that_do_not_fit_are_refused(images):
    labels = torch.zeros(20, dtype=torch.int64)
    with pytest.raises(InputError, match=r"no samples of classes \[1\]"):
        fit_per_class(images[:20], labels, classes=[0, 1])
    with pytest.raises(InputError, match="one of the classes"):
        fit_per_class(images[:20], labels, classes=[])
    with pytest.raises(InputError, match="20 labels"):
        fit_per_class(images[:21], labels)
    with pytest.raises(InputError, match="clusters"):
        fit_kmeans(images[:20], clusters=21)
    with pytest.raises(InputError, match="weights"):
        Mixture((fit_gaussian(images, rank=2),), torch.tensor([0.5]))


@pytest.mark.parametrize("rank", [None, 3])
def test_components_read_together_are_those_read_one_by_one(monkeypatch, rank):
    images = torch.randn(200, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.cat([torch.arange(60) % 6, torch.full((139,), 8), torch.tensor([9])])[
        torch.randperm(200, generator=torch.Generator().manual_seed(1))
    ]
    passes = []

    def source():
        passes.append(1)
        return iter(images.split(16))

    found = {}
    for held in (2**27, 8 * 12 * 30, 1):  # all; three classes of ten, the large one apart; each apart
        monkeypatch.setattr(mixture_fit, "HELD", held)
        passes.clear()
        found[held] = fit_per_class(source, labels, rank=rank), len(passes)
    assert found[2**27][1] < found[8 * 12 * 30][1] < found[1][1]
    for together, _ in found.values():
        assert together.note == found[1][0].note and together.labels == (0, 1, 2, 3, 4, 5, 8, 9)
        for a, b in zip(together.components, found[1][0].components, strict=True):
            torch.testing.assert_close(a.covariance(), b.covariance(), rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(a.mean, b.mean, rtol=0, atol=1e-13)
