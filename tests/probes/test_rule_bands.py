"""Frequency-decoupled guidance: its pyramid and its weights."""

import pytest
import torch
from scipy import ndimage

from scorescope.data import InputError
from scorescope.probes.guidance import CFG, FrequencyDecoupled, GuidanceState, laplacian_pyramid


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


def test_weights_of_one_need_no_second_branch():
    cond = drawn(2, 1, 8, 8)
    rule = FrequencyDecoupled((1.0, 1.0))
    assert rule.branches(state(cond)) == ("cond",) and torch.equal(rule(cond, None, state(cond)), cond)
    assert FrequencyDecoupled((1.0, 3.0)).branches(state(cond)) == ("cond", "uncond")
    assert FrequencyDecoupled((1.0, 3.0)).weight == 3.0


def blurred(image):
    for axis in (0, 1):
        image = ndimage.convolve1d(image, [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16], axis=axis, mode="mirror")
    return image


def doubled(image, axis):
    """Linear interpolation to twice as many pixels, whose centres lie a quarter pixel to either side."""
    left, right = (
        ndimage.shift(image, [step if a == axis else 0 for a in (0, 1)], order=0, mode="nearest") for step in (1, -1)
    )
    pairs = torch.stack([torch.tensor(0.75 * image + 0.25 * left), torch.tensor(0.75 * image + 0.25 * right)], axis + 1)
    shape = list(image.shape)
    shape[axis] *= 2
    return pairs.reshape(shape).numpy()


def test_low_band_against_scipy():
    """Blur, mean of 2 x 2 pixels, interpolation, blur: the pyramid of the paper, written with another library."""
    image = drawn(1, 1, 12, 8)
    small = blurred(image[0, 0].numpy())
    small = small.reshape(6, 2, 4, 2).mean((1, 3))
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
        laplacian_pyramid(drawn(2, *shape), 3)
