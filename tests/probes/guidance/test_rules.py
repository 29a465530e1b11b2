"""Formulas of the guidance rules, each against a form written out from its paper in that paper's space."""

import math

import numpy as np
import pytest
import torch

from scorescope.data import InputError
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGPP,
    ICG,
    PAG,
    TSG,
    Autoguidance,
    CFGZeroStar,
    DynamicThreshold,
    FrequencyDecoupled,
    GuidanceState,
    InSpace,
    Interval,
    MagnitudeAware,
    RandomLabels,
    Rescaled,
    Scheduled,
    StepInterval,
    TangentialCFG,
)
from scorescope.probes.guidance.base import PERTURBED, WEAK, Products
from scorescope.probes.guidance.combination import combination_of
from scorescope.probes.models.spaces import from_denoised, to_denoised

SHAPES = [(9,), (3, 11), (2, 6, 6), (2, 3, 4, 4)]
SIGMAS = [0.05, 0.8, 20.0]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
WEAK_MODEL = Autoguidance(1.0, lambda x, sigma, condition: x)


def everything(weight):
    """Every rule that has a weight, at that weight, on data of any shape."""
    return [
        CFG(weight),
        APG(weight),
        APG(weight, eta=1.0),
        TangentialCFG(weight),
        CFGZeroStar(weight, zero_steps=0),
        MagnitudeAware(weight),
        MagnitudeAware(weight, alpha=0.0),
        ICG(weight, RandomLabels(3)),
        Autoguidance(weight, WEAK_MODEL),
        TSG(weight),
        PAG(0.0, weight=weight),
    ]


def drawn(shape, sigma=0.8, batch=4, **where):
    """cond, uncond and a state, in float64; the weak and perturbed branches are `uncond` too."""
    generator = torch.Generator().manual_seed(3)
    cond, uncond, x = (torch.randn(batch, *shape, generator=generator, dtype=torch.float64) for _ in range(3))
    place = {"sigma": sigma, "sigma_next": sigma / 2, "step": 0, "call": 0} | where
    return cond, uncond, GuidanceState(x, **place, others={WEAK: uncond, PERTURBED: uncond})


def rows(t):
    return t.flatten(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("index", range(len(everything(1.0))))
def test_weight_one_is_cond(index, shape):
    cond, uncond, state = drawn(shape)
    rule = everything(1.0)[index]
    assert torch.equal(rule(cond, None, state), cond) and rule.branches(state) == ("cond",)
    # and the formula itself goes there: nothing jumps at w = 1
    near = everything(1.0 + 1e-12)[index]
    assert torch.allclose(near(cond, uncond, state), cond, **CLOSE) and len(near.branches(state)) == 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "rule",
    [CFG(0.0), APG(0.0, eta=1.0), MagnitudeAware(0.0, 0.0), *everything(0.0)[7:]],
    ids=lambda r: type(r).__name__,
)
def test_weight_zero_is_what_stands_for_uncond(rule, shape):
    cond, uncond, state = drawn(shape)
    assert torch.allclose(rule(cond, uncond, state), uncond, **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_rules_that_are_cfg_at_one_value_of_a_parameter(shape):
    cond, uncond, state = drawn(shape)
    expected = uncond + 3.5 * (cond - uncond)
    for rule in (CFG(3.5), APG(3.5, eta=1.0), MagnitudeAware(3.5, alpha=0.0), ICG(3.5, RandomLabels(2)), TSG(3.5)):
        assert torch.allclose(rule(cond, uncond, state), expected, **CLOSE)
    assert torch.allclose(PAG(2.5)(cond, None, state), expected, **CLOSE)  # s = w - 1 beside the perturbed branch
    both = PAG(1.5, weight=3.0)(cond, uncond, state)
    assert torch.allclose(both, cond + 2 * (cond - uncond) + 1.5 * (cond - state.others[PERTURBED]), **CLOSE)


@pytest.mark.parametrize("sigma", [0.3, 5.0])
@pytest.mark.parametrize("fraction", [0.0, 0.4, 0.99])
def test_effective_weight_of_cfgpp_in_its_vp_and_flow_forms(sigma, fraction):
    after = sigma * fraction
    state = GuidanceState(torch.zeros(1, 1), sigma, after, 0, 0)
    found = CFGPP(0.6).effective_weight(state)
    (a_t, b_t), (a_s, b_s) = ((1 / math.hypot(1, s), s / math.hypot(1, s)) for s in (sigma, after))
    assert found == pytest.approx(0.6 * a_s / (a_s - (b_s / b_t) * a_t), rel=1e-10)
    t, s = sigma / (1 + sigma), after / (1 + after)
    assert found == pytest.approx(0.6 * t * (1 - s) / (t - s), rel=1e-10)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rescale_is_the_papers_form_in_the_named_space(shape, space, sigma):
    cond, uncond, state = drawn(shape, sigma)
    c, g = (from_denoised(d, state.x, state.level, space=space) for d in (cond, CFG(4.0)(cond, uncond, state)))
    axes = tuple(range(1, c.ndim))
    full = g * c.std(axes, keepdim=True) / g.std(axes, keepdim=True)
    for phi in (0.0, 0.7, 1.0):
        found = Rescaled(CFG(4.0), phi=phi, space=space)(cond, uncond, state)
        expected = to_denoised(phi * full + (1 - phi) * g, state.x, state.level, space=space)
        assert torch.allclose(found, expected, **CLOSE)
    equal = from_denoised(found, state.x, state.level, space=space)
    assert torch.allclose(rows(equal).std(1), rows(c).std(1), rtol=1e-10)
    assert torch.equal(Rescaled(CFG(4.0), 0.0)(cond, uncond, state), CFG(4.0)(cond, uncond, state))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_tangential_projects_on_the_first_right_singular_vector(shape, sigma):
    cond, uncond, state = drawn(shape, sigma)
    scores = [from_denoised(d, state.x, state.level, space="score") for d in (uncond, cond)]
    v1 = torch.linalg.svd(torch.stack([rows(s) for s in scores], 1), full_matrices=False).Vh[:, 0]
    projected = ((rows(scores[0]) * v1).sum(1, keepdim=True) * v1).reshape(cond.shape)
    new = to_denoised(projected, state.x, state.level, space="score")
    assert torch.allclose(TangentialCFG(3.0)(cond, uncond, state), new + 3 * (cond - new), **CLOSE)
    # at w = 0 the new uncond itself: its score has no part outside the span of v1
    left = rows(TangentialCFG(0.0)(cond, uncond, state) - state.x)
    assert (left - (left * v1).sum(1, keepdim=True) * v1).abs().max() < 1e-10 * left.abs().max()


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cfg_zero_star_is_its_velocity_form(shape, sigma):
    cond, uncond, state = drawn(shape, sigma, step=1)
    time = sigma / (1 + sigma)
    x = state.x * (1 - time)  # the same state on the flow path, x0 (1 - t) + t n
    v_c, v_u = ((x - d) / time for d in (cond, uncond))
    s = ((rows(v_c) * rows(v_u)).sum(1) / rows(v_u).square().sum(1)).reshape(-1, *(1,) * len(shape))
    expected = x - time * (s * v_u + 4.0 * (v_c - s * v_u))
    assert torch.allclose(CFGZeroStar(4.0)(cond, uncond, state), expected, **CLOSE)
    # s* v_u is the projection of v_c on v_u
    assert (rows(v_c - s * v_u) * rows(v_u)).sum(1).abs().max() < 1e-10 * rows(v_u).square().sum(1).max()
    # a step with no velocity leaves the flow state where it is
    state.step = 0
    still = state.x + (state.sigma_next - sigma) / sigma * (state.x - CFGZeroStar(4.0)(cond, None, state))
    assert torch.allclose(still / (1 + state.sigma_next), x, **CLOSE)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_magnitude_aware_is_its_velocity_form(shape, sigma):
    cond, uncond, state = drawn(shape, sigma)
    v_c, v_u = (from_denoised(d, state.x, state.level, space="flow") for d in (cond, uncond))
    ratio = (rows(v_c - v_u).norm(dim=1) / rows(v_u).norm(dim=1)).reshape(-1, *(1,) * len(shape))
    weight = 1 + 9.0 * torch.exp(-0.7 * ratio)
    expected = to_denoised(v_u + weight * (v_c - v_u), state.x, state.level, space="flow")
    assert torch.allclose(MagnitudeAware(10.0, alpha=0.7)(cond, uncond, state), expected, **CLOSE)


def test_magnitude_aware_at_the_limits_of_its_ratio():
    cond, _, state = drawn((5,))
    state.x = torch.zeros_like(cond)
    still = state.x  # v_u = 0: the ratio is infinite, the weight 1
    assert torch.equal(MagnitudeAware(10.0)(cond, still, state), cond)
    assert torch.allclose(MagnitudeAware(10.0, alpha=0.0)(cond, still, state), still + 10 * (cond - still), **CLOSE)
    assert torch.equal(MagnitudeAware(10.0)(still, still, state), still)


@pytest.mark.parametrize("limit", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("quantile", [0.3, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_dynamic_threshold_equals_numpy(shape, quantile, limit):
    cond, uncond, state = drawn(shape)
    guided = rows(CFG(3.0)(cond, uncond, state)).numpy()
    bound = np.maximum(np.quantile(np.abs(guided), quantile, axis=1, keepdims=True), limit)
    expected = np.clip(guided, -bound, bound) / bound * limit
    found = DynamicThreshold(CFG(3.0), quantile, limit)(cond, uncond, state)
    assert torch.allclose(rows(found), torch.from_numpy(expected), **CLOSE)


@pytest.mark.parametrize("shape", SHAPES)
def test_interval_of_everything_is_the_inner_rule(shape):
    cond, uncond, state = drawn(shape)
    for inner in [*everything(3.0), CFGPP(0.6), Rescaled(APG(3.0)), Scheduled(CFG(2.0), lambda sigma: 4.0)]:
        expected = inner(cond, uncond, state)
        for rule in (Interval(inner), StepInterval(inner), Interval(StepInterval(inner))):
            assert torch.equal(rule(cond, uncond, state), expected)
            assert rule.branches(state) == inner.branches(state) and rule.weight == inner.weight


def test_intervals_are_half_open_in_sigma_and_inclusive_in_steps():
    cond, uncond, state = drawn((4,))
    rule = Interval(CFG(3.0), 0.2, 0.8)
    for sigma, inside in ((0.2, False), (math.nextafter(0.2, 1), True), (0.8, True), (math.nextafter(0.8, 1), False)):
        state.sigma = sigma
        assert (rule.branches(state) == ("cond", "uncond")) == inside
        assert torch.equal(rule(cond, uncond if inside else None, state), cond) != inside
    rule = StepInterval(CFG(3.0), 2, 4)  # by position
    for step in range(7):
        state.step = step
        assert (len(rule.branches(state)) == 2) == (2 <= step <= 4)


def test_diffusers_guiders_in_matched_spaces():
    """A second source: what the installed library computes, in some places in float32."""
    pytest.importorskip("diffusers")
    from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale
    from diffusers.guiders.guider_utils import rescale_noise_cfg
    from diffusers.guiders.magnitude_aware_guidance import mambo_guidance
    from diffusers.guiders.tangential_classifier_free_guidance import normalized_guidance

    cond, uncond, state = drawn((2, 6, 6), step=1)
    v_c, v_u = (from_denoised(d, state.x, state.level, space="flow") for d in (cond, uncond))

    def back(v):
        return to_denoised(v, state.x, state.level, space="flow")

    # flat: torch.norm refuses the three axes that the guider gives it for images
    magnitude = back(mambo_guidance(rows(v_c), rows(v_u), 5.0, 2.0).reshape(cond.shape))
    assert torch.allclose(MagnitudeAware(5.0, 2.0)(cond, uncond, state), magnitude, **CLOSE)
    s = cfg_zero_star_scale(rows(v_c), rows(v_u)).reshape(-1, 1, 1, 1)
    zero_star = back(s * v_u + 4 * (v_c - s * v_u))
    assert torch.allclose(CFGZeroStar(4.0)(cond, uncond, state), zero_star, rtol=1e-5, atol=1e-5)
    e_c, e_u = (from_denoised(d, state.x, state.level, space="eps") for d in (cond, uncond))
    tangential = to_denoised(normalized_guidance(e_c, e_u, 4.0), state.x, state.level, space="eps")
    assert torch.allclose(TangentialCFG(4.0)(cond, uncond, state), tangential, rtol=1e-5, atol=1e-5)
    w_c, w_u = (from_denoised(d, state.x, state.level, space="v") for d in (cond, uncond))
    rescaled = rescale_noise_cfg(w_u + 4 * (w_c - w_u), w_c, 0.7)
    expected = to_denoised(rescaled, state.x, state.level, space="v")
    assert torch.allclose(Rescaled(CFG(4.0), 0.7)(cond, uncond, state), expected, **CLOSE)


def test_one_element_is_enough_for_the_rules():
    cond, uncond, state = drawn((1,))
    for rule in [*everything(2.0), Rescaled(CFG(2.0)), DynamicThreshold(CFG(2.0))]:
        assert torch.isfinite(rule(cond, uncond, state)).all()


def test_frequency_decoupled_names_data_it_cannot_split():
    cond, uncond, state = drawn((9,))
    with pytest.raises(ValueError, match=r"^cond: found data of shape \(9,\); expected \(channel, y, x\)"):
        FrequencyDecoupled((1.0, 2.0))(cond, uncond, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescaling_a_velocity_of_zero_leaves_it(dtype):
    # CFG-Zero* stands still in its first steps; what rounding leaves of v = 0 must not be blown up
    cond, x = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    state = GuidanceState(cond + 20 * x, 20.0, 10.0, 0, 0)
    still = CFGZeroStar(3.0)(cond, None, state)
    assert torch.allclose(Rescaled(CFGZeroStar(3.0), 0.7, "flow")(cond, None, state), still, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow"])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(
    "rule", [CFG(4.0), APG(4.0, eta=1.0), Interval(CFG(4.0), high=30.0), Autoguidance(3.0, WEAK_MODEL)]
)
def test_a_rule_that_is_linear_in_the_branches_is_the_same_in_every_space(rule, sigma, space):
    cond, uncond, state = drawn((2, 6, 6), sigma)
    torch.testing.assert_close(
        InSpace(rule, space)(cond, uncond, state), rule(cond, uncond, state), rtol=1e-9, atol=1e-9
    )


def test_frequency_decoupled_guidance_is_the_same_in_every_space():
    cond, uncond, state = drawn((2, 6, 6))
    rule = FrequencyDecoupled((2.0, 5.0))
    torch.testing.assert_close(InSpace(rule, "v")(cond, uncond, state), rule(cond, uncond, state), **CLOSE)


@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow"])
def test_projection_in_a_space_leaves_the_cond_prediction_of_that_space(space):
    """APG with eta 0 moves across what is predicted there: written out, and by another formula of the same."""
    cond, uncond, state = drawn((9,))
    c, u = (from_denoised(branch, state.x, state.level, space=space) for branch in (cond, uncond))
    d = c - u
    across = d - (d * c).sum(1, keepdim=True) / (c * c).sum(1, keepdim=True) * c
    expected = to_denoised(c + 3 * across, state.x, state.level, space=space)
    torch.testing.assert_close(InSpace(APG(4.0), space)(cond, uncond, state), expected, **CLOSE)


def test_momentum_and_clip_are_those_of_the_space():
    cond, uncond, state = drawn((9,))
    rule = InSpace(APG(4.0, eta=1.0, norm=0.5, momentum=-0.5), "eps")
    first = rule(cond, uncond, state)
    eps = [from_denoised(branch, state.x, state.level, space="eps") for branch in (cond, uncond)]
    update = eps[0] - eps[1]
    torch.testing.assert_close(state.memory["apg"], update, **CLOSE)
    clipped = update * (0.5 / update.norm(dim=1, keepdim=True)).clamp(max=1)
    torch.testing.assert_close(first, to_denoised(eps[0] + 3 * clipped, state.x, state.level, space="eps"), **CLOSE)


def test_a_rule_in_a_space_leaves_cond_where_nothing_is_guided():
    cond, uncond, state = drawn((9,))
    assert InSpace(APG(1.0), "v")(cond, None, state) is cond
    assert InSpace(Interval(APG(4.0), low=1.0), "v")(cond, None, state) is cond
    assert combination_of(InSpace(APG(4.0), "eps"), Products(cond, uncond, state.x), state) is None


@pytest.mark.parametrize("rule", [Rescaled(CFG(4.0)), TangentialCFG(4.0), Interval(DynamicThreshold(CFG(4.0)))])
def test_a_rule_with_a_space_of_its_own_is_refused_in_another(rule):
    with pytest.raises(InputError, match=r"^rule: found .*expected a rule that looks at the branches alone"):
        InSpace(rule, "eps")
    with pytest.raises(InputError, match="space"):
        InSpace(CFG(4.0), "score")
