"""Frequency-decoupled guidance: its pyramid and its weights."""

import itertools

import diffusers
import pytest
import torch
from diffusers.guiders import frequency_decoupled_guidance as peers
from tests import pyramids
from tests.pyramids import blurred, doubled, halved

from scorescope.data import InputError
from scorescope.probes.guidance import APG, CFG, FrequencyDecoupled, GuidanceState
from scorescope.probes.guidance.bands import _expand, _halve


def laplacian_pyramid(images, levels):
    """The bands that the rule weighs at full resolution, from high to low frequency; they sum to `images`."""
    gaussian, smooth = [images], [images]
    for level in range(1, levels):
        gaussian.append(_halve(gaussian[-1]))
        expanded = gaussian[level]
        for finer in reversed(gaussian[:level]):
            expanded = _expand(expanded, finer.shape[-2:])
        smooth.append(expanded)
    return [*(fine - coarse for fine, coarse in itertools.pairwise(smooth)), smooth[-1]]


def drawn(*shape):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def state(x):
    return GuidanceState(x, 1.0, 0.5, 0, 0)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (16, 32), (7, 13), (4, 5)])
def test_bands_sum_to_the_images(size, levels):
    images = drawn(3, 2, *size)
    bands = laplacian_pyramid(images, levels)
    assert len(bands) == levels and all(band.shape == images.shape for band in bands)
    assert torch.allclose(sum(bands), images, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(8, 8), (16, 32), (7, 13)])
def test_the_rule_weighs_the_bands(size):
    cond, uncond = drawn(2, 3, 2, *size)
    high, middle, low = laplacian_pyramid(cond - uncond, 3)
    expected = uncond + 1.0 * low + 2.5 * middle + 6.0 * high
    found = FrequencyDecoupled((1.0, 2.5, 6.0))(cond, uncond, state(cond))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)
    for equal in (0.0, 1.0, 3.0):
        found = FrequencyDecoupled((equal,) * 3)(cond, uncond, state(cond))
        assert torch.allclose(found, CFG(equal)(cond, uncond, state(cond)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weights", [(1.0, 3.0), (5.0, 1.0, 10.0)])
def test_kept_parallel_parts_change_nothing(weights):
    cond, uncond = drawn(2, 3, 2, 16, 8)
    plain = FrequencyDecoupled(weights)(cond, uncond, state(cond))
    assert torch.equal(FrequencyDecoupled(weights, (1.0,) * len(weights))(cond, uncond, state(cond)), plain)
    # and the formula that projects goes there: nothing jumps at 1
    near = FrequencyDecoupled(weights, (1.0 - 1e-12,) * len(weights))(cond, uncond, state(cond))
    assert torch.allclose(near, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(9,), (3, 11), (2, 6, 6), (2, 3, 4, 4)])
def test_one_band_is_apg(shape):
    cond, uncond = drawn(2, 3, *shape)
    for kept in (0.0, 0.3):
        found = FrequencyDecoupled((4.0,), (kept,))(cond, uncond, state(cond))
        assert torch.allclose(found, APG(4.0, eta=kept)(cond, uncond, state(cond)), rtol=1e-10, atol=1e-10)


def test_parallel_parts_of_a_weightless_band_and_of_no_prediction():
    cond, uncond = drawn(2, 3, 2, 8, 8)
    found = FrequencyDecoupled((1.0, 3.0), (0.0, 1.0))(cond, uncond, state(cond))
    plain = FrequencyDecoupled((1.0, 3.0))(cond, uncond, state(cond))
    assert torch.allclose(found, plain, rtol=1e-10, atol=1e-10)  # w - 1 = 0: nothing to weigh
    nothing = torch.zeros_like(cond)  # has no direction, so no update lies along it
    found = FrequencyDecoupled((2.0, 3.0), (0.0, 0.0))(nothing, uncond, state(cond))
    plain = FrequencyDecoupled((2.0, 3.0))(nothing, uncond, state(cond))
    assert torch.allclose(found, plain, rtol=1e-10, atol=1e-10)


@pytest.fixture(params=["scipy", "kornia"])
def peer(request, monkeypatch):
    """diffusers' guider with the pyramid of kornia, where that is installed, and with one written in scipy."""
    if request.param == "kornia":
        transform = pytest.importorskip("kornia.geometry.transform")
        build, double = transform.build_laplacian_pyramid, transform.pyrup
    else:
        build, double = pyramids.build_laplacian_pyramid, pyramids.upsample_and_blur
    monkeypatch.setattr(peers, "_CAN_USE_KORNIA", True)
    monkeypatch.setattr(peers, "build_laplacian_pyramid_func", build)
    monkeypatch.setattr(peers, "upsample_and_blur_func", double)
    return diffusers.FrequencyDecoupledGuidance


@pytest.mark.parametrize("kept", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.7, 0.2, 0.4)])
def test_parallel_weights_against_the_installed_guider(peer, kept):
    cond, uncond = drawn(2, 3, 2, 16, 32)
    weights = (2.0, 4.5, 7.0)
    guider = peer(
        [w - 1 for w in reversed(weights)], parallel_weights=list(reversed(kept)), use_original_formulation=True
    )
    ours = FrequencyDecoupled(weights, kept)(cond, uncond, state(cond))
    assert torch.allclose(guider.forward(cond, uncond).pred, ours, rtol=1e-10, atol=1e-10)
    # its other convention starts from uncond, and takes the parallel part of the unguided difference too
    other = peer(list(reversed(weights)), parallel_weights=list(reversed(kept))).forward(cond, uncond).pred
    assert torch.allclose(other, ours, rtol=1e-10, atol=1e-10) == (set(kept) == {1.0})


@pytest.mark.parametrize(
    ("parallel", "match"), [((1.0,), "1 for 2 bands"), ((0.0, float("nan")), "nan"), ((), "0 for 2 bands")]
)
def test_impossible_parallel_weights(parallel, match):
    with pytest.raises(InputError, match=rf"^parallel: found .*{match}"):
        FrequencyDecoupled((1.0, 3.0), parallel)


def test_weights_of_one_need_no_second_branch():
    cond = drawn(2, 1, 8, 8)
    rule = FrequencyDecoupled((1.0, 1.0))
    assert rule.branches(state(cond)) == ("cond",) and torch.equal(rule(cond, None, state(cond)), cond)
    assert FrequencyDecoupled((1.0, 3.0)).branches(state(cond)) == ("cond", "uncond")
    assert FrequencyDecoupled((1.0, 3.0)).weight == 3.0


def test_low_band_against_scipy():
    """Blur, mean of 2 x 2 pixels, interpolation, blur: the pyramid of the paper, written with another library."""
    image = drawn(1, 1, 12, 8)
    small = halved(image[0, 0].numpy())
    expected = blurred(doubled(doubled(small, 0), 1))
    assert torch.allclose(laplacian_pyramid(image, 2)[1][0, 0], torch.tensor(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("levels", [2, 3])
def test_no_band_is_shifted(levels):
    # a ramp is its own smooth version away from the borders: a shift would leave its slope in the finer bands
    ramp = torch.arange(64.0, dtype=torch.float64).expand(1, 1, 64, 64)
    for band in laplacian_pyramid(ramp, levels)[:-1]:
        assert band[0, 0, 24:40, 24:40].abs().max() < 1e-10


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 2, 8, 8), (1, 3, 8)])
def test_data_that_have_no_such_bands(shape):
    with pytest.raises(InputError, match=r"^cond: found data of shape"):
        FrequencyDecoupled((1.0, 2.0, 3.0))(*drawn(2, 2, *shape), state(drawn(2, *shape)))


def test_the_kernel_is_made_where_the_images_are(monkeypatch):
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = FrequencyDecoupled((1.0, 4.0, 2.0))(images, images.roll(1, 0), None)

    def upload(*given, **more):
        raise AssertionError("numbers are uploaded")

    monkeypatch.setattr(torch.Tensor, "new_tensor", upload)
    monkeypatch.setattr(torch, "tensor", upload)
    assert torch.equal(FrequencyDecoupled((1.0, 4.0, 2.0))(images, images.roll(1, 0), None), expected)
