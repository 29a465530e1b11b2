"""A switch at the first step is a run of the second condition, one after the last a run of the first, bit by bit."""

import math

import pytest
import torch
from torch import nn

from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes.guidance import CFG
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Heun

A, B = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
SIGMAS = edm_sigmas(6)


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    found = EDMDenoiser(UNetConfig(channels=(16,), embedding=32), 0.5).eval()
    [nn.init.normal_(parameter, std=0.2) for parameter in found.parameters()]
    return found


class Counting:
    def __init__(self, inner):
        self.inner, self.shape, self.rows, self.calls = inner, inner.shape, [], 0

    def __call__(self, x, sigma, condition):
        self.calls += 1
        self.rows.append((float(sigma[0]), condition))
        assert not isinstance(condition, dict)
        return self.inner(x, sigma, condition)


@pytest.mark.parametrize("solver", [Heun(), Heun(churn=20), DPMSolverPP2M()])
@pytest.mark.parametrize("rule", [CFG(1.0), CFG(3.0)])
@pytest.mark.parametrize("reuse", [True, False])
def test_the_ends_are_plain_runs_exactly(denoiser, solver, rule, reuse):
    options = {"seeds": [7, 8, 9], "sigmas": SIGMAS, "solver": solver, "rule": rule, "progress": False, "batch": 2}
    plain_a, plain_b = (sample(denoiser, condition=c, **options).samples for c in (A, B))
    switching = SwitchingDenoiser(denoiser, reuse)
    assert torch.equal(switching.sample(A, B, at=0.0, **options).samples, plain_a)
    assert torch.equal(switching.sample(A, B, at=math.inf, **options).samples, plain_b)
    between = switching.sample(A, B, at=SIGMAS[3], **options).samples
    assert not torch.equal(between, plain_a) and not torch.equal(between, plain_b)
    assert torch.equal(between, SwitchingDenoiser(denoiser, reuse=False).sample(A, B, at=SIGMAS[3], **options).samples)


def test_each_call_has_the_condition_of_its_noise_level_and_shared_calls_are_made_once(denoiser):
    options = {"seeds": [7, 8, 9], "sigmas": SIGMAS, "solver": DPMSolverPP2M(), "progress": False}
    counting = Counting(denoiser)
    switching = SwitchingDenoiser(counting)
    switching.sample(A, B, at=0.0, **options)
    assert counting.calls == 6
    switching.sample(A, B, at=SIGMAS[4], **options)
    assert counting.calls == 6 + 2
    assert all(torch.equal(condition, B) for _, condition in counting.rows[6:])
    assert [sigma for sigma, _ in counting.rows[6:]] == pytest.approx(SIGMAS[4:6])


def test_conditions_of_several_parts_share_calls_too_and_what_cannot_be_compared_is_not_kept(denoiser):
    class Parts(Counting):
        def __call__(self, x, sigma, condition):
            self.calls += 1
            return self.inner(x, sigma, condition["label"])

    options = {"seeds": [7, 8, 9], "sigmas": SIGMAS, "solver": DPMSolverPP2M(), "progress": False}
    above, below = ({"label": label, "pair": [torch.ones(2), torch.zeros(2), label[0]]} for label in (A, B))
    counting = Parts(denoiser)
    switching = SwitchingDenoiser(counting)
    first = switching.sample(above, below, at=0.0, **options).samples
    assert torch.equal(first, switching.sample(above, below, at=0.0, **options).samples) and counting.calls == 6
    odd = {"label": A, "pair": [object()] * 3}
    switching = SwitchingDenoiser(Parts(denoiser))
    switching.sample(odd, odd, at=0.0, **options)
    assert len(switching._kept) == 0 and switching.denoiser.calls == 6


def test_other_seeds_let_go_of_what_was_kept(denoiser):
    switching = SwitchingDenoiser(denoiser)
    for seeds in ([1, 2, 3], [1, 2, 3], [4, 5, 6]):
        switching.sample(A, B, at=0.0, seeds=seeds, sigmas=SIGMAS, solver=DPMSolverPP2M(), progress=False)
        assert len(switching._kept) == 6 * 3


@pytest.mark.parametrize("step", range(6))
def test_the_switch_is_at_the_level_whatever_its_rounding(denoiser, step):
    counting = Counting(denoiser)
    SwitchingDenoiser(counting).sample(
        A, B, at=SIGMAS[step], seeds=[7, 8, 9], sigmas=SIGMAS, solver=DPMSolverPP2M(), progress=False
    )
    assert [torch.equal(condition, B) for _, condition in counting.rows] == [k >= step for k in range(6)]


def test_another_first_condition_is_not_taken_for_the_kept_one(denoiser):
    options = {"seeds": [7, 8, 9], "sigmas": SIGMAS, "progress": False}
    switching = SwitchingDenoiser(denoiser)
    switching.sample(A, B, at=0.0, **options)
    again = switching.sample(A + 3, B, at=0.0, **options).samples
    assert torch.equal(again, sample(denoiser, condition=A + 3, **options).samples)


def test_bad_input(denoiser):
    for arguments, text in (((A, None), "two conditions"), ((A, B[:2]), "condition"), ((A, B + 9), "0 to 9")):
        with pytest.raises(InputError, match=text):
            SwitchingDenoiser(denoiser).sample(*arguments, at=1.0, seeds=[1, 2, 3], progress=False)
    with pytest.raises(InputError, match="at least 0"):
        SwitchingDenoiser(denoiser).sample(A, B, at=-1.0, seeds=[1, 2, 3], progress=False)
