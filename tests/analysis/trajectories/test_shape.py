"""Shape of paths, decisions, moments and noise: closed forms of Gaussians, planted faults, recorded runs."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis.trajectories import (
    decision_levels,
    decisions,
    effective_noise,
    gaussian_path,
    moment_bias,
    path_geometry,
    path_shape,
    products_along,
    recorded_path,
    step_noise,
)
from scorescope.analysis.trajectories.path_products import PathProducts
from scorescope.data import InputError
from scorescope.probes import CFG
from scorescope.probes.approximations import Gaussian, Mixture, fit_gaussian
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording import Recording, Trace
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun, Path, run_path, sample

VARIANCES = torch.tensor([2.0, 0.7, 0.3, 0.05], dtype=torch.float64)
LEVELS = edm_sigmas(200)[:-1]


def law(rank=4, residual=0.0):
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    mean = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64)
    return Gaussian(mean, turn[:, :rank], VARIANCES[:rank], residual)


def exact(gaussian, sigmas=LEVELS, count=64):
    start = gaussian.sample(count, generator=torch.Generator().manual_seed(0), sigma=sigmas[0])
    empty = torch.zeros(len(sigmas), *start.shape, dtype=torch.float64)
    return gaussian_path(gaussian, Path(tuple(sigmas), empty + start, empty, start, 0))


def mixture():
    generator = torch.Generator().manual_seed(1)
    parts = []
    for _ in range(3):
        turn = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0]
        values = torch.logspace(np.log10(0.3), np.log10(0.02), 16, dtype=torch.float64)
        parts.append(Gaussian(torch.randn(16, generator=generator, dtype=torch.float64), turn, values))
    return Mixture(tuple(parts), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def recorded(solver, sigmas=None, denoiser=None, count=64, **how):
    denoiser = denoiser or law()
    shape = how.pop("shape", (4,))
    return sample(
        denoiser, seeds=range(count), shape=shape, solver=solver, sigmas=sigmas or edm_sigmas(12), batch=40,
        dtype=torch.float64, record=Recording(keep=True), progress=False, **how,
    )  # fmt: skip


class TestGeometry:
    def test_curvature_and_acceleration_of_a_gaussian(self):
        """x = a sqrt(l + s^2), x'' = a l / (l + s^2)^(3/2); D = a l / sqrt(l + s^2)."""
        gaussian = law()
        path = exact(gaussian, edm_sigmas(200, sigma_min=0.02, sigma_max=5.0)[:-1])
        table = path_geometry(path).set_index("quantity")
        s = np.array(path.sigmas)[:, None, None]
        a = (gaussian.modes(path.states[0]) / (VARIANCES + 5.0**2).sqrt()).numpy()
        variance = VARIANCES.numpy()
        root = np.sqrt(variance + s**2)
        first, second = a * s / root, a * variance / root**3
        speed = (first**2).sum(2)
        across = (second**2).sum(2) - (first * second).sum(2) ** 2 / speed
        inner = slice(3, -3)  # differences at the ends are of lower accuracy; elsewhere of the square of the spacing
        np.testing.assert_allclose(
            table.loc["curvature", "mean"].to_numpy()[inner], (np.sqrt(across) / speed).mean(1)[inner], rtol=1e-2
        )
        # d2 D / d(ln s)2 of a l (l + s^2)^(-1/2)
        bend = a * variance * (s**2) * (s**2 - 2 * variance) / root**5
        expected = np.sqrt((bend**2).mean(2)).mean(1)
        found = table.loc["denoised_acceleration", "mean"].to_numpy()
        np.testing.assert_allclose(found[inner], expected[inner], rtol=5e-3, atol=1e-4 * expected.max())

    def test_turns_are_the_angles_between_steps(self):
        corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0 + 3**0.5]], dtype=torch.float64)[:, None]
        table = path_geometry(Path((4.0, 3.0, 2.0, 1.0), corner, corner, corner[-1], 0))
        turn = table[table["quantity"] == "denoised_turn"]
        np.testing.assert_allclose(turn["mean"], [np.nan, 90.0, 30.0, np.nan], rtol=1e-9)
        assert list(turn["missing"]) == ["no step to one side of it", "", "", "no step to one side of it"]

    def test_a_stale_prediction_is_found_at_its_step(self):
        path = run_path(mixture(), 20.0 * torch.randn(32, 16, dtype=torch.float64), edm_sigmas(40, sigma_max=20.0)[:-1])
        denoised = path.denoised.clone()
        denoised[25] = denoised[20]
        sound, stale = (path_geometry(one).set_index("quantity") for one in (path, replace(path, denoised=denoised)))
        rise = {name: (stale.loc[name, "mean"] / sound.loc[name, "mean"]).to_numpy()
                for name in ("denoised_acceleration", "denoised_turn")}  # fmt: skip
        assert abs(int(rise["denoised_acceleration"].argmax()) - 25) <= 1
        assert int(np.nanargmax(stale.loc["denoised_turn", "mean"])) == 25
        assert stale.loc["denoised_turn", "mean"].iloc[25] > 100  # there and back

    def test_what_rounding_makes_is_missing(self):
        """Of float32 states the change of D at low noise, and what curvature is made of it; float64 has them."""
        sigmas = edm_sigmas(60)[:-1]
        start = 80.0 * torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        tables = [
            path_geometry(run_path(mixture(), start.to(dtype), sigmas)) for dtype in (torch.float32, torch.float64)
        ]
        short, long = (table.set_index("quantity").loc["curvature"] for table in tables)
        gone = (short["missing"] == "the change is too near to its rounding").to_numpy()
        assert gone[-5:].all() and not gone[:30].any() and long["mean"].notna().all()
        np.testing.assert_allclose(short["mean"][~gone], long["mean"][~gone], rtol=0.02)
        path = run_path(mixture(), start.double(), sigmas)
        coarse = path_geometry(replace(path, resolution=2.0**-10)).set_index("quantity").loc["curvature"]
        assert (coarse["missing"] != "").sum() > gone.sum()

    def test_levels_that_are_missing_are_said_to_be(self):
        path = exact(law(), edm_sigmas(8)[:-1])
        path.denoised[3] = torch.nan
        table = path_geometry(replace(path, missing=("", "", "", "no level", "", "", "", "")))
        rows = table[table["sigma"] == path.sigmas[3]]
        assert rows["mean"].isna().all() and set(rows["missing"]) == {"no level"} and (rows["n"] == 0).all()
        inner = table[(table["sigma"] != path.sigmas[3]) & ~table["quantity"].str.endswith("turn")]
        assert inner["mean"].notna().all()


class TestShape:
    @pytest.mark.parametrize("gaussian", [law(), law(2), law(2, 0.1)], ids=["full", "plane", "residual"])
    def test_products_in_modes_are_those_of_the_exact_path(self, gaussian):
        path = exact(gaussian, edm_sigmas(10)[:-1], 5)
        found = PathProducts.of_gaussian(gaussian, path.states[0], np.array(path.sigmas))
        other = PathProducts.of(path)
        for name in ("states", "denoised", "flow_states", "slopes"):
            rows, others = getattr(found, name), getattr(other, name)
            np.testing.assert_allclose(rows @ found.gram @ rows.T, others @ other.gram @ others.T, rtol=1e-9, atol=1e-9)

    def test_a_gaussian_reads_as_itself(self):
        table = path_shape(exact(law(), edm_sigmas(40)[:-1]), law())
        np.testing.assert_allclose(table["mean"], table["gaussian"], rtol=1e-6)
        bundle = table["quantity"].str.startswith("bundle")
        assert table.loc[bundle, "low"].isna().all() and table.loc[~bundle, "low"].notna().all()

    def test_straightness_of_a_gaussian(self):
        """(2 - pi/2) sum sqrt(l) over all of time, of which 0.1 % at either end is not here."""
        gaussian, levels = law(), edm_sigmas(300, sigma_max=1000.0, sigma_min=1e-3)[:-1]
        # modes as large as their root mean square: their squares are what is expected of them
        signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [-1, -1, 1, 1]], dtype=torch.float64)
        start = gaussian.mean + (signs * (VARIANCES + 1e6).sqrt()) @ gaussian.basis.mT
        empty = torch.zeros(300, 3, 4, dtype=torch.float64)
        path = gaussian_path(gaussian, Path(tuple(levels), empty + start, empty, start, 0))
        found = path_shape(path, gaussian).set_index("quantity").loc["straightness", "mean"]
        assert found == pytest.approx((2 - np.pi / 2) * float(VARIANCES.sqrt().sum()) / 4, rel=0.01)

    def test_a_straight_path_at_constant_speed(self):
        times = torch.linspace(0.9, 0.1, 9, dtype=torch.float64)
        noise, data = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sigma = (times / (1 - times))[:, None, None]
        path = Path(tuple((times / (1 - times)).tolist()), data + sigma * noise, data.expand(9, 5, 3), data, 0)
        table = path_shape(path).set_index(["quantity", "curve"])
        assert abs(table.loc[("straightness", "flow_state"), "mean"]) < 1e-12
        assert table.loc[("arc", "flow_state"), "mean"] == pytest.approx(1, abs=1e-9)
        assert table.loc[("directions", "state"), "mean"] == 1
        assert table[["gaussian", "gaussian_low", "gaussian_high"]].isna().all(axis=None)  # no law was given

    def test_ranks_of_known_points(self):
        """Squares 8 and 2 along two directions: a stable rank of 1.25, and both are needed for 99 %."""
        points = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
        path = Path(
            (4.0, 3.0, 2.0, 1.0), points[:, None].expand(4, 3, 2), points[:, None].expand(4, 3, 2), points[:3], 0
        )
        scaled = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)[:, None] * path.denoised[0]
        table = path_shape(path, Gaussian(torch.zeros(2).double(), torch.eye(2).double(), scaled[0].abs() + 1))
        row = table.set_index(["quantity", "curve"])["mean"]
        assert row["rank", "denoised"] == pytest.approx(1.25) and row["directions", "denoised"] == 2
        assert row["bundle_rank", "denoised"] == pytest.approx(1.25)

    def test_a_mixture_bends_more_than_its_gaussian(self):
        start = 80.0 * torch.randn(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        beside = fit_gaussian(mixture().sample(4000, generator=torch.Generator().manual_seed(1)))
        row = path_shape(run_path(mixture(), start, edm_sigmas(60)[:-1]), beside).set_index(["quantity", "curve"])
        arc = row.loc[("arc", "denoised")]
        assert arc["low"] > arc["gaussian_high"]
        assert row.loc[("directions", "denoised"), "mean"] <= 4  # few directions hold any path

    def test_too_few_samples_are_refused(self):
        with pytest.raises(InputError, match="3"):
            path_shape(exact(law(), LEVELS[:5], 2))


class TestDecisions:
    def test_of_a_gaussian_mode(self):
        """|D - D_last| / |D_first - D_last| of l / sqrt(l + s^2): half is left at a level that can be solved for."""
        one = Gaussian(torch.zeros(1).double(), torch.eye(1).double(), torch.tensor([0.7]).double())
        path = exact(one, count=8)
        size = 0.7 / np.sqrt(0.7 + np.array(path.sigmas) ** 2)
        left = (size[-1] - size) / (size[-1] - size[0])
        table = decisions(path)
        np.testing.assert_allclose(table["left"], left, atol=1e-6)
        np.testing.assert_allclose(table["median"], left, atol=1e-6)
        level = decision_levels(path).iloc[0]
        half = (size[0] + size[-1]) / 2
        assert level["sigma"] == pytest.approx(np.sqrt((0.7 / half) ** 2 - 0.7), rel=2e-3)
        assert level["low"] == pytest.approx(level["high"], rel=1e-6)  # all samples alike

    def test_a_sample_that_never_moves_leaves_the_median_of_the_others(self):
        path = exact(law(), count=5)
        still = path.denoised.clone()
        still[:, 0] = still[-1, 0]
        table, others = decisions(replace(path, denoised=still)), decisions(replace(path, denoised=still[:, 1:]))
        assert (table["n"] == 5).all() and (table["median_n"] == 4).all()
        np.testing.assert_array_equal(table["median"], others["median"])
        alone = decisions(replace(path, denoised=still[:, :1].expand_as(still)))
        assert alone["median"].isna().all() and (alone["median_n"] == 0).all()

    def test_bands_and_classes(self):
        """A low band that is there from the start, a high one that comes in the last step."""
        low, high = torch.ones(1, 8, 8).double(), torch.ones(1, 8, 8).double()
        high[:, ::2] *= -1
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).reshape(4, 1, 1, 1)
        denoised = torch.stack([0 * low * signs, low * signs, low * signs, low * signs + high])
        path = Path((8.0, 4.0, 2.0, 1.0), denoised, denoised, denoised[-1], 0)
        table = decisions(path, edges=(0.25,), classify=lambda images: images.mean((1, 2, 3)) > 0)
        band = table[table["quantity"] == "band"].set_index(["low_frequency", "sigma"])["left"]
        np.testing.assert_allclose(band[0.0], [1, 0, 0, 0], atol=1e-9)
        np.testing.assert_allclose(band[0.25], [1, 1, 1, 0], atol=1e-9)
        classes = table[table["quantity"] == "class"]
        np.testing.assert_allclose(classes["left"], [0.5, 0, 0, 0])  # of two samples 0 has the class of the end
        levels = decision_levels(path, edges=(0.25,), classify=lambda images: images.mean((1, 2, 3)) > 0)
        assert levels.set_index("quantity").loc["class", "sigma"] == pytest.approx(np.sqrt(8 * 4))
        assert levels.set_index("quantity").loc["class", "from_start"] == 2
        assert levels.iloc[2]["sigma"] == pytest.approx(np.sqrt(2))


class TestMoments:
    def test_one_step_of_ddim_takes_a_known_share_of_the_variance(self):
        """l (s - t)^2 / ((l + s^2) (l + t^2)), and all of it is the solver's."""
        variance, s, t = 0.3, 2.0, 1.0
        one = Gaussian(torch.zeros(4).double(), torch.eye(4).double(), torch.full((4,), variance, dtype=torch.float64))
        start = one.sample(4000, generator=torch.Generator().manual_seed(0), sigma=s)
        table = moment_bias(run_path(one, start, [s, t], solver=Euler()), one, solver=Euler())
        row = table[table["quantity"] == "variance"].iloc[1]
        short = -variance * (s - t) ** 2 / ((variance + s**2) * (variance + t**2))
        first = table[table["quantity"] == "variance"].iloc[0]["mean"]
        assert (1 + row["mean"]) / (1 + first) == pytest.approx(1 + short, rel=1e-9)
        assert row["low"] < short < row["high"]
        assert row["beyond"] == pytest.approx(0, abs=1e-12)
        assert (table[table["quantity"] == "mean"]["low"] < 0).all()

    def test_a_denoiser_that_falls_short_is_told_from_the_solver(self):
        gaussian = law()
        start = gaussian.sample(256, generator=torch.Generator().manual_seed(0), sigma=20.0)
        sigmas = edm_sigmas(20, sigma_max=20.0)[:-1]

        def short(x, sigma, condition=None):
            return gaussian.mean + 0.9 * (gaussian(x, sigma) - gaussian.mean)

        tables = [moment_bias(run_path(one, start, sigmas, solver=Euler()), gaussian, solver=Euler())
                  for one in (gaussian, short)]  # fmt: skip
        last = [table[table["quantity"] == "variance"].iloc[-1] for table in tables]
        assert last[0]["mean"] < -0.01 and last[0]["beyond"] == pytest.approx(0, abs=1e-12)
        assert last[1]["beyond_high"] < -0.1

    def test_without_a_solver_the_rest_is_missing(self):
        table = moment_bias(exact(law(), LEVELS[:4], 16), law())
        assert table["beyond"].isna().all() and table["mean"].notna().all()


class Ancestral:
    """DDIM down to sqrt(t^2 - up^2), and fresh noise: Euler ancestral, eta 1."""

    def run(self, evaluate, x, sigmas, noise):
        for step, (s, t) in enumerate(pairwise(sigmas)):
            up = np.sqrt(t**2 * (s**2 - t**2) / s**2)
            down = np.sqrt(t**2 - up**2)
            denoised = evaluate(x, sigma=s, sigma_next=t, step=step, call=0)
            x = denoised + down / s * (x - denoised)
            if t:
                x = x + up * noise()
        return x


class TestStepNoise:
    @pytest.mark.parametrize("solver", [Euler(), Heun(), DPMSolverPP2M()], ids=lambda one: type(one).__name__)
    def test_deterministic_solvers_add_none(self, solver):
        table = step_noise(recorded(solver).trace)
        known = table[table["missing"] == ""]
        assert len(known) == 11 and table["missing"].iloc[-1] == "the state after the last step is not recorded"
        # squares are summed in float64, whose root is 1.5e-8 of a state of size sqrt(1 + sigma^2)
        assert (known["added"] < 1e-6 * np.sqrt(1 + known["sigma_next"] ** 2)).all()

    def test_what_euler_keeps_is_the_ratio_of_levels(self):
        known = step_noise(recorded(Euler(), denoiser=mixture(), shape=(16,)).trace).iloc[:-1]
        np.testing.assert_allclose(known["kept"], known["sigma_next"] / known["sigma"], rtol=1e-4)
        np.testing.assert_allclose(known["closure"], 1, rtol=1e-4)

    def test_ancestral_steps_add_what_they_take(self):
        run = recorded(Ancestral(), denoiser=mixture(), shape=(16,), count=256)
        known = step_noise(run.trace).iloc[:-1]
        s, t = known["sigma"], known["sigma_next"]
        # 4096 numbers: 1.1 % each; the fit of up to five terms takes less
        np.testing.assert_allclose(known["added"], np.sqrt(t**2 * (s**2 - t**2)) / s, rtol=0.05)
        np.testing.assert_allclose(known["kept_noise"], t**2 / s, rtol=0.1, atol=0.02)
        np.testing.assert_allclose(known["closure"], 1, rtol=0.05)


class TestEffectiveNoise:
    def states(self, denoiser, sigma, factor=1.0, count=1000):
        x = denoiser.sample(count, generator=torch.Generator().manual_seed(2), sigma=factor * sigma)
        return Path((sigma,), x[None], denoiser(x, sigma)[None], x, 0)

    @pytest.mark.parametrize("sigma", [0.1, 0.6, 2.0])
    def test_a_perfect_denoiser_finds_the_level(self, sigma):
        denoiser = mixture()
        row = effective_noise(denoiser, self.states(denoiser, sigma)).iloc[0]
        assert row["level_low"] < 1.0 < row["level_high"]
        assert row["ratio"] == pytest.approx(1, abs=0.02) and row["residual"] < 0.95 and 0 < row["trace_error"] < 0.01

    @pytest.mark.parametrize(("sigma", "factor"), [(0.3, 1.1), (1.0, 1.1), (0.3, 0.9)])
    def test_only_the_fixed_point_tells_a_mislabelled_state(self, sigma, factor):
        denoiser = mixture()
        row = effective_noise(denoiser, self.states(denoiser, sigma, factor)).iloc[0]
        assert abs(row["ratio"] - 1) < 0.9 * abs(factor - 1)
        assert row["level_low"] < factor < row["level_high"]
        assert not row["level_low"] < 1 < row["level_high"]

    def test_at_the_highest_level_none_above_is_asked(self):
        """A pipeline's scheduler ends there: the estimate's slope was taken 2 % above."""
        law = mixture()

        class Knows:
            sigma_range = (0.1, 2.0)

            def __call__(self, x, sigma, condition):
                assert (sigma <= 2.0 * (1 + 1e-6)).all()
                return law(x, sigma, condition)

        row = effective_noise(Knows(), self.states(law, 2.0)).iloc[0]
        assert row["ratio"] == pytest.approx(1, abs=0.02)


class TestProductsAlong:
    def test_those_made_once_give_the_same_numbers(self, monkeypatch):
        path = exact(law(), count=7)
        monkeypatch.setattr(sys.modules[PathProducts.__module__], "BLOCK", 1)  # a sample at a time
        products = products_along(path)
        assert len(products) == 7
        for measure in (path_geometry, path_shape):
            pd.testing.assert_frame_equal(measure(path, products=products), measure(path))

    def test_a_missing_level_is_left_out_of_both(self):
        path = exact(law(), count=5)
        gone = replace(path, missing=("", "why", *[""] * (len(path.sigmas) - 2)))
        pd.testing.assert_frame_equal(path_geometry(gone, products=products_along(gone)), path_geometry(gone))

    def test_those_of_another_path_are_refused(self):
        path = exact(law(), count=5)
        moved = replace(path, denoised=2 * path.denoised)  # as many samples, at the same levels
        for other in (exact(law(), count=6), path.thinned(2), moved):
            with pytest.raises(InputError, match="products_along of this path"):
                path_shape(path, products=products_along(other))


class TestRecordedPath:
    def test_it_is_the_path_that_was_run(self):
        run = recorded(Euler(), count=50)
        path = recorded_path(run.trace)
        start = path.states[0]
        again = run_path(law(), start, edm_sigmas(12), solver=Euler())
        torch.testing.assert_close(path.states, again.states)
        torch.testing.assert_close(path.denoised, again.denoised)
        torch.testing.assert_close(path.end, run.samples)
        assert path.sigmas == pytest.approx(again.sigmas) and path.missing == ("",) * 12

    def test_calls_of_heun_are_counted_and_its_first_ones_taken(self):
        path = recorded_path(recorded(Heun()).trace)
        assert path.calls == 23 and len(path.sigmas) == 12

    def test_a_trace_without_states_is_refused(self):
        trace = sample(law(), seeds=range(4), shape=(4,), record=Recording(), progress=False).trace
        with pytest.raises(InputError, match="kept"):
            recorded_path(trace)
        with pytest.raises(InputError, match="which the trace has not"):
            recorded_path(recorded(Euler()).trace, run=3)
        assert isinstance(trace, Trace) and CFG(1.0).weight == 1.0
