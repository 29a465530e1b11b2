"""What was predicted comes back to the bit; only what is new is asked, row by row; nothing else changes."""

import copy

import pytest
import torch
from torch import nn

from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import CFG, Recording, sample
from scorescope.probes.guidance import AdaptiveGuidance, Interval
from scorescope.probes.models import edm_sigmas
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.sampling import Euler, Heun, KeptPredictions

LABELS = torch.arange(6)
OPTIONS = {"sigmas": edm_sigmas(6), "progress": False}


class Counting:
    """A network, and how many rows it was asked about."""

    shape = (1, 8, 8)
    prediction_space, sigma_data = "edm", 0.5

    def __init__(self, inner):
        self.inner, self.rows, self.calls = inner, 0, 0

    def __call__(self, x, sigma, condition):
        self.rows, self.calls = self.rows + len(x), self.calls + 1
        return self.inner(x, sigma, condition)


@pytest.fixture
def network():
    torch.manual_seed(0)
    found = EDMDenoiser(UNetConfig(channels=(16,), embedding=32), 0.5).eval()
    [nn.init.normal_(parameter, std=0.2) for parameter in found.parameters()]
    return Counting(found)


def draw(denoiser, rule, count=6, **options):
    return sample(denoiser, seeds=range(count), condition=LABELS[:count], rule=rule, **OPTIONS, **options)


@pytest.mark.parametrize("solver", [Euler(), Heun()])
def test_the_same_run_again_and_a_part_of_it_ask_nothing_and_are_the_same_to_the_bit(network, solver):
    plain, kept = draw(network, CFG(3.0), solver=solver), KeptPredictions(network)
    asked, record = network.rows, Recording(keep=True)
    first = draw(kept, CFG(3.0), solver=solver, record=record)
    assert network.rows == 2 * asked and torch.equal(first.samples, plain.samples)
    again, part = draw(kept, CFG(3.0), solver=solver), draw(kept, CFG(3.0), 4, solver=solver, batch=3)
    assert network.rows == 2 * asked
    assert torch.equal(again.samples, plain.samples) and torch.equal(part.samples, plain.samples[:4])
    assert first.trace.scalars.equals(draw(kept, CFG(3.0), solver=solver, record=record).trace.scalars)


def test_thresholds_of_adaptive_guidance_share_their_steps_until_they_stop(network):
    kept, rules = KeptPredictions(network), [AdaptiveGuidance(CFG(3.0), threshold=t) for t in (1.0, 0.99, 0.9)]
    plain = [draw(network, rule).samples for rule in rules]
    asked, network.rows = network.rows, 0
    found = [draw(kept, rule).samples for rule in rules]
    assert network.rows < 0.8 * asked
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_an_interval_shares_what_lies_above_it(network):
    kept = KeptPredictions(network)
    draw(kept, CFG(1.0))
    asked = network.rows
    found = draw(kept, Interval(CFG(3.0), low=0.0, high=OPTIONS["sigmas"][3])).samples
    assert network.rows < asked + 2 * 6 * 6 and not torch.equal(found, draw(kept, CFG(1.0)).samples)
    torch.testing.assert_close(found, draw(network, Interval(CFG(3.0), low=0.0, high=OPTIONS["sigmas"][3])).samples)


def test_rows_that_differ_in_state_level_or_condition_are_not_taken_for_each_other(network):
    kept = KeptPredictions(network)
    x, levels = torch.randn(6, 1, 8, 8), torch.full((6,), 2.0)
    asked = [
        (x, levels, LABELS), (x + 1e-6, levels, LABELS), (x, levels * 1.001, LABELS), (x, levels, LABELS.flip(0) + 1),
        (x, levels, None), (x.flip(0), levels, LABELS.flip(0)), (x.double(), levels.double(), LABELS),
        (x, levels, network.inner.embed(LABELS).detach()),
    ]  # fmt: skip
    with torch.no_grad():
        for arguments in [*asked, *asked]:
            torch.testing.assert_close(kept(*arguments), network.inner(*arguments), rtol=1e-5, atol=1e-5)


def test_equal_rows_of_a_batch_are_asked_once_and_what_is_given_may_be_written_to(network):
    kept, x, levels = KeptPredictions(network), torch.randn(1, 1, 8, 8).repeat(5, 1, 1, 1), torch.ones(5)
    with torch.no_grad():
        first = kept(x, levels, None)
        assert network.rows == 1 and (first == first[0]).all()
        expected = first.clone()
        first.zero_()
        assert torch.equal(kept(x, levels, None), expected) and network.rows == 1


def test_what_cannot_be_told_or_needs_gradients_or_does_not_fit_is_asked_every_time(network):
    x, levels = torch.randn(2, 1, 8, 8), torch.ones(2)

    def ask(kept, condition=None):
        before = network.rows
        kept(x, levels, condition)
        kept(x, levels, condition)
        return network.rows - before

    odd = KeptPredictions(lambda x, sigma, condition: network(x, sigma, None))
    with torch.no_grad():
        assert ask(odd, [object(), object()]) == ask(odd, {"pair": [{}, {}]}) == 4 and len(odd) == 0
        assert ask(odd, {"prompt": ["a", "b"], "size": torch.ones(2, 3)}) == 2
        assert ask(KeptPredictions(network, most=2 * 64 * 4 - 1)) == 4 and ask(KeptPredictions(network, most=512)) == 2
    assert ask(KeptPredictions(network)) == 4
    kept = KeptPredictions(network)
    kept(x.requires_grad_(), levels, None).sum().backward()
    assert x.grad is not None


def test_everything_else_is_the_denoisers_own(network):
    kept = KeptPredictions(network)
    assert kept.shape == (1, 8, 8) and kept.prediction_space == "edm" and not hasattr(kept, "classes")
    assert copy.copy(kept).shape == (1, 8, 8)
    with torch.no_grad():
        kept(torch.zeros(2, 1, 8, 8), torch.ones(2), None)
        assert len(kept) == 1
        kept.forget()
        assert len(kept) == 0
        with pytest.raises(InputError, match="denoiser"):
            KeptPredictions(lambda x, sigma, condition: x[:1])(torch.randn(2, 3), torch.ones(2), None)
        with pytest.raises(InputError, match="most"):
            KeptPredictions(network, most="all")


def test_what_is_kept_does_not_make_it_another_model():
    one = KeptPredictions(lambda x, sigma, condition: 2 * x)
    other = KeptPredictions(lambda x, sigma, condition: x)
    before = fingerprint(one, argument="model")
    with torch.no_grad():
        one(torch.randn(2, 3), torch.ones(2), None)
    assert len(one) == 2 and fingerprint(one, argument="model") == before != fingerprint(other, argument="model")
