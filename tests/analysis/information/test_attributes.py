import numpy as np
import pytest
import torch
from scipy import stats

from scorescope.analysis import attribute_loss
from scorescope.data import InputError
from scorescope.data.shapes import column, render_shapes
from scorescope.probes import log_snr_grid


def ideal(first, second):
    """The exact denoiser of pairs: each row's prior is its own two images, found by the row's condition."""

    def denoiser(x, sigma, condition):
        a, b = first[condition].flatten(1), second[condition].flatten(1)
        flat = x.flatten(1)
        apart = ((flat - b).square().sum(1) - (flat - a).square().sum(1)) / (2 * sigma**2)
        share = torch.sigmoid(apart)[:, None]
        return (share * a + (1 - share) * b).reshape(x.shape)

    return denoiser


@pytest.fixture(scope="module")
def pairs():
    shapes = render_shapes(24, seed=0)
    labels = shapes.labels.clone()
    labels[:, column("hue")] = (labels[:, column("hue")] + 1) % 4
    return shapes.images.double(), render_shapes(24, seed=0, labels=labels, frame=shapes.frame).images.double()


SIGMAS = log_snr_grid(-8, 0, 9)


@pytest.fixture(scope="module")
def found(pairs):
    first, second = pairs
    return attribute_loss(
        ideal(first, second), first, second, sigmas=SIGMAS, condition=torch.arange(24), draws=20,
        features={"mean colour": lambda images: images.mean((2, 3))},
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_nearer_image_is_found_however_far_both_are_from_zero(dtype):
    """Features of one large offset, from which the reconstruction is far too: squares would round the gap away."""
    first = torch.zeros(2, 4096, dtype=dtype)
    second = first.clone()
    second[:, 0] = 1
    options = {"sigmas": [0.05, 0.1], "features": {"far": lambda images: images}}

    def denoiser(x, sigma, condition=None):
        found = torch.full_like(x, 64)
        found[:, 0] = torch.where(x[:, 0] > 0.5, 0.75, 0.25)  # nearer to its own
        return found

    found = attribute_loss(denoiser, first, second, **options)
    assert (found.errors["far"] == 0).all() and (found.errors["pixels"] == 0).all()


def test_two_point_prior_reaches_the_floor(found):
    rows = found.curve[found.curve["metric"] == "pixels"]
    # 2 x 20 draws of each of 24 pairs: binomial standard errors
    spread = np.sqrt((found.floor * (1 - found.floor)).sum(0) / 40) / 24
    assert (np.abs(rows["excess"]) < 4 * spread + 1e-12).all()
    assert (np.abs(rows["excess"] / np.maximum(spread, 1e-9))[spread > 1e-3]).max() > 0.05  # not equal by accident
    assert rows["error"].min() < 0.05 and rows["error"].max() > 0.35


def test_floor_is_the_closed_form_of_each_pair(pairs, found):
    distance = (pairs[0] - pairs[1]).flatten(1).norm(dim=1).numpy()
    np.testing.assert_allclose(found.floor[:, 3], stats.norm.sf(distance / (2 * SIGMAS[3])))
    rows = found.curve[found.curve["metric"] == "pixels"]
    np.testing.assert_allclose(rows["floor"], found.floor.mean(0))
    np.testing.assert_allclose(rows["excess"], rows["error"] - rows["floor"])


def test_half_loss_level(found):
    half = found.half.set_index("metric")
    curve = found.floor.mean(0)  # falls with log-SNR
    between = (np.array(SIGMAS)[curve >= 0.25].min(), np.array(SIGMAS)[curve < 0.25].max())
    assert between[1] <= half.loc["floor", "sigma"] <= between[0]
    assert half.loc["pixels", "low"] <= half.loc["floor", "sigma"] <= half.loc["pixels", "high"]
    assert half.loc["pixels", "log_snr"] == pytest.approx(-2 * np.log(half.loc["pixels", "sigma"]))
    assert (half["reached"] > 0.9).all()


def test_a_denoiser_that_does_nothing_errs_more_in_no_metric_than_its_geometry(pairs):
    # D = x is nearer to the other image with exactly the floor's probability
    first, second = pairs
    found = attribute_loss(lambda x, sigma, c: x, first, second, sigmas=SIGMAS[3:6], draws=10)
    spread = np.sqrt((found.floor * (1 - found.floor)).sum(0) / 20) / 24
    assert (np.abs(found.curve["excess"]) < 4 * spread + 1e-12).all()


def test_an_unhelpful_denoiser_has_an_excess(pairs):
    first, second = pairs

    def forgets(x, sigma, condition):  # always says the first image of the first pair
        return first[:1].expand_as(x)

    many = [side[:1].repeat(60, 1, 1, 1) for side in (first, second)]  # of few pairs that agree little is certain
    found = attribute_loss(forgets, *many, sigmas=[0.01, 0.1])
    assert found.curve["error"].tolist() == [0.5, 0.5] and (found.curve["excess_low"] > 0.4).all()


def test_ties_count_half(pairs):
    first, second = torch.full((4, 3), -1.0), torch.full((4, 3), 1.0)
    found = attribute_loss(lambda x, sigma, c: 0 * x, first, second, sigmas=[1.0])
    assert found.curve["error"].item() == 0.5 and np.isnan(found.half["sigma"].iloc[0])


def test_feature_metric_by_hand(pairs):
    # features see the first pixel only: confusion there, although the rest of the image is told apart
    first, second = torch.zeros(50, 4), torch.ones(50, 4)

    def denoiser(x, sigma, condition):
        return torch.cat([1 - (x[:, 1:].mean(1, keepdim=True) > 0.5).float(), x[:, 1:]], 1)

    found = attribute_loss(denoiser, first, second, sigmas=[0.01], features={"pixel": lambda images: images[:, :1]})
    errors = found.curve.set_index("metric")["error"]
    assert errors["pixels"] == 0 and errors["pixel"] == 1
    assert found.errors["pixel"].shape == (50, 1)


@pytest.mark.parametrize("batch", [1, 64])
def test_batches_other_calls_and_noise(pairs, found, batch):
    first, second = (part[:6] for part in pairs)
    a = attribute_loss(ideal(first, second), first, second, sigmas=SIGMAS[:3], condition=torch.arange(6), batch=batch)
    torch.randn(5)
    b = attribute_loss(ideal(first, second), first, second, sigmas=SIGMAS[:3], condition=torch.arange(6), batch=5)
    assert (a.errors["pixels"] == b.errors["pixels"]).all()


def test_bad_input(pairs):
    first, second = pairs

    def same(x, sigma, condition):
        return x

    with pytest.raises(InputError, match="pairs >= 2"):
        attribute_loss(same, first[:1], second[:1], sigmas=[1.0])
    with pytest.raises(InputError, match="equal shapes"):
        attribute_loss(same, first, second[:3], sigmas=[1.0])
    with pytest.raises(InputError, match="equal images in pairs"):
        attribute_loss(same, first, first, sigmas=[1.0])
    with pytest.raises(InputError, match="sigmas"):
        attribute_loss(same, first, second, sigmas=[-1.0])
    with pytest.raises(InputError, match="pixels"):
        attribute_loss(same, first, second, sigmas=[1.0], features={"pixels": same})
    with pytest.raises(InputError, match="features"):
        attribute_loss(same, first, second, sigmas=[1.0], features={"f": lambda images: images[:1]})
    with pytest.raises(InputError, match="not finite"):
        attribute_loss(lambda x, sigma, c: x * torch.nan, first, second, sigmas=[1.0])
    with pytest.raises(InputError, match="rows for 24"):
        attribute_loss(same, first, second, sigmas=[1.0], condition=torch.arange(3))
