from copy import deepcopy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from scorescope.data import EDMDenoiser, InputError, UNetConfig, load_denoiser


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    return EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16), sigma_data=0.75).eval().requires_grad_(False)


def test_an_untrained_network_predicts_c_skip_x(denoiser):
    # the last layer's weights start at zero, so without its bias F = 0 and D = c_skip x
    denoiser.network.last.bias.zero_()
    x, sigma = torch.randn(4, 1, 8, 8), torch.tensor([0.01, 0.5, 2.0, 80.0])
    expected = 0.75**2 / (sigma**2 + 0.75**2)
    assert torch.allclose(denoiser(x, sigma, None), expected[:, None, None, None] * x, rtol=1e-5)


def test_small_noise_leaves_x_and_large_noise_forgets_it():
    denoiser, _ = load_denoiser("digits")
    x = torch.randn(3, 1, 8, 8).clamp(-1, 1)
    assert torch.allclose(denoiser(x, torch.full((3,), 1e-4), None), x, atol=1e-3)
    far = [denoiser(80 * torch.randn(3, 1, 8, 8), torch.full((3,), 80.0), None) for _ in range(2)]
    assert (far[0] - far[1]).abs().mean() < 0.1  # both are near the mean of the data


def test_condition_none_is_the_null_class_and_conditions_differ():
    denoiser, _ = load_denoiser("digits")
    x, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    uncond = denoiser(x, sigma, None)
    assert torch.equal(uncond, denoiser.denoise(x, sigma, torch.tensor([10, 10])))
    assert (denoiser(x, sigma, torch.tensor([3, 3])) - uncond).abs().max() > 0.01


def test_result_has_the_dtype_of_x(denoiser):
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    assert denoiser(x, torch.ones(2, dtype=torch.float64), None).dtype == torch.float64


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.tensor([0, 10]), "labels from 0 to 10"),
        (torch.tensor([-1, 3]), "labels from -1 to 3"),
        (torch.tensor([1.0, 2.0]), "torch.float32"),
        (torch.tensor([1]), r"shape \(1,\)"),
    ],
)
def test_labels_out_of_range_or_of_another_kind_are_refused(denoiser, labels, found):
    with pytest.raises(InputError, match=found):
        denoiser(torch.zeros(2, 1, 8, 8), torch.ones(2), labels)


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (0, 1, 8, 8), (2, 8, 8)])
def test_other_shapes_are_refused(denoiser, shape):
    with pytest.raises(InputError, match=r"^x: found shape"):
        denoiser(torch.zeros(shape), torch.ones(shape[0]), None)


@pytest.fixture(scope="module")
def attribute_denoiser():
    torch.manual_seed(0)
    config = UNetConfig(shape=(3, 8, 8), channels=(8, 16), embedding=16, attributes=(3, 2), patch=2)
    denoiser = EDMDenoiser(config, sigma_data=0.5).eval().requires_grad_(False)
    for weight in denoiser.parameters():  # some start at zero, which would hide the condition
        torch.nn.init.normal_(weight, std=0.1)
    return denoiser


def test_attributes_are_conditions_one_by_one_and_as_tokens(attribute_denoiser):
    denoiser = attribute_denoiser
    x, sigma = torch.randn(4, 3, 8, 8), torch.ones(4)
    labels = torch.tensor([[0, 0], [1, 1], [2, 0], [3, 1]])  # the last leaves the first attribute open
    full = denoiser(x, sigma, labels)
    assert full.shape == x.shape
    tokens = denoiser.embed(labels)
    assert tokens.shape == (4, 2, 16) and torch.equal(denoiser(x, sigma, tokens), full)
    null = denoiser(x, sigma, None)
    assert torch.equal(null, denoiser(x, sigma, torch.tensor([[3, 2]] * 4)))
    assert torch.equal(null, denoiser(x, sigma, denoiser.embed(None, batch=4)))
    assert (full - null).abs().flatten(1).amax(1).min() > 1e-4
    # values of different attributes have rows of their own
    assert len({tuple(row.tolist()) for row in denoiser.network.attribute_embedding.table.weight}) == 7


def test_bad_attribute_conditions_are_named(attribute_denoiser):
    x, sigma = torch.randn(2, 3, 8, 8), torch.ones(2)
    for bad in (torch.tensor([[4, 0]] * 2), torch.tensor([[0, -1]] * 2), torch.tensor([0, 1]), torch.zeros(2, 3, 16)):
        with pytest.raises(InputError, match="condition"):
            attribute_denoiser(x, sigma, bad)
    with pytest.raises(InputError, match="batch"):
        attribute_denoiser.embed(None)


@pytest.mark.parametrize("name", ["denoiser", "attribute_denoiser"])
def test_constants_are_made_once_and_move_with_the_network_but_are_not_stored(name, request):
    class Calls(TorchFunctionMode):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def __torch_function__(self, function, types, args=(), kwargs=None):
            self.seen.add(function)
            return function(*args, **(kwargs or {}))

    denoiser = request.getfixturevalue(name)
    x, labels = torch.zeros(2, *denoiser.shape), denoiser.null(2)
    with Calls() as calls:
        denoiser(x, torch.ones(2), None)
        denoiser.denoise(x, torch.ones(2), labels)
    assert calls.seen and not {torch.tensor, torch.as_tensor, torch.full} & calls.seen
    assert set(denoiser.state_dict()) == {name for name, _ in denoiser.named_parameters()}
    assert deepcopy(denoiser).to("meta").null(3).device.type == "meta"
    assert labels.dtype == torch.int64 and deepcopy(denoiser).half().null(3).dtype == torch.int64


def test_labels_are_checked_where_they_are(attribute_denoiser):
    # meta stands for another device: what is compared there has no values, which only the reading finds out
    with pytest.raises(RuntimeError, match="meta tensors"):
        attribute_denoiser.check_condition(torch.zeros(2, 2, dtype=torch.int64, device="meta"), 2)


def test_class_labels_have_tokens_too():
    denoiser, _ = load_denoiser("digits")
    x, sigma, labels = torch.randn(2, 1, 8, 8), torch.ones(2), torch.tensor([3, 7])
    tokens = denoiser.embed(labels)
    assert tokens.shape == (2, 1, 128) and torch.equal(denoiser(x, sigma, tokens), denoiser(x, sigma, labels))
