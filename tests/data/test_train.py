from dataclasses import replace

import pytest
import torch

from scorescope.data import InputError, UNetConfig, load_digits
from scorescope.data.augment import augment
from scorescope.data.train import Recipe, train
from scorescope.data.training_images import training_images

TINY = Recipe(network=UNetConfig(channels=(8, 8), embedding=16), steps=12, batch=8, check_every=4, warm_up=2)


def test_a_run_cut_off_and_continued_ends_with_the_same_weights(tmp_path, monkeypatch):
    digits = training_images("digits")
    whole, curve = train(TINY, digits, tmp_path / "whole")
    # cut after 6 of 12 steps: the state of step 4 is on disk, and the learning rate still falls to step 12
    from scorescope.data import train as module

    class Cut(Exception):
        pass

    update = module._Run.update

    def cut_off(run, *arguments):
        if run.step == 6:
            raise Cut
        update(run, *arguments)

    monkeypatch.setattr(module._Run, "update", cut_off)
    with pytest.raises(Cut):
        train(TINY, digits, tmp_path / "cut")
    monkeypatch.undo()
    continued, curve_continued = train(TINY, digits, tmp_path / "cut")
    assert curve_continued == curve
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name


def test_training_lowers_the_held_out_error_and_keeps_the_best(tmp_path):
    digits = training_images("digits")
    kept, curve = train(replace(TINY, steps=80, check_every=20), digits, tmp_path)
    errors = [row["held_out_error"] for row in curve]
    assert errors[-1] < 0.95 * errors[0]
    again, _ = train(replace(TINY, steps=80, check_every=20), digits, tmp_path)  # a finished run is only read
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in kept.state_dict().items())


def test_a_folder_of_another_recipe_is_refused(tmp_path):
    train(TINY, training_images("digits"), tmp_path)
    with pytest.raises(InputError, match="another recipe"):
        train(replace(TINY, rate=1e-4), training_images("digits"), tmp_path)


def test_augmentation_is_told_and_leaves_some_images_alone():
    images = load_digits().train.images[:400]
    moved, parameters = augment(images, torch.Generator().manual_seed(0))
    untouched = parameters[:, 0] == 0
    assert 0.2 < untouched.float().mean() < 0.4
    assert torch.equal(moved[untouched], images[untouched]) and not parameters[untouched].any()
    assert (moved[~untouched] != images[~untouched]).flatten(1).any(1).all()
    assert moved.min() >= -1 and moved.max() <= 1 + 1e-6
