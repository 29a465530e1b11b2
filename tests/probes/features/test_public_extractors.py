"""DINOv2, CLIP and timm as feature spaces: tiny models of the real architectures, from files, with their own images."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch

from scorescope.data.errors import InputError
from scorescope.probes.features.extraction import extract
from scorescope.probes.features.extractors import Extractor
from scorescope.probes.features.images import tensor_images
from scorescope.probes.features.public_extractors import (
    CLIP,
    IMAGENET,
    clip_extractor,
    dinov2_extractor,
    timm_extractor,
)

transformers = pytest.importorskip("transformers")
TINY = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIZE = 28


@pytest.fixture(scope="module")
def images():
    """Square images, which the processors do not crop, and of which bicubic weights make nothing past 0 or 255."""
    return torch.randint(64, 192, (3, 3, 45, 45), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(**TINY, image_size=42, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    config = transformers.CLIPVisionConfig(**TINY, image_size=SIZE, patch_size=14, projection_dim=6)
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return str(folder)


def by_processor(name, images, statistics, **sizes):
    """What the library's own processor, with Pillow, makes of the images."""
    processor = getattr(transformers, name)(image_mean=statistics[0], image_std=statistics[1], **sizes)
    arrays = list(images.movedim(1, 3).numpy())
    return torch.from_numpy(np.stack(processor(arrays, return_tensors="np")["pixel_values"]))


def check_inputs(extractor: Extractor, images, theirs, statistics):
    """Ours keep fractions of a level; Pillow on 8 bits rounds after the pass over rows and again at the end."""
    ours = extractor.prepare(images)
    assert ours.shape == theirs.shape
    level = 1 / 255 / torch.tensor(statistics[1]).reshape(3, 1, 1)
    apart = (ours - theirs).abs() / level
    assert float(apart.max()) <= 1.2  # half a level, and half a level through bicubic weights of norm below 1.4
    assert float(apart.mean()) < 0.4


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_is_named_by_text_or_path(kind, dino, clip, tmp_path):
    assert dinov2_extractor(kind(dino), size=SIZE).name == "DINOv2"
    assert clip_extractor(kind(clip)).name == "CLIP"
    with pytest.raises(InputError, match="a folder that save_pretrained wrote"):
        dinov2_extractor(kind(tmp_path))


def test_dinov2_from_files(images, dino):
    extractor = dinov2_extractor(dino, size=SIZE)
    square = {"size": {"height": SIZE, "width": SIZE}, "do_center_crop": False}
    theirs = by_processor("BitImageProcessorPil", images, IMAGENET, **square)
    check_inputs(extractor, images, theirs, IMAGENET)
    found = extract(tensor_images(images), extractor, progress=False)
    network = transformers.Dinov2Model.from_pretrained(dino).eval()
    with torch.no_grad():
        expected = network(pixel_values=extractor.prepare(images)).pooler_output  # the class token after the last norm
    np.testing.assert_allclose(found.features, expected, atol=1e-6)
    assert dinov2_extractor(dino).prepare(images).shape == (3, 3, 224, 224)


def test_clip_from_files(images, clip):
    extractor = clip_extractor(clip)  # the size is the model's own
    crop = {"size": {"shortest_edge": SIZE}, "crop_size": SIZE}
    check_inputs(extractor, images, by_processor("CLIPImageProcessorPil", images, CLIP, **crop), CLIP)
    found = extract(tensor_images(images), extractor, progress=False)
    network = transformers.CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    with torch.no_grad():
        expected = network(pixel_values=extractor.prepare(images)).image_embeds
    np.testing.assert_allclose(found.features, expected, atol=1e-6)
    assert found.features.shape == (3, 6) and extractor.activations is None


def test_images_that_are_not_square_are_squeezed_whole(dino):
    """No part is cropped away: a stripe at the far edge still reaches the input."""
    wide = torch.zeros(1, 3, 20, 60, dtype=torch.uint8)
    wide[..., -6:] = 255
    x = dinov2_extractor(dino, size=SIZE).prepare(wide)
    assert bool((x[..., -1] > 1).all()) and bool((x[..., 0] < 0).all())


def test_a_folder_without_a_model_is_explained(tmp_path):
    for make in (dinov2_extractor, clip_extractor):
        with pytest.raises(InputError, match="a folder that save_pretrained wrote"):
            make(str(tmp_path))


def test_timm_is_asked_for_pooled_features_at_its_own_size(images, monkeypatch):
    """timm needs torchvision, which may be absent: a stand-in with timm's two calls."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    config = {"input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    asked = {}

    def create_model(name, **options):
        asked.update(options, name=name)
        return network

    data = types.SimpleNamespace(resolve_model_data_config=lambda model: config if model is network else None)
    monkeypatch.setitem(
        __import__("sys").modules, "timm", types.SimpleNamespace(create_model=create_model, data=data)
    )  # fmt: skip
    extractor = timm_extractor("resnet18")
    assert asked == {"name": "resnet18", "pretrained": True, "num_classes": 0}
    statistics = (config["mean"], config["std"])
    square = {"size": {"height": 32, "width": 32}, "do_center_crop": False}
    theirs = by_processor("BitImageProcessorPil", images, statistics, **square)
    check_inputs(extractor, images, theirs, statistics)
    found = extract(tensor_images(images), extractor, progress=False).features
    np.testing.assert_allclose(found, network(extractor.prepare(images)).detach(), atol=1e-6)
    by_layer = extract(tensor_images(images), timm_extractor("resnet18", layer="0"), progress=False).features
    np.testing.assert_allclose(by_layer, found, atol=1e-6)  # maps averaged over space
