"""Thickness and slant of drawn strokes are those that were drawn."""

import math

import pytest
import torch

from scorescope.data.digit_measures import measure_digits, stroke_slant
from scorescope.data.digits import load_digits
from scorescope.data.errors import InputError


def drawn(inside, size=32, fine=8):
    """A shape, given as a function of (x, y) from the centre, with the exact share of each pixel that it covers."""
    grid = (torch.arange(size * fine) + 0.5) / fine - size / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    return 2 * torch.nn.functional.avg_pool2d(inside(x, y).double()[None, None], fine) - 1


def bar(width, degrees, length=22.0, shear=True):
    """A stroke sheared (its horizontal section is its width over the cosine) or turned by an angle to the right."""
    angle = math.radians(degrees)
    section = width / math.cos(angle)

    def inside(x, y):
        if shear:
            return ((x + math.tan(angle) * y).abs() <= section / 2) & (y.abs() <= length / 2 * math.cos(angle))
        along, across = -y * math.cos(angle) + x * math.sin(angle), x * math.cos(angle) + y * math.sin(angle)
        return (across.abs() <= width / 2) & (along.abs() <= length / 2)

    return drawn(inside)


@pytest.mark.parametrize("width", [2.0, 3.0, 4.5])
@pytest.mark.parametrize("degrees", [-30, -10, 0, 20, 40])
def test_bars(width, degrees):
    found = measure_digits(bar(width, degrees))
    assert found["slant"].item() == pytest.approx(degrees, abs=0.3)  # a shear: exact but for the pixels' own extent
    assert found["thickness"].item() == pytest.approx(width, rel=0.15)
    turned = measure_digits(bar(width, degrees, shear=False))
    assert turned["slant"].item() == pytest.approx(degrees, abs=3)
    assert turned["thickness"].item() == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize("width", [2.0, 2.5, 4.0])
def test_rings_and_angles_have_the_thickness_of_their_stroke(width):
    ring = drawn(lambda x, y: ((x**2 + y**2).sqrt() - 9).abs() <= width / 2)
    found = measure_digits(ring)
    assert found["thickness"].item() == pytest.approx(width, rel=0.15)
    assert found["slant"].item() == pytest.approx(0, abs=1e-3)
    seven = drawn(
        lambda x, y: ((y + 9).abs() <= width / 2) & (x.abs() <= 8) | ((x - 6).abs() <= width / 2) & (y.abs() <= 9)
    )
    assert measure_digits(seven)["thickness"].item() == pytest.approx(width, rel=0.15)


def test_place_and_brightness_do_not_matter():
    image = bar(2.5, 15)
    shifted = torch.roll(image, (2, -3), dims=(2, 3))
    dim = 0.4 * (image + 1) - 1
    expected = measure_digits(image)
    for other in (shifted, dim):
        for name, value in measure_digits(other).items():
            torch.testing.assert_close(value, expected[name])


def test_real_digits_are_ordered_by_both():
    images = load_digits().train.images
    found = measure_digits(images)
    assert 0.8 < found["thickness"].quantile(0.05) < found["thickness"].quantile(0.95) < 3.5
    assert -30 < found["slant"].quantile(0.05) < 0 < found["slant"].quantile(0.95) < 40
    mirrored = measure_digits(images.flip(3))
    torch.testing.assert_close(mirrored["slant"], -found["slant"], atol=1e-3, rtol=0)
    torch.testing.assert_close(mirrored["thickness"], found["thickness"])
    # ink spread to the neighbours makes strokes thicker in nearly every image
    thicker = torch.nn.functional.max_pool2d(torch.nn.functional.pad(images, (1, 1, 1, 1), value=-1.0), 2, 1)
    assert (measure_digits(thicker)["thickness"] > found["thickness"]).float().mean() > 0.98


def test_one_row_of_ink_is_upright_and_bad_images_are_refused():
    row = torch.full((1, 1, 8, 8), -1.0)
    row[0, 0, 4, 1:7] = 1
    assert measure_digits(row)["slant"].item() == 0
    for images, text in (
        (torch.zeros(8, 8), "height, width"),
        (torch.full((2, 1, 8, 8), -1.0), "2 images without ink"),
        (torch.full((1, 1, 8, 8), torch.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=text):
            measure_digits(images)


def test_slant_is_measured_where_the_ink_is():
    assert stroke_slant(torch.zeros(2, 8, 8, device="meta")).device.type == "meta"
