import hashlib
import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from scorescope.data.checkpoints import sha256
from scorescope.data.errors import InputError
from scorescope.probes.features.class_names import class_table_of_2015, load_class_names
from scorescope.probes.features.extractors import inception_extractor, spatial_extractor, spatial_readings
from scorescope.probes.features.inception import Inception2015
from scorescope.probes.features.inception_weights import convert_inception, load_inception, load_torchscript
from scorescope.probes.features.preprocessing import prepare, resize_tensorflow


@pytest.fixture(scope="module")
def network():
    """Random weights with lively statistics, so that every branch shows in the output."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Inception2015()
        for name, value in made.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.02, 0.06)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (2, 3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def peer_module(name):
    """A module of torch-fidelity, without running its package's __init__, which needs torchvision."""
    if "torch_fidelity" not in sys.modules:
        found = importlib.util.find_spec("torch_fidelity")
        if found is None:
            pytest.skip("torch-fidelity is not installed")
        package = types.ModuleType("torch_fidelity")
        package.__path__ = list(found.submodule_search_locations)
        sys.modules["torch_fidelity"] = package
    return importlib.import_module(f"torch_fidelity.{name}")


def test_state_dict_is_that_of_the_public_port(network):
    state = network.state_dict()
    assert len(state) == 566
    # the public file has 95,628,359 bytes: these and about 150 bytes of zip entry for each tensor
    assert sum(value.nbytes for value in state.values()) == 95_542_320
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch5x5_2.bn.running_var": (64,),
        "Mixed_6c.branch7x7dbl_3.conv.weight": (160, 160, 1, 7),
        "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
        "fc.bias": (1008,),
    }
    for key, shape in shapes.items():
        assert tuple(state[key].shape) == shape


def test_shapes(network, images):
    x = prepare(images, "tf")
    assert x.shape == (2, 3, 299, 299)
    maps = network.activations(x)
    assert maps.shape == (2, 2048, 8, 8)
    logits = network(x)
    assert logits.shape == (2, 1008)
    torch.testing.assert_close(logits, network.head(maps.mean(dim=(2, 3))))
    spatial = network.spatial_features(x)
    assert {key: tuple(value.shape) for key, value in spatial.items()} == {
        "mixed_6_conv": (2, 2023),
        "mixed_6e": (2, 2023),
    }


def test_equals_torch_fidelity(network, images, tmp_path):
    """The same random weights in an independently written network, from uint8 to pool3 and logits."""
    peer = peer_module("feature_extractor_inceptionv3")
    path = tmp_path / "random.pth"
    torch.save(network.state_dict(), path)
    wanted = ["192", "768", "2048", "logits_unbiased", "logits"]
    other = peer.FeatureExtractorInceptionV3("fid", wanted, feature_extractor_weights_path=str(path))
    theirs = dict(zip(wanted, other(images), strict=True))
    x = prepare(images, "tf")
    features = network.activations(x).mean(dim=(2, 3))
    scale = float(theirs["2048"].abs().max())
    assert float((features - theirs["2048"]).abs().max()) <= 2e-6 * scale
    torch.testing.assert_close(network(x), theirs["logits"], rtol=1e-4, atol=1e-5 * float(theirs["logits"].abs().max()))
    unbiased = features @ network.head.weight.T
    bound = 1e-5 * float(theirs["logits_unbiased"].abs().max())
    torch.testing.assert_close(unbiased, theirs["logits_unbiased"], rtol=1e-4, atol=bound)


@pytest.mark.parametrize("size", [(64, 80), (500, 299), (32, 32)])
def test_resize_equals_torch_fidelity(size):
    peer = peer_module("interpolate_compat_tensorflow")
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 255
    theirs = peer.interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize_tensorflow(x, 299), theirs, rtol=0, atol=1e-4)


def test_resize_tensorflow_by_hand():
    x = torch.tensor([[[[0.0, 10.0]]]]).expand(1, 1, 2, 2)
    # source position = target * 2 / 4: 0, 0.5, 1, 1.5; past the last pixel it stays
    assert resize_tensorflow(x, 4)[0, 0, 0].tolist() == [0, 5, 10, 10]


def test_the_last_block_pools_by_maximum_and_padding_is_left_out(network):
    x = torch.zeros(1, 2048, 8, 8)
    x[0, :, 0, 0] = 1.0
    assert network.Mixed_7c.pool_by_maximum
    assert not network.Mixed_7b.pool_by_maximum
    from scorescope.probes.features.inception import average_pool

    assert float(average_pool(x)[0, 0, 0, 0]) == pytest.approx(1 / 4)  # a corner has four neighbours, not nine


def test_modes_are_scaled_as_named(images):
    x = images[:, :, :32, :32]
    assert prepare(x, "none").shape == (2, 3, 32, 32)
    torch.testing.assert_close(prepare(x, "nvidia"), prepare(x, "tf"))
    flat = torch.full((1, 3, 20, 20), 200, dtype=torch.uint8)
    assert float(prepare(flat, "tf").mean()) == pytest.approx(72 / 128)
    assert float(prepare(flat, "pytorch_fid").mean()) == pytest.approx(72.5 / 127.5, rel=1e-6)
    assert float(prepare(flat, "clean_fid").mean()) == pytest.approx(72 / 128)
    first = Image.fromarray(images[0, 0].numpy().astype(np.float32))
    expected = np.clip(np.asarray(first.resize((299, 299), Image.Resampling.BICUBIC)), 0, 255)
    np.testing.assert_allclose(prepare(images, "clean_fid")[0, 0] * 128 + 128, expected, atol=1e-4)
    with pytest.raises(InputError, match="one of"):
        prepare(images, "torchvision")
    with pytest.raises(InputError, match="uint8"):
        prepare(images.float(), "tf")


def test_files(network, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match="sha256 6726825d"):
        load_inception(path)
    target = tmp_path / "weights.safetensors"
    assert convert_inception(path, target, expected_sha256=None) == sha256(target)
    for file in (path, target):
        loaded = load_inception(file, expected_sha256=None).state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())
    with pytest.raises(InputError, match=r"made from a file with sha256 [0-9a-f]{64}.*6726825d"):
        inception_extractor(target)  # converted, but from other weights
    extractor = inception_extractor(target, expected_sha256=None)
    assert extractor.weight.shape == (1008, 2048)
    assert extractor.classes == ()  # whose classes those of other weights are is not known
    x = torch.zeros(1, 3, 299, 299)
    assert spatial_extractor(extractor, "mixed_6e").features(x).shape == (1, 2023)
    assert list(spatial_readings(extractor)) == list(network.spatial_features(x))
    pixels = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    plain = network.activations(prepare(pixels, "tf")).mean(dim=(2, 3))
    features = extractor.features(extractor.prepare(pixels))
    torch.testing.assert_close(features, plain, rtol=0, atol=2e-6 * float(plain.abs().max()))
    with pytest.raises(InputError, match="mixed_6_conv"):
        spatial_extractor(extractor, "mixed_7")


def test_missing_weights_say_where_they_come_from(tmp_path):
    for path in (None, tmp_path / "none.pth"):
        with pytest.raises(InputError, match=r"pt_inception-2015-12-05-6726825d\.pth.*sha256 6726825d.*--inception"):
            load_inception(path)
    with pytest.raises(InputError, match="f58cb9b6"):
        load_torchscript(tmp_path / "none.pt")


def test_wrong_weights_are_explained(network, tmp_path):
    path = tmp_path / "other.pth"
    state = dict(network.state_dict())
    del state["fc.bias"]
    torch.save({**state, "AuxLogits.fc.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"missing fc\.bias, unknown AuxLogits\.fc\.weight.*torchvision"):
        load_inception(path, expected_sha256=None)
    torch.save({**state, "fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(InputError, match=r"fc\.bias of shape \(1000,\)"):
        load_inception(path, expected_sha256=None)
    path.write_bytes(b"not a file of torch")
    with pytest.raises(InputError, match="no plain state dict"):
        load_inception(path, expected_sha256=None)
    torch.save({"network": network}, path)  # would run code when unpickled
    with pytest.raises(InputError, match="no plain state dict"):
        load_inception(path, expected_sha256=None)


def test_class_names_in_another_order_are_refused(tmp_path):
    path = tmp_path / "names.txt"
    names = [f"class {k}" for k in range(1008)]
    for index, name in ((1, "kit fox"), (2, "English setter"), (3, "Siberian husky"), (1000, "dumbbell")):
        names[index] = name
    path.write_text("\n".join(names))
    assert load_class_names(path)[1000] == "dumbbell"
    path.write_text("\n".join(["tench", *names[1:1], *names[:1007]]))
    with pytest.raises(InputError, match="'kit fox' there"):
        load_class_names(path)
    path.write_text("\n".join(names[:1000]))
    with pytest.raises(InputError, match="1000 lines"):
        load_class_names(path)


def test_shipped_class_names_are_in_the_order_of_the_network():
    """1000 classes, none where torchvision (which sorts by WordNet id) has it, and entries that others publish."""
    table = class_table_of_2015()
    assert table["index"].tolist() == list(range(1, 1001))
    assert table["wnid"].is_unique and table["wnid"].str.fullmatch(r"n\d{8}").all()
    assert not (table["wnid"] == sorted(table["wnid"])).any()
    by_wnid = table.set_index("wnid")["index"]
    # the label map of TensorFlow's tutorial begins with these; the last two are the ends of the list
    known = {"n01440764": 449, "n01443537": 450, "n02119789": 1, "n03255030": 1000}
    assert {wnid: int(by_wnid[wnid]) for wnid in known} == known
    names = load_class_names()
    assert len(names) == len(set(names)) == 1008
    assert [names[k] for k in (0, 1, 2, 3, 449, 1000, 1007)] == [
        "unused 0", "kit fox", "English setter", "Siberian husky", "tench", "dumbbell", "unused 1007",
    ]  # fmt: skip
    assert {name for name in names if name.startswith("crane")} == {"crane (n02012849)", "crane (n03126707)"}
    digest = hashlib.sha256("".join(f"{wnid}\n" for wnid in table["wnid"]).encode()).hexdigest()
    assert digest == "e85e4969a881deb8a8ba329357d033f7a664de8f1e099f593ad723bcf79bbfe5"  # of the file it came from


def test_shipped_classes_are_those_of_timm():
    info = pytest.importorskip("timm.data", exc_type=ImportError).ImageNetInfo()
    table = class_table_of_2015()
    assert sorted(table["wnid"]) == list(info.label_names())
    assert dict(zip(table["wnid"], table["lemmas"], strict=True)) == {
        wnid: info.label_name_to_description(wnid, detailed=False) for wnid in table["wnid"]
    }


class FakeTorchScript(torch.nn.Module):
    """What the public TorchScript file offers: uint8 in, pool3 out where asked for."""

    def __init__(self, network):
        super().__init__()
        self.inner = network

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        maps = self.inner((images.float() - 128) / 128)
        return maps.mean(dim=[2, 3]) if return_features else maps.sum(dim=[1, 2, 3])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_files(tmp_path):
    """A scripted module of the public file's form: loaded after its hash was checked, and called as documented."""
    path = tmp_path / "inception-2015-12-05.pt"
    conv = torch.nn.Conv2d(3, 5, 3)
    torch.jit.script(FakeTorchScript(conv)).save(str(path))
    images = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"sha256 f58cb9b6.*cut-off download"):
        load_torchscript(path)
    network = load_torchscript(path, expected_sha256=sha256(path))
    expected = conv((images.float() - 128) / 128).mean(dim=(2, 3))
    torch.testing.assert_close(network(images, return_features=True), expected)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="no TorchScript"):
        load_torchscript(path, expected_sha256=None)
