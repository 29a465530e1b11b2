"""Rules known by their factors: against the rules themselves, and against comparing pixel by pixel."""

from dataclasses import dataclass, replace

import pytest
import torch
from tests.benchmarks.bench_replay import Pipeline
from tests.oracles import random_pair
from torch import Tensor

from scorescope.probes import APG, CFG, Interval, Recording, record, sample
from scorescope.probes.decomposition.products import (
    branch_products,
    chosen_products,
    guided_products,
    squared_distance,
)
from scorescope.probes.experiments import replay_all
from scorescope.probes.guidance import (
    CFGPP,
    ICG,
    AdaptiveGuidance,
    APGMix,
    CFGZeroStar,
    DynamicThreshold,
    GuidanceState,
    LinearAG,
    LinearWeight,
    MagnitudeAware,
    RandomLabels,
    Rescaled,
    Scheduled,
    StepInterval,
    TangentialCFG,
)
from scorescope.probes.guidance.base import Products
from scorescope.probes.guidance.combination import combination_of
from scorescope.probes.guidance.state_products import StateProducts

RULES = [
    CFG(3.0),
    CFG(1.0),
    CFG(0.0),
    ICG(3.0, RandomLabels(3)),
    CFGPP(0.6),
    APG(3.0),
    APG(3.0, eta=0.4, norm=1.0),
    APG(1.0, momentum=-0.5),
    APGMix(3.0, start_step=1),
    APGMix(3.0, start_step=2),
    TangentialCFG(3.0),
    CFGZeroStar(3.0),
    CFGZeroStar(3.0, zero_steps=3),
    MagnitudeAware(3.0, alpha=0.5),
    Interval(CFG(3.0), low=1.0, high=5.0),
    Interval(APG(3.0, momentum=-0.5), low=3.0, high=5.0),
    StepInterval(TangentialCFG(3.0), first=2),
    Scheduled(CFG(3.0), LinearWeight(4.0, 1.0)),
    *(Rescaled(CFG(3.0), 0.7, space) for space in ("denoised", "eps", "v", "flow")),
    Rescaled(CFGZeroStar(3.0), 0.5, "flow"),
    Rescaled(TangentialCFG(3.0), 1.0),
    Rescaled(Interval(CFG(3.0), low=3.0)),
    AdaptiveGuidance(CFG(3.0), 0.95),
    AdaptiveGuidance(Rescaled(CFG(3.0)), 0.95),
    Rescaled(AdaptiveGuidance(CFG(3.0), 0.95)),
]
WITHOUT = [
    APG(3.0, momentum=-0.5),
    APGMix(3.0, momentum=-0.5),
    Interval(APG(3.0, momentum=-0.5)),
    DynamicThreshold(CFG(3.0)),
    Rescaled(DynamicThreshold(CFG(3.0))),
    LinearAG(3.0, {}),
]
SHAPES = [(7,), (3, 40), (2, 9, 9), (2, 3, 4, 5)]
SIGMA = 1.5


def drawn(shape: tuple[int, ...], **options: object) -> tuple[Tensor, Tensor, GuidanceState]:
    cond, uncond, x = torch.randn(3, 5, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cond, uncond = cond + 0.3, 0.6 * uncond + 0.4 * cond
    uncond[2] = cond[2] + 0.01 * uncond[2]  # branches that all but agree
    return cond, uncond, GuidanceState(cond + SIGMA * x, SIGMA, 1.0, 2, 0, **options)


def memory(rule: object) -> dict[str, object]:
    """With one sample that has stopped."""
    rows = torch.tensor([True, True, True, False, True])
    return {"ag": (1, rows | True, rows)} if "AdaptiveGuidance" in repr(rule) else {}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_factors_give_the_prediction_of_the_rule(rule, shape):
    # float64: 1e-10 of the largest value, as for the identities of the rules
    cond, uncond, state = drawn(shape, memory=memory(rule))
    if "AdaptiveGuidance" in repr(rule):
        uncond[3] = torch.nan  # not computed for the sample that has stopped
    asked = replace(state, memory=memory(rule))
    factors = combination_of(rule, Products(cond, uncond, state.x), asked)
    expected = rule(cond, uncond if len(rule.branches(state)) > 1 else None, state)
    column = (-1, *(1,) * len(shape))
    c, q, r = (f.reshape(column) for f in (factors.cond, factors.update, factors.noise))
    found = cond + c * cond + torch.where(q != 0, q * (cond - uncond), 0.0) + r * (state.x - cond)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))
    assert asked.memory.keys() == state.memory.keys()
    assert all(torch.equal(asked.memory["ag"][k], state.memory["ag"][k]) for k in (1, 2) if "ag" in asked.memory)


@pytest.mark.parametrize("rule", WITHOUT, ids=repr)
def test_rules_that_are_no_combination_say_so(rule):
    cond, uncond, state = drawn((2, 4, 4))
    assert combination_of(rule, Products(cond, uncond, state.x), state) is None
    assert not state.memory


def test_a_subclass_that_overrides_only_the_call_has_no_factors():
    @dataclass(frozen=True)
    class Twice(CFG):
        def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
            return 2 * super().__call__(cond, uncond, state)

    cond, uncond, state = drawn((4,))
    assert combination_of(CFG(2.0), Products(cond, uncond, state.x), state) is not None
    assert combination_of(Twice(2.0), Products(cond, uncond, state.x), state) is None
    assert combination_of(Interval(Twice(2.0)), Products(cond, uncond, state.x), state) is None


@pytest.mark.parametrize("shape", [(7,), (2, 9, 9), (4, 64, 64)])
def test_products_of_a_state(shape):
    cond, uncond, state = drawn(shape)
    recorded = uncond + 2.5 * (cond - uncond)
    at = StateProducts(cond, uncond, state.x, recorded)
    names = ("cond_noise", "cond_sum", "update_sum", "noise_sum")
    expected = branch_products(cond, uncond, state.x) | chosen_products(names, cond, uncond, state.x)
    expected["guided_sq"] = squared_distance(recorded, torch.zeros_like(recorded))
    assert at.products.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(at.products[name], value, rtol=1e-9, atol=1e-9), name
    alone = StateProducts(cond, None, state.x, recorded).products
    assert alone["update_sq"].isnan().all() and torch.equal(alone["cond_noise"], at.products["cond_noise"])


@pytest.mark.parametrize("shape", [(7,), (2, 9, 9), (4, 64, 64)])
def test_comparison_by_factors_equals_that_by_pixels(shape):
    cond, uncond, state = drawn(shape)
    at = StateProducts(cond, uncond, state.x, uncond + 2.5 * (cond - uncond))
    compared = 0
    for rule in RULES:
        if "AdaptiveGuidance" in repr(rule):
            continue
        guided = rule(cond, uncond, replace(state, memory={}))
        by_pixels = at.of_prediction(guided)
        expected = guided_products(guided, cond, None)
        expected |= {"difference_sq": squared_distance(guided, uncond + 2.5 * (cond - uncond))}
        assert by_pixels.keys() == expected.keys()
        by_factors = at.of_combination(combination_of(rule, Products(cond, uncond, state.x), state))
        compared += by_factors is not None
        for name, value in expected.items():
            assert torch.allclose(by_pixels[name], value, rtol=1e-9, atol=1e-12, equal_nan=True), name
            if by_factors is not None:  # at least ten digits are left, nine are asked for
                assert torch.allclose(by_factors[name], value, rtol=1e-9, atol=1e-9, equal_nan=True), (rule, name)
    assert compared >= 18


def test_a_prediction_that_all_but_equals_the_recorded_one_is_compared_by_pixels():
    cond, uncond, state = drawn((2, 9, 9))
    products = Products(cond, uncond, state.x)
    at = StateProducts(cond, uncond, state.x, torch.lerp(uncond, cond, 3.0))
    for weight in (3.0, 3.0 + 1e-7):
        assert at.of_combination(combination_of(CFG(weight), products, state)) is None
    assert at.of_combination(combination_of(CFG(3.1), products, state)) is not None
    assert (at.of_prediction(torch.lerp(uncond, cond, 3.0))["difference_sq"] == 0).all()


def test_replay_says_the_same_with_and_without_pixels(monkeypatch):
    monkeypatch.setattr("tests.benchmarks.bench_replay.STEPS", 6)
    monkeypatch.setattr("tests.benchmarks.bench_replay.BATCH", 3)
    pipe = Pipeline()
    with record(pipe, keep="all", progress=False) as trace:
        pipe()
    rules = [rule for rule in [*RULES, *WITHOUT[:4]] if not isinstance(rule, CFGPP | ICG)]
    shown, kept = replay_all(trace, rules), replay_all(trace, rules, keep=True)
    for rule, a, b in zip(rules, shown, kept, strict=True):
        assert not a.kept and len(b.kept) == 6
        for name in a.scalars.select_dtypes("number"):
            found, expected = a.scalars[name].to_numpy(), b.scalars[name].to_numpy()
            assert found == pytest.approx(expected, rel=1e-8, abs=1e-8, nan_ok=True), (rule, name)


def test_replay_of_states_without_the_unconditional_branch():
    trace = sample(
        random_pair(), seeds=range(4), condition=torch.zeros(4, dtype=torch.long), rule=Interval(CFG(3.0), 0.1, 5.0),
        record=Recording(keep=True), progress=False,
    ).trace  # fmt: skip
    narrower, own = replay_all(trace, [Interval(CFG(3.0), 0.5, 2.0), Interval(CFG(3.0), 0.1, 5.0)])
    assert (own.scalars["difference_sq"] == 0).all()
    scalars = narrower.scalars
    differs = scalars["sigma"].between(0.1, 5.0, "right") & ~scalars["sigma"].between(0.5, 2.0, "right")
    assert ((scalars["difference_sq"] > 0) == differs).all() and differs.any()
