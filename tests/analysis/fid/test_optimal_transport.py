import math
import warnings

import numpy as np
import pytest
import torch

from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.influence_tables import influence_table, leave_one_out
from scorescope.analysis.fid.optimal_transport import FirstOrderWarning, image_gradients, influence, transport
from scorescope.data.errors import InputError


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)), 0)


def autograd_distance(x, mean2, cov2, weights=None):
    """FD by autograd through torch.linalg.eigh, an implementation that shares nothing with ours."""
    w = torch.ones(len(x), dtype=torch.float64) if weights is None else weights
    w = w / w.sum()
    mean = w @ x
    centred = x - mean
    cov = (w[:, None] * centred).T @ centred * (len(x) / (len(x) - 1))
    values, vectors = torch.linalg.eigh(cov2)
    root = vectors * values.sqrt() @ vectors.T
    inner = torch.linalg.eigvalsh(root @ cov @ root)
    return (mean - mean2).square().sum() + cov.trace() + cov2.trace() - 2 * inner.sqrt().sum()


def test_transport_identities(plan):
    t, s1, s2 = plan.matrix, plan.fake.covariance, plan.real.covariance
    np.testing.assert_allclose(t @ s1 @ t, s2, atol=1e-12 * np.abs(s2).max())
    np.testing.assert_array_equal(t, t.T)
    fd = frechet_distance(plan.fake, plan.real)
    assert np.trace(plan.discrepancy) == pytest.approx(fd.value, rel=1e-12)
    g = plan.gradient
    np.testing.assert_allclose(plan.discrepancy, np.outer(plan.gap, plan.gap) + g @ s1 @ g, atol=1e-12)
    back = transport(plan.real, plan.fake).matrix
    np.testing.assert_allclose(back @ t, np.eye(20), atol=1e-10)


def test_gradients_against_autograd(plan, sets):
    x = torch.tensor(sets[0], requires_grad=True)
    fd = autograd_distance(x, torch.tensor(plan.real.mean), torch.tensor(plan.real.covariance))
    (expected,) = torch.autograd.grad(fd, x)
    found = image_gradients(plan, sets[0])
    np.testing.assert_allclose(found, expected, atol=1e-11 * float(expected.abs().max()))


def test_influence_is_the_weight_gradient_and_has_mean_zero(plan, sets):
    w = torch.ones(400, dtype=torch.float64, requires_grad=True)
    fd = autograd_distance(torch.tensor(sets[0]), torch.tensor(plan.real.mean), torch.tensor(plan.real.covariance), w)
    (expected,) = torch.autograd.grad(fd, w)
    found = influence(plan, sets[0])
    np.testing.assert_allclose(found / 400, expected, atol=1e-8 * float(expected.abs().max()))
    assert abs(found.mean()) < 1e-12 * np.abs(found).max()
    real = influence(plan, sets[1], side="real")
    assert abs(real.mean()) < 1e-11 * np.abs(real).max()


def test_influence_ranks_as_leaving_out_does():
    x, y = draw(2000, 20, 0, spread=1.4), draw(2000, 20, 1)
    table = influence_table(transport(x, y), x)
    assert table["trusted"].all()
    assert table["influence"].is_monotonic_decreasing
    chosen = np.random.default_rng(0).choice(2000, 200, replace=False)
    exact = leave_one_out(x, y, rows=chosen).set_index("image")["change"]
    first = table.set_index("image")["removal_change"].loc[exact.index]
    assert np.corrcoef(first, exact)[0, 1] > 0.999  # n = 100 d


def test_too_few_images_are_refused_or_warned_of(sets):
    x, y = sets
    with pytest.raises(InputError, match="leave_one_out"):
        influence(transport(x[:20], y), x[:20])
    with pytest.warns(FirstOrderWarning, match="n = 10 d"):
        influence(transport(x[:100], y), x[:100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        influence(transport(x[:200], y), x[:200])


def test_new_image_gradient_against_exact_update(plan, sets):
    f = draw(1, 20, 77)[0]
    found = image_gradients(plan, f[None], new=True)[0]
    step = 1e-5
    expected = [
        (
            frechet_distance(plan.fake.with_one_more(f + step * e), plan.real).raw
            - frechet_distance(plan.fake.with_one_more(f - step * e), plan.real).raw
        )
        / (2 * step)
        for e in np.eye(20)
    ]
    # G of n instead of n + 1 images: relative error of order d / n
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())
    exact = transport(plan.fake.with_one_more(f), plan.real)
    n = 401
    centred = f - plan.fake.mean
    np.testing.assert_allclose(2 / n * exact.gap + 2 / n * exact.gradient @ centred, expected, atol=1e-6)
