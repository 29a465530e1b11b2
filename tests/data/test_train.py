import json
import sys
from dataclasses import replace

import pytest
import torch

from scorescope.data import InputError, UNetConfig, load_denoiser, load_digits
from scorescope.data import train as train_module
from scorescope.data.augment import augment
from scorescope.data.train import Recipe, train
from scorescope.data.training_images import training_images
from scorescope.data.written_files import write_json
from scorescope.probes.models import find_snapshots

TINY = Recipe(network=UNetConfig(channels=(8, 8), embedding=16), steps=12, batch=8, check_every=4, warm_up=2)


def test_a_run_cut_off_and_continued_ends_with_the_same_weights(tmp_path, monkeypatch):
    digits = training_images("digits")
    tracked = {"ema": (0.05, 0.10), "snapshots": (12,)}
    whole, curve = train(TINY, digits, tmp_path / "whole", **tracked)
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
        train(TINY, digits, tmp_path / "cut", **tracked)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"lengths: found \[0.1\]; expected those tracked"):
        train(TINY, digits, tmp_path / "cut", ema=(0.10,))
    continued, curve_continued = train(TINY, digits, tmp_path / "cut", **tracked)
    assert curve_continued == curve
    for name, value in whole.state_dict().items():
        assert torch.equal(value, continued.state_dict()[name]), name
    for length in (0.05, 0.10):
        one, other = (
            load_denoiser(tmp_path / run / f"step-00012-ema-{length}.safetensors") for run in ("whole", "cut")
        )
        assert one[1]["training_step"] == 12 and one[1]["sigma_rel"] == length
        for name, value in one[0].state_dict().items():
            assert torch.equal(value, other[0].state_dict()[name]), name
    assert [(one.step, one.length) for one in find_snapshots(tmp_path / "cut")] == [(12, 0.05), (12, 0.10)]


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    digits, path = training_images("digits"), tmp_path / "state.json"
    train(replace(TINY, steps=4), digits, tmp_path)
    sound = {name: value for name, value in json.loads(path.read_text()).items() if name != "seal"}
    for changed in ({"step": None}, {"curve": [1]}, {"curve": [{"held_out_error": "x"}]}):
        write_json(path, sound | changed)
        with pytest.raises(InputError, match=r"state\.json"):
            train(replace(TINY, steps=4), digits, tmp_path)


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


def test_a_run_that_is_cut_off_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def cut(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "train", cut)
    monkeypatch.setattr(sys, "argv", ["train", "digits_small", "--out", str(tmp_path)])
    for state, words in ((False, "before its first checkpoint, after step 100"), (True, "goes on from step 300")):
        (tmp_path / "digits_small").mkdir(exist_ok=True)
        if state:
            write_json(tmp_path / "digits_small/state.json", {"step": 300})
        with pytest.raises(SystemExit, match="130"):
            train_module.main()
        assert words in capsys.readouterr().err
