"""Few-step models: consistency of a Gaussian's exact function and of its denoiser, gaps of students, enough steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scorescope.analysis.gaussian import solver_gains
from scorescope.analysis.steps import consistency_errors, enough_steps, student_gaps
from scorescope.analysis.trajectories import gaussian_path
from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Path, run_path, sample

VARIANCES = torch.tensor([2.0, 0.7, 0.3, 0.05], dtype=torch.float64)
LAW = Gaussian(torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64), torch.eye(4).double(), VARIANCES)
GRID = edm_sigmas(12)[:-1]


def exact_path(count=16):
    start = LAW.sample(count, generator=torch.Generator().manual_seed(0), sigma=80.0)
    empty = torch.zeros(len(GRID), count, 4, dtype=torch.float64)
    return gaussian_path(LAW, Path(tuple(GRID), empty + start, empty, start, 0))


def endpoint(x, sigma, condition=None):
    return LAW.mean + (VARIANCES / (VARIANCES + sigma[:, None] ** 2)).sqrt() * (x - LAW.mean)


class TestConsistency:
    def test_the_exact_function_is_consistent(self):
        table = consistency_errors(endpoint, exact_path())
        assert (table["mean"] < 1e-12).all() and len(table) == 2 * len(GRID) - 1

    def test_the_denoiser_falls_short_by_a_known_share(self):
        """D = a l / sqrt(l + s^2) along the path, whose end is a sqrt(l)."""
        path = exact_path()
        table = consistency_errors(LAW, path, batch=5)
        end = table[table["quantity"] == "end"]["mean"]
        a = LAW.modes(path.states[0]) / (VARIANCES + 80.0**2).sqrt()
        d = [a * VARIANCES / (VARIANCES + s**2).sqrt() for s in GRID]
        rms = [(a * VARIANCES.sqrt() - one).square().mean(1).sqrt().mean() for one in d]
        np.testing.assert_allclose(end, rms, rtol=1e-9)
        steps = [(one - other).square().mean(1).sqrt().mean() for one, other in pairwise(d)]
        np.testing.assert_allclose(table[table["quantity"] == "next"]["mean"], steps, rtol=1e-9)

    def test_one_bad_level_is_found(self):
        def student(x, sigma, condition):
            return endpoint(x, sigma) + 0.1 * (sigma == GRID[5])[:, None]

        table = consistency_errors(student, exact_path())
        bad = table[(table["quantity"] == "end") & (table["mean"] > 1e-9)]
        assert list(bad["sigma"]) == [GRID[5]] and bad["mean"].iloc[0] == pytest.approx(0.1)

    def test_paths_with_gaps_are_refused(self):
        path = run_path(LAW, exact_path().states[0], [5.0, 1.0])
        with pytest.raises(InputError, match="missing"):
            consistency_errors(LAW, Path(path.sigmas, path.states, path.denoised, path.end, 0, ("", "unknown")))


class TestStudents:
    def test_gaps_are_those_that_were_put_in(self):
        teacher = LAW.sample(200, generator=torch.Generator().manual_seed(0))
        shift = torch.tensor([0.3, 0.3, 0.3, 0.3], dtype=torch.float64)
        gone = teacher.clone()
        gone[:20] += 5.0
        students = {"shifted": teacher + shift, "gone": gone, "same": teacher}
        table = student_gaps(students, teacher=teacher, teacher_coarse=teacher + shift / 3).set_index("student")
        assert table.loc["shifted", "mean"] == pytest.approx(0.3) and table.loc["shifted", "far"] == 0
        assert table.loc["shifted", "teacher_error"] == pytest.approx(0.1)
        assert table.loc["shifted", "beyond"] == pytest.approx(0.09 - 0.01)
        assert table.loc["gone", "far"] == pytest.approx(0.1) and table.loc["gone", "median"] == 0
        assert table.loc["same", "beyond"] == pytest.approx(-0.01)
        assert student_gaps(students, teacher=teacher)["beyond"].isna().all()

    def test_samples_of_another_shape_are_named(self):
        with pytest.raises(InputError, match="odd"):
            student_gaps({"odd": torch.zeros(3, 4)}, teacher=torch.zeros(4, 4))


class TestEnoughSteps:
    def ended(self):
        how = {"seeds": range(64), "shape": (4,), "dtype": torch.float64, "solver": Euler(), "progress": False}
        made = {steps: sample(LAW, sigmas=edm_sigmas(steps), **how).samples for steps in (4, 8, 16, 32, 64)}
        return made, sample(LAW, sigmas=edm_sigmas(2000), **how).samples

    def test_it_is_where_the_gains_of_the_solver_say(self):
        made, fine = self.ended()
        noise = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(k)) for k in range(64)]).double()
        offset = LAW.modes(80.0 * noise).numpy()
        fine_gain = solver_gains(Euler(), edm_sigmas(2000), VARIANCES)["gain"].to_numpy()
        errors = {}
        for steps in made:
            gains = solver_gains(Euler(), edm_sigmas(steps), VARIANCES)["gain"].to_numpy()
            errors[steps] = np.sqrt(((offset * (gains - fine_gain)) ** 2).mean(1)).mean()
        within = (errors[16] + errors[32]) / 2
        row = enough_steps(made, fine, within=within).iloc[0]
        assert row["steps"] == 32 and row["low"] in (16, 32) and row["high"] == 32 and row["reached"] == 1
        assert row["error"] == pytest.approx(errors[32], rel=1e-6)

    def test_where_no_number_is_enough_it_is_missing(self):
        made, fine = self.ended()
        row = enough_steps(made, fine, within=1e-6).iloc[0]
        assert np.isnan(row["steps"]) and row["reached"] == 0 and row["low"] == np.inf
