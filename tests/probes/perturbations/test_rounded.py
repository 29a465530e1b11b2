"""Networks with rounded numbers: the rounding itself, what it leaves alone, what it refuses."""

import copy

import pytest
import torch
from torch import nn

from scorescope.analysis.steps import change_steps, step_damage
from scorescope.data import InputError
from scorescope.probes import load_model
from scorescope.probes.models import edm_sigmas
from scorescope.probes.perturbations import Replaced, Rounded
from scorescope.probes.perturbations.rounded import rounded
from scorescope.probes.sampling import Sampling


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[1.0, 0.4], [10.0, 5.1]]))

    def forward(self, x, sigma, condition=None):
        return self.layer(x)


def test_values_go_to_the_nearest_step_of_their_row():
    """Three bits: -3 to 3, in steps of a third of the largest of each row."""
    found = rounded(torch.tensor([[3.0, 1.4, -0.4], [30.0, -16.0, 0.0]]), 3)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0, -0.0], [30.0, -20.0, 0.0]]))
    assert bool((rounded(torch.zeros(2, 3), 8) == 0).all())


def test_weights_by_output_channel_and_inputs_by_sample():
    x, sigma = torch.tensor([[1.0, 0.6], [100.0, 0.6]]), torch.ones(2)
    weights = Rounded(OneLayer(), bits=2)  # -1, 0, 1
    torch.testing.assert_close(weights(x, sigma, None), x @ torch.tensor([[1.0, 0.0], [10.0, 10.0]]).T)
    inputs = Rounded(OneLayer(), bits=2, weights=False, activations=True)
    expected = torch.tensor([[1.0, 1.0], [100.0, 0.0]]) @ OneLayer().layer.weight.T
    torch.testing.assert_close(inputs(x, sigma, None), expected)


def test_eight_bits_are_what_integers_of_eight_bits_give():
    """Products of int8 with sums in int32, as torch computes them, scaled afterwards."""
    layer = OneLayer()
    layer.layer = nn.Linear(48, 24, bias=False)
    x = torch.randn(32, 48, generator=torch.Generator().manual_seed(0))
    codes, scales = [], []
    for values in (x, layer.layer.weight.detach()):
        scale = values.abs().amax(1, keepdim=True) / 127
        codes.append((values / scale).round().to(torch.int8))
        scales.append(scale)
    exact = torch._int_mm(codes[0], codes[1].T.contiguous()) * scales[0] * scales[1].T
    found = Rounded(layer, activations=True)(x, torch.ones(32), None)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)  # sums in float32 of up to 48 terms


@pytest.mark.skipif(not hasattr(torch, "quantize_per_tensor"), reason="torch has said that it will do without")
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_network_that_torch_has_quantised_takes_the_place_of_steps():
    """Its own int8 kernels: linear layers alone, since those are what torch quantises without calibration."""
    denoiser = load_model("digits").denoiser
    integers = torch.ao.quantization.quantize_dynamic(copy.deepcopy(denoiser), {nn.Linear}, dtype=torch.qint8)
    assert any("quantized" in type(module).__module__ for module in integers.modules())
    changes = {"int8": Replaced(integers), "2 bits": Replaced(Rounded(denoiser, bits=2))}
    effects = change_steps(
        denoiser, changes, seeds=range(8), condition=torch.arange(8), sampling=Sampling(sigmas=edm_sigmas(6)),
        amplified=False, progress=False,
    )  # fmt: skip
    sizes = step_damage(effects).groupby("name")["mean"].max()
    assert 0 < sizes["int8"] < sizes["2 bits"] / 10


def test_the_network_itself_is_left_alone_and_many_bits_change_little():
    denoiser = load_model("digits").denoiser
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    x, sigma, labels = torch.randn(2, *denoiser.shape), torch.ones(2), torch.tensor([1, 2])
    errors = []
    with torch.no_grad():
        for bits in (4, 8, 16):
            coarse = Rounded(denoiser, bits=bits, activations=True)
            assert coarse.shape == denoiser.shape
            errors.append(float((coarse(x, sigma, labels) - denoiser(x, sigma, labels)).norm()))
    assert errors[0] > 4 * errors[1] > 400 * errors[2]  # a bit less doubles the step
    assert all(torch.equal(value, before[name]) for name, value in denoiser.state_dict().items())
    assert not any(module._forward_pre_hooks for module in denoiser.modules())


@pytest.mark.parametrize(("denoiser", "how"), [
    (lambda x, sigma, condition: x, {}), (nn.Identity(), {}), (OneLayer(), {"bits": 1}),
    (OneLayer(), {"weights": False}),
])  # fmt: skip
def test_what_cannot_be_rounded_is_refused(denoiser, how):
    with pytest.raises(InputError):
        Rounded(denoiser, **how)


class Two(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, sigma, condition=None):
        return self.layer(x)


@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.weight_norm]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_are_made_anew_are_refused(norm):
    """What was rounded was made again in the next call: nothing changed."""
    with pytest.raises(InputError, match="weights of 'layer' that are made anew"):
        Rounded(Two(norm(nn.Linear(8, 8))), bits=2)


def test_transposed_convolutions_and_joint_projections_are_rounded_by_output_channel():
    layer = nn.ConvTranspose1d(2, 3, 1, bias=False)
    coarse = Rounded(Two(layer), bits=2).denoiser.layer.weight
    torch.testing.assert_close(coarse.transpose(0, 1), rounded(layer.weight.transpose(0, 1), 2))
    attention = nn.MultiheadAttention(4, 2)
    coarse = Rounded(Two(attention), bits=2).denoiser.layer
    torch.testing.assert_close(coarse.in_proj_weight, rounded(attention.in_proj_weight, 2))
