import pytest
import torch

from scorescope.data import InputError
from scorescope.data.attribute_scorer import load_scorer, log_odds, save_scorer
from scorescope.data.shapes import render_shapes
from scorescope.data.train_scorer import accuracy, train_scorer


def test_the_shipped_scorer_names_every_attribute_also_against_the_nuisance():
    scorer, card = load_scorer("shapes")
    usual = accuracy(scorer, render_shapes(1000, seed=50))
    turned = accuracy(scorer, render_shapes(1000, seed=51, frame_shares=(0.85, 0.15)))
    assert min(usual.values()) > 0.99 and min(turned.values()) > 0.99
    assert set(usual) == set(card["held_out_accuracy"])


def test_log_odds_are_those_of_the_named_value():
    scorer, _ = load_scorer("shapes")
    images = render_shapes(20, seed=52).images
    scores = log_odds(scorer, {"hue": "green", "size": "large"})(images)
    probability = scorer(images)["hue"].exp()[:, 2].double()
    assert torch.allclose(scores["hue"].sigmoid().double(), probability, atol=1e-5)
    two = scorer(images)["size"]
    assert torch.allclose(scores["size"], two[:, 1] - two[:, 0], atol=1e-5)
    for bad in ({"colour": "green"}, {"hue": "pink"}):
        with pytest.raises(InputError, match="targets"):
            log_odds(scorer, bad)


def test_a_scorer_comes_back_from_its_file_and_damage_is_named(tmp_path):
    scorer, card = train_scorer(steps=2, progress=False)
    path = tmp_path / "small.safetensors"
    save_scorer(path, scorer, card)
    again, read = load_scorer(path)
    images = render_shapes(3, seed=0).images
    assert torch.equal(again(images)["hue"], scorer(images)["hue"]) and read["steps"] == 2
    with pytest.raises(InputError, match="images"):
        again(images[:, :1])
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="sha256"):
        load_scorer(path)
    with pytest.raises(InputError, match="digits"):
        load_scorer("digits")
