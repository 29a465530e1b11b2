"""CLIP as a judge: the log-odds are what its own logits say."""

import pytest
import torch
from tests.saved_pipelines import clip_tokenizer

from scorescope.data import InputError
from scorescope.probes.features.zero_shot import zero_shot_judge

transformers = pytest.importorskip("transformers")
SIDE = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny random CLIP of images and texts, in a folder with its tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer(folder)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "bos_token_id": len(tokenizer) - 2,
            "eos_token_id": len(tokenizer) - 1, "pad_token_id": len(tokenizer) - 1}  # fmt: skip
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config=small | text, vision_config=small | {"image_size": SIDE, "patch_size": 4}, projection_dim=8
    )
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model, tokenizer


def pixels(images):
    """Images of the right size as CLIP is given them."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)
    return (((images + 1) / 2 * 255).round() / 255 - mean) / std


@torch.no_grad()
def test_log_odds_are_those_of_the_models_own_logits(clip):
    folder, model, tokenizer = clip
    images = torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tokens = tokenizer(["red", "blue"], padding=True, return_tensors="pt")
    logits = model(**tokens, pixel_values=pixels(images)).logits_per_image
    found = zero_shot_judge(folder, {"colour": (["red"], ["blue"])})(images)
    torch.testing.assert_close(found["colour"], logits[:, 1] - logits[:, 0], atol=1e-3, rtol=1e-3)
    assert logits.std() > 0


@torch.no_grad()
def test_several_texts_are_averaged_and_attributes_are_apart(clip):
    folder, _, _ = clip
    images = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(2)) * 2 - 1
    texts = {"colour": (["red", "red"], ["blue", "blue"]), "time": (["day"], ["night"])}
    found = zero_shot_judge(folder, texts)(images)
    alone = zero_shot_judge(folder, {"colour": (["red"], ["blue"])})(images)
    torch.testing.assert_close(found["colour"], alone["colour"])
    assert set(found) == {"colour", "time"} and found["time"].shape == (3,)


def test_folders_and_texts_that_do_not_fit(clip, tmp_path):
    folder, model, tokenizer = clip
    texts = {"colour": (["red"], ["blue"])}
    with pytest.raises(InputError, match="a folder that save_pretrained wrote"):
        zero_shot_judge(tmp_path / "none", texts)
    model.vision_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no weights for"):
        zero_shot_judge(tmp_path, texts)
    with pytest.raises(InputError, match="one of 22 tokens; expected at most 16"):
        zero_shot_judge(folder, {"colour": (["x" * 20], ["blue"])})
