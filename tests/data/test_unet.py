import pytest
import torch

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
