import colorsys

import pytest
import torch

from scorescope.data import InputError
from scorescope.data.shapes import ATTRIBUTES, SIZES, column, render_shapes


def test_the_same_seed_gives_the_same_images_and_chunks_do_not_matter(monkeypatch):
    whole = render_shapes(50, seed=3)
    monkeypatch.setattr("scorescope.data.shapes.CHUNK", 7)
    again = render_shapes(50, seed=3)
    # the grain is drawn chunk by chunk from one generator, so it is the same stream
    assert torch.allclose(whole.images, again.images, atol=1e-6)
    assert torch.equal(whole.labels, again.labels) and whole.images.shape == (50, 3, 32, 32)
    assert whole.images.min() >= -1 and whole.images.max() <= 1
    assert not torch.equal(whole.images, render_shapes(50, seed=4).images)


def test_labels_decide_the_exact_factors():
    shapes = render_shapes(400, seed=0)
    bounds = {"saturation": 0.7, "size": 6.0, "position": 16.0, "background": 0.4}
    names = {"size": "radius", "position": "x"}
    for attribute, bound in bounds.items():
        value = shapes.values[names.get(attribute, attribute)]
        assert torch.equal(value > bound, shapes.labels[:, column(attribute)] == 1), attribute


def test_pixels_show_the_factors():
    shapes = render_shapes(300, seed=1, frame_shares=(0.0, 0.0))
    pixels = (shapes.images + 1) / 2
    inside = shapes.mask[:, None] * (shapes.mask == 1)[:, None]
    colour = (pixels * inside).sum((2, 3)) / inside.sum((2, 3))
    expected = torch.tensor(
        [
            colorsys.hsv_to_rgb(float(h), float(s), 0.95)
            for h, s in zip(shapes.values["hue"], shapes.values["saturation"], strict=True)
        ]
    )  # an independent conversion
    assert (colour - expected).abs().max() < 0.02  # the grain's mean over a shape's pixels
    outside = (shapes.mask == 0)[:, None]
    grey = (pixels * outside).sum((1, 2, 3)) / (3 * outside.sum((1, 2, 3)))
    assert (grey - shapes.values["background"]).abs().max() < 0.005
    x = torch.arange(32) + 0.5
    middle = (shapes.mask.sum(1) * x).sum(1) / shapes.mask.sum((1, 2))
    assert (middle - shapes.values["x"]).abs().max() < 0.3


def test_the_frame_comes_with_large_shapes_or_with_none_as_asked():
    shapes = render_shapes(4000, seed=2)
    large = shapes.labels[:, column("size")] == 1
    assert abs(shapes.frame[large].float().mean() - 0.85) < 0.03  # 4 standard errors of 2000 draws
    assert abs(shapes.frame[~large].float().mean() - 0.15) < 0.03
    free = render_shapes(4000, seed=2, frame_shares=(0.5, 0.5))
    large = free.labels[:, column("size")] == 1
    assert abs(free.frame[large].float().mean() - free.frame[~large].float().mean()) < 0.06
    edge = (
        render_shapes(1, seed=0, frame=torch.tensor([1])).images
        - render_shapes(1, seed=0, frame=torch.tensor([0])).images
    )
    assert edge[0, :, :2].abs().min() > 0.3 and edge[0, :, 4:-4, 4:-4].abs().max() == 0


def test_changed_labels_give_counterfactual_pairs():
    shapes = render_shapes(64, seed=5)
    changed = shapes.labels.clone()
    changed[:, column("hue")] = (changed[:, column("hue")] + 1) % 4
    pair = render_shapes(64, seed=5, labels=changed, frame=shapes.frame)
    difference = (pair.images - shapes.images).abs().amax(1)
    assert (difference[shapes.mask == 0] == 0).all()
    assert (difference.flatten(1).amax(1) > 0.1).all()
    for name in ("saturation", "radius", "x", "y", "background"):
        assert torch.equal(pair.values[name], shapes.values[name])


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"attribute.*colour.*hue"):
        column("colour")
    with pytest.raises(InputError, match="count"):
        render_shapes(0, seed=0)
    with pytest.raises(InputError, match="labels"):
        render_shapes(2, seed=0, labels=torch.tensor([[4, 0, 0, 0, 0, 0]] * 2))
    with pytest.raises(InputError, match="labels"):
        render_shapes(2, seed=0, labels=torch.zeros(2, 5, dtype=torch.int64))
    assert tuple(len(values) for values in ATTRIBUTES.values()) == SIZES
