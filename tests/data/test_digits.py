import torch

from scorescope.data import load_denoiser, load_digits


def test_split_is_fixed_stratified_and_complete():
    digits = load_digits()
    assert digits.train.images.shape == (1437, 1, 8, 8) and digits.held_out.images.shape == (360, 1, 8, 8)
    assert digits.train.images.min() == -1 and digits.train.images.max() == 1
    counts = digits.held_out.labels.bincount()
    assert counts.min() >= 34 and counts.max() <= 38
    again = load_digits()
    assert torch.equal(again.held_out.images, digits.held_out.images)
    assert not torch.equal(load_digits(split_seed=1).held_out.images, digits.held_out.images)


def test_no_image_is_on_both_sides():
    digits = load_digits()
    train = {image.numpy().tobytes() for image in digits.train.images}
    assert not train & {image.numpy().tobytes() for image in digits.held_out.images}


def test_the_data_are_those_the_shipped_models_were_trained_on():
    for name in ("digits", "digits_weak"):
        assert load_denoiser(name)[1]["data_sha256"] == load_digits().sha256
