"""Maps by word against sums by hand, their table against closed forms, and words found in prompts."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from scorescope.data.errors import InputError
from scorescope.probes.attention import AttentionMaps, word_tokens


def maps_of(values, **names):
    calls = len(values)
    given = {"runs": (0,) * calls, "steps": tuple(range(calls)), "branches": ("cond",) * calls, "layers": ("mean",),
             "heads": ("mean",), "tokens": tuple(map(str, range(values.shape[4]))), "sites": ("attn2",)}  # fmt: skip
    return AttentionMaps(values, torch.linspace(9, 1, calls).double(), **(given | names))


def tokenizer():
    """Pieces of words, with a token before the prompt and one behind it, as CLIP has them."""
    pieces = ["[B]", "[E]", "[U]", "a", "light", "##house", "by", "the", "sea", "##side", "red"]
    made = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[U]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[B] $A [E]", special_tokens=[("[B]", 0), ("[E]", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made)


def test_words_of_several_tokens_are_found_in_a_prompt():
    prompt = "A lighthouse by the seaside, the sea red"
    found = word_tokens(prompt, ["lighthouse", "sea", "the", "Sea red"], tokenizer())
    assert found == {"lighthouse": [2, 3], "sea": [10], "the": [5, 9], "Sea red": [10, 11]}  # token 8 is the comma
    assert word_tokens("a sea", ["sea"], tokenizer(), first=77) == {"sea": [79]}
    with pytest.raises(InputError, match="subject: found 'house'"):
        word_tokens(prompt, ["house"], tokenizer())
    with pytest.raises(InputError, match="tokenizer: found a function"):
        word_tokens(prompt, ["sea"], lambda text: {})


def test_the_map_of_a_word_is_the_sum_of_those_of_its_tokens():
    values = torch.rand(2, 3, 1, 1, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    found = maps_of(values).by_word({"lighthouse": [2, 3], "the": [5, 1, 5]})
    assert found.tokens == ("lighthouse", "the")
    torch.testing.assert_close(found.maps[..., 0, :, :], values[..., 2, :, :] + values[..., 3, :, :])
    torch.testing.assert_close(found.maps[..., 1, :, :], values[..., 1, :, :] + values[..., 5, :, :])
    some = maps_of(values[..., :2, :, :], tokens=("4", "9")).by_word({"sea": [9]})
    assert torch.equal(some.maps[..., 0, :, :], values[..., 1, :, :])
    for tokens in ([], [6], [0, 7]):
        with pytest.raises(InputError, match=r"words\['sea'\]"):
            maps_of(values).by_word({"sea": tokens})


def test_the_table_has_the_share_and_the_spread_of_each_map():
    values = torch.zeros(2, 1, 1, 1, 3, 4, 4)
    values[0, ..., 0, :, :] = 0.25  # even
    values[0, ..., 1, 2, 3] = 0.8  # in one cell
    values[0, ..., 2, 0, :2] = 0.4  # in two
    table = maps_of(values, branches=("cond", "uncond")).table()
    assert list(table) == ["run", "step", "sigma", "branch", "sample", "layer", "head", "token", "share", "spread"]
    first = table[table["step"] == 0]
    assert first["share"].tolist() == pytest.approx([0.25, 0.8 / 16, 0.8 / 16])
    assert first["spread"].tolist() == pytest.approx([1, 1 / 16, 2 / 16])
    assert first["sigma"].eq(9).all() and table["branch"].tolist() == ["cond"] * 3 + ["uncond"] * 3
    assert table["spread"].isna().tolist() == [False] * 3 + [True] * 3  # nothing is looked at


def test_names_that_do_not_fit_are_refused():
    values = torch.rand(2, 1, 1, 1, 3, 4, 4)
    for names in ({"tokens": ("0",)}, {"branches": ("cond",)}, {"layers": ("a", "b")}):
        with pytest.raises(InputError, match="maps: found shape"):
            maps_of(values, **names)
    with pytest.raises(InputError, match="branch: found 'uncond'"):
        maps_of(values).of_branch("uncond")
