"""Power-function EMAs: the profile that is tracked is the one that the length names."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from scorescope.data import InputError, PowerEMA
from scorescope.data.power_ema import LONGEST, gamma_to_sigma_rel, sigma_rel_to_gamma


def moved(network, steps, tracked, path):
    """Set the network's weights to path(t) and track them, for t = 1 to steps."""
    for step in range(1, steps + 1):
        with torch.no_grad():
            network.weight.copy_(path(step))
        tracked.update(network)


def test_lengths_and_exponents():
    known = {0.05: 16.9722, 0.10: 6.9372, 0.15: 3.5579, 0.20: 1.8262, 0.25: 0.7198, LONGEST: 0.0}
    for length, gamma in known.items():
        assert sigma_rel_to_gamma(length) == pytest.approx(gamma, abs=5e-5)
    for length in (1e-6, 1e-3, *known):
        assert gamma_to_sigma_rel(sigma_rel_to_gamma(length)) == pytest.approx(length, rel=1e-14)
    gamma = sigma_rel_to_gamma(0.12)
    mean, square = (quad(lambda share, k=k: (gamma + 1) * share ** (gamma + k), 0, 1)[0] for k in (1, 2))
    assert math.sqrt(square - mean**2) == pytest.approx(0.12, abs=1e-10)
    for length in (0.0, -0.1, 0.2887, math.nan, math.inf):
        with pytest.raises(InputError, match=r"sigma_rel.*at most 0.2887"):
            sigma_rel_to_gamma(length)


def test_what_is_tracked_is_the_average_under_the_profile():
    torch.manual_seed(0)
    network, steps = nn.Linear(3, 2, bias=False).double(), 300
    path = torch.randn(steps + 1, 2, 3, dtype=torch.float64)
    tracked = PowerEMA(network, (0.05, 0.10, 0.25))
    moved(network, steps, tracked, lambda step: path[step])
    for length, average in tracked.networks.items():
        power = sigma_rel_to_gamma(length) + 1
        shares = np.diff((np.arange(steps + 1) / steps) ** power)
        expected = np.einsum("t,tij->ij", shares, path[1:].numpy())
        np.testing.assert_allclose(average.weight.numpy(), expected, rtol=0, atol=1e-12)


def test_a_ramp_averages_to_the_closed_form():
    network, steps = nn.Linear(1, 1, bias=False).double(), 1000
    tracked = PowerEMA(network, (0.10,))
    moved(network, steps, tracked, lambda step: torch.full((1, 1), float(step)))
    gamma = sigma_rel_to_gamma(0.10)
    # of the continuous profile; steps end where they count, half a step later than their middle
    assert tracked.networks[0.10].weight.item() == pytest.approx((gamma + 1) / (gamma + 2) * steps + 0.5, abs=0.01)


def test_half_precision_networks_are_averaged_in_float32_and_buffers_are_the_last():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).half()
    tracked = PowerEMA(network, (0.10,))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        for _ in range(2000):
            tracked.update(network)
        network[0].weight.fill_(1.25)
        network[1].running_mean.fill_(3.0)
        tracked.update(network)
    average = tracked.networks[0.10]
    share = 1 - (1 - 1 / 2001) ** (sigma_rel_to_gamma(0.10) + 1)
    assert average[0].weight.dtype == torch.float32  # in float16 the step of a thousandth would be half lost
    torch.testing.assert_close(average[0].weight - 1, torch.full((2, 2), 0.25 * share), rtol=1e-3, atol=0)
    assert (average[1].running_mean == 3).all() and not any(p.requires_grad for p in average.parameters())


def test_a_state_goes_on_where_it_was():
    torch.manual_seed(0)
    network, path = nn.Linear(3, 2, bias=False), torch.randn(41, 2, 3)
    whole, parts = PowerEMA(network), [PowerEMA(network) for _ in range(2)]
    moved(network, 40, whole, lambda step: path[step])
    moved(network, 20, parts[0], lambda step: path[step])
    parts[1].load_state_dict({name: value.clone() for name, value in parts[0].state_dict().items()})
    moved(network, 20, parts[1], lambda step: path[20 + step])
    for one, other in pairwise([whole, parts[1]]):
        assert one.step == other.step == 40
        assert all(torch.equal(one.networks[k].weight, other.networks[k].weight) for k in (0.05, 0.10))
    with pytest.raises(InputError, match=r"lengths: found \[0.07\]; expected those tracked: \[0.05, 0.1\]"):
        PowerEMA(network, (0.07,)).load_state_dict(whole.state_dict())
    with pytest.raises(InputError, match="each length once"):
        PowerEMA(network, (0.07, 0.07))
