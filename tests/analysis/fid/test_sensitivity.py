import math
import warnings

import numpy as np
import pytest
import torch

from scorescope.analysis.fid.contributions import (
    class_scores,
    direction_spectrum,
    feature_contributions,
    visible_share,
)
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.heatmaps import (
    cell_cover,
    gradient_maps,
    influence_maps,
    mask_share,
    mask_summary,
)
from scorescope.analysis.fid.influence_tables import class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.optimal_transport import FirstOrderWarning, image_gradients, influence, transport
from scorescope.analysis.statistics.intervals import share_gap
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments


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


def test_contributions_are_non_negative_and_sum_to_the_distance(plan, sets):
    fd = frechet_distance(*sets).value
    table = feature_contributions(plan)
    assert (table["contribution"] >= 0).all()
    assert table["contribution"].sum() == pytest.approx(fd, rel=1e-12)
    assert table["share"].sum() == pytest.approx(1, rel=1e-12)
    spectrum = direction_spectrum(plan)
    assert spectrum.table["contribution"].sum() == pytest.approx(fd, rel=1e-12)
    u = spectrum.directions
    np.testing.assert_allclose(np.diag(u @ plan.discrepancy @ u.T), spectrum.table["contribution"], atol=1e-12)
    assert len(direction_spectrum(plan, count=3).directions) == 3


@pytest.mark.parametrize(("n1", "n2"), [(12, 400), (400, 12), (12, 12)])
def test_contributions_sum_for_singular_covariances(n1, n2):
    x, y = draw(n1, 20, 0), draw(n2, 20, 1)
    table = feature_contributions(transport(x, y))
    assert (table["contribution"] >= 0).all()
    assert table["contribution"].sum() == pytest.approx(frechet_distance(x, y).value, abs=1e-11)


def test_a_planted_feature_takes_the_contribution(sets):
    y = sets[1]
    moved = y.copy()
    moved[:, 7] = y[:, 7] + 2.0
    table = feature_contributions(transport(moved, y))
    assert table["feature"][0] == 7
    assert table["share"][0] == pytest.approx(1, abs=1e-10)
    assert table["mean_gap"][0] == pytest.approx(2)


def test_visible_share_splits_the_distance(plan):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 20))
    share = visible_share(plan, np.vstack([weight, weight[:2]]))
    assert share.rank == 6
    assert share.visible + share.hidden == pytest.approx(np.trace(plan.discrepancy), rel=1e-12)
    projector = weight.T @ np.linalg.solve(weight @ weight.T, weight)
    assert share.visible == pytest.approx(np.trace(projector @ plan.discrepancy), rel=1e-11)
    assert visible_share(plan, np.eye(20)).share == pytest.approx(1)
    u = weight[3] / np.linalg.norm(weight[3])
    assert class_scores(plan, weight)[3] == pytest.approx(u @ plan.discrepancy @ u, rel=1e-12)


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


def test_leave_one_out_is_a_recomputation():
    for n in (15, 60):
        x, y = draw(n, 20, 0), draw(100, 20, 1)
        table = leave_one_out(x, y, rows=[0, 7])
        for row in table.itertuples():
            again = frechet_distance(np.delete(x, row.image, axis=0), y).raw
            assert row.fd_without == pytest.approx(again, abs=1e-11)
        assert table["change"][0] == pytest.approx(table["fd_without"][0] - frechet_distance(x, y).raw, abs=1e-11)


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


def test_maps_against_autograd_through_average_pooling(plan):
    rng = np.random.default_rng(0)
    activations = np.maximum(rng.normal(size=(400, 20, 3, 4)), 0)
    features = activations.mean(axis=(2, 3))
    real = Moments.of(draw(500, 20, 1))
    own = transport(features, real)
    a = torch.tensor(activations, requires_grad=True)
    fd = autograd_distance(a.mean(dim=(2, 3)), torch.tensor(real.mean), torch.tensor(real.covariance))
    (by_position,) = torch.autograd.grad(fd, a)
    gradients = image_gradients(own, features)
    # the same gradient at every position: g / 12
    np.testing.assert_allclose(gradients[:, :, None, None] / 12 + 0 * activations, by_position, atol=1e-13)
    squared = (by_position.square().mean(dim=(2, 3), keepdim=True) * a.detach()).sum(1) * 144
    np.testing.assert_allclose(gradient_maps(activations, gradients), squared, rtol=1e-8)
    signed = gradient_maps(activations, gradients, signed=True)
    np.testing.assert_allclose(signed, 12 * (by_position * a.detach()).sum(1), atol=1e-8 * np.abs(signed).max())
    np.testing.assert_allclose(signed.mean(axis=(1, 2)), (gradients * features).sum(1), rtol=1e-9)
    found = influence_maps(own, activations).mean(axis=(1, 2))
    expected = influence(own, features)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_squared_map_is_the_published_procedure():
    """One new image, its moments updated, back-propagation to the activations: up to a constant, the fixed-G map."""
    rng = np.random.default_rng(0)
    n, d = 5000, 16
    x, y = draw(n, d, 0, spread=1.4), draw(2000, d, 1)
    mine = transport(x, y)
    a = torch.tensor(np.maximum(rng.normal(size=(d, 4, 4)), 0), requires_grad=True)
    mu, s = torch.tensor(mine.fake.mean), torch.tensor(mine.fake.covariance)
    total = n + 1
    f = a.mean(dim=(1, 2))
    mean = (total - 1) / total * mu + f / total
    cov = (total - 2) / (total - 1) * s + torch.outer(f - mu, f - mu) / total
    loss = (mean - torch.tensor(mine.real.mean)).square().sum() + cov.trace()
    values = torch.linalg.eigvals(cov @ torch.tensor(mine.real.covariance)).real
    (gradient,) = torch.autograd.grad(loss - 2 * (values + 1e-12).sqrt().sum(), a)
    published = (gradient.square().mean(dim=(1, 2))[:, None, None] * a.detach()).sum(0).numpy()
    own = gradient_maps(a.detach()[None].numpy(), image_gradients(mine, f.detach()[None].numpy(), new=True))[0]
    stretch = lambda m: (m - m.min()) / (m.max() - m.min())  # noqa: E731
    np.testing.assert_allclose(stretch(own), stretch(published), atol=0.02)


def test_mask_share():
    maps = np.zeros((1, 4, 4))
    maps[0, 0, 0], maps[0, 3, 3] = 3, -1
    box = np.zeros((8, 8), bool)
    box[:2, :2] = True
    table = mask_share(maps, box)
    assert table["sensitivity_share"][0] == pytest.approx(0.75)
    assert table["area_share"][0] == pytest.approx(1 / 16)
    assert mask_share(maps, box, dilate=1)["area_share"][0] == pytest.approx(4 / 16)
    half = np.zeros((8, 8))
    half[:2, :1] = 1
    assert mask_share(maps, half)["sensitivity_share"][0] == pytest.approx(0.375)
    with pytest.raises(InputError, match=r"values 0 to 2.*values in \[0, 1\]"):
        mask_share(maps, 2 * np.eye(8))
    with pytest.raises(InputError, match=r"shape \(8,\)"):
        mask_share(maps, np.zeros(8))


def test_cells_need_not_be_whole_pixels():
    """Cover by area: a mask at 7 x 5 over 3 x 2 cells, against the same mask at a common multiple."""
    mask = np.random.default_rng(0).random((2, 7, 5))
    fine = mask.repeat(3, axis=1).repeat(2, axis=2)  # 21 x 10, whole pixels in each cell
    np.testing.assert_allclose(cell_cover(mask, (3, 2)), cell_cover(fine, (3, 2)), atol=1e-14)
    np.testing.assert_allclose(cell_cover(mask, (3, 2)).mean(), mask.mean(), atol=1e-14)
    assert cell_cover(np.ones((40, 40)), (7, 10)).max() <= 1  # so that cover can be given as a mask again
    whole = np.zeros((9, 9))
    whole[:3, :3] = 1
    # a border on the border of cells is no touch: growing by one cell reaches four cells, not nine
    assert mask_share(np.ones((1, 3, 3)), whole, dilate=1)["area_share"][0] == pytest.approx(4 / 9)


def test_mask_summary_by_hand():
    maps = np.ones((4, 2, 2))
    maps[0, 0, 0], maps[1, 0, 0], maps[3] = 5, -3, 0
    masks = np.zeros((4, 4, 4), bool)
    masks[[0, 1, 3], :2, :2] = True  # none in the third image, and no sensitivity in the fourth
    row = mask_summary(maps, masks, region="face").iloc[0]
    shares = np.array([5 / 8, 3 / 6])
    assert (row["region"], row["n"], row["grown"]) == ("face", 2, 0)
    assert row["sensitivity_share"] == pytest.approx(shares.mean())
    assert row["area_share"] == pytest.approx(0.25)
    assert row["ratio"] == pytest.approx(shares.mean() / 0.25)
    assert row["pooled_share"] == pytest.approx(8 / 14)
    assert row["low"] < row["sensitivity_share"] < row["high"]
    with pytest.raises(InputError, match=r"masks of face.*only empty ones"):
        mask_summary(maps, np.zeros((4, 4)), region="face")


def test_intervals_of_mask_shares_cover_the_truth():
    """95 % intervals of the mean share and of the pooled share, over 400 draws of 40 images."""
    rng = np.random.default_rng(0)
    mask = np.zeros((2, 2), bool)
    mask[0, 0] = True
    whole = rng.gamma(2.0, size=(400, 40, 2, 2))
    everything = whole.reshape(-1, 2, 2)
    truth = (everything[:, 0, 0] / everything.sum(axis=(1, 2))).mean(), everything[:, 0, 0].sum() / everything.sum()
    found = [mask_summary(maps, mask, region="r").iloc[0] for maps in whole]
    covered = np.mean([row["low"] <= truth[0] <= row["high"] for row in found])
    pooled = np.mean([row["pooled_low"] <= truth[1] <= row["pooled_high"] for row in found])
    assert 0.92 <= covered <= 0.98 and 0.91 <= pooled <= 0.98


def test_groups_and_classes(plan, sets):
    values = influence(plan, sets[0])
    labels = np.arange(400) % 4
    table = group_table(values, labels, distance=frechet_distance(*sets).value)
    assert (table["n"] == 100).all()
    # weighted means of all groups cancel: influences have mean 0
    assert abs((table["n"] * table["influence"]).sum()) < 1e-10
    assert ((table["low"] < table["influence"]) & (table["influence"] < table["high"])).all()
    weight = np.random.default_rng(0).normal(size=(5, 20))
    classes = class_table(plan, values, labels, np.arange(500) % 5, weight, names=list("abcde"))
    row = classes.set_index("class_name").loc["e"]
    assert (row["n_fake"], row["n_real"]) == (0, 100)
    assert math.isnan(row["influence"])
    assert row["gap"] == pytest.approx(-0.2)
    assert row["gap_low"] < -0.2 < row["gap_high"] < 0
    with pytest.raises(InputError, match="values from 0 to 4"):
        class_table(plan, values, labels, np.arange(500) % 5, weight[:4])


def test_share_gap_against_newcombe_1998():
    """Table II, row (a) of the paper: 56/70 - 48/80, method 10."""
    gap, low, high = share_gap(56, 70, 48, 80)
    assert gap == pytest.approx(0.2)
    assert (round(float(low), 4), round(float(high), 4)) == (0.0524, 0.3339)
