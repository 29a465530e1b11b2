"""Rules along whole runs: spaces, CFG++, intervals of steps, schedules, rules in rules."""

import itertools
import math

import pytest
import torch
from tests.oracles import random_pair

from scorescope.data import InputError
from scorescope.probes import Recording, sample
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGPP,
    AdaptiveGuidance,
    CFGZeroStar,
    CosineWeight,
    DynamicThreshold,
    GuidanceState,
    Interval,
    LinearWeight,
    MagnitudeAware,
    Rescaled,
    Scheduled,
    StepInterval,
    TangentialCFG,
)
from scorescope.probes.models import edm_sigmas
from scorescope.probes.models.spaces import NoiseLevel, from_denoised, to_denoised
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, EulerRenoised, Heun

PAIR = random_pair()
LABELS = torch.zeros(4, dtype=torch.long)
GRID = edm_sigmas(12)


def draw(rule, solver=None, **options):
    options = {"condition": LABELS, "dtype": torch.float64, "progress": False, "sigmas": GRID} | options
    return sample(PAIR, seeds=range(4), rule=rule, solver=solver or Euler(), **options)


def same(a, b, tolerance=1e-10):
    return (a - b).norm() < tolerance * b.norm()


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()])
@pytest.mark.parametrize("make", [NoiseLevel.ve, NoiseLevel.vp, lambda s: NoiseLevel.flow(s / (1 + s))])
@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow", "edm", "score"])
def test_linear_cfg_gives_the_same_path_in_every_space(space, make, solver):
    known = {"space": space, "sigma_data": 0.5 if space == "edm" else None}

    def evaluate(x, *, sigma, **where):
        level = make(torch.full((4,), sigma, dtype=torch.float64))
        state = level.from_ve(x)
        branches = [PAIR(x, torch.full((4,), sigma, dtype=torch.float64), condition) for condition in (LABELS, None)]
        cond, uncond = (from_denoised(d, state, level, **known) for d in branches)
        return to_denoised(uncond + 3.0 * (cond - uncond), state, level, **known)

    start = 80.0 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = solver.run(evaluate, start, GRID, lambda: None)
    assert same(found, draw(CFG(3.0), solver, start=start).samples)


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_cfgpp_as_written_is_cfgpp_as_a_weight_along_a_whole_run(strength):
    written = draw(CFG(strength), EulerRenoised(), record=Recording())
    assert same(written.samples, draw(CFGPP(strength)).samples)
    assert (written.trace.scalars["needed"] == 2).all()  # the branch that re-noises is computed, and counted
    # written out: D_lambda + sigma' (x - D_u) / sigma
    x = torch.full((4, 6), 80.0, dtype=torch.float64)
    for sigma, after in itertools.pairwise(GRID):
        cond, uncond = (
            PAIR(x, torch.full((4,), sigma, dtype=torch.float64), condition) for condition in (LABELS, None)
        )
        x = uncond + strength * (cond - uncond) + after * (x - uncond) / sigma
    assert same(draw(CFG(strength), EulerRenoised(), start=80.0 * torch.ones(4, 6)).samples, x)


def test_renoising_outside_an_interval_and_without_a_condition():
    outside = draw(Interval(CFG(0.6), 1e6), EulerRenoised()).samples
    assert same(outside, draw(CFG(1.0), EulerRenoised()).samples)
    stopped = draw(AdaptiveGuidance(CFG(0.6), -1.0), EulerRenoised()).samples
    assert torch.isfinite(stopped).all()
    free = draw(None, EulerRenoised(), condition=None).samples
    assert same(free, draw(None, Euler(), condition=None).samples)


def test_cfgpp_is_refused_in_a_correction():
    with pytest.raises(InputError, match=r"^solver: found a step from .* expected first-order steps"):
        draw(CFGPP(0.6), Heun())


def test_cfgpp_is_refused_in_steps_that_use_the_step_before():
    with pytest.raises(InputError, match="first-order steps only"):
        draw(Interval(CFGPP(0.6), low=0.1), DPMSolverPP2M())


def test_published_interval_of_steps():
    grid = edm_sigmas(32)
    assert [round(grid[i], 4) for i in (17, 22, 23)] == [1.6086, 0.2830, 0.1886]
    table = draw(StepInterval(CFG(2.0), 17, 22), Heun(), sigmas=grid, record=Recording()).trace.scalars
    table = table[table["sample"] == 0]
    guided = table[table["needed"] == 2]
    assert sorted(zip(guided["step"], guided["call"], strict=True)) == [(s, c) for s in range(17, 23) for c in (0, 1)]
    # the last guided step is corrected with guidance at sigma_23, the one before the first without at sigma_17
    assert guided["sigma"].min() == pytest.approx(grid[23])
    before = table.query("step == 16 and call == 1").iloc[0]
    assert before["sigma"] == pytest.approx(grid[17]) and before["needed"] == 1
    # the same in noise levels, (sigma_23, sigma_17]: those two calls change sides
    table = draw(Interval(CFG(2.0), grid[23], grid[17]), Heun(), sigmas=grid, record=Recording()).trace.scalars
    guided = table[(table["sample"] == 0) & (table["needed"] == 2)]
    found = set(zip(guided["step"], guided["call"], strict=True))
    assert found == {(s, c) for s in range(17, 23) for c in (0, 1)} - {(22, 1)} | {(16, 1)}


def test_schedules_at_their_ends():
    for schedule in (LinearWeight(5.0, 1.0, 0.1, 10.0), CosineWeight(5.0, 1.0, 0.1, 10.0)):
        assert schedule(0.1) == schedule(0.0) == schedule(0.01) == pytest.approx(5.0, rel=1e-12)
        assert schedule(10.0) == schedule(math.inf) == pytest.approx(1.0, rel=1e-12)
        assert schedule(1.0) == pytest.approx(3.0, rel=1e-12)  # half way in ln sigma
    assert LinearWeight(0.0, 1.0, 0.1, 10.0)(10**-0.5) == pytest.approx(0.25)
    assert CosineWeight(0.0, 1.0, 0.1, 10.0)(10**-0.5) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)


def test_a_scheduled_rule_is_the_rule_with_that_weight():
    generator = torch.Generator().manual_seed(0)
    cond, uncond, x = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
    for sigma in (0.05, 1.0, 10.0):
        state = GuidanceState(x, sigma, 0.0, 3, 0)
        for rule in (CFG, APG, TangentialCFG, CFGZeroStar, MagnitudeAware):
            scheduled = Scheduled(rule(9.0), lambda s: 1.0 + 1 / s)
            assert torch.equal(scheduled(cond, uncond, state), rule(1 + 1 / sigma)(cond, uncond, state))
            assert scheduled.weight == 9.0
    one = Scheduled(CFG(4.0), LinearWeight(4.0, 1.0, 0.1, 1.0))
    assert one.branches(state) == ("cond",) and torch.equal(one(cond, None, state), cond)
    with pytest.raises(InputError, match=r"^weight: found nan"):
        Scheduled(CFG(2.0), lambda s: math.nan)(cond, uncond, state)


NESTED = [
    Interval(APG(3.0, momentum=-0.5, norm=2.0), 0.1, 10.0),
    AdaptiveGuidance(Rescaled(CFG(3.0), space="eps"), 0.99),
    Rescaled(AdaptiveGuidance(APG(3.0, momentum=-0.5), 0.99)),
    Scheduled(APG(3.0), LinearWeight(3.0, 1.0)),
    Rescaled(Interval(Scheduled(TangentialCFG(2.0), CosineWeight(3.0, 1.0)), 0.1)),
    DynamicThreshold(StepInterval(CFGZeroStar(2.0), 0, 7), limit=20.0),
    AdaptiveGuidance(CFGZeroStar(2.0, zero_steps=2), 0.99),
    Interval(AdaptiveGuidance(MagnitudeAware(3.0), 0.9), 0.05, 30.0),
]


@pytest.mark.parametrize("rule", NESTED, ids=repr)
@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda s: type(s).__name__)
def test_rules_in_rules_along_a_run(rule, solver):
    whole = draw(rule, solver, record=Recording())
    assert torch.isfinite(whole.samples).all()
    assert same(draw(rule, solver, batch=1).samples, whole.samples)
    needed = whole.trace.scalars["needed"]
    assert set(needed) <= {1, 2} and 2 in set(needed)


def test_rules_in_rules_do_what_their_parts_say():
    by_hand = draw(CFG(3.0), sigmas=GRID[:6]).samples
    by_hand = draw(CFG(1.0), sigmas=GRID[5:], start=by_hand).samples
    assert same(draw(Interval(CFG(3.0), GRID[5])).samples, by_hand)
    assert same(draw(StepInterval(CFG(3.0), 0, 4)).samples, by_hand)
    assert same(draw(Scheduled(CFG(9.0), lambda sigma: 3.0 if sigma > GRID[5] else 1.0)).samples, by_hand)
    # the steps that stand still do so around adaptive guidance too
    inner = CFGZeroStar(2.0, zero_steps=3)
    assert same(draw(AdaptiveGuidance(inner, 1.0)).samples, draw(inner).samples)
    still = draw(inner, sigmas=GRID[:4]).samples
    start = draw(inner, sigmas=GRID[:2]).samples * (1 + GRID[3]) / (1 + GRID[1])
    assert same(still, start)
