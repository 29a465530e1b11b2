"""Errors of a solver step by step, against closed forms, a reference to 1e-10, and faults that were put in."""

import itertools
from dataclasses import dataclass, replace

import diffusers
import numpy as np
import pytest
import torch
from tests.mixtures import draw_labelled, rotated_mixture

from scorescope.analysis.trajectories import embedded_errors, halved_errors, solver_errors
from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.guidance import APG, CFG, CFGPP
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import (
    DPMSolverPP2M,
    Euler,
    Heun,
    RuleField,
    RungeKutta,
    run_path,
    run_to_end,
    sample,
    scheduler_solver,
)

VARIANCE = 0.3
LAW = rotated_mixture()
START = LAW.sample(48, generator=torch.Generator().manual_seed(1), sigma=10.0)
EXACT = RungeKutta(rtol=1e-11, atol=1e-13)
SOLVERS = {"Euler": Euler(), "2M": DPMSolverPP2M(), "Heun": Heun()}


def grid(steps, high=10.0, low=0.02):
    return edm_sigmas(steps + 1, sigma_max=high, sigma_min=low)[:-1]


class Planted:
    """Two points at -4 and 4 on every axis, exact, computed in a number type."""

    def __init__(self, dtype=torch.float64):
        self.dtype = dtype

    def __call__(self, x, sigma, condition):
        return (4 * torch.tanh(4 * x.to(self.dtype) / sigma.to(self.dtype)[:, None] ** 2)).to(x)


def scalar(variance=VARIANCE):
    return Gaussian(torch.zeros(1).double(), torch.eye(1).double(), torch.tensor([variance], dtype=torch.float64))


def flow(variance, high, low):
    return np.sqrt((variance + low**2) / (variance + high**2))


class TestGaussian:
    """Everything is known of a linear flow: Euler multiplies a mode by (l + s t) / (l + s^2)."""

    def found(self, **how):
        start = torch.linspace(-3, 3, 12).double()[:, None]
        return start, solver_errors(scalar(), start, grid(8), Euler(), fine=EXACT, substeps=1, **how)

    def test_errors_and_what_they_become_are_those_in_closed_form(self):
        start, found = self.found()
        state, end = start.numpy()[:, 0], grid(8)[-1]
        for step, (high, low) in enumerate(itertools.pairwise(grid(8))):
            made = (VARIANCE + high * low) / (VARIANCE + high**2)
            error = state * (made - flow(VARIANCE, high, low))
            np.testing.assert_allclose(found.local[step], abs(error), rtol=1e-8)  # of the reference's tolerance
            np.testing.assert_allclose(found.at_end[step], abs(error * flow(VARIANCE, low, end)), rtol=1e-8)
            state = state * made

    def test_the_parts_are_linear_and_add_up(self):
        _, found = self.found()
        assert found.gap.max() < 1e-8
        np.testing.assert_allclose(found.share.sum(0), 1.0, rtol=1e-12)
        table = found.steps()
        last = table[(table["quantity"] == "cumulative_share")].iloc[-1]
        assert last["value"] == pytest.approx(1.0, abs=1e-12)
        amplified = table[table["quantity"] == "amplification"]
        expected = [flow(VARIANCE, low, grid(8)[-1]) for low in grid(8)[1:]]
        np.testing.assert_allclose(amplified["value"], expected, rtol=1e-8)

    def test_the_end_error_is_a_product_of_cosines(self):
        start, found = self.found()
        angles = np.arctan(np.array(grid(8)) / np.sqrt(VARIANCE))
        relative = np.prod(np.cos(np.diff(angles))) - 1
        exact = abs(start.numpy()[:, 0]) * flow(VARIANCE, 10.0, 0.02)
        np.testing.assert_allclose(found.end, abs(relative) * exact, rtol=1e-8)


class TestMixture:
    @pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
    def test_the_parts_add_up_to_first_order_for_the_typical_sample(self, solver):
        found = solver_errors(LAW, START, grid(10), solver)
        assert np.nanmedian(found.gap) < 0.05
        np.testing.assert_allclose(found.share.sum(0), 1.0, rtol=1e-10)
        assert np.median(found.reference) < 0.01

    def test_the_default_fine_paths_are_as_good_as_a_reference_to_1e_10(self):
        few = START[:12]
        found = solver_errors(LAW, few, grid(8), DPMSolverPP2M())
        exact = solver_errors(LAW, few, grid(8), DPMSolverPP2M(), fine=EXACT, substeps=1)
        for name in ("local", "at_end", "end"):
            np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=0.02, atol=2e-6)

    def test_samples_that_change_mode_are_apart_and_hold_most_of_the_squares(self):
        found = solver_errors(LAW, START, grid(10), Euler())
        ends = [run_to_end(LAW, START, grid(10), solver=solver)[0] for solver in (Euler(), EXACT)]
        modes = [LAW.responsibilities(end, 0.02).argmax(1).numpy() for end in ends]
        changed = modes[0] != modes[1]
        assert changed.any() and found.apart[changed].all()
        groups = found.ends().set_index("samples")
        assert groups.loc["apart", "squared_share"] > 0.5 > groups.loc["apart", "share"]
        assert groups.loc["near", "n"] + groups.loc["apart", "n"] == groups.loc["all", "n"] == 48
        assert groups.loc["near", "gap"] < 0.05

    def test_single_precision_says_the_same(self):
        law, start = LAW.to(torch.float32), START.float()
        found, exact = (solver_errors(one, x, grid(8), Euler()) for one, x in ((law, start), (LAW, START)))
        near = ~exact.apart
        np.testing.assert_allclose(found.at_end[:, near], exact.at_end[:, near], rtol=0.02, atol=2e-5)
        np.testing.assert_allclose(np.median(found.gap[near]), np.median(exact.gap[near]), atol=5e-3)

    def test_calls_are_counted(self):
        asked = 0

        def counting(x, sigma, condition):
            nonlocal asked
            asked += len(x)
            return LAW(x, sigma)

        found = solver_errors(counting, START[:4], grid(5), Euler(), substeps=3, batch=7)
        paths = sum(2 * place + 1 for place in range(5))  # the fan, and a part of each error but the last
        assert found.calls == 5 and found.reference_calls == 4 * (3 * paths + 5 * 1)
        assert asked == 4 * (found.calls + 1 + found.reference_calls)  # and one at the last level of the run

    def test_a_sample_without_an_error_is_not_counted_with_those_that_add_up(self):
        """At the mean of one Gaussian nothing moves: there is no error to share, and a gap of 0 / 0 was 'near'."""
        start = torch.cat([torch.zeros(1, 1), torch.linspace(1, 3, 8)[:, None]]).double()
        found = solver_errors(scalar(), start, grid(8), Euler())
        assert np.isnan(found.gap[0]) and found.apart.tolist() == [True] + [False] * 8
        groups = found.ends().set_index("samples")
        assert groups["n"].to_dict() == {"all": 9, "near": 8, "apart": 1}

    def test_a_last_step_to_0_has_no_error_of_its_own(self):
        found = solver_errors(LAW, START[:8], [*grid(5), 0.0], DPMSolverPP2M())
        assert (found.local[-1] == 0).all() and found.steps()["sigma_next"].min() == 0


@dataclass(frozen=True)
class Faulty:
    """Euler with one step that goes wrong."""

    step: int
    fault: str

    def run(self, evaluate, x, sigmas, noise):
        before = None
        for step, (high, low) in enumerate(itertools.pairwise(sigmas)):
            wrong = step == self.step
            level = sigmas[step - 2] if wrong and self.fault == "level" else high
            denoised = evaluate(x, sigma=level, sigma_next=low, step=step, call=0)
            used = before if wrong and self.fault == "stale" else denoised
            sign = -1 if wrong and self.fault == "sign" else 1
            x = x + sign * (low - high) / high * (x - used)
            before = denoised
        return x


@pytest.mark.parametrize("fault", ["sign", "stale", "level"])
@pytest.mark.parametrize("step", [3, 6])
def test_a_planted_fault_is_found_at_its_step(fault, step):
    sound = solver_errors(LAW, START[:16], grid(10), Euler())
    found = solver_errors(LAW, START[:16], grid(10), Faulty(step, fault))
    grown = np.median(found.local / sound.local, axis=1)
    assert grown.argmax() == step and grown[step] > 1.5 * np.delete(grown, step).max()
    np.testing.assert_allclose(grown[:step], 1.0, rtol=1e-6)


class TestConditionsAndRules:
    drawn = draw_labelled(24)
    start = 5.0 * torch.randn(24, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = drawn.labels[:24]

    def test_conditions_go_with_their_samples(self):
        law = self.drawn.law
        together = solver_errors(law, self.start, grid(5, 5.0, 0.1), Euler(), condition=self.labels, batch=10)
        alone = solver_errors(
            law.components[1], self.start[self.labels == 1], grid(5, 5.0, 0.1), Euler(), batch=10
        )  # fmt: skip
        np.testing.assert_allclose(together.at_end[:, self.labels == 1], alone.at_end, rtol=1e-9)

    def test_a_rule_makes_the_path_that_sample_makes(self):
        levels = grid(6, 5.0, 0.1)
        how = {"seeds": range(24), "condition": self.labels, "start": self.start, "progress": False}
        made = sample(
            self.drawn.law, rule=CFG(3.0), sigmas=levels, solver=Heun(), dtype=torch.float64, shape=(8,), **how
        )
        field = RuleField(self.drawn.law, CFG(3.0))
        end, _ = run_to_end(field, self.start, levels, condition=self.labels, solver=Heun())
        torch.testing.assert_close(end, made.samples)
        found = solver_errors(field, self.start, levels, DPMSolverPP2M(), condition=self.labels)
        assert np.median(found.gap) < 0.05

    def test_rules_that_are_no_field_are_refused(self):
        with pytest.raises(InputError, match="size of a step"):
            RuleField(self.drawn.law, CFGPP(0.6))
        remembering = RuleField(self.drawn.law, APG(3.0, momentum=-0.5))
        with pytest.raises(InputError, match="remembers"):
            run_to_end(remembering, self.start, [5.0, 1.0], condition=self.labels)
        with pytest.raises(InputError, match="several levels"):
            RuleField(self.drawn.law, CFG(2.0))(self.start, torch.linspace(1, 2, 24).double(), self.labels)


class TestEstimates:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, from within diffusers
    def test_embedded_pairs_are_differences_of_the_two_solvers_steps(self):
        third = scheduler_solver(diffusers.DPMSolverMultistepScheduler, solver_order=3, lower_order_final=False)
        for solver, name, first, tolerance in (
            (DPMSolverPP2M(), "embedded 1", 1, 1e-9),
            (third, "embedded 2", 2, 2e-3),
        ):
            path = run_path(LAW, START, grid(12), solver=solver)
            table = embedded_errors(path)
            values = table[table["estimate"] == name]["value"].to_numpy()
            assert np.isnan(values[:first]).all() and (table["calls"] == 0).all()
            for step in range(first, 12):
                gap = path.states[step + 1] - self.lower_step(path, step, first)
                exact = np.median(gap.square().mean(1).sqrt().numpy())
                assert values[step] == pytest.approx(exact, rel=tolerance)  # the second one's steps are float32

    def lower_step(self, path, step, order):
        """A step of DPM-Solver++ of this order from the same state and predictions."""
        high, low = path.sigmas[step], path.sigmas[step + 1]
        target = path.denoised[step]
        if order == 2:
            ratio = np.log(high / low) / np.log(path.sigmas[step - 1] / high)
            target = target + ratio / 2 * (target - path.denoised[step - 1])
        return low / high * path.states[step] + (1 - low / high) * target

    @pytest.mark.parametrize(("solver", "order", "calls"), [(Euler(), 1, 12), (Heun(), 2, 36)])
    def test_halves_tell_the_error_of_a_step(self, solver, order, calls):
        law, start = scalar(), torch.linspace(1, 3, 8).double()[:, None]
        path = run_path(law, start, grid(12), solver=solver)
        table = halved_errors(law, path, solver, order=order)
        for row in table.itertuples():
            step, _ = run_to_end(law, path.states[row.step], [row.sigma, row.sigma_next], solver=solver)
            true = (step - law.flow(path.states[row.step], row.sigma, row.sigma_next)).abs().median()
            assert 0.85 < row.value / float(true) < 1.15
        assert (table["calls"] == calls).all()

    def test_a_third_prediction_tells_the_error_of_a_step_of_heun(self):
        law, start, asked = scalar(), torch.linspace(1, 3, 8).double()[:, None], []

        def counting(x, sigma, condition):
            asked.append(len(x))
            return law(x, sigma, condition)

        path = run_path(law, start, grid(24), solver=Heun())
        table = embedded_errors(path, counting)
        for row in table.itertuples():
            step = path.states[row.step + 1]
            true = (step - law.flow(path.states[row.step], row.sigma, row.sigma_next)).abs().median()
            assert row.value == pytest.approx(float(true), rel=0.15)  # what the third order leaves, at most
        assert (table["calls"] == len(asked)).all() and len(asked) == 2 * 24

    @pytest.mark.parametrize(
        ("made", "asked"), [(Euler(), LAW), (Heun(), lambda x, sigma, condition: 0.9 * LAW(x, sigma))]
    )
    def test_steps_that_are_not_heuns_of_this_denoiser_are_refused(self, made, asked):
        path = run_path(LAW, START[:2], grid(6), solver=made)
        with pytest.raises(InputError, match="not that of this denoiser"):
            embedded_errors(path, asked)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("ends", [(10.0, 0.02), (80.0, 20.0)])
    def test_at_high_noise_too_only_heuns_own_path_is_taken(self, dtype, ends):
        """In 30 steps from 80 to 20 those of other solvers are within 1e-4 of Heun's."""
        law, levels = Planted(dtype), np.geomspace(*ends, 31).tolist()
        start = (ends[0] * torch.randn(8, 64, generator=torch.Generator().manual_seed(0))).to(dtype)
        paths = {name: run_path(law, start, levels, solver=solver) for name, solver in SOLVERS.items()}
        assert len(embedded_errors(paths.pop("Heun"), law)) == 30
        for path in paths.values():
            with pytest.raises(InputError, match="not that of this denoiser"):
                embedded_errors(path, law)

    def test_one_sample_of_many_is_enough(self):
        path = run_path(LAW, START, grid(6), solver=Heun())
        other = run_path(LAW, START[-1:], grid(6), solver=Euler())
        mixed = replace(path, states=torch.cat([path.states[:, :-1], other.states], 1))
        mixed = replace(mixed, denoised=torch.cat([path.denoised[:, :-1], other.denoised], 1))
        with pytest.raises(InputError, match="not that of this denoiser"):
            embedded_errors(mixed, LAW)

    def test_a_heun_path_of_a_half_precision_network_is_taken(self):
        law, start = Planted(torch.bfloat16), 80 * torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
        assert len(embedded_errors(run_path(law, start, grid(18, high=80.0), solver=Heun()), law)) == 18

    @pytest.mark.parametrize("made", [Heun(), DPMSolverPP2M()])
    def test_halves_of_another_solvers_path_are_refused_where_that_costs_nothing(self, made):
        path = run_path(Planted(), 80 * START, np.geomspace(80, 20, 31).tolist(), solver=made)
        with pytest.raises(InputError, match="not that of Euler"):
            halved_errors(Planted(), path, Euler(), order=1)

    @pytest.mark.parametrize(("solver", "order", "run", "more"), [(Euler(), 1, 1, 1), (Heun(), 2, 2, 3)])
    def test_no_state_is_asked_about_twice(self, solver, order, run, more):
        law, asked = scalar(), []

        def counting(x, sigma, condition):
            asked.append((*x.flatten().tolist(), float(sigma[0])))
            return law(x, sigma, condition)

        path = run_path(counting, START[:2, :1].double(), grid(6), solver=solver)
        halved_errors(counting, path, solver, order=order)
        # the run asks once more at its last level, which is above 0
        assert len(asked) == len(set(asked)) == 6 * run + 1 + 6 * more

    def test_a_solver_with_a_memory_is_refused(self):
        path = run_path(LAW, START[:2], grid(4), solver=DPMSolverPP2M())
        with pytest.raises(InputError, match="without a memory"):
            halved_errors(LAW, path, DPMSolverPP2M(), order=2)
