"""Schedules and what they are judged by: closed forms of a Gaussian, exhaustive search, samples held out."""

import itertools
import math
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from tests.mixtures import rotated_mixture

from scorescope.analysis.trajectories import (
    cheapest_levels,
    end_errors,
    equal_error_schedule,
    observed_orders,
    pairwise_costs,
    reference_ends,
    solver_errors,
    tuned_schedule,
)
from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.guidance import CFG
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import (
    DPMSolverPP2M,
    Euler,
    Heun,
    RuleField,
    RungeKutta,
    ays_sigmas,
    run_to_end,
    scheduler_arguments,
    uniform_log_sigmas,
)

VARIANCE, HIGH, LOW = 0.3, 20.0, 0.02
LAW = rotated_mixture()
rho7 = partial(edm_sigmas, sigma_max=HIGH, sigma_min=LOW)


def scalar():
    return Gaussian(torch.zeros(1).double(), torch.eye(1).double(), torch.tensor([VARIANCE], dtype=torch.float64))


def states(count, seed, law=LAW, high=HIGH):
    return law.sample(count, generator=torch.Generator().manual_seed(seed), sigma=high)


def angle(sigma):
    return np.arctan(np.asarray(sigma) / math.sqrt(VARIANCE))


def equal_angles(steps):
    return (math.sqrt(VARIANCE) * np.tan(np.linspace(angle(HIGH), angle(LOW), steps + 1))).tolist()


def flow(high, low):
    return math.sqrt((VARIANCE + low**2) / (VARIANCE + high**2))


class TestEqualErrors:
    def test_of_a_gaussian_they_are_at_equal_angles(self):
        """Euler's step loses 1 - cos of its angle, so that equal losses are equal angles: the tan law."""
        start = torch.linspace(1, 2, 4).double()[:, None]
        fine = uniform_log_sigmas(60, high=HIGH, low=LOW, zero=False)
        steps = solver_errors(scalar(), start, fine, Euler(), substeps=8).steps()
        errors = steps[steps["quantity"] == "at_end"]["value"]
        found = equal_error_schedule(fine, errors, 8)
        np.testing.assert_allclose(angle(found), angle(equal_angles(8)), atol=0.02)
        assert found[0] == HIGH and found[-1] == LOW

    @pytest.mark.parametrize(("steps", "error"), [(4, -0.25236), (8, -0.13305), (16, -0.06860)])
    def test_the_tan_law_has_the_error_of_its_closed_form(self, steps, error):
        end, _ = run_to_end(scalar(), torch.ones(1, 1).double(), equal_angles(steps), solver=Euler())
        assert float(end) / flow(HIGH, LOW) - 1 == pytest.approx(error, abs=5e-6)

    def test_equal_errors_leave_a_uniform_grid_and_a_last_0(self):
        grid = uniform_log_sigmas(13, high=8.0, low=0.5)
        assert equal_error_schedule(grid, np.ones(12), 5, order=2) == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.0])

    def test_error_of_order_p_is_spread_by_its_root(self):
        """Twice the density of levels where an error is 2^(p + 1) as large."""
        grid = uniform_log_sigmas(8, high=16.0, low=1.0, zero=False)
        errors = np.where(np.arange(8) < 4, 8.0, 1.0)
        found = equal_error_schedule(grid, errors, 6, order=2)
        assert found == pytest.approx([16.0, 16 / 4**0.25, 8.0, 8 / 4**0.25, 4.0, 2.0, 1.0])

    def test_bad_errors_are_refused(self):
        for errors in ([1.0, np.nan], [1.0, 0.0], [1.0]):
            with pytest.raises(InputError, match="errors"):
                equal_error_schedule([4.0, 2.0, 1.0], errors, 2)


class TestCheapestLevels:
    @pytest.mark.parametrize("steps", range(1, 8))
    def test_it_is_what_a_search_of_all_subsets_finds(self, steps):
        costs = np.triu(np.random.default_rng(steps).random((8, 8)), 1)
        costs[np.tril_indices(8)] = math.inf
        grid = list(range(8, 0, -1))
        subsets = [(0, *inner, 7) for inner in itertools.combinations(range(1, 7), steps - 1)]
        sums = [sum(costs[pair] for pair in itertools.pairwise(subset)) for subset in subsets]
        assert cheapest_levels(costs, grid, steps) == [grid[place] for place in subsets[int(np.argmin(sums))]]

    def test_costs_of_a_gaussian_are_those_in_closed_form(self):
        start = torch.linspace(1, 3, 5).double()[:, None]
        grid = rho7(8)
        costs = pairwise_costs(scalar(), start, grid, substeps=40)
        for i, j in itertools.combinations(range(len(grid)), 2):
            low = max(grid[j], LOW)  # all take the last step to 0 alike
            made = (VARIANCE + grid[i] * grid[j]) / (VARIANCE + grid[i] ** 2)
            last = VARIANCE / (VARIANCE + LOW**2)
            end = made if grid[j] == 0 else made * flow(low, LOW) * last
            exact = flow(grid[i], LOW) * last
            mean = float(start.mean()) * flow(HIGH, grid[i])
            assert costs[i, j] == pytest.approx(mean * abs(end - exact), rel=2e-3, abs=2e-6)
        assert np.isinf(costs[np.tril_indices(9)]).all()

    def test_a_memory_and_wrong_shapes_are_refused(self):
        with pytest.raises(InputError, match="memory"):
            pairwise_costs(LAW, states(2, 0), rho7(4), solver=DPMSolverPP2M())
        with pytest.raises(InputError, match="costs"):
            cheapest_levels(np.ones((3, 3)), [3.0, 2.0, 1.0, 0.5], 2)
        with pytest.raises(InputError, match="no way"):
            cheapest_levels(np.full((3, 3), math.inf), [3.0, 2.0, 1.0], 2)


class TestTuned:
    def test_of_a_gaussian_no_levels_are_better_than_equal_angles(self):
        found = tuned_schedule(scalar(), torch.ones(1, 1).double(), rho7(6)[:-1], Euler(), iterations=60)
        span = float(angle(HIGH) - angle(LOW))
        least = (1 - math.cos(span / 5) ** 5) * flow(HIGH, LOW)
        assert found.loss == pytest.approx(least, rel=2e-3) and found.loss > least * (1 - 1e-6)
        np.testing.assert_allclose(angle(found.sigmas), angle(equal_angles(5)), atol=0.03)

    def test_on_samples_held_out_it_is_far_better_than_rho_7(self):
        """On a mixture, 2M with 8 calls: less than half of the error, for the mean and for the typical sample."""
        found = tuned_schedule(LAW, states(64, 1), rho7(8), DPMSolverPP2M())
        assert found.sigmas[0] == rho7(8)[0] and found.sigmas[-2:] == pytest.approx((LOW, 0.0))
        walks = {("2M", "rho 7"): (DPMSolverPP2M(), rho7(8)), ("2M", "tuned"): (DPMSolverPP2M(), found.sigmas)}
        table = end_errors(LAW, states(256, 2), walks).set_index("schedule")
        assert table.loc["tuned", "ratio_high"] < 0.6 and table.loc["tuned", "typical_ratio_high"] < 0.3
        assert table.loc["rho 7", "typical_ratio"] == 1 and (table["calls"] == 8).all()
        assert found.loss < found.loss_before

    def test_a_walk_that_ends_on_the_reference_has_an_interval(self):
        """An error of 0 gave a typical ratio of 0 without ends."""
        start = states(24, 5)
        walks = {("Euler", "rho 7"): (Euler(), rho7(8)), ("Heun", "rho 7"): (Heun(), rho7(8))}
        ends, _ = run_to_end(LAW, start, rho7(8), solver=Heun())
        row = end_errors(LAW, start, walks, reference=ends).set_index("solver").loc["Heun"]
        assert row["mean"] == 0 and 0 < row["typical_ratio_low"] <= row["typical_ratio"] < 1e-10
        assert row["typical_ratio"] <= row["typical_ratio_high"]
        same = end_errors(LAW, start, walks, against=("Heun", "rho 7"), reference=ends)
        assert same.set_index("solver").loc["Heun", "typical_ratio"] == 1

    def test_no_level_is_asked_that_the_denoiser_does_not_know(self):
        """Of a pipeline, whose levels end where its scheduler's do, the section was lost."""

        class Knows:
            sigma_range = (LOW, 20.0)

            def __call__(self, x, sigma, condition):
                assert (sigma >= LOW * (1 - 1e-12)).all() and (sigma <= 20.0).all()
                return scalar()(x, sigma, condition)

        start = torch.ones(1, 1).double()
        grid = edm_sigmas(4, sigma_max=20.0, sigma_min=LOW)
        for denoiser in (Knows(), RuleField(Knows(), CFG(1.0))):
            found = tuned_schedule(denoiser, start, grid, Euler(), free_end=True)
            assert found.sigmas[-2] > 5 * LOW and found.loss < found.loss_before  # and it moves, with no room below

    def test_the_lowest_level_moves_where_it_may(self):
        """A step to 0 gives the prediction, right to order sigma^2: with few calls the last level lies high."""
        start = torch.ones(1, 1).double()
        kept, free = (tuned_schedule(scalar(), start, rho7(4), Euler(), free_end=free) for free in (False, True))
        assert kept.sigmas[-2] == pytest.approx(LOW) and free.sigmas[-2] > 5 * LOW
        assert len(free.sigmas) == len(kept.sigmas) == 5 and free.sigmas[-1] == 0 and free.loss < 0.9 * kept.loss

    def test_amplified_pairs_help_a_one_step_solver(self):
        grid = rho7(20)
        levels = cheapest_levels(pairwise_costs(LAW, states(64, 1), grid), grid, 8)
        walks = {("Euler", "rho 7"): (Euler(), rho7(8)), ("Euler", "pairs"): (Euler(), levels)}
        table = end_errors(LAW, states(256, 2), walks).set_index("schedule")
        assert table.loc["pairs", "ratio_high"] < 0.9 and table.loc["pairs", "typical_ratio_high"] < 0.9

    def test_the_ends_alone_cannot_be_tuned(self):
        with pytest.raises(InputError, match="at least 3"):
            tuned_schedule(LAW, states(2, 0), [20.0, 0.02, 0.0], Euler())


class TestEndErrors:
    def test_ratios_are_over_the_same_samples(self):
        start = torch.linspace(0.5, 4, 40).double()[:, None]
        levels = {steps: equal_angles(steps) for steps in (4, 8)}
        table = end_errors(scalar(), start, {("Euler", str(n)): (Euler(), levels[n]) for n in levels})
        span = float(angle(HIGH) - angle(LOW))
        lost = [1 - math.cos(span / steps) ** steps for steps in levels]
        np.testing.assert_allclose(table["mean"], [lost * 2.25 * flow(HIGH, LOW) for lost in lost], rtol=1e-5)
        for name in ("ratio", "ratio_low", "ratio_high", "typical_ratio", "typical_ratio_low", "typical_ratio_high"):
            np.testing.assert_allclose(table[name], [1.0, lost[1] / lost[0]], rtol=1e-5)  # all samples alike
        squares = np.sort(start.numpy()[:, 0] ** 2)[::-1]
        np.testing.assert_allclose(table["worst_share"], squares[:2].sum() / squares.sum(), rtol=1e-5)

    def test_the_reference_is_the_exact_flow(self):
        start = states(8, 3)
        exact, _ = run_to_end(LAW, start, [HIGH, LOW, 0.0], solver=RungeKutta(rtol=1e-11, atol=1e-13))
        off = (reference_ends(LAW, start, rho7(6)) - exact).square().mean(1).sqrt()
        assert float(off.median()) < 2e-6 and float(off.max()) < 1e-4  # of samples between modes it is larger

    def test_walks_between_other_levels_are_refused(self):
        walks = {("Euler", "a"): (Euler(), [20.0, 1.0]), ("Euler", "b"): (Euler(), [20.0, 0.5])}
        with pytest.raises(InputError, match="walks"):
            end_errors(LAW, states(2, 0), walks)
        with pytest.raises(InputError, match="against"):
            end_errors(LAW, states(2, 0), {("Euler", "a"): (Euler(), [20.0, 1.0])}, against=("Heun", "a"))


class TestObservedOrders:
    def test_of_2m_on_a_gaussian(self):
        grid = partial(uniform_log_sigmas, high=5.0, low=0.1, zero=False)
        start = torch.ones(8, 1).double()
        exact = scalar().flow(start, 5.0, 0.1)
        table = observed_orders(
            scalar(), start, {"2M": DPMSolverPP2M()}, grid, steps=(16, 32, 64, 128), reference=exact
        )  # fmt: skip
        relative = table["error"].to_numpy() / float(exact[0])
        np.testing.assert_allclose(relative, [2.443e-3, 6.748e-4, 1.743e-4, 4.414e-5], rtol=1e-3)
        np.testing.assert_allclose(table["order"][1:], -np.diff(np.log2(relative)), rtol=1e-9)
        assert math.isnan(table["order"][0]) and list(table["calls"]) == [16, 32, 64, 128]

    def test_of_solvers_on_a_mixture(self):
        grid = partial(uniform_log_sigmas, high=5.0, low=0.1, zero=False)
        solvers = {"Euler": Euler(), "Heun": Heun()}
        table = observed_orders(LAW, states(16, 4, high=5.0), solvers, grid, steps=(48, 96)).dropna()
        for name, order in (("Euler", 1.0), ("Heun", 2.0)):
            row = table[table["solver"] == name].iloc[0]
            assert row["order"] == pytest.approx(order, abs=0.05 * order) and row["low"] <= row["order"] <= row["high"]


class TestGrids:
    def test_published_levels_are_given_back_at_their_own_ends(self):
        published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0]
        assert ays_sigmas(10, high=14.615, low=0.152) == pytest.approx(published)
        stretched = ays_sigmas(7, high=80.0, low=0.002)
        assert stretched[0] == 80.0 and stretched[-2:] == [0.002, 0.0] and len(stretched) == 8
        with pytest.raises(InputError, match="steps"):
            uniform_log_sigmas(1, high=1.0, low=0.1)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, from within diffusers
    @pytest.mark.parametrize(
        ("kind", "config", "name", "off"),
        [
            ("EulerDiscreteScheduler", {}, "sigmas", 1e-6),
            ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "sigmas", 1e-5),
            ("DPMSolverMultistepScheduler", {}, "timesteps", 0.02),
            ("HeunDiscreteScheduler", {}, "timesteps", 0.02),
        ],
    )
    def test_schedulers_are_told_levels_in_the_way_that_they_take(self, kind, config, name, off):
        scheduler, wanted = getattr(diffusers, kind)(**config), [10.0, 4.0, 1.5, 0.5, 0.15]
        given = scheduler_arguments(scheduler, [*wanted, 0.0])
        assert list(given.arguments) == [name]
        np.testing.assert_allclose(given.sigmas, wanted, rtol=off)
        scheduler.set_timesteps(**given.arguments)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("kind", [diffusers.DDIMScheduler, diffusers.PNDMScheduler, diffusers.EDMEulerScheduler])
    def test_those_that_take_none_are_refused(self, kind):
        with pytest.raises(InputError, match=kind.__name__):
            scheduler_arguments(kind(), [10.0, 4.0, 1.5, 0.0])

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_levels_beyond_a_table_are_refused(self):
        with pytest.raises(InputError, match="differ by"):
            scheduler_arguments(diffusers.DPMSolverMultistepScheduler(), [80.0, 4.0, 0.001, 0.0])
