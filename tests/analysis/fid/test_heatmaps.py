import math

import numpy as np
import pytest
import torch

from scorescope.analysis.fid.heatmaps import (
    cell_cover,
    gradient_maps,
    influence_maps,
    mask_share,
    mask_summary,
)
from scorescope.analysis.fid.optimal_transport import image_gradients, influence, transport
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments


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
