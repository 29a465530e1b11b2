import math

import numpy as np
import pytest
import torch

from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.gaming import PLAIN, REAL, FeaturePair, gaming_audit
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.verdicts import verdict
from scorescope.analysis.fid.weights import WeightedDistance, effective_size, normalised, optimise_weights
from scorescope.data.errors import InputError


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)), 0)


@pytest.mark.parametrize("dead", [False, True])
def test_loss_and_gradient_against_autograd(dead):
    x, y = draw(600, 12, 0, 1.4), draw(400, 12, 1)
    omega = np.random.default_rng(3).normal(size=600) * 0.5
    t = torch.tensor(omega, requires_grad=True)
    w = torch.softmax(t, 0) * 600
    rows, real = torch.tensor(x), torch.tensor(y)
    mean = w @ rows / 600
    c = rows - mean
    cov, other = (w[:, None] * c).T @ c / 599, torch.cov(real.T)
    values = torch.linalg.eigvals(cov @ other).real
    expected = (mean - real.mean(0)).square().sum() + cov.trace() + other.trace() - 2 * values.sqrt().sum()
    (by_autograd,) = torch.autograd.grad(expected, t)
    if dead:  # a feature that never moves makes both covariances singular, and changes nothing
        x, y = np.hstack([x, np.ones((600, 1))]), np.hstack([y, np.ones((400, 1))])
    value, gradient = WeightedDistance(x, y)(omega)
    assert value == pytest.approx(float(expected.detach()), rel=1e-12)
    np.testing.assert_allclose(gradient, by_autograd, atol=1e-8 * float(by_autograd.abs().max()))
    assert abs(gradient.sum()) < 1e-12


def test_equal_weights_are_the_distance_of_the_set():
    x, y = draw(600, 12, 0, 1.4), draw(400, 12, 1)
    assert WeightedDistance(x, y)(np.zeros(600))[0] == pytest.approx(frechet_distance(x, y).value, rel=1e-12)
    assert normalised([0.0, 0.0, 0.0]).tolist() == [1, 1, 1]
    assert effective_size([1, 1, 0, 0]) == pytest.approx(2)


def test_lbfgs_needs_a_twentieth_of_the_evaluations_of_gradient_descent():
    """The official form: free weights exp(omega), plain gradient steps of 10, 1000 of them."""
    x, y = draw(3000, 16, 0, 1.4), draw(2000, 16, 1)
    omega, rows = torch.zeros(3000, dtype=torch.float64), torch.tensor(x)
    real = torch.tensor(y)
    other, other_mean = torch.cov(real.T), real.mean(0)
    factor = torch.linalg.cholesky(other)
    for _ in range(1000):
        w = omega.exp()
        total = w.sum()
        mean = w @ rows / total
        c = rows - mean
        cov = (w[:, None] * c).T @ c / (total - 1)
        values, vectors = torch.linalg.eigh(factor.T @ cov @ factor)
        half = factor @ vectors
        g = torch.eye(16, dtype=torch.float64) - half / values.sqrt() @ half.T
        slope = 2 / total * (c @ (mean - other_mean)) + (((c @ g) * c).sum(1) - (g * cov).sum()) / (total - 1)
        omega = omega - 10 * w * slope
    reached = WeightedDistance(x, y)(omega.numpy())[0]
    found = optimise_weights(x, y, evaluations=50)
    assert found.value <= reached < 0.5 * found.start
    assert found.history["value"].min() == found.value
    assert found.effective_size < 3000
    assert found.weights.mean() == pytest.approx(1)


def test_an_interruption_keeps_the_best_weights(monkeypatch):
    x, y = draw(600, 12, 0, 1.4), draw(400, 12, 1)
    calls = []
    original = WeightedDistance.__call__

    def interrupted(self, omega):
        calls.append(omega)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return original(self, omega)

    monkeypatch.setattr(WeightedDistance, "__call__", interrupted)
    found = optimise_weights(x, y)
    assert found.status == "interrupted"
    assert len(found.history) == 7
    assert found.value < found.start


def test_top1_matching_is_exact():
    rng = np.random.default_rng(0)
    fake, real = rng.choice(4, 4000, p=[0.7, 0.1, 0.1, 0.1]), rng.choice(5, 2000, p=[0.25, 0.25, 0.25, 0.15, 0.1])
    match = match_histogram(fake, real)
    p = np.bincount(real, minlength=5) / 2000
    assert match.unreachable == pytest.approx(p[4])
    reached = np.bincount(fake, match.weights, minlength=5) / 4000
    np.testing.assert_allclose(reached[:4], p[:4] / p[:4].sum(), rtol=1e-12)
    assert match.gap_after == pytest.approx(p[4])
    assert match.gap_before == pytest.approx(np.abs(np.bincount(fake, minlength=5) / 4000 - p).sum() / 2)
    kept = fake[match.accept(1)]
    assert len(kept) == pytest.approx(4000 * match.rate, rel=0.1)
    shares = np.bincount(kept, minlength=4) / len(kept)
    np.testing.assert_allclose(shares, p[:4] / p[:4].sum(), atol=4 * 0.5 / math.sqrt(len(kept)))


def test_top_n_matching_meets_the_counts():
    rng = np.random.default_rng(0)
    draw_pairs = lambda n, p: np.array([rng.choice(6, 2, replace=False, p=p) for _ in range(n)])  # noqa: E731
    fake, real = draw_pairs(1500, [0.4, 0.2, 0.1, 0.1, 0.1, 0.1]), draw_pairs(1000, np.full(6, 1 / 6))
    match = match_histogram(fake, real)
    reached = np.bincount(fake.ravel(), np.repeat(match.weights, 2), minlength=6) / fake.size
    np.testing.assert_allclose(reached, np.bincount(real.ravel(), minlength=6) / real.size, atol=1e-5)
    assert match.gap_after < 1e-4 < match.gap_before
    single = match_histogram(fake[:, :1], real[:, :1])
    np.testing.assert_allclose(single.weights, match_histogram(fake[:, 0], real[:, 0]).weights)


def test_classes_out_of_reach():
    with pytest.raises(InputError, match="no class of the real images"):
        match_histogram(np.zeros(5, int), np.ones(5, int))
    alone = match_histogram(np.array([0, 0, 1]), np.array([1, 1]))
    np.testing.assert_allclose(alone.weights, [0, 0, 3])
    with pytest.raises(InputError, match="class indices"):
        match_histogram(np.zeros(5), np.ones(5, int))


def test_audit_measures_every_arm_at_one_size():
    d = 6
    fake, real = FeaturePair(draw(900, d, 0, 1.4), draw(900, d, 5)), FeaturePair(draw(500, d, 1), draw(500, d, 6))
    weights = np.repeat([2.0, 0.0], 450)
    table = gaming_audit(fake, real, {"half": weights}, spaces=("a", "b"), draws=3)
    assert set(table["arm"]) == {PLAIN, "half", REAL}
    assert set(table["metric"]) == {"FD", "second FD", "KID x 1000", "precision", "recall"}
    assert set(table.loc[table["arm"] == "half", "effective_size"]) == {450.0}
    assert set(table.loc[table["arm"] != REAL, "n"]) == {450}
    assert set(table.loc[table["metric"] == "second FD", "space"]) == {"b"}
    row = table[(table["arm"] == "half") & (table["metric"] == "FD")].iloc[0]
    assert row["low"] < row["value"] < row["high"]
    with_spare = gaming_audit(fake, real, {}, spare=FeaturePair(draw(300, d, 8), draw(300, d, 9)), draws=2)
    assert set(with_spare["n"]) == {300}
    match = match_histogram(np.arange(900) % 2, np.array([0, 0, 1]))
    assert match.rate == pytest.approx(0.75)
    by_rejection = gaming_audit(fake, real, {"matched": match}, draws=2)
    assert set(by_rejection.loc[by_rejection["arm"] != REAL, "n"]) == {450}
    said = verdict(table, "half", other_value=0.0)
    assert said.gap_share == pytest.approx(said.share)
    assert "of the gap to the other model" in said.text
    assert math.isnan(verdict(table, "half").gap_share)


def test_bad_input():
    x, y = draw(30, 6, 0), draw(50, 6, 1)
    with pytest.raises(InputError, match="the same images in both spaces"):
        FeaturePair(x, y)
    pair = FeaturePair(x, x)
    with pytest.raises(InputError, match="30 weights"):
        gaming_audit(pair, pair, {"a": np.ones(4)})
    with pytest.raises(InputError, match="more images than features"):
        optimise_weights(x[:6], y)
    with pytest.raises(InputError, match="one of"):
        verdict(gaming_audit(pair, pair, {}, draws=2), "none")


def test_too_few_images_are_named():
    """Rejection keeps 3 of 200: numpy's own error before; so did small sets and sizes."""
    rng = np.random.default_rng(0)
    some = lambda n: FeaturePair(rng.normal(size=(n, 4)), rng.normal(size=(n, 3)))  # noqa: E731
    top = np.r_[np.zeros(197, int), np.ones(3, int)]
    match = match_histogram(top, 1 - top)
    with pytest.raises(InputError, match=r"'rare', of which rejection keeps 3 of 200 images.*its `weights`"):
        gaming_audit(some(200), some(200), {"rare": match})
    by_weight = gaming_audit(some(200), some(200), {"rare": match.weights}, draws=2).set_index(["arm", "metric"])
    worth = by_weight.loc[("rare", "FD"), "effective_size"]
    assert worth == pytest.approx(match.effective_size) and worth < 5
    for name, sets, more in (
        ("candidates", (4, 60), {}), ("real", (60, 12), {}), ("size", (60, 60), {"size": 3}),
        ("spare", (60, 60), {"spare": some(4)}),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}: found"):
            gaming_audit(*map(some, sets), {}, **more)
