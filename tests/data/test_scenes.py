import pytest
import torch

from scorescope.data.classifiers import (
    Classifier,
    ClassifierConfig,
    load_classifier,
    save_classifier,
    shipped_classifiers,
)
from scorescope.data.digits import load_digits
from scorescope.data.errors import InputError
from scorescope.data.scenes import ACCESSORIES, SHAPE, render_scenes


def test_scenes_are_what_their_labels_say():
    scenes = render_scenes(300, seed=3)
    assert scenes.images.shape == (300, *SHAPE)
    assert float(scenes.images.min()) >= -1 and float(scenes.images.max()) <= 1
    assert not (scenes.subject_mask & scenes.accessory_mask).any()
    assert float(scenes.subject_mask.float().mean()) > 3 * float(scenes.accessory_mask.float().mean())
    assert (scenes.accessory.bincount(minlength=4) > 40).all()
    again = render_scenes(300, seed=3)
    assert torch.equal(scenes.images, again.images)


def test_only_the_accessory_changes_with_its_shares():
    plain, skewed = render_scenes(200, seed=5), render_scenes(200, seed=5, accessory_shares=(1, 0, 0, 0))
    assert (skewed.accessory == 0).all()
    assert torch.equal(plain.subject, skewed.subject)
    changed = (plain.images != skewed.images).any(dim=1)
    assert not (changed & ~plain.accessory_mask).any()
    assert changed[plain.accessory != 0].any(dim=(1, 2)).all()


def test_only_the_subject_changes_with_bites():
    plain, bitten = render_scenes(200, seed=5), render_scenes(200, seed=5, bitten=1.0)
    changed = (plain.images != bitten.images).any(dim=1)
    assert not (changed & ~plain.subject_mask).any()
    assert changed.any(dim=(1, 2)).all()


def test_bad_shares():
    with pytest.raises(InputError, match="sum to 1"):
        render_scenes(3, seed=0, accessory_shares=(0.5, 0.2, 0.2, 0.2))


def test_shipped_classifiers_know_their_task():
    assert shipped_classifiers() == ["accessory", "digits", "subject"]
    digits, card = load_classifier("digits")
    held_out = load_digits().held_out
    correct = int((digits(held_out.images).argmax(1) == held_out.labels).sum())
    assert abs(correct - card["held_out"]["correct"]) <= 1
    assert correct / 360 > 0.97
    scenes = render_scenes(400, seed=77)
    for name in ("accessory", "subject"):
        network, _ = load_classifier(name)
        assert (network(scenes.images).argmax(1) == getattr(scenes, name)).float().mean() > 0.98


def test_classifier_files(tmp_path):
    network = Classifier(ClassifierConfig((1, 4, 4), (3, 5), (1, 2), ACCESSORIES))
    save_classifier(tmp_path / "c.safetensors", network, {"name": "c"})
    loaded, card = load_classifier(tmp_path / "c.safetensors")
    assert card["name"] == "c"
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(loaded(x), network(x))
    with pytest.raises(InputError, match="shape"):
        loaded(torch.zeros(2, 3, 4, 4))
    (tmp_path / "c.json").write_text('{"weights_sha256": "0"}')
    with pytest.raises(InputError, match="damaged"):
        load_classifier(tmp_path / "c.safetensors")
    with pytest.raises(InputError, match="one of"):
        load_classifier("none")
