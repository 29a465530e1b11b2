"""Rules that save calls: adaptive guidance sample by sample, LinearAG from a history of predictions."""

import math

import pytest
import torch
from tests.oracles import random_pair

from scorescope.data import InputError
from scorescope.probes import Recording, sample
from scorescope.probes.guidance import (
    CFG,
    PAG,
    AdaptiveGuidance,
    Autoguidance,
    GuidanceState,
    Interval,
    LinearAG,
    fit_linear_ag,
)
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Euler, Heun

PAIR = random_pair()
GRID = edm_sigmas(16, sigma_max=3.0)  # at high noise the branches agree in eps space, whatever the condition


def draw(rule, solver=None, count=6, **options):
    options = {"dtype": torch.float64, "progress": False, "sigmas": GRID} | options
    return sample(
        PAIR, seeds=range(count), condition=torch.zeros(count, dtype=torch.long), rule=rule, solver=solver or Euler(),
        record=Recording(keep=True), **options,
    )  # fmt: skip


def cosine(visit):
    cond, uncond = visit.x - visit.cond, visit.x - visit.uncond
    return torch.nn.functional.cosine_similarity(cond, uncond, dim=1)


@pytest.mark.parametrize("threshold", [0.7, 0.85, 0.93])
def test_adaptive_guidance_is_its_definition(threshold):
    """CFG until the cosine of the eps predictions reaches the threshold at a step; then cond alone, per sample."""
    run = draw(AdaptiveGuidance(CFG(3.0), threshold))
    active = torch.ones(6, dtype=torch.bool)
    table = run.trace.scalars.sort_values(["step", "sample"])
    for visit, (_, rows) in zip(run.trace.kept, table.groupby("step"), strict=True):
        assert (rows["needed"].to_numpy() == 1 + active.numpy()).all()
        expected = torch.where(active[:, None], visit.cond + 2 * (visit.cond - _filled(visit)), visit.cond)
        assert torch.allclose(visit.guided, expected, rtol=1e-10, atol=1e-10)
        if visit.uncond is not None:
            active = active & ~(cosine(visit) >= threshold)  # NaN where it was not computed: not active before either
    per_sample = table.groupby("sample")["needed"].sum()
    assert per_sample.between(17, 32).all() and per_sample.sum() < 6 * 32


def _filled(visit):
    return visit.cond if visit.uncond is None else visit.uncond


def test_samples_stop_apart_and_for_good():
    table = draw(AdaptiveGuidance(CFG(3.0), 0.85), count=12).trace.scalars
    needed = table.pivot(index="step", columns="sample", values="needed")
    assert (needed.diff().iloc[1:] <= 0).all(axis=None)
    assert needed.sum().nunique() > 1, "the oracle's samples stop at different steps"


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()])
def test_the_batch_does_not_decide_who_stops(solver):
    rule = AdaptiveGuidance(CFG(3.0), 0.85)
    whole, parts = draw(rule, solver), draw(rule, solver, batch=1)
    assert torch.allclose(whole.samples, parts.samples, rtol=1e-10, atol=1e-10)
    keys = ["sample", "step", "call"]
    a, b = (run.trace.scalars.sort_values(keys, ignore_index=True) for run in (whole, parts))
    assert (a["needed"] == b["needed"]).all() and a["needed"].nunique() == 2


def test_limits_of_the_threshold():
    never, at_once = draw(AdaptiveGuidance(CFG(3.0), 1.0)), draw(AdaptiveGuidance(CFG(3.0), -1.0))
    assert torch.equal(never.samples, draw(CFG(3.0)).samples)
    assert (never.trace.scalars["needed"] == 2).all()
    needed = at_once.trace.scalars.groupby("step")["needed"]
    assert list(needed.max()) == list(needed.min()) == [2] + [1] * 15


def test_agreement_at_high_noise_can_be_left_out():
    high = {"sigmas": edm_sigmas(16)}
    first = draw(AdaptiveGuidance(CFG(3.0), 0.85), **high).trace.scalars
    assert (first[first["step"] > 0]["needed"] == 1).all()  # all stop with the first step
    later = draw(AdaptiveGuidance(CFG(3.0), 0.85, below=1.0), **high).trace.scalars
    assert (later[later["sigma"] > 1.0]["needed"] == 2).all()
    assert later[later["sigma"] < 1.0]["needed"].nunique() == 2
    assert (draw(AdaptiveGuidance(CFG(3.0), 0.85, below=1e-9), **high).trace.scalars["needed"] == 2).all()


def test_the_calls_that_the_trace_counts_are_made():
    calls = []

    def counted(x, sigma, condition):
        calls.append(len(x))
        return PAIR(x, sigma, condition)

    rule = AdaptiveGuidance(CFG(3.0), 0.85)
    run = sample(
        counted, seeds=range(6), condition=torch.zeros(6, dtype=torch.long), rule=rule, shape=PAIR.shape, sigmas=GRID,
        dtype=torch.float64, record=Recording(), progress=False,
    )  # fmt: skip
    assert sum(calls) == run.trace.scalars["needed"].sum() < 2 * 6 * len(GRID) * 2


def test_all_calls_of_a_step_are_guided():
    table = draw(AdaptiveGuidance(CFG(3.0), -1.0), Heun()).trace.scalars
    assert set(table[table["needed"] == 2]["step"]) == {0}
    assert (table[table["step"] == 0]["needed"] == 2).all() and (table["step"] == 0).sum() == 12


@pytest.mark.parametrize("rule", [Autoguidance(2.0, PAIR), PAG(2.0)], ids=lambda rule: type(rule).__name__)
def test_no_cosine_without_the_unconditional_branch(rule):
    with pytest.raises(InputError, match=rf"^rule: found {type(rule).__name__}, which needs cond"):
        draw(AdaptiveGuidance(rule))
    outside = Interval(AdaptiveGuidance(rule), 1e6)
    assert torch.isfinite(draw(outside).samples).all()


# ---- LinearAG


def linear_run(steps, generator, batch=3):
    """eps_u(t) = 0.5 eps_c(t) + 0.8 eps_c(t-1) - 0.3 eps_u(t-1): exactly linear in the history."""
    conds = torch.randn(steps, batch, 40, generator=generator, dtype=torch.float64)
    unconds = [torch.randn(batch, 40, generator=generator, dtype=torch.float64)]
    for step in range(1, steps):
        unconds.append(0.5 * conds[step] + 0.8 * conds[step - 1] - 0.3 * unconds[-1])
    return list(zip(conds, unconds, strict=True))


def test_fit_finds_an_exact_law_and_reports_its_error():
    generator = torch.Generator().manual_seed(0)
    rule = fit_linear_ag([linear_run(6, generator) for _ in range(2)], weight=3.0)
    assert sorted(rule.coefficients) == sorted(rule.errors) == [1, 3, 4, 5]
    for step, values in rule.coefficients.items():
        expected = torch.zeros(2 * step + 1, dtype=torch.float64)
        expected[[step, step - 1, 2 * step]] = torch.tensor([0.5, 0.8, -0.3], dtype=torch.float64)
        run = linear_run(6, generator)
        terms = torch.stack([*(c for c, _ in run[: step + 1]), *(u for _, u in run[:step])])
        found = torch.tensordot(torch.tensor(values, dtype=torch.float64), terms, 1)
        # unique for the first step only: later ones may express eps_u(t-1) by its own law
        assert torch.allclose(found, run[step][1], rtol=1e-8, atol=1e-8)
        if step == 1:
            assert torch.allclose(torch.tensor(values, dtype=torch.float64), expected, atol=1e-10)
        assert rule.errors[step] < 1e-6  # of squares, so half the digits


def test_fit_equals_least_squares_on_the_terms_and_its_error():
    generator = torch.Generator().manual_seed(1)
    runs = [
        [tuple(torch.randn(2, 4, 30, generator=generator, dtype=torch.float64)) for _ in range(4)] for _ in range(3)
    ]
    rule = fit_linear_ag(runs, weight=2.0, estimated=[2])
    terms = [torch.cat([run[i][k].flatten() for run in runs]) for k, i in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))]
    target = torch.cat([run[2][1].flatten() for run in runs])
    design = torch.stack(terms, 1)
    solution = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    assert torch.allclose(torch.tensor(rule.coefficients[2], dtype=torch.float64), solution, atol=1e-10)
    assert rule.errors[2] == pytest.approx(float((target - design @ solution).norm() / target.norm()), rel=1e-10)


def test_compounded_errors_are_those_of_estimates_that_feed_later_ones():
    generator = torch.Generator().manual_seed(5)
    runs = [
        [tuple(torch.randn(2, 4, 40, generator=generator, dtype=torch.float64)) for _ in range(6)] for _ in range(3)
    ]
    rule = fit_linear_ag(runs, weight=2.0)
    squares = dict.fromkeys(rule.coefficients, 0.0)
    for run in runs:
        unconds = [uncond for _, uncond in run]
        for step in sorted(rule.coefficients):
            terms = [*(cond for cond, _ in run[: step + 1]), *unconds[:step]]
            unconds[step] = sum(c * term for c, term in zip(rule.coefficients[step], terms, strict=True))
            squares[step] += (unconds[step] - run[step][1]).square().sum().item()
    for step, square in squares.items():
        size = sum(run[step][1].square().sum().item() for run in runs)
        assert rule.compounded[step] == pytest.approx((square / size) ** 0.5, rel=1e-9)
    first, last = min(squares), max(squares)
    # the first estimate has no earlier one to rest on; later ones are no better than the best fit
    assert rule.compounded[first] == pytest.approx(rule.errors[first])
    assert rule.compounded[last] > rule.errors[last]


def test_linear_ag_is_cfg_where_the_law_holds():
    class Linear:
        """eps_u = 0.4 eps_c at every step."""

        shape = (5,)

        def __call__(self, x, sigma, condition):
            eps = torch.tanh(x / sigma[:, None])
            return x - sigma[:, None] * (0.4 if condition is None else 1.0) * eps

    options = {
        "seeds": range(4), "condition": torch.zeros(4), "solver": Euler(), "sigmas": GRID, "dtype": torch.float64,
        "progress": False, "record": Recording(keep=True),
    }  # fmt: skip
    full = sample(Linear(), rule=CFG(2.5), **options)
    runs = [[((v.x - v.cond) / v.sigma, (v.x - v.uncond) / v.sigma) for v in full.trace.kept]]
    rule = fit_linear_ag(runs, weight=2.5)
    saved = sample(Linear(), rule=rule, **options)
    assert torch.allclose(saved.samples, full.samples, rtol=1e-8, atol=1e-8)
    needed = saved.trace.scalars.groupby("step")["needed"].first()
    assert [step for step, count in needed.items() if count == 1] == sorted(rule.coefficients)
    assert max(rule.errors.values()) < 1e-6


def test_linear_ag_refuses_what_it_cannot_do():
    rule = LinearAG(2.0, {1: (1.0, 0.0, 0.0)})
    with pytest.raises(InputError, match=r"^solver: found a second prediction within a step"):
        draw(rule, Heun())
    cond = torch.ones(2, 3)
    with pytest.raises(InputError, match=r"^state: found 1 steps so far; expected 2: a whole run"):
        rule(cond, None, GuidanceState(cond, 1.0, 0.5, 1, 0))
    assert LinearAG(1.0, {}).branches(GuidanceState(cond, 1.0, 0.5, 0, 0)) == ("cond",)
    for bad in ({1: (1.0,)}, {-1: ()}, {1: (1.0, 0.0, math.nan)}):
        with pytest.raises(InputError, match=r"^coefficients: found"):
            LinearAG(2.0, bad)
    pair = (torch.ones(2, 3), torch.zeros(2, 3))
    for runs in ([], [[pair], [pair, pair]], [[pair, (torch.ones(2, 4), torch.ones(2, 4))]], [[]]):
        with pytest.raises(InputError, match=r"^runs: found"):
            fit_linear_ag(runs, weight=2.0)
    for steps in ([0], [2], [-1]):
        with pytest.raises(InputError, match=r"^estimated: found"):
            fit_linear_ag([[pair, pair]], weight=2.0, estimated=steps)
    # predictions of zero have no direction and no error
    assert fit_linear_ag([[pair, pair]], weight=2.0).errors == {1: 0.0}
