import pytest
import torch

from scorescope.data import InputError
from scorescope.probes import APG, CFG
from scorescope.probes.guidance import APGMix, GuidanceState, Rule

SHAPES = [(9,), (3, 11), (2, 6, 6), (2, 3, 4, 4)]


def branches(shape, batch=4):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for _ in range(2)]


def state(step=0, call=0, memory=None):
    return GuidanceState(torch.zeros(1), 1.0, 0.5, step, call, {} if memory is None else memory)


def listing(cond, uncond, buffer, *, weight, eta, norm, momentum):
    """Algorithm 1 of arXiv 2410.02416, written out: momentum, norm clip, projection in float64."""
    axes = tuple(range(1, cond.ndim))
    update = cond - uncond
    buffer = update + momentum * buffer
    update = buffer
    update = update * torch.minimum(torch.ones(()), norm / update.square().sum(axes, keepdim=True).sqrt())
    unit = cond.double() / cond.double().square().sum(axes, keepdim=True).sqrt()
    parallel = (update.double() * unit).sum(axes, keepdim=True) * unit
    return cond + (weight - 1) * (update - parallel + eta * parallel), buffer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", [CFG, APG])
def test_weight_one_is_cond_and_zero_is_uncond(rule, shape):
    cond, uncond = branches(shape)
    assert torch.equal(rule(1.0)(cond, uncond, state()), cond)
    assert torch.equal(CFG(0.0)(cond, uncond, state()), uncond)
    assert rule(1.0).branches(state()) == ("cond",) and rule(2.0).branches(state()) == ("cond", "uncond")
    assert isinstance(rule(2.0), Rule)


@pytest.mark.parametrize("shape", SHAPES)
def test_apg_that_keeps_everything_is_cfg(shape):
    cond, uncond = branches(shape)
    found = APG(3.5, eta=1.0)(cond, uncond, state())
    assert torch.allclose(found, CFG(3.5)(cond, uncond, state()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_apg_update_is_orthogonal_to_cond(shape):
    cond, uncond = branches(shape)
    update = (APG(4.0)(cond, uncond, state()) - cond).flatten(1)
    inner = (update * cond.flatten(1)).sum(1) / (update.norm(dim=1) * cond.flatten(1).norm(dim=1))
    assert inner.abs().max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", [1.0, 100.0])
def test_apg_equals_the_papers_listing_over_several_steps(shape, norm):
    rule, memory, buffer = APG(5.0, eta=0.3, norm=norm, momentum=-0.75), {}, 0.0
    for step in range(4):
        cond, uncond = (t + 0.1 * step for t in branches(shape))
        expected, buffer = listing(cond, uncond, buffer, weight=5.0, eta=0.3, norm=norm, momentum=-0.75)
        found = rule(cond, uncond, state(step=step, memory=memory))
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_apg_norm_bounds_the_update():
    cond, uncond = branches((3, 5))
    update = (APG(2.0, eta=1.0, norm=0.5)(cond, uncond, state()) - cond).flatten(1).norm(dim=1)
    assert torch.allclose(update, torch.full((4,), 0.5, dtype=torch.float64))


def test_momentum_advances_once_a_step():
    cond, uncond = branches((7,))
    one_call, two_calls = {}, {}
    rule = APG(2.0, momentum=-0.5)
    for step in range(3):
        first = rule(cond, uncond, state(step, 0, one_call))
        assert torch.equal(rule(cond, uncond, state(step, 0, two_calls)), first)
        rule(cond * 2, uncond, state(step, 1, two_calls))
    assert torch.equal(one_call["apg"], two_calls["apg"])


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 4, 4)])
def test_mixed_apg_is_cfg_and_then_the_listing_with_a_momentum_from_the_first_step(shape):
    rule, memory, buffer = APGMix(5.0, norm=2.0, momentum=-0.75, cfg_weight=3.0, start_step=1), {}, 0.0
    for step in range(4):
        cond, uncond = (t + 0.1 * step for t in branches(shape))
        expected, buffer = listing(cond, uncond, buffer, weight=5.0, eta=0.0, norm=2.0, momentum=-0.75)
        found = rule(cond, uncond, state(step=step, memory=memory))
        expected = uncond + 3.0 * (cond - uncond) if step <= 1 else expected
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_mixed_apg_asks_for_what_it_uses():
    early, late = state(step=0), state(step=1)
    for rule, first in (
        (APGMix(5.0, cfg_weight=3.0, start_step=0), 2),
        (APGMix(5.0, cfg_weight=1.0, start_step=0), 1),
        (APGMix(5.0, momentum=-0.5, cfg_weight=1.0, start_step=0), 2),  # the momentum gathers
        (APGMix(1.0, momentum=-0.5, cfg_weight=1.0, start_step=0), 1),  # for nothing
        (APGMix(5.0, start_step=-1), 2),
    ):
        assert len(rule.branches(early)) == first
        assert len(rule.branches(late)) == (1 if rule.weight == 1 else 2)


def test_equal_branches_and_zero_predictions_give_no_nan():
    zero = torch.zeros(2, 5)
    assert torch.equal(APG(4.0, norm=1.0)(zero, zero, state()), zero)


def test_rules_do_not_change_their_inputs():
    cond, uncond = branches((3, 4))
    kept = cond.clone(), uncond.clone()
    rule, memory = APG(3.0, norm=1.0, momentum=-0.5), {}
    for step in range(2):
        rule(cond, uncond, state(step, memory=memory))
    assert torch.equal(cond, kept[0]) and torch.equal(uncond, kept[1])


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: CFG(float("nan")), "weight"),
        (lambda: CFG(float("inf")), "weight"),
        (lambda: APG(2.0, eta=float("nan")), "eta"),
        (lambda: APG(2.0, norm=0.0), "norm"),
        (lambda: APG(2.0, norm=-1.0), "norm"),
        (lambda: APG(2.0, momentum=-1.0), "momentum"),
        (lambda: APG(2.0, momentum=1.5), "momentum"),
    ],
)
def test_impossible_parameters_are_refused(make, argument):
    with pytest.raises(InputError, match=f"^{argument}: found"):
        make()
