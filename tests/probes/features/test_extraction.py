import pickle

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.fid.heatmaps import gradient_maps
from scorescope.analysis.fid.optimal_transport import image_gradients, transport
from scorescope.data.digits import load_digits
from scorescope.data.errors import InputError
from scorescope.probes.features.captum_maps import gradcam_maps, occlusion_maps
from scorescope.probes.features.edm2_references import read_edm2_reference
from scorescope.probes.features.extraction import extract, extract_maps, stream_moments
from scorescope.probes.features.extractors import classifier_extractor, module_extractor
from scorescope.probes.features.images import made_images, tensor_images
from scorescope.probes.features.moments import Moments
from scorescope.probes.features.preprocessing import prepare
from scorescope.probes.features.public_extractors import clip_extractor, dinov2_extractor, timm_extractor


@pytest.fixture(scope="module")
def digits():
    return tensor_images(load_digits().held_out.images, name="held-out digits")


@pytest.fixture(scope="module")
def extractor():
    return classifier_extractor("digits")


def test_features_do_not_depend_on_the_batch_and_stream(digits, extractor):
    found = extract(digits, extractor, batch=100, progress=False)
    assert found.features.shape == (360, 32)
    assert found.logits.shape == (360, 10)
    assert found.log.read == 360
    again = extract(digits, extractor, batch=7, progress=False)
    np.testing.assert_allclose(found.features, again.features, atol=1e-5)
    streamed = stream_moments(digits, extractor, batch=50, progress=False)
    whole = Moments.of(found.features)
    np.testing.assert_allclose(streamed.covariance, whole.covariance, atol=1e-5 * np.abs(whole.covariance).max())
    assert streamed.n == 360
    assert (found.top1 == load_digits().held_out.labels.numpy()).mean() > 0.97
    some = found.take(np.array([5, 2]))
    assert some.names == ["5", "2"]


def test_maps_average_to_the_features(digits, extractor):
    rows = np.array([300, 4, 17])
    maps = extract_maps(digits, extractor, rows=rows)
    features = extract(digits, extractor, progress=False).features
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), features[rows], atol=1e-5)
    with pytest.raises(InputError, match="rows from 0 to 359"):
        extract_maps(digits, extractor, rows=np.array([400]))


def test_closed_form_maps_against_captum(digits, extractor):
    features = extract(digits, extractor, progress=False).features
    plan = transport(features, features[:200] * 1.2)
    gradients = image_gradients(plan, features)
    maps = gradient_maps(extract_maps(digits, extractor), gradients, signed=True)
    inputs = extractor.prepare(torch.cat([images for _, images in digits.batches(360)]))[:20]
    scale = float(1 / np.abs(gradients).max())  # captum works in float32
    directions = torch.from_numpy(gradients[:20] * scale).float()
    by_captum = gradcam_maps(extractor, extractor.module.layers[-1], inputs, directions).numpy() * 64
    # captum attributes before the ReLU of the layer's output, ours after it: compare where the layer is linear
    post = module_extractor(nn.Sequential(extractor.module.layers[0], nn.ReLU()), prepare=lambda x: x)
    x = post.activations(inputs)
    flat = torch.randn(20, x.shape[1], generator=torch.Generator().manual_seed(0))
    ours = gradient_maps(x.detach().numpy(), flat.numpy(), signed=True)
    theirs = gradcam_maps(post, post.module[1], inputs, flat).numpy() * 64
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(ours).max())
    assert by_captum.shape == maps[:20].shape
    value = (torch.from_numpy(features[:20]) * directions).sum(1)
    whole = occlusion_maps(extractor, inputs, directions, window=8, fill=-1.0)
    blank = extractor.features(torch.full((1, 1, 8, 8), -1.0))
    expected = value - (blank * directions).sum(1)
    torch.testing.assert_close(whole[:, 0, 0], expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_any_module_and_layer(digits):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    to_input = lambda images: prepare(images, "none")  # noqa: E731
    for layer, size, has_maps in ((None, 5, False), ("0", 4, True), ("2", 144, False)):
        mine = module_extractor(net, layer=layer, prepare=to_input)
        assert extract(digits, mine, progress=False).features.shape == (360, size)
        if has_maps:
            assert extract_maps(digits, mine, rows=np.arange(3)).shape == (3, 4, 6, 6)
        else:
            with pytest.raises(InputError, match="for maps in closed form"):
                extract_maps(digits, mine, rows=np.arange(3))
    assert not net[0]._forward_hooks
    with pytest.raises(InputError, match="a submodule, such as"):
        module_extractor(net, layer="9", prepare=to_input)


def test_bad_input(digits, extractor):
    big = tensor_images(torch.zeros(3, 1, 9, 8))
    with pytest.raises(InputError, match=r"9x8.*8x8.*does not resize"):
        extract(big, extractor, progress=False)
    with pytest.raises(InputError, match="1 images"):
        extract(tensor_images(torch.zeros(1, 1, 8, 8)), extractor, progress=False)
    broken = module_extractor(nn.Flatten(), prepare=lambda x: x.float() / (x.float().amax((1, 2, 3), True) > 0))
    source = made_images(lambda: [torch.cat([torch.ones(2, 1, 4, 4), -torch.ones(1, 1, 4, 4)])])
    with pytest.raises(InputError, match="for 1 images: 2"):
        extract(source, broken, progress=False)


def test_public_networks_from_configuration():
    transformers = pytest.importorskip("transformers")
    tiny = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    images = tensor_images(torch.rand(3, 3, 40, 30, generator=torch.Generator().manual_seed(0)), value_range=(0, 1))
    dino = transformers.Dinov2Model(transformers.Dinov2Config(**tiny, image_size=28, patch_size=14))
    found = extract(images, dinov2_extractor(dino, size=28), progress=False)
    assert found.features.shape == (3, 8)
    clip = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**tiny, image_size=28, patch_size=14, projection_dim=6)
    )
    assert extract(images, clip_extractor(clip, size=28), progress=False).features.shape == (3, 6)


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"scorescope\[features\]"):
        timm_extractor("resnet18")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["f8", ">f8", "f4"])
def test_edm2_references_are_read_without_unpickling(tmp_path, protocol, kind):
    moments = Moments.of(np.random.default_rng(0).normal(size=(50, 4)))
    part = {"mu": moments.mean.astype(kind), "sigma": np.asfortranarray(moments.covariance.astype(kind))}
    path = tmp_path / "img512.pkl"
    path.write_bytes(pickle.dumps({"fid": part, "fd_dinov2": part, "num_images": 50}, protocol=protocol))
    found = read_edm2_reference(path, "fd_dinov2")
    tolerance = 1e-6 if kind == "f4" else 1e-15
    np.testing.assert_allclose(found.mean, moments.mean, rtol=tolerance)
    np.testing.assert_allclose(found.covariance, moments.covariance, rtol=0, atol=tolerance)
    assert found.n == 50
    with pytest.raises(InputError, match="'fid_clip' with arrays"):
        read_edm2_reference(path, "fid_clip")


def test_edm2_reader_refuses_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    path = tmp_path / "bomb.pkl"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"fid": Bomb()}, protocol=protocol))
        with pytest.raises(InputError, match=r"the name (__builtin__|builtins)\.exec"):
            read_edm2_reference(path)
    path.write_bytes(pickle.dumps({"fid": [1, 2]}))
    with pytest.raises(InputError, match="instruction EMPTY_LIST"):
        read_edm2_reference(path)
    path.write_bytes(b"\x80\x04junk")
    with pytest.raises(InputError, match="damaged or another"):
        read_edm2_reference(path)


def test_a_users_module_can_be_differentiated_after_extraction(digits):
    """What it keeps from its first call must be able to enter a gradient."""

    class Caching(nn.Module):
        kept = None

        def forward(self, x):
            self.kept = torch.ones(3) * 1 if self.kept is None else self.kept
            return x.flatten(1)[:, :3] * self.kept

    network = Caching()
    extract(digits, module_extractor(network, prepare=lambda images: prepare(images, "none")), progress=False)
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad is not None
