"""Diffusers' schedulers, driven by a plain denoiser: which can be, and what their steps are."""

import itertools
import math

import diffusers
import pytest
import torch
from tests.mixtures import rotated_mixture
from tests.schedulers import classes

from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import (
    DPMSolverPP2M,
    Euler,
    Heun,
    RungeKutta,
    run_path,
    run_to_end,
    scheduler_solver,
    uniform_log_sigmas,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, from within diffusers

LAW = rotated_mixture()
GRID = edm_sigmas(13, sigma_max=5.0, sigma_min=0.1)[:-1]
START = LAW.sample(16, generator=torch.Generator().manual_seed(1), sigma=5.0)

DRIVEN = {
    "CogVideoXDDIMScheduler", "DDIMParallelScheduler", "DDIMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler", "EulerDiscreteScheduler", "FlowMapEulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler", "IPNDMScheduler", "KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler",
    "UniPCMultistepScheduler",
}  # fmt: skip
NOISY = {
    "CMStochasticIterativeScheduler", "DDPMParallelScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler",
    "FlowMatchLCMScheduler", "LTXEulerAncestralRFScheduler", "SASolverScheduler", "UnCLIPScheduler",
}  # fmt: skip
FLOAT32 = 2e-6  # of classes that keep their state so within a step


@pytest.mark.parametrize("name", sorted(classes()))
def test_every_class_is_driven_or_refused_with_its_reason(name):
    if name in DRIVEN:
        assert scheduler_solver(classes()[name]).kind.__name__ == name
        return
    with pytest.raises(InputError, match=name) as refused:
        scheduler_solver(classes()[name])
    assert ("adds noise" in str(refused.value)) == (name in NOISY)


def test_noise_that_comes_only_in_long_runs_is_seen():
    """SA-Solver's own rule adds noise from timestep 200 on; told to add none at any, it is driven."""
    with pytest.raises(InputError, match="adds noise of its own in a run of 256 steps"):
        scheduler_solver(diffusers.SASolverScheduler)
    assert scheduler_solver(diffusers.SASolverScheduler, tau_func=lambda time: 0.0).uses_history


def test_a_last_step_to_0_that_fails_only_in_longer_runs_is_the_prediction():
    """From 15 steps on the class makes it at second order, which has no value at 0."""
    grid = edm_sigmas(20, sigma_max=5.0, sigma_min=0.1)
    solver = scheduler_solver(diffusers.DPMSolverMultistepInverseScheduler)
    before = along(solver, grid[:-1])
    torch.testing.assert_close(along(solver, grid), LAW(before, 0.1))


def euler_like(x, denoised, high, low):
    """A step of exponential Euler: all first-order methods."""
    return low / high * x + (1 - low / high) * denoised


def along(solver, grid=GRID):
    return run_to_end(LAW, START, grid, solver=solver)[0]


def worst(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


class TestFormulas:
    @pytest.mark.parametrize(
        ("name", "config", "tolerance"),
        [
            ("DDIMScheduler", {}, 1e-12),
            ("UniPCMultistepScheduler", {"solver_order": 1, "disable_corrector": list(range(20))}, 1e-12),
            ("DEISMultistepScheduler", {"solver_order": 1}, 1e-12),
            ("CogVideoXDDIMScheduler", {}, 1e-12),
            ("EulerDiscreteScheduler", {}, FLOAT32),
            ("EDMEulerScheduler", {}, FLOAT32),
            ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, FLOAT32),
            ("DPMSolverMultistepScheduler", {"solver_order": 1}, FLOAT32),
            ("DPMSolverSinglestepScheduler", {"solver_order": 1}, 1e-12),
        ],
    )
    def test_first_order_methods_are_one_map(self, name, config, tolerance):
        solver = scheduler_solver(classes()[name], **config)
        assert worst(along(solver), along(Euler())) < tolerance
        assert worst(along(solver, [*GRID, 0.0]), along(Euler(), [*GRID, 0.0])) < tolerance

    @pytest.mark.parametrize(
        ("name", "config", "own"),
        [
            ("HeunDiscreteScheduler", {}, Heun()),
            ("DPMSolverMultistepScheduler", {"lower_order_final": False}, DPMSolverPP2M()),
            ("UniPCMultistepScheduler", {"lower_order_final": False, "disable_corrector": list(range(20))},
             DPMSolverPP2M()),
        ],
    )  # fmt: skip
    def test_second_order_methods_are_ours(self, name, config, own):
        solver = scheduler_solver(classes()[name], **config)
        tolerance = 1e-12 if name.startswith("UniPC") else FLOAT32
        assert worst(along(solver), along(own)) < tolerance

    def test_kdpm2_asks_at_the_middle_in_ln_sigma(self):
        x = START
        for high, low in itertools.pairwise(GRID):
            middle = math.sqrt(high * low)
            half = x + (middle - high) / high * (x - LAW(x, high))
            x = x + (low - high) / middle * (half - LAW(half, middle))
        assert worst(along(scheduler_solver(diffusers.KDPM2DiscreteScheduler)), x) < 1e-12

    def test_plms_makes_its_first_step_twice_and_weighs_as_adams_and_bashforth(self):
        x, slopes = START, []
        for step, (high, low) in enumerate(itertools.pairwise(GRID)):
            slopes.append((x - LAW(x, high)) / high)
            if step == 0:
                there = x + (low - high) * slopes[0]
                mean = (slopes[0] + (there - LAW(there, low)) / low) / 2
            else:
                weights = {2: (3, -1, 0, 0), 3: (23, -16, 5, 0)}.get(len(slopes), (55, -59, 37, -9))
                mean = sum(w * one for w, one in zip(weights, slopes[:-5:-1], strict=False)) / sum(weights)
            x = x + (low - high) * mean
        path = run_path(LAW, START, GRID, solver=scheduler_solver(diffusers.PNDMScheduler))
        assert worst(path.end, x) < 1e-12
        assert path.calls == len(GRID) and path.states.shape[0] == len(GRID)


ORDERS = {
    "DDIMScheduler": (1.0, 0.02, {}),
    "HeunDiscreteScheduler": (2.0, 0.1, {}),
    "KDPM2DiscreteScheduler": (2.0, 0.1, {}),
    "PNDMScheduler": (2.0, 0.15, {}),
    "UniPCMultistepScheduler": (3.0, 0.15, {"lower_order_final": False}),
    "DEISMultistepScheduler": (2.35, 0.35, {"solver_order": 3}),
    "DPMSolverSinglestepScheduler": (2.0, 0.15, {}),
}


class TestOrders:
    fine = run_to_end(LAW, START, GRID, solver=RungeKutta(rtol=1e-11, atol=1e-13))[0]

    @pytest.mark.parametrize("name", ORDERS)
    def test_errors_fall_as_the_order_says(self, name):
        expected, slack, config = ORDERS[name]
        solver = scheduler_solver(classes()[name], **config)
        sizes = []
        for steps in (64, 128):
            grid = edm_sigmas(steps + 1, sigma_max=5.0, sigma_min=0.1)[:-1]
            sizes.append(float((along(solver, grid) - self.fine).square().mean().sqrt()))
        assert math.log2(sizes[0] / sizes[1]) == pytest.approx(expected, abs=slack)


class TestProtocol:
    def asked(self, solver, grid):
        seen = []

        def evaluate(x, *, sigma, sigma_next, step, call):
            seen.append((step, call, sigma, sigma_next))
            return x / (1 + sigma**2)

        solver.run(evaluate, START, grid, noise=None)
        return seen

    @pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"])
    @pytest.mark.parametrize("grid", [[4.0, 1.0, 0.5], [4.0, 1.0, 0.0], [4.0, 1.0]])
    def test_calls_are_told_as_our_own_heun_tells_them(self, name, grid):
        ours = [(step, call, sigma) for step, call, sigma, _ in self.asked(Heun(), grid)]
        theirs = self.asked(scheduler_solver(classes()[name]), grid)
        assert [(step, call, sigma) for step, call, sigma, _ in theirs] == ours
        assert all(after == grid[step + 1] for step, _, _, after in theirs)

    @pytest.mark.parametrize("name", sorted(DRIVEN))
    def test_each_class_takes_one_step_and_many_to_any_end(self, name):
        solver = scheduler_solver(classes()[name])
        for grid in ([4.0, 1.0], [4.0, 0.0], [4.0, 1.0, 0.3, 0.0]):
            seen = self.asked(solver, grid)
            assert [step for step, call, *_ in seen if call == 0] == list(range(len(grid) - 1))
            assert all(sigma == grid[step] for step, call, sigma, _ in seen if call == 0)

    def test_memory_and_the_step_to_0_are_told(self):
        one = {name for name in DRIVEN if not scheduler_solver(classes()[name]).uses_history}
        assert {"DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"} <= one
        assert not {"UniPCMultistepScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"} & one
        assert not scheduler_solver(diffusers.DEISMultistepScheduler).reaches_zero
        assert scheduler_solver(diffusers.DDIMScheduler).reaches_zero

    def test_the_global_generator_is_left_as_it_was(self):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        with pytest.raises(InputError, match="noise"):
            scheduler_solver(diffusers.EulerAncestralDiscreteScheduler)
        assert torch.equal(torch.get_rng_state(), before)

    def test_clipping_is_refused(self):
        with pytest.raises(InputError, match="constant prediction"):
            scheduler_solver(diffusers.DDIMScheduler, clip_sample=True)


class TestRungeKutta:
    def test_of_a_gaussian_it_is_the_flow(self):
        law = Gaussian(torch.zeros(3).double(), torch.eye(3).double(), torch.tensor([2.0, 0.3, 0.01]).double())
        start = law.sample(8, generator=torch.Generator().manual_seed(0), sigma=20.0)
        path = run_path(law, start, [20.0, 1.0, 0.02], solver=RungeKutta(rtol=1e-10, atol=1e-12))
        assert worst(path.end, law.flow(start, 20.0, 0.02)) < 1e-9
        assert worst(path.states[1], law.flow(start, 20.0, 1.0)) < 1e-9

    def test_its_last_step_to_0_is_the_prediction(self):
        end, _ = run_to_end(LAW, START, [5.0, 0.1, 0.0], solver=RungeKutta())
        before, _ = run_to_end(LAW, START, [5.0, 0.1], solver=RungeKutta())
        assert worst(end, LAW(before, 0.1)) < 1e-12

    def test_uniform_levels_are_at_equal_ratios(self):
        levels = uniform_log_sigmas(5, high=8.0, low=0.5)
        assert levels == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])
