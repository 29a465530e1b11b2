"""Paths, losses and divergences of laws that have closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.gaussian import linear_error, solver_gains
from scorescope.analysis.trajectories import (
    block_sites,
    divergence,
    local_errors,
    path_geometry,
    site_magnitudes,
    skip_only,
    steps_table,
    weighted_losses,
)
from scorescope.data import InputError
from scorescope.probes import CFG, load_model, sweep
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun, run_path, sample

VARIANCES = torch.tensor([2.0, 0.7, 0.3, 0.05], dtype=torch.float64)
GRID = [5.0, 2.5, 1.2, 0.5, 0.2]


def gaussian(shift=0.0):
    mean = torch.tensor([1.0, -1.0, 0.5, 0.0], dtype=torch.float64) + shift
    return Gaussian(mean, torch.eye(4).double(), VARIANCES)


def draws(count, law=None, sigma=0.0):
    return (law or gaussian()).sample(count, generator=torch.Generator().manual_seed(0), sigma=sigma)


class TestWeightedLosses:
    def test_without_a_network_it_is_1_at_every_level_for_any_data(self):
        skewed = torch.rand(1500, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 4
        root = float(skewed.square().mean().sqrt())
        table = weighted_losses({"none": skip_only(root)}, {"x": skewed}, [0.01, 0.3, 10.0], sigma_data=root)
        assert (table["low"] < 1.005).all() and (table["high"] > 0.995).all()
        np.testing.assert_allclose(table["mean"], 1.0, rtol=0.03)

    def test_of_a_gaussian_it_is_the_posterior_variance(self):
        law, levels, sd = gaussian(), np.array([0.05, 0.5, 5.0]), 0.9
        table = weighted_losses({"law": law}, {"x": draws(1500)}, levels, sigma_data=sd)
        variance = VARIANCES.numpy()[:, None]
        exact = (variance * levels**2 / (variance + levels**2)).mean(0) * (levels**2 + sd**2) / (levels * sd) ** 2
        assert (table["low"] < exact).all() and (exact < table["high"]).all()
        np.testing.assert_allclose(table["mean"], exact, rtol=0.1)
        np.testing.assert_allclose(table["high"] - table["low"], 2 * 1.96 * table["std"] / 1500**0.5, rtol=0.05)

    def test_bad_sizes_are_named(self):
        with pytest.raises(InputError, match="sigma_data"):
            weighted_losses({"law": gaussian()}, {"x": draws(4)}, [1.0], sigma_data=0.0)


class TestLocalErrors:
    def measured(self, grid, substeps=32):
        solvers = {"Euler": Euler(), "Heun": Heun()}
        start = draws(16, sigma=grid[0])
        return start, local_errors(gaussian(), start, grid, solvers, substeps=substeps)

    def test_they_are_those_against_the_exact_flow(self):
        start, table = self.measured(GRID)
        law, solvers = gaussian(), {"Euler": Euler(), "Heun": Heun()}
        for row in table.itertuples():
            state = law.flow(start, GRID[0], row.sigma)
            exact = law.flow(state, row.sigma, row.sigma_next)
            step = run_path(law, state, [row.sigma, row.sigma_next], solver=solvers[row.solver]).end
            error = float((step - exact).square().mean(1).sqrt().mean())
            assert row.mean == pytest.approx(error, rel=0.02)

    def test_they_fall_with_the_square_and_the_cube_of_the_step(self):
        means = [self.measured([2.0, 2.0 - width])[1].set_index("solver")["mean"] for width in (0.2, 0.1)]
        slopes = np.log2(means[0] / means[1])
        assert slopes["Euler"] == pytest.approx(2, abs=0.1)
        assert slopes["Heun"] == pytest.approx(3, abs=0.1)

    def test_a_step_to_0_ends_at_the_prediction(self):
        """Euler's is D, so its error is that of D against the flow's end."""
        law, state = gaussian(), draws(8, sigma=0.3)
        table = local_errors(law, state, [0.3, 0.0], {"Euler": Euler()}, substeps=64)
        exact = law.flow(state, 0.3, 0.0)
        error = (law(state, 0.3) - exact).square().mean(1).sqrt().mean()
        assert table["mean"].iloc[0] == pytest.approx(float(error), rel=0.02)

    def test_a_solver_with_a_memory_is_refused(self):
        with pytest.raises(InputError, match="multistep"):
            local_errors(gaussian(), draws(2, sigma=5.0), GRID, {"2M": DPMSolverPP2M()})


class TestStepsTable:
    def settings(self):
        law, how = gaussian().to(torch.float32), {"seeds": range(64), "condition": None, "progress": False}
        made = {}
        for name, solver in (("Euler", Euler()), ("Heun", Heun())):
            for steps in (4, 8):
                (made[name, "rho 7", steps],) = sweep(
                    law, {"none": CFG(1.0)}, solver=solver, sigmas=edm_sigmas(steps), **how
                )
        return law, made

    def test_end_errors_are_those_that_gains_imply(self):
        law, settings = self.settings()
        fine = sample(law, seeds=range(64), sigmas=edm_sigmas(200), progress=False).samples
        table = steps_table(settings, fine=fine)
        rows = table[table["metric"] == "end_error"].set_index(["solver", "steps"])
        start = 80.0 * torch.stack(
            [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in range(64)]
        )
        offset = law.modes(start).double().numpy()
        for (solver, steps), row in rows.iterrows():
            made = {"Euler": Euler(), "Heun": Heun()}[solver]
            gains = solver_gains(made, edm_sigmas(int(steps)), VARIANCES)
            off = offset * (gains["gain"] - gains["exact"]).to_numpy()
            assert row["value"] == pytest.approx(np.sqrt((off**2).mean(1)).mean(), rel=0.02)
            assert linear_error(gains) > 0
        assert list(rows["calls"]) == [4, 8, 7, 15]

    def test_metrics_stand_beside_them(self):
        _, settings = self.settings()
        table = steps_table(settings, reference=draws(400).float())
        assert {"frechet", "precision", "recall", "contrast"} <= set(table["metric"])
        assert "calls" not in set(table["metric"]) and "end_error" not in set(table["metric"])

    def test_fine_samples_of_another_shape_are_refused(self):
        with pytest.raises(InputError, match="fine"):
            steps_table(self.settings()[1], fine=torch.zeros(3, 4))


class TestPathGeometry:
    def test_of_a_gaussian(self):
        law, start = gaussian(), draws(8, sigma=80.0)
        path = run_path(law, start, edm_sigmas(200, sigma_min=0.02)[:-1])
        table = path_geometry(path)
        sigma = np.array(path.sigmas)
        modes = law.modes(start).numpy()  # a sqrt(l + s^2) along the path
        variance = VARIANCES.numpy()
        a = modes / np.sqrt(variance + 80.0**2)
        root = np.sqrt(variance + sigma[:, None, None] ** 2)
        x = a * root + law.mean.numpy()
        curves = {"state": x, "flow_state": x / (1 + sigma)[:, None, None], "denoised": a * variance / root}
        for name, curve in curves.items():
            found = table[table["quantity"] == name]["mean"].to_numpy()
            np.testing.assert_allclose(found, self.from_chord(curve), rtol=0.02, atol=2e-4)
        change = np.sqrt(((a * variance * sigma[:, None, None] ** 2 / root**3) ** 2).mean(2)).mean(1)
        found = table[table["quantity"] == "denoised_change"]["mean"].to_numpy()
        np.testing.assert_allclose(found, change, rtol=0.02, atol=1e-3)

    def from_chord(self, curve):
        """By Pythagoras, in place of a projection."""
        a, b = curve - curve[0], curve[-1] - curve[0]
        cross = (a**2).sum(2) * (b**2).sum(1) - (a * b).sum(2) ** 2
        return (np.sqrt(np.maximum(cross, 0)) / (b**2).sum(1)).mean(1)

    def test_two_levels_are_too_few(self):
        path = run_path(gaussian(), draws(2, sigma=5.0), [5.0, 1.0])
        with pytest.raises(InputError, match="at least 3"):
            path_geometry(path)


class TestDivergence:
    def test_of_two_gaussians_of_one_covariance(self):
        """Half of delta S^-1 delta in all, and at each level half of delta (S + sigma^2)^-1 delta."""
        first, second = gaussian(), gaussian(0.5)
        sigmas = np.geomspace(80.0, 0.005, 41)
        table = divergence(first, second, draws(16), sigmas)
        exact = [0.5 * (0.25 / (VARIANCES.numpy() + sigma**2)).sum() for sigma in sigmas]
        np.testing.assert_allclose(table["divergence"], np.array(exact) - exact[0], rtol=1e-3, atol=1e-5)
        density = np.log(2) * np.array([(0.25 * s**2 / (VARIANCES.numpy() + s**2) ** 2).sum() for s in sigmas])
        np.testing.assert_allclose(table["density"], density, rtol=1e-9)

    def test_of_one_law_it_is_none(self):
        table = divergence(gaussian(), gaussian(), draws(8), [10.0, 1.0, 0.1])
        assert (table["divergence"] == 0).all()

    def test_levels_have_to_fall(self):
        with pytest.raises(InputError, match="sigmas"):
            divergence(gaussian(), gaussian(), draws(8), [0.1, 1.0])


class Layers(nn.Module):
    """Two layers that keep the mean square of what they get, or multiply it."""

    shape = (64,)

    def __init__(self, factor=1.0):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64, bias=False)
        for layer in (self.first, self.second):
            nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(self.first.bias)
        with torch.no_grad():
            self.second.weight *= factor

    def forward(self, x, sigma, condition=None):
        return self.second(self.first(x / (1 + sigma[:, None] ** 2).sqrt()))


class TestSiteMagnitudes:
    images = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))

    def table(self, factor=1.0):
        return site_magnitudes(Layers(factor), ["first", "second"], self.images, [0.1, 10.0])

    def test_unit_variance_reads_1_and_twice_the_layer_reads_2(self):
        for factor in (1.0, 2.0):
            rows = self.table(factor).query("quantity == 'activation'").set_index(["site", "sigma"])["mean"]
            np.testing.assert_allclose(rows["first"], 1, rtol=0.02)
            np.testing.assert_allclose(rows["second"], factor, rtol=0.02)

    def test_weights_are_those_of_two_axes(self):
        rows = self.table(2.0).query("quantity == 'weight'").set_index("site")
        assert list(rows["n"]) == [64 * 64, 64 * 64]
        np.testing.assert_allclose(rows["mean"], [1 / 8, 2 / 8], rtol=1e-5)  # orthogonal: 64 rows of norm 1
        assert rows["low"].isna().all()


class TestBlockSites:
    def test_of_the_shipped_network(self):
        denoiser = load_model("digits").denoiser
        found = block_sites(denoiser, torch.zeros(2, *denoiser.shape), 1.0, condition=torch.tensor([0, 1]), most=99)
        blocks = ["first", "down.0", "down.1", "up.0", "up.1", "middle1", "attention", "middle2", "last"]
        assert found == [f"network.{name}" for name in blocks]
        few = block_sites(denoiser, torch.zeros(2, *denoiser.shape), 1.0, condition=torch.tensor([0, 1]), most=3)
        assert few == ["network.first", "network.up.1", "network.last"]

    def test_no_hook_is_left(self):
        denoiser = load_model("digits").denoiser
        block_sites(denoiser, torch.zeros(2, *denoiser.shape), 1.0, condition=torch.tensor([0, 1]))
        assert not any(module._forward_hooks for module in denoiser.modules())

    def test_a_law_has_none(self):
        with pytest.raises(InputError):
            block_sites(gaussian(), draws(2), 1.0)
