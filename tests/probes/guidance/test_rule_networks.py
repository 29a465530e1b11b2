"""Rules that call a network in their own way, on the shipped denoisers: ICG, TSG, PAG, autoguidance."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from scorescope.data import EDMDenoiser, InputError, UNetConfig, load_denoiser
from scorescope.probes import Recording, sample
from scorescope.probes.guidance import (
    CFG,
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    Autoguidance,
    GuidanceState,
    Interval,
    RandomLabels,
    TimePower,
)
from scorescope.probes.guidance.base import PERTURBED, sample_generators
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling.solvers import Euler

GRID = edm_sigmas(5)
LABELS = torch.arange(4)


@pytest.fixture(scope="module")
def digits():
    return load_denoiser("digits")[0]


@pytest.fixture(scope="module")
def weak():
    return load_denoiser("digits_weak")[0]


def draw(denoiser, rule, **options):
    options = {"sigmas": GRID, "solver": Euler(), "record": Recording(keep=True), "progress": False} | options
    return sample(denoiser, seeds=range(4), condition=LABELS, rule=rule, **options)


def state(sigma=1.0, batch=4, **place):
    x = torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return GuidanceState(x, sigma, 0.5, **{"step": 2, "call": 0} | place, seeds=range(batch))


def hooks(denoiser):
    return sum(len(module._forward_hooks) for module in denoiser.modules())


RULES = [ICG(2.0, RandomLabels(10)), TSG(2.0), PAG(1.0), PAG(1.0, weight=2.0), Interval(TSG(2.0), 0.1, 20.0)]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_runs_repeat_and_do_not_depend_on_the_batch(digits, rule):
    whole = draw(digits, rule)
    assert torch.equal(draw(digits, rule).samples, whole.samples)
    # float32 convolutions may sum in another order for another batch
    assert torch.allclose(draw(digits, rule, batch=1).samples, whole.samples, atol=2e-3)
    assert not torch.allclose(draw(digits, CFG(1.0)).samples, whole.samples, atol=2e-3)
    assert hooks(digits) == 0


def test_draws_belong_to_the_seed_and_the_place():
    def first(tag=1, **place):
        return torch.stack([torch.rand(3, generator=g) for g in sample_generators(state(**place), tag)])

    base = first()
    assert torch.equal(base, first()) and len(base.unique()) == 12
    for other in (first(step=3), first(call=1), first(tag=2)):
        assert not (base == other).any()
    # and are not the noise that other samples start from
    starts = torch.stack([torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in range(2000)])
    assert not torch.isin(first(step=0), starts).any()
    with pytest.raises(InputError, match=r"^state.seeds: found 4 seeds; expected 2, one a sample"):
        sample_generators(GuidanceState(torch.zeros(2, 1), 1.0, 0.5, 0, 0, seeds=range(4)), 1)


def test_icg_guides_away_from_a_random_label(digits):
    seen = []

    def drawing(generators, condition):
        seen.append(RandomLabels(10)(generators, condition))
        return seen[-1]

    run = draw(digits, ICG(2.5, drawing))
    for visit, labels in zip(run.trace.kept, seen, strict=True):
        sigma = torch.full((4,), visit.sigma)
        assert labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < 10
        with torch.inference_mode():
            expected = digits(visit.x, sigma, labels)
        assert torch.allclose(visit.uncond, expected, atol=1e-5)
        assert torch.allclose(visit.guided, visit.uncond + 2.5 * (visit.cond - visit.uncond), atol=1e-4)
    assert len(torch.stack(seen).unique()) > 5 and (run.trace.scalars["needed"] == 2).all()


def test_icg_in_adaptive_guidance_draws_what_a_whole_batch_would(digits):
    rule = AdaptiveGuidance(ICG(2.0, RandomLabels(10)), 0.9995)
    whole, parts = draw(digits, rule), draw(digits, rule, batch=1)
    assert torch.allclose(whole.samples, parts.samples, atol=2e-3)
    assert whole.trace.scalars["needed"].nunique() == 2


def test_tsg_disturbs_the_embedding_by_its_own_spread(digits):
    where, rule, embeddings = state(), TSG(2.0, scale=0.7), []
    handle = digits.network.noise_embedding.register_forward_hook(lambda m, i, out: embeddings.append(out))
    sigma = torch.full((4,), 1.0)
    with torch.inference_mode():
        found = rule.predict(PERTURBED, digits, where.x, sigma, LABELS, where)
        clean = digits.network.noise_embedding[:](digits.network._frequencies(sigma.log() / 4))
    handle.remove()
    noise = torch.stack([torch.randn(128, generator=g) for g in sample_generators(where, 2)])
    disturbed = clean + 0.7 * clean.std(1, keepdim=True) * noise

    def replace(module, inputs, output):
        return disturbed

    handle = digits.network.noise_embedding.register_forward_hook(replace)
    with torch.inference_mode():
        expected = digits(where.x, sigma, LABELS)
    handle.remove()
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, digits(where.x, sigma, LABELS), atol=1e-3)
    assert rule.predict("uncond", digits, where.x, sigma, LABELS, where) is None


def test_tsg_with_a_schedule_is_tsg_of_that_strength(digits):
    where, sigma = state(), torch.full((4,), 1.0)
    with torch.inference_mode():
        found, expected, plain = (
            rule.predict(PERTURBED, digits, where.x, sigma, LABELS, where)
            for rule in (TSG(2.0, scale=1.2, schedule=TimePower(2.0)), TSG(2.0, scale=0.3), TSG(2.0, scale=1.2))
        )
    assert torch.allclose(found, expected, atol=1e-6)  # t = 1/2 at sigma 1
    assert not torch.allclose(found, plain, atol=1e-3)


def test_powers_of_time_in_their_units():
    assert [TimePower(0.25)(s) for s in (1.0, 4.0)] == pytest.approx([0.5**0.25, 0.8**0.25], rel=1e-12)
    rule = TimePower(2.0, unit="log_sigma", low=0.01, high=100.0)
    assert [rule(s) for s in (0.001, 0.01, 1.0, 100.0, 1e4)] == pytest.approx([0, 0, 0.25, 1, 1], abs=1e-12)
    assert TimePower(0.0)(0.3) == TimePower(0.0, unit="log_sigma")(0.3) == 1.0
    # no strength, no call: at the bottom of its scale the schedule is 0
    here = replace(state(), sigma=0.005)
    assert TSG(2.0, schedule=rule).branches(here) == ("cond",)
    assert TSG(2.0, schedule=rule).branches(replace(here, sigma=0.02)) == ("cond", PERTURBED)


def test_tsg_acts_between_its_noise_levels(digits):
    rule = TSG(2.0, low=0.1, high=GRID[1])
    needed = draw(digits, rule).trace.scalars.groupby("step")["needed"].first()
    assert list(needed) == [1 + (0.1 < sigma <= GRID[1]) for sigma in GRID[:-1]]


@pytest.mark.parametrize("rule", [TSG(3.0, scale=0.0), PAG(0.0), TSG(1.0)], ids=repr)
def test_no_strength_is_no_guidance_and_costs_nothing(digits, rule):
    run = draw(digits, rule)
    assert torch.equal(run.samples, draw(digits, CFG(1.0)).samples)
    assert (run.trace.scalars["needed"] == 1).all()


def test_pag_branch_is_attention_with_an_identity_map(digits):
    attention = digits.network.attention
    h = torch.randn(3, attention.qkv.in_channels, 4, 4, generator=torch.Generator().manual_seed(0))

    def by_hand(h, make_map):
        """Attention from its projections, with the map that `make_map` gives for the logits."""
        batch, channels, height, width = h.shape
        qkv = attention.qkv(attention.norm(h)).flatten(2)
        parts = qkv.reshape(batch, 3, attention.heads, channels // attention.heads, height * width)
        q, k, v = parts[:, 0], parts[:, 1], parts[:, 2]
        weights = make_map(torch.einsum("bhcq,bhck->bhqk", q, k) / (channels // attention.heads) ** 0.5)
        mixed = torch.einsum("bhqk,bhck->bhcq", weights, v)
        return h + attention.out(mixed.reshape(batch, channels, height, width))

    with torch.inference_mode():
        assert torch.allclose(by_hand(h, lambda logits: logits.softmax(-1)), attention(h), atol=1e-5)
        identity = by_hand(h, lambda logits: torch.eye(logits.shape[-1]).expand_as(logits))
        assert torch.allclose(identity, attention.without_mixing(h), atol=1e-5)
        assert not torch.allclose(identity, attention(h), atol=1e-2)
        where, sigma = state(), torch.full((4,), 1.0)
        found = PAG(1.0).predict(PERTURBED, digits, where.x, sigma, LABELS, where)
        forward, attention.forward = attention.forward, attention.without_mixing
        try:
            expected = digits(where.x, sigma, LABELS)
        finally:
            attention.forward = forward
    assert torch.allclose(found, expected, atol=1e-6)


def test_pag_counts_two_or_three_calls(digits):
    assert (draw(digits, PAG(1.0)).trace.scalars["needed"] == 2).all()
    run = draw(digits, PAG(1.5, weight=2.0))
    assert (run.trace.scalars["needed"] == 3).all()
    for visit in run.trace.kept:
        expected = visit.cond + (visit.cond - visit.uncond) + 1.5 * (visit.cond - visit.others[PERTURBED])
        assert torch.allclose(visit.guided, expected, atol=1e-4)


@pytest.mark.parametrize("rule", [PAG(1.0), TSG(2.0)], ids=repr)
def test_hooks_are_removed_when_the_network_fails(digits, rule):
    where = state()
    with pytest.raises(RuntimeError, match="the second middle block"):
        handle = digits.network.middle2.register_forward_pre_hook(_fail)
        try:
            rule.predict(PERTURBED, digits, where.x, torch.ones(4), LABELS, where)
        finally:
            handle.remove()
    assert hooks(digits) == 0


def _fail(module, inputs):
    raise RuntimeError("the second middle block")


def test_sites_that_are_not_there_or_are_no_attention(digits):
    where = state()
    for rule in (PAG(1.0, sites=("network.attention", "network.nothing")), TSG(2.0, site="network.nothing")):
        with pytest.raises(InputError, match=r"^site: found 'network.nothing'; expected a module of the"):
            rule.predict(PERTURBED, digits, where.x, torch.ones(4), LABELS, where)
    rule = PAG(1.0, sites=("network.attention", "network.middle1"))
    with pytest.raises(InputError, match=r"^sites: found a ResidualBlock; expected self-attention: a module"):
        rule.predict(PERTURBED, digits, where.x, torch.ones(4), LABELS, where)
    with pytest.raises(InputError, match=r"^denoiser: found a function; expected a torch.nn.Module"):
        PAG(1.0).predict(PERTURBED, lambda x, sigma, condition: x, where.x, torch.ones(4), LABELS, where)
    assert hooks(digits) == 0 and isinstance(digits, nn.Module)


def test_autoguidance_by_the_weak_sibling(digits, weak):
    run = draw(digits, Autoguidance(2.0, weak))
    for visit in run.trace.kept:
        with torch.inference_mode():
            expected = weak(visit.x, torch.full((4,), visit.sigma), LABELS)  # with the condition
        assert torch.allclose(visit.others["weak"], expected, atol=1e-5) and visit.uncond is None
        assert torch.allclose(visit.guided, expected + 2.0 * (visit.cond - expected), atol=1e-4)
    table = run.trace.scalars
    assert (table["needed"] == 2).all() and (table["reference"] == "weak").all()
    assert torch.equal(draw(digits, Autoguidance(1.0, weak)).samples, draw(digits, CFG(1.0)).samples)
    assert torch.allclose(draw(digits, Autoguidance(2.0, digits)).samples, draw(digits, CFG(1.0)).samples, atol=1e-3)


def test_a_weak_model_of_another_shape(digits):
    other = EDMDenoiser(UNetConfig(shape=(1, 16, 16)), sigma_data=0.5)
    with pytest.raises(
        InputError, match=r"^weak: found a model of data of shape \(1, 16, 16\); expected one of \(1, 8"
    ):
        draw(digits, Autoguidance(2.0, other))
    with pytest.raises(InputError, match=r"^denoiser \(weak\): found a prediction of shape \(4, 1, 4, 8\)"):
        draw(digits, Autoguidance(2.0, lambda x, sigma, condition: x[:, :, :4]))
