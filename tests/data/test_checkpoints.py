import json
import pickle
import resource

import pytest
import torch
from safetensors.torch import load_file, save_file

from scorescope.data import EDMDenoiser, InputError, UNetConfig, load_denoiser, save_denoiser, shipped_denoisers
from scorescope.data.checkpoints import SHIPPED


@pytest.fixture
def saved(tmp_path):
    denoiser = EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16), sigma_data=0.7)
    save_denoiser(tmp_path / "net.safetensors", denoiser, {"seed": 3})
    return tmp_path / "net.safetensors", denoiser


def test_round_trip(saved):
    path, denoiser = saved
    loaded, card = load_denoiser(path)
    assert card["seed"] == 3 and loaded.sigma_data == 0.7 and loaded.config == denoiser.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in denoiser.state_dict().items())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode


@pytest.mark.parametrize(("name", "limit"), [("digits", 4e6), ("digits_weak", 1e6)])
def test_shipped_weights_are_small_and_fit_their_cards(name, limit):
    assert name in shipped_denoisers()
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= limit
    _, card = load_denoiser(name)
    assert {"data_sha256", "seed", "steps", "loss_curve", "sigma_data", "quality", "command"} <= set(card)


def test_the_weak_sibling_is_weaker():
    strong, weak = (load_denoiser(name)[1] for name in ("digits", "digits_weak"))
    assert weak["parameters"] < strong["parameters"] and weak["steps"] < strong["steps"]
    best = [min(row["held_out_error"] for row in card["loss_curve"]) for card in (strong, weak)]
    assert best[1] > 1.05 * best[0]


def test_flipped_byte_is_found_by_the_hash(saved):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="the hash on its card"):
        load_denoiser(path)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file", pickle.dumps({"a": 1})])
def test_damaged_and_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged file"):
        load_denoiser(path)


def test_truncated_file_without_card_is_refused(saved):
    path, _ = saved
    path.with_suffix(".json").unlink()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged file"):
        load_denoiser(path)


@pytest.mark.filterwarnings("ignore::scorescope.data.IntegrityWarning")
def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="found format None"):
        load_denoiser(path)
    metadata = {"format": "scorescope-edm-unet-1", "config": "{}", "sigma_data": "0.5"}
    save_file({"layer.weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(InputError, match="do not fit"):
        load_denoiser(path)


@pytest.mark.parametrize("text", ["{", "[1, 2]"])
def test_damaged_card_is_refused(saved, text):
    path, _ = saved
    path.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match="the weights' card"):
        load_denoiser(path)


def test_missing_file_names_the_shipped_ones(tmp_path):
    with pytest.raises(InputError, match="digits_weak"):
        load_denoiser(tmp_path / "nothing.safetensors")


def test_card_is_strict_json(saved):
    path, _ = saved
    json.loads(path.with_suffix(".json").read_text(), parse_constant=pytest.fail)


@pytest.mark.filterwarnings("ignore::scorescope.data.IntegrityWarning")  # written as an earlier version did
@pytest.mark.parametrize(
    "config, reason",
    [
        ({"channels": [8192, 8192]}, r"shape \(.*which no tensor of the file has"),
        ({"channels": [8] * 100_000}, "more parameters than the|shape"),
        ({"classes": 10**12}, "shape|memory|storage"),
        ({"channels": 3}, "channels: found 3"),
    ],
)
def test_a_network_that_does_not_fit_its_file_is_not_built(tmp_path, config, reason):
    path = tmp_path / "n.safetensors"
    save_denoiser(path, EDMDenoiser(UNetConfig(channels=(8,), embedding=8, attention=False), 0.5), {})
    tensors = load_file(path)
    sizes = {"channels": [8], "embedding": 8, "attention": False} | config
    about = {"format": "scorescope-edm-unet-1", "config": json.dumps(sizes), "sigma_data": "0.5"}
    save_file(tensors, path, about)
    path.with_suffix(".json").unlink()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=reason):
        load_denoiser(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
    for sigma_data in ("nan", "-1", "x"):
        save_file(tensors, path, about | {"config": json.dumps(sizes), "sigma_data": sigma_data})
        with pytest.raises(InputError):
            load_denoiser(path)


@pytest.mark.parametrize("card", ["[" * 100_000, "[" * 500 + "]" * 500, "[1]", "{", "\x00", '{"weights_sha256": NaN}'])
def test_a_card_that_is_none(saved, card):
    path, _ = saved
    path.with_suffix(".json").write_text(card)
    with pytest.raises(InputError):
        load_denoiser(path)
