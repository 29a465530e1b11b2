"""EMAs of any length, made after training: against tracked ones, against quadrature, and against the formulas anew."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.integrate import quad
from torch import nn

from scorescope.data import InputError, PowerEMA, load_digits
from scorescope.data.power_ema import sigma_rel_to_gamma
from scorescope.probes.models import Snapshot, find_snapshots, posthoc_ema
from scorescope.probes.models.posthoc_ema import posthoc_coefficients, profile_product

STEPS = 4096
ALL = (0.03, 0.05, 0.07, 0.10, 0.15, 0.20, 0.25)


def tracked(count, kind="drift"):
    """Snapshots of 0.05 and 0.10 of a path of 200 weights, and at its end the averages of all lengths."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((STEPS, 200))
    path = np.cumsum(noise, 0) / 64 if kind == "walk" else np.linspace(0, 1, STEPS)[:, None] * noise[0] + noise * 0.3
    network = nn.Linear(200, 1, bias=False).double()
    averages, snapshots = PowerEMA(network, ALL), []
    for step, row in enumerate(path, 1):
        with torch.no_grad():
            network.weight.copy_(torch.from_numpy(row)[None])
        averages.update(network)
        if step % (STEPS // count) == 0:
            states = {length: averages.networks[length].state_dict() for length in (0.05, 0.10)}
            snapshots += [Snapshot({k: v.clone() for k, v in s.items()}, step, length) for length, s in states.items()]
    return snapshots, {length: average.weight for length, average in averages.networks.items()}


@pytest.fixture(scope="module", params=["drift", "walk"])
def toy(request):
    return tracked(16, request.param)


def apart(made, true):
    return float((made.weights["weight"] - true).norm() / true.norm())


def test_products_of_profiles_by_quadrature():
    def profile(tau, step, gamma):
        return (gamma + 1) / step * (tau / step) ** gamma

    for one, other in (((3.0, 16.97), (7.0, 6.94)), ((7.0, 16.97), (3.0, 6.94)), ((5.0, 0.0), (5.0, 3.5))):
        end = min(one[0], other[0])
        expected = quad(lambda tau, a=one, b=other: profile(tau, *a) * profile(tau, *b), 0, end, epsabs=1e-13)[0]
        assert profile_product(one, other) == pytest.approx(expected, rel=1e-9)
        assert profile_product(one, other) == pytest.approx(profile_product(other, one), rel=1e-14)
    assert profile_product((4.0, 6.9), (4.0, 6.9)) == pytest.approx(7.9**2 / (14.8 * 4))


def test_coefficients_against_the_formulas_written_anew():
    """Karras et al. 2024, appendix C, with arrays: A X = b, then normalised."""
    snapshots = [Snapshot({}, step, length) for step in (2, 4, 6, 8) for length in (0.05, 0.10)]
    t = np.array([one.step for one in snapshots])
    g = np.array([sigma_rel_to_gamma(one.length) for one in snapshots])

    def dot(t_a, g_a, t_b, g_b):
        ratio = t_a / t_b
        exponent = np.where(t_a < t_b, g_b, -g_a)
        return (g_a + 1) * (g_b + 1) * ratio**exponent / ((g_a + g_b + 1) * np.maximum(t_a, t_b))

    gamma = sigma_rel_to_gamma(0.12)
    a, b = dot(t[:, None], g[:, None], t[None], g[None]), dot(t, g, 7.0, gamma)
    x = np.linalg.solve(a, b)
    size = dot(7.0, gamma, 7.0, gamma)
    found, error = posthoc_coefficients(snapshots, 0.12, 7.0)
    np.testing.assert_allclose(found, x / x.sum(), rtol=1e-9)
    x /= x.sum()
    assert error == pytest.approx(math.sqrt((x @ a @ x - 2 * x @ b + size) / size), rel=1e-6)
    assert math.sqrt(1 - b @ np.linalg.solve(a, b) / size) <= error * (1 + 1e-9)  # normalising costs a little


def test_lengths_between_those_of_the_snapshots(toy):
    snapshots, true = toy
    for length in (0.05, 0.10):  # themselves
        made = posthoc_ema(snapshots, length)
        assert apart(made, true[length]) < 1e-12 and made.error < 1e-7 and made.amplification == pytest.approx(1)
    for length, most in ((0.07, 0.01), (0.15, 0.01), (0.20, 0.03)):
        made = posthoc_ema(snapshots, length)
        assert apart(made, true[length]) < most and made.error < most
        single = min((one for one in snapshots if one.step == STEPS), key=lambda one: abs(one.length - length))
        plain = float((single.weights["weight"] - true[length]).norm() / true[length].norm())
        assert apart(made, true[length]) < plain / 4
    assert sum(made.coefficients) == pytest.approx(1, abs=1e-12) and made.step == STEPS


def test_outside_of_their_span_the_predicted_error_is_said():
    snapshots, true = tracked(4)
    with pytest.raises(InputError, match=r"length 0.03 at step 4096, whose profile 8 snapshots miss by 0.17"):
        posthoc_ema(snapshots, 0.03)
    made = posthoc_ema(snapshots, 0.03, at_most=1)
    assert 0.1 < made.error < 0.5 and apart(made, true[0.03]) > 0.01
    with pytest.raises(InputError, match="at step 100,"):
        posthoc_ema(snapshots, 0.10, step=100)


def test_an_earlier_step_can_be_asked_for():
    snapshots, _ = tracked(16)
    middle = next(one for one in snapshots if one.step == 2048 and one.length == 0.10)
    torch.testing.assert_close(posthoc_ema(snapshots, 0.10, step=2048).weights["weight"], middle.weights["weight"])
    with pytest.raises(InputError, match=r"at step 2176, .* miss by 0.37"):
        posthoc_ema(snapshots, 0.10, step=2176)  # half-way between two: no snapshot ends where its profile does


def test_files_of_half_precision_and_what_is_no_number(tmp_path):
    torch.manual_seed(0)
    for step in (100, 200):
        for length in (0.05, 0.10):
            tensors = {"w": torch.randn(3, 4).half(), "count": torch.tensor(step)}
            path = tmp_path / f"{step}-{length}.safetensors"
            save_file(tensors, path, {"training_step": str(step), "sigma_rel": str(length)})
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    snapshots = find_snapshots(tmp_path)
    assert [(one.step, one.length) for one in snapshots] == [(100, 0.05), (100, 0.10), (200, 0.05), (200, 0.10)]
    made = posthoc_ema(snapshots, 0.07, at_most=0.5)
    assert made.weights["w"].dtype == torch.float32 and made.weights["count"] == 200
    eighth = [Snapshot({"w": torch.ones(2).to(torch.float8_e4m3fn)}, 200, length) for length in (0.05, 0.10)]
    assert torch.equal(posthoc_ema(eighth, 0.07, at_most=0.5).weights["w"], torch.ones(2))
    states = [Snapshot(load_file(one.weights), one.step, one.length) for one in snapshots]
    assert torch.equal(posthoc_ema(states, 0.07, at_most=0.5).weights["w"], made.weights["w"])


def test_what_cannot_be_combined(tmp_path):
    one, other = (Snapshot({"w": torch.ones(2)}, 10, length) for length in (0.05, 0.10))
    cases = [
        ([], "at least one"),
        ([one, one, other], "step 10, length 0.05, twice"),
        ([one, Snapshot({"v": torch.ones(2)}, 10, 0.10)], r"differs in \['v', 'w'\]"),
        ([one, Snapshot({"w": torch.ones(3)}, 10, 0.10)], r"w of step 10, length 0.1, of shape \(3,\)"),
        ([one, Snapshot({"w": torch.full((2,), math.nan)}, 10, 0.10)], "not finite"),
        ([Snapshot({"w": torch.ones(2) * 1j}, 10, length) for length in (0.05, 0.10)], "real tensors"),
    ]
    for snapshots, said in cases:
        with pytest.raises(InputError, match=said):
            posthoc_ema(snapshots, 0.07)
    with pytest.raises(InputError, match="step: found 0"):
        Snapshot({}, 0, 0.05)
    with pytest.raises(InputError, match="which has none"):
        find_snapshots(tmp_path)
    (tmp_path / "network-snapshot-0000010-0.050.pkl").write_bytes(b"pickle")
    with pytest.raises(InputError, match="safetensors"):
        find_snapshots(tmp_path)
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", {"training_step": "ten", "sigma_rel": "0.05"})
    with pytest.raises(InputError, match=r"a\.safetensors.*could not convert"):
        find_snapshots(tmp_path)


def test_a_trained_network_within_a_hundredth_of_the_tracked_average():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 24), nn.SiLU(), nn.Linear(24, 64))
    images = load_digits().train.images.flatten(1)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    averages, snapshots = PowerEMA(network, (0.02, 0.05, 0.07, 0.10)), []
    for step in range(1, 401):
        clean = images[torch.randint(len(images), (32,))]
        loss = (network(clean + torch.randn_like(clean)) - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        averages.update(network)
        if step % 50 == 0:
            states = {length: averages.networks[length].state_dict() for length in (0.05, 0.10)}
            snapshots += [Snapshot({k: v.half() for k, v in s.items()}, step, length) for length, s in states.items()]
    true = {length: _flat(average.state_dict()) for length, average in averages.networks.items()}

    def distance(weights, length):
        return float((_flat(weights) - true[length]).norm() / true[length].norm())

    made = posthoc_ema(snapshots, 0.07)
    plain = distance(averages.networks[0.05].state_dict(), 0.07)
    assert plain > 0.01 and distance(made.weights, 0.07) < min(0.01, plain / 8)
    network.load_state_dict(made.weights)
    with pytest.raises(InputError, match=r"length 0.02 at step 400, whose profile 16 snapshots miss by 0\.2"):
        posthoc_ema(snapshots, 0.02)


def _flat(weights):
    return torch.cat([value.flatten() for _, value in sorted(weights.items())])


def test_weights_of_enlarged_rounding_are_refused():
    """Coefficients of hundreds on weights in float16 would leave the right profile and no digit of the weights."""
    steps = range(10, 2010, 10)
    snapshots = [Snapshot({"w": torch.ones(2).half()}, step, length) for step in steps for length in (0.05, 0.10)]
    with pytest.raises(InputError, match=r"length: found length 0\.01, for which the rounding of stored weights grows"):
        posthoc_ema(snapshots, 0.01)
    doubles = [Snapshot({"w": torch.ones(2).double()}, one.step, one.length) for one in snapshots]
    assert posthoc_ema(doubles, 0.01).weights["w"].tolist() == pytest.approx([1, 1], abs=1e-9)
