"""What every rule promises beside its formula: inputs untouched, no NaN, little memory, clear refusals."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scorescope.data import InputError
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGPP,
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    APGMix,
    Autoguidance,
    CFGZeroStar,
    DynamicThreshold,
    FrequencyDecoupled,
    GuidanceState,
    Interval,
    LinearAG,
    LinearWeight,
    MagnitudeAware,
    RandomLabels,
    Rescaled,
    Scheduled,
    StepInterval,
    TangentialCFG,
    TimePower,
    describe,
)
from scorescope.probes.guidance.base import PERTURBED, WEAK

NAN = float("nan")
MODEL = CFG(1.0)  # stands for a weak model that is not called here
RULES = [
    CFG(3.0),
    APG(3.0, norm=1.0),
    APG(3.0, momentum=-0.5),
    APGMix(3.0, momentum=-0.5, start_step=1),
    TangentialCFG(3.0),
    CFGZeroStar(3.0),
    MagnitudeAware(3.0),
    CFGPP(0.6),
    ICG(3.0, RandomLabels(3)),
    Autoguidance(3.0, MODEL),
    TSG(3.0),
    PAG(1.0),
    PAG(1.0, weight=3.0),
    PAG(1.0, weight=3.0, last=1),
    FrequencyDecoupled((1.0, 2.0, 3.0)),
    FrequencyDecoupled((1.0, 2.0, 3.0), (0.0, 0.5, 1.0)),
    LinearAG(3.0, {1: (0.5, 0.5, 0.1)}),
    Interval(CFG(3.0)),
    StepInterval(APG(3.0)),
    Scheduled(CFG(3.0), LinearWeight(4.0, 1.0)),
    Rescaled(CFG(3.0)),
    Rescaled(APG(3.0), 1.0, "denoised"),
    DynamicThreshold(CFG(3.0)),
    AdaptiveGuidance(CFG(3.0), 0.0),
    AdaptiveGuidance(Rescaled(APG(3.0, momentum=-0.5)), 0.0),
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=repr)


def drawn(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    x, cond, uncond, weak, perturbed = torch.randn(5, *shape, generator=generator, dtype=dtype)
    return (
        cond,
        uncond,
        GuidanceState(x, 0.8, 0.4, 0, 0, seeds=range(shape[0]), others={WEAK: weak, PERTURBED: perturbed}),
    )


def steps(rule, cond, uncond, state, count=3):
    """A short run at fixed branches, called as a sampler calls: branches that are not asked for are absent."""
    for step in range(count):
        here = replace(state, step=step)
        needed = rule.branches(here)
        here.others = {name: value for name, value in state.others.items() if name in needed}
        yield rule(cond, uncond if "uncond" in needed else None, here)


@each_rule
def test_inputs_are_not_changed(rule):
    cond, uncond, state = drawn(3, 2, 8, 8)
    tensors = [cond, uncond, state.x, *state.others.values()]
    before = [t.clone() for t in tensors]
    results = []
    for guided in steps(rule, cond, uncond, state):
        assert guided.shape == cond.shape and guided.dtype == cond.dtype
        results.append((guided, guided.clone()))
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))
    # what a rule remembers is its own: later steps do not change earlier results
    assert all(torch.equal(a, b) for a, b in results)


@each_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_nan_on_equal_branches_or_zeros(rule, dtype):
    cond, _, state = drawn(3, 2, 8, 8, dtype=dtype)
    zero = torch.zeros_like(cond)
    for value, x in ((cond, state.x), (zero, state.x), (zero, zero), (cond, cond), (state.x / 1.8, state.x)):
        here = replace(state, x=x, memory={}, others={WEAK: value, PERTURBED: value})
        for guided in steps(rule, value, value.clone(), here):
            assert torch.isfinite(guided).all()


@pytest.mark.parametrize(
    "rule", [r for r in RULES if not isinstance(r, CFGZeroStar | DynamicThreshold | LinearAG)], ids=repr
)
def test_equal_branches_are_left_as_they_are(rule):
    cond, _, state = drawn(3, 2, 8, 8)
    state.others = {WEAK: cond, PERTURBED: cond}
    for guided in steps(rule, cond, cond.clone(), state):
        assert torch.allclose(guided, cond, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", [r for r in RULES if len(r.branches(drawn(2, 1, 8, 8)[2])) > 1], ids=repr)
def test_a_branch_that_was_asked_for_and_is_missing(rule):
    cond, _, state = drawn(2, 1, 8, 8)
    state.others = {}
    with pytest.raises(InputError, match=r"^(uncond|weak|perturbed): found None; expected the prediction"):
        rule(cond, None, state)


def test_branches_of_another_shape_are_not_broadcast():
    cond, uncond, state = drawn(2, 1, 8, 8)
    for rule in (CFG(2.0), APG(2.0), TangentialCFG(2.0), CFGZeroStar(2.0, 0), MagnitudeAware(2.0)):
        with pytest.raises(InputError, match=r"^uncond: found shape \(1, 1, 8, 8\); expected \(2, 1, 8, 8\)"):
            rule(cond, uncond[:1], state)


class Largest(TorchDispatchMode):
    """Counts how many tensors as large as one branch are alive at a time that were not there before."""

    def __init__(self, size, known):
        super().__init__()
        self.size, self.known = size, {t.untyped_storage().data_ptr() for t in known}
        self.alive, self.peak = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.alive += [weakref.ref(t) for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor)]
        tensors = [t for ref in self.alive if (t := ref()) is not None]
        large = {t.untyped_storage().data_ptr() for t in tensors if t.untyped_storage().nbytes() >= self.size}
        self.peak = max(self.peak, len(large - self.known))
        self.alive = [weakref.ref(t) for t in tensors]
        return out


# what a rule remembers is counted too: LinearAG two predictions a step, APG with momentum one
ALLOWED = {"LinearAG": 4, "AdaptiveGuidance[Rescaled[APG]]": 4}


@each_rule
def test_memory(rule):
    # rows larger than the blocks in which inner products are summed
    cond, uncond, state = drawn(2, 1, 512, 512, dtype=torch.float32)
    known = [cond, uncond, state.x, *state.others.values()]
    size = cond.untyped_storage().nbytes()
    owned = {t.untyped_storage().data_ptr() for t in known}
    assert len(owned) == 1, "one storage holds them"
    state.step = 1
    if isinstance(rule, LinearAG):
        rule(cond, uncond, replace(state, step=0))
    if isinstance(rule, AdaptiveGuidance):  # one sample has stopped
        rows = torch.tensor([True, False])
        state.memory["ag"] = (0, rows | True, rows)
    with Largest(cond.numel() * 4, known) as counted:
        guided = rule(cond, uncond, state)
    assert guided.shape == cond.shape and size >= cond.numel() * 4
    assert 1 <= counted.peak <= ALLOWED.get(describe(rule), 2), counted.peak


BAD = [
    (lambda: CFG(NAN), "weight"),
    (lambda: CFG(float("inf")), "weight"),
    (lambda: Autoguidance(NAN, MODEL), "weight"),
    (lambda: ICG(NAN, RandomLabels(3)), "weight"),
    (lambda: CFGPP(NAN), "strength"),
    (lambda: APG(NAN), "weight"),
    (lambda: APG(2.0, eta=NAN), "eta"),
    (lambda: APG(2.0, norm=0.0), "norm"),
    (lambda: APG(2.0, norm=NAN), "norm"),
    (lambda: APG(2.0, momentum=1.0), "momentum"),
    (lambda: APG(2.0, momentum=-1.5), "momentum"),
    (lambda: APG(2.0, momentum=NAN), "momentum"),
    (lambda: TangentialCFG(NAN), "weight"),
    (lambda: CFGZeroStar(NAN), "weight"),
    (lambda: CFGZeroStar(2.0, zero_steps=-1), "zero_steps"),
    (lambda: MagnitudeAware(NAN), "weight"),
    (lambda: MagnitudeAware(2.0, alpha=-1.0), "alpha"),
    (lambda: MagnitudeAware(2.0, alpha=NAN), "alpha"),
    (lambda: TSG(NAN), "weight"),
    (lambda: TSG(2.0, scale=-1.0), "scale"),
    (lambda: TSG(2.0, schedule=lambda sigma: -1.0).strength(1.0), "schedule"),
    (lambda: TimePower(-1.0), "exponent"),
    (lambda: TimePower(1.0, unit="steps"), "unit"),
    (lambda: TimePower(1.0, low=2.0, high=1.0), "low, high"),
    (lambda: PAG(1.0, first=3, last=2), "first, last"),
    (lambda: APGMix(2.0, cfg_weight=NAN), "cfg_weight"),
    (lambda: APGMix(2.0, start_step=-2), "start_step"),
    (lambda: TSG(2.0, low=2.0, high=1.0), "low, high"),
    (lambda: PAG(NAN), "scale"),
    (lambda: PAG(1.0, weight=NAN), "weight"),
    (lambda: PAG(1.0, sites=()), "sites"),
    (lambda: FrequencyDecoupled(()), "weights"),
    (lambda: FrequencyDecoupled((1.0, NAN)), "weights"),
    (lambda: Interval(CFG(2.0), 2.0, 1.0), "low, high"),
    (lambda: Interval(CFG(2.0), 1.0, 1.0), "low, high"),
    (lambda: Interval(CFG(2.0), -1.0, 1.0), "low, high"),
    (lambda: Interval(CFG(2.0), NAN, 1.0), "low, high"),
    (lambda: Interval(3.0), "rule"),
    (lambda: Interval(CFG), "rule"),
    (lambda: StepInterval(CFG(2.0), 3, 2), "first, last"),
    (lambda: StepInterval(CFG(2.0), -1, 2), "first, last"),
    (lambda: Scheduled(CFGPP(0.6), LinearWeight(1.0, 2.0)), "rule"),
    (lambda: Scheduled(CFG(2.0), 3.0), "schedule"),
    (lambda: LinearWeight(NAN, 1.0), "at_low"),
    (lambda: LinearWeight(1.0, float("inf")), "at_high"),
    (lambda: LinearWeight(1.0, 2.0, 0.0, 1.0), "low, high"),
    (lambda: LinearWeight(1.0, 2.0, 1.0, 1.0), "low, high"),
    (lambda: Rescaled(CFG(2.0), phi=1.5), "phi"),
    (lambda: Rescaled(CFG(2.0), phi=NAN), "phi"),
    (lambda: Rescaled(CFG(2.0), space="score"), "space"),
    (lambda: DynamicThreshold(CFG(2.0), quantile=0.0), "quantile"),
    (lambda: DynamicThreshold(CFG(2.0), quantile=1.1), "quantile"),
    (lambda: DynamicThreshold(CFG(2.0), limit=0.0), "limit"),
    (lambda: AdaptiveGuidance(CFG(2.0), 1.1), "threshold"),
    (lambda: AdaptiveGuidance(CFG(2.0), NAN), "threshold"),
    (lambda: AdaptiveGuidance(CFG(2.0), below=0.0), "below"),
    (lambda: LinearAG(NAN, {}), "weight"),
]


@pytest.mark.parametrize(("make", "argument"), BAD)
def test_impossible_parameters_are_refused(make, argument):
    with pytest.raises(InputError, match=rf"^{argument}: found"):
        make()
