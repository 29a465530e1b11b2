"""Digests of what a thing is made of: two things that compute different things have two, in any process one."""

import collections
import copy
import datetime
import decimal
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from scorescope.data import InputError
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.models.fingerprint import fingerprint


def digest(thing):
    return fingerprint(thing, argument="x")


def layer(**how):
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **how)


def unet(**how):
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), down_block_types=("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",), layers_per_block=1, norm_num_groups=4, attention_head_dim=4, **how,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.MultiheadAttention(8, 2), lambda: nn.MultiheadAttention(8, 4)),
        (layer, lambda: layer(norm_first=True)),
        (layer, lambda: layer(activation="gelu")),
        (unet, lambda: unet(center_input_sample=True)),
    ],
    ids=["heads", "norm first", "activation", "settings of diffusers"],
)
def test_modules_of_libraries_are_told_apart_by_what_they_were_made_with(one, other):
    first, same, second = one(), one(), other()
    for network in (same, second):
        network.load_state_dict(first.state_dict())
    assert digest(first) == digest(same) != digest(second)


@pytest.mark.parametrize("change", ["mode", "hook", "forward"])
def test_what_was_done_to_a_module_counts(change):
    one = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    other = copy.deepcopy(one)
    assert digest(one) == digest(other)
    if change == "mode":
        other.eval()
    elif change == "hook":
        other[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    else:
        other[0].forward = lambda x: 0 * x
    assert digest(one) != digest(other)


@pytest.mark.filterwarnings("ignore")  # quantisation of torch is deprecated
def test_quantised_weights_and_their_scales_count():
    ones = torch.ones(3, 2)
    scaled = [torch.quantize_per_tensor(s * ones, 0.1 * s, 0, torch.qint8) for s in (1, 2)]
    assert torch.equal(scaled[0].int_repr(), scaled[1].int_repr()) and digest(scaled[0]) != digest(scaled[1])
    channels = [
        torch.quantize_per_channel(s * ones, torch.full((3,), 0.1 * s).double(), torch.zeros(3).long(), 0, torch.qint8)
        for s in (1, 2)
    ]
    assert digest(channels[0]) != digest(channels[1])
    networks = [nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]
    packed = [torch.ao.quantization.quantize_dynamic(one, {nn.Linear}, dtype=torch.qint8) for one in networks]
    assert digest(packed[0]) == digest(copy.deepcopy(packed[0])) != digest(packed[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda k: (k * torch.eye(3)).to_sparse(),
        lambda k: (k * torch.eye(3)).to_sparse_csr(),
        lambda k: (k * torch.eye(3)).to_sparse_csc(),
        lambda k: torch.nested.nested_tensor([torch.ones(2), k * torch.ones(3)]),
        lambda k: collections.deque([k]),
        lambda k: datetime.timedelta(k),
        lambda k: decimal.Decimal(k),
        lambda k: torch.Generator().manual_seed(k),
        lambda k: np.random.default_rng(k),
        lambda k: np.float32(k),
        lambda k: pd.Series([k]),
        lambda k: pd.Index([k]),
        lambda k: np.ma.array([1, 2], mask=[0, k - 1]),
        lambda k: torch.jit.trace(nn.Sequential(nn.ReLU() if k == 1 else nn.Tanh()), torch.ones(1)),
    ],
    ids=[
        "coo",
        "csr",
        "csc",
        "nested",
        "deque",
        "timedelta",
        "decimal",
        "generator",
        "rng",
        "number",
        "series",
        "index",
        "masked",
        "traced",
    ],
)
@pytest.mark.filterwarnings("ignore")  # sparse and nested tensors are in beta
def test_things_that_show_nothing_are_told_apart(make):
    assert digest(make(1)) == digest(make(1)) != digest(make(2))


@pytest.mark.parametrize("thing", [nn.LazyLinear(3), (k for k in "a"), {}.keys()], ids=["lazy", "generator", "view"])
def test_what_cannot_be_read_is_one_clear_error(thing):
    with pytest.raises(InputError, match="x: found a"):
        digest(thing)


scale = 1.0


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 2.0

    def forward(self, x):
        return self.scale * x


def test_a_global_that_is_named_as_an_attribute_does_not_count(monkeypatch):
    before = digest(Scaled())
    monkeypatch.setitem(globals(), "scale", 17.0)
    assert digest(Scaled()) == before
    monkeypatch.setitem(globals(), "digest", len)  # of a function that reads it
    assert fingerprint(layer_digest, argument="x") != LAYER


def layer_digest():
    return digest(layer())


LAYER = fingerprint(layer_digest, argument="x")


class Extra(nn.Module):
    def __init__(self, held):
        super().__init__()
        self.held = held

    def get_extra_state(self):
        return io.BytesIO(self.held)


def test_extra_state_counts_by_its_bytes():
    assert digest(Extra(b"1").get_extra_state()) == digest(io.BytesIO(b"1"))
    assert digest(Extra(b"1")) != digest(Extra(b"2"))
    code = (
        "import io\nfrom torch import nn\nfrom scorescope.probes.models.fingerprint import fingerprint as f\n"
        "class E(nn.Module):\n    def get_extra_state(self): return io.BytesIO(b'1')\n"
        "print(f([E(), {(lambda: 1): 1, (lambda: 2): 2}], argument='x'))"
    )
    run = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(2)]
    assert run[0].stdout == run[1].stdout != ""


def test_a_pipeline_is_told_apart_by_the_settings_of_its_networks():
    found = [pipeline_identity(DDPMPipeline(unet(**how), DDPMScheduler())) for how in ({}, {}, {"freq_shift": 1})]
    assert found[0] == found[1] != found[2] and found[0]["scheduler"] == found[2]["scheduler"]
