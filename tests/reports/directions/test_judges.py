"""Judges of decoded images: whatever they give becomes log-probabilities of latents, or one sentence."""

import sys

import pytest
import torch

from scorescope.data import InputError, PromptPair
from scorescope.reports.directions import load_judge
from scorescope.reports.directions.judges import counted_from, judge_pairs, scorer_of, texts_of

PAIRS = [PromptPair("colour", "a", "b", "a", "b"), PromptPair("colour", "c", "d", "a", "b"),
         PromptPair("time", "e", "f", "e", "f")]  # fmt: skip


def decoder(latents):
    return latents.repeat(1, 3, 1, 1) * 2


def odds(images):
    return images.mean((1, 2, 3))


def test_log_odds_and_log_probabilities_are_the_same():
    latents = torch.randn(11, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    shown = decoder(latents).clamp(-1, 1)  # a judge sees what a picture holds
    for judge in (
        odds,
        lambda images: {"colour": odds(images)},
        lambda images: {"colour": torch.stack([-odds(images) / 2, odds(images) / 2], 1).log_softmax(1)},
    ):
        found = scorer_of(judge, decoder, ["colour"], chunk=4)(latents)["colour"]
        torch.testing.assert_close(found[:, 1] - found[:, 0], odds(shown))
        torch.testing.assert_close(found.exp().sum(1), torch.ones(11))


def test_a_judge_may_know_more_than_it_is_asked():
    judge = lambda images: {"colour": odds(images), "noise": odds(images) * 2}  # noqa: E731
    assert set(scorer_of(judge, decoder, ["colour"])(torch.zeros(2, 1, 2, 2))) == {"colour", "noise"}


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (lambda images: images, r"shape \(3, 3, 2, 2\) of 'colour' for 3 images; expected \(3,\) or \(3, 2\)"),
        (lambda images: odds(images)[:2], r"shape \(2,\)"),
        (lambda images: odds(images).numpy(), "a ndarray; expected log-odds"),
        (lambda images: {"color": odds(images)}, "a mapping without 'colour'"),
        (lambda images: {"colour": 3.0}, "a float of 'colour'"),
        (lambda images: odds(images) / 0, "values of 'colour' that are not finite"),
        (lambda images: odds(images)[:, None].repeat(1, 2).softmax(1), "probabilities of 'colour'; expected their log"),
        (lambda images: images[99], "a judge that failed with IndexError"),
    ],
)
def test_judges_that_give_something_else(judge, said):
    with pytest.raises(InputError, match=f"score: found {said}"):
        scorer_of(judge, decoder, ["colour"])(torch.zeros(3, 1, 2, 2))


def test_one_column_of_log_odds_is_taken_as_such():
    images = torch.zeros(3, 1, 2, 2)
    one, column = (scorer_of(judge, decoder, ["colour"])(images) for judge in (odds, lambda x: odds(x)[:, None]))
    assert torch.equal(one["colour"], column["colour"])


def test_one_tensor_is_not_two_attributes():
    with pytest.raises(InputError, match=r"a Tensor; expected .*: colour, time"):
        scorer_of(odds, decoder, ["colour", "time"])(torch.zeros(3, 1, 2, 2))


def test_judges_by_name(tmp_path, monkeypatch):
    (tmp_path / "my_judges.py").write_text(
        "def make():\n    return lambda images: images.mean((1, 2, 3))\n"
        "def broken():\n    raise OSError('no file')\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_judge("my_judges:make", PAIRS)(torch.ones(2, 3, 1, 1)).tolist() == [1, 1]
    for name, said in {
        "my_judges.py:make": "'my_judges.py:make'; expected package.module:factory, as my_judges:make",
        "my_judges:broken": "failed with OSError: no file",
        "my_judges:number": "a int from 'my_judges:number'",
        "my_judges": r"'my_judges'; expected one of \['clip:FOLDER'\], or package.module:factory",
        "my_judges:absent": "no attribute 'absent'",
    }.items():
        with pytest.raises(InputError, match=f"score: found .*{said}"):
            load_judge(name, PAIRS)
    with pytest.raises(InputError, match=r"none: found .*a folder that save_pretrained wrote"):
        load_judge(f"clip:{tmp_path}/none", PAIRS)


def test_prompts_of_both_ends_are_the_texts_of_clip():
    assert texts_of(PAIRS) == {"colour": (["a", "c"], ["b", "d"]), "time": (["e"], ["f"])}


@pytest.mark.parametrize(
    ("shift", "zero", "share"),
    [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (7.0, 7.0, 1.0), (-7.0, -7.0, 1.0)],
    ids=["its own zero", "off, between the ends", "all above", "all below"],
)
def test_scores_are_counted_from_what_parts_the_ends(shift, zero, share):
    """A judge whose zero is off left nothing to follow along sampling: all images were of one class."""
    latents = torch.tensor([-1.0, 1.0, -1.2, 1.2, -0.8, 0.8] * 3)[:, None, None, None].repeat(1, 1, 2, 2)
    labels = torch.tensor([[0], [1]] * 9)
    scorer = scorer_of(lambda images: odds(images) * 10 + shift, lambda some: some / 10, ["colour"])
    row = judge_pairs(scorer, latents, labels, ["colour"]).iloc[0]
    assert (row["pairs"], row["share"], row["below"]) == (9, share, 0.0) and row["zero"] == pytest.approx(zero)
    found = counted_from(scorer, {"colour": row["zero"]})(latents)["colour"]
    moved = found[:, 1] - found[:, 0]
    assert ((moved > 0) == (labels[:, 0] == 1)).all()
    before = scorer(latents)["colour"]
    torch.testing.assert_close(moved, before[:, 1] - before[:, 0] - row["zero"])


def test_a_judge_that_does_not_tell_the_ends_apart_keeps_its_zero():
    latents = torch.randn(40, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    scorer = scorer_of(lambda images: odds(images) + 5, lambda some: some, ["colour"])
    assert judge_pairs(scorer, latents, torch.tensor([[0], [1]] * 20), ["colour"])["zero"].tolist() == [0.0]
    turned = scorer_of(lambda images: 5 - odds(images), lambda some: some, ["colour"])
    row = judge_pairs(turned, latents.abs() * torch.tensor([-1.0, 1.0] * 20)[:, None, None, None],
                      torch.tensor([[0], [1]] * 20), ["colour"]).iloc[0]  # fmt: skip
    assert (row["zero"], row["share"], row["below"]) == (0.0, 0.0, 1.0)
