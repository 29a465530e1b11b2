"""Runs with changed steps: each change against what it means, on laws in closed form."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scorescope.data import InputError
from scorescope.probes import CFG, CFGPP
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models import edm_sigmas
from scorescope.probes.perturbations import ChangedSteps, LeftOut, Nudged, Repeated, Replaced, Unguided
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import DPMSolverPP2M, Euler, EulerRenoised, Heun, run_path, sample

GRID = edm_sigmas(8, sigma_max=20.0, sigma_min=0.02)


def law(shift=0.0):
    mean = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64) + shift
    return Gaussian(mean, torch.eye(4).double(), torch.tensor([2.0, 0.7, 0.3, 0.05]).double())


class Guided:
    """Two laws, by the condition."""

    def __call__(self, x, sigma, condition):
        return law(0.0 if condition is None else 1.0)(x, sigma)


def draws():
    """First noises of the seeds."""
    return torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]).double()


def run(changes, solver=None, denoiser=None, sigmas=GRID, **how):
    solver = ChangedSteps(solver or Euler(), changes)
    how = {"seeds": range(6), "shape": (4,), "dtype": torch.float64, "progress": False} | how
    return sample(denoiser or law(), solver=solver, sigmas=sigmas, **how)


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M(), EulerRenoised()], ids=lambda one: str(one)[:8])
def test_without_changes_nothing_changes(solver):
    plain = sample(law(), solver=solver, sigmas=GRID, seeds=range(6), shape=(4,), dtype=torch.float64, progress=False)
    torch.testing.assert_close(run({}, solver).samples, plain.samples, rtol=0, atol=0)


@pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda one: str(one)[:8])
def test_a_step_that_is_left_out_is_one_level_less(solver):
    fewer = [sigma for place, sigma in enumerate(GRID) if place not in (3, 7)]
    torch.testing.assert_close(run({3: LeftOut(), 7: LeftOut()}, solver).samples, run({}, solver, sigmas=fewer).samples)


def test_rules_are_still_told_the_steps_of_the_whole_grid():
    steps = []
    run(
        {3: LeftOut()},
        watch=lambda branch, state, rows, prediction: steps.append(state.step) if branch == "guided" else 0,
    )
    assert steps == [0, 1, 2, 4, 5, 6, 7]


def test_repeated_predictions_follow_the_formula():
    """Two steps of DDIM with one D are one step to the level after; with one noise, a line."""
    start = run({}, sigmas=GRID[:3])
    for space in ("denoised", "eps"):
        found = run({1: Repeated(space)}, sigmas=GRID[:3]).samples
        x = (
            GRID[0]
            * torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(k)) for k in range(6)]).double()
        )
        d = law()(x, GRID[0])
        if space == "denoised":
            expected = d + GRID[2] / GRID[0] * (x - d)
        else:
            expected = x + (GRID[2] - GRID[0]) * (x - d) / GRID[0]
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, start.samples)


def test_repeated_steps_call_nothing():
    calls = []

    def counted(x, sigma, condition):
        calls.append(float(sigma[0]))
        return law()(x, sigma)

    run({2: Repeated(), 3: Repeated()}, Heun(), counted)
    assert len(calls) == 15 - 4


def test_unguided_and_replaced_steps():
    labels = torch.zeros(6)
    how = {"denoiser": Guided(), "condition": labels, "rule": CFG(3.0), "record": Recording(keep=True)}
    visits = run({2: Unguided(), 4: Replaced(lambda x, sigma, condition: 0 * x)}, **how).trace.kept
    for visit in visits:
        cond, uncond = law(1.0)(visit.x, visit.sigma), law()(visit.x, visit.sigma)
        expected = {2: cond, 4: 0 * cond}.get(visit.step, uncond + 3 * (cond - uncond))
        torch.testing.assert_close(visit.guided, expected)
    assert visits[2].uncond is None


def test_a_nudge_has_its_size_and_moves_the_end_as_a_gaussian_says():
    """Each mode of a DDIM step keeps (l + st) / (l + s^2); a change of D enters with 1 - t / s."""
    base, found = run({}), run({4: Nudged(1e-3)})
    path = run_path(law(), GRID[0] * draws(), GRID, solver=Euler())
    size = 1e-3 * path.denoised[4].square().mean(1, keepdim=True).sqrt()
    variance = law().eigenvalues
    gain = torch.ones(4, dtype=torch.float64)
    for s, t in pairwise(GRID[5:]):
        gain = gain * (variance + s * t) / (variance + s**2)
    expected = gain * (1 - GRID[5] / GRID[4]) * size * draws()
    torch.testing.assert_close(found.samples - base.samples, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("changes", [{0: Repeated()}, {0: LeftOut()}, {8: Unguided()}], ids=str)
def test_steps_that_cannot_be_changed_are_refused(changes):
    with pytest.raises(InputError, match="changes"):
        run(changes)


def test_only_sample_runs_them_and_its_own_refusals_hold():
    with pytest.raises(InputError, match="sample"):
        run_path(law(), torch.zeros(2, 4).double(), GRID, solver=ChangedSteps(Euler(), {2: Repeated()}))
    with pytest.raises(InputError, match="DPMSolverPP2M"):
        run({}, DPMSolverPP2M(), Guided(), rule=CFGPP(0.5), condition=torch.zeros(6))
    assert np.isfinite(GRID).all()
