"""The oracles of the entries on sampling and training."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.artists import faults
from tests.atlas_material import SHAPE, conditions, data_of, law, model_of, toy_material
from torch import nn

from scorescope.analysis.gaussian import solver_gains
from scorescope.analysis.gaussian.paths import seed_noise
from scorescope.data.power_ema import sigma_rel_to_gamma
from scorescope.probes.approximations import Gaussian, fit_gaussian
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun, run_path
from scorescope.reports.atlas import find_entry, make
from scorescope.reports.entries import Material
from scorescope.reports.gaussian import Data
from scorescope.reports.trajectories import atlas_paths, atlas_solvers, atlas_steps, atlas_training

VARIANCES = torch.tensor([1.0, 0.5, 0.2, 0.1] * 4, dtype=torch.float64)


def numbers(name, material=None):
    return find_entry(name).numbers(material or toy_material())


def one_gaussian(count=24, variances=VARIANCES, *, data=True):
    """A Gaussian as the model, and draws of it as data; without them few metrics are measured."""
    known = Gaussian(torch.zeros(SHAPE, dtype=torch.float64), torch.eye(16).double(), variances)
    draws = known.sample(240, generator=torch.Generator().manual_seed(0)).float()
    model = Model(known, "gaussian", SHAPE, lambda n: None, (-1.0, 1.0))
    return Material(model, data=Data(draws[80:], draws[:80]) if data else None, count=count, steps=6)


def by_metric(table, metric, *keys):
    return table[table["metric"] == metric].set_index(list(keys))["value"]


def test_edm_loss_vs_sigma():
    """Without a network 1; of a Gaussian the posterior variance, weighted."""
    variances = torch.full((16,), 0.3, dtype=torch.float64)
    table = numbers("edm-loss-vs-sigma", one_gaussian(64, variances)).tables["losses"].set_index("denoiser")
    np.testing.assert_allclose(table.loc[atlas_training.UNTRAINED, "mean"], 1, rtol=0.12)
    rows, sd = table.loc["gaussian"], float(0.3**0.5)
    sigma = rows["sigma"].to_numpy()
    exact = 0.3 * sigma**2 / (0.3 + sigma**2) * (sigma**2 + sd**2) / (sigma * sd) ** 2
    np.testing.assert_allclose(exact, 1, rtol=1e-12)  # it is the skip connection alone
    np.testing.assert_allclose(rows["mean"], exact, rtol=0.12)


def test_a_band_as_in_the_paper_is_one_standard_deviation():
    table = numbers("edm-loss-vs-sigma", toy_material(band="minmax")).tables["losses"]
    np.testing.assert_allclose(table["high"] - table["mean"], table["std"])


def test_fid_during_training():
    """Equal checkpoints are equal in every metric; the law of the data is nearer than a broader one."""
    good, bad = model_of(law(), "good"), model_of(law(1.0), "bad")
    material = toy_material()
    equal = Material(None, checkpoints={"a": good, "b": good}, data=material.data, count=24, steps=6)
    found = numbers("fid-during-training", equal)
    table = found.tables["metrics"].pivot(index="metric", columns="checkpoint", values="value")
    np.testing.assert_array_equal(table["a"], table["b"])
    assert found.facts["x"] == "checkpoint"
    other = Material(None, checkpoints={"1": bad, "20": good}, data=material.data, count=24, steps=6)
    found = numbers("fid-during-training", other)
    distance = by_metric(found.tables["metrics"], "frechet", "position")
    assert distance[20] < distance[1] and found.facts["x"] == "position"


def test_icg_vs_cfg_training():
    """Of a law that knows no condition both rules give the samples of no guidance."""
    known = one_gaussian().studied
    blind = Model(known.denoiser, "blind", SHAPE, conditions, (-1.0, 1.0))
    material = Material(
        blind, checkpoints={"0": blind, "9": model_of(law())}, data=data_of(law()), count=24, steps=6
    )  # fmt: skip
    table = numbers("icg-vs-cfg-training", material).tables["metrics"]
    first = table[table["checkpoint"] == "0"].pivot(index="metric", columns="rule", values="value")
    np.testing.assert_allclose(first["ICG"], first["CFG"], rtol=1e-6)
    last = table[table["checkpoint"] == "9"].pivot(index="metric", columns="rule", values="value")
    assert abs(last["ICG"] - last["CFG"]).max() > 0.01


def flat_lines(name):
    """Distances of equal networks at all lengths, line by line, after the figure was drawn."""
    found = {length: model_of(law(), "a length") for length in ("0.05", "0.1", "0.2")}
    material = Material(
        model_of(law()), model_of(law(0.16), "broader"), found, data=data_of(law()), count=24, steps=6
    )  # fmt: skip
    made = make(find_entry(name), material)
    assert faults(made.figure) == [] and "None" not in made.caption
    return made.table[made.table["metric"] == "frechet"].groupby("line")["value"]


@pytest.mark.parametrize("name", ["edm2-ema", "autoguidance-ema", "fid-during-training"])
def test_what_is_no_ema_length_is_refused(name):
    why = find_entry(name).why_not(toy_material())
    assert ("EMA length" in why) == name.endswith("ema")


def test_edm2_ema():
    """Equal networks at all lengths: a flat line at either weight. Exponent 6.94 is a length of 0.10."""
    flat = flat_lines("edm2-ema")
    assert list(flat.count()) == [3, 3] and flat.agg(np.ptp).max() == 0
    assert sigma_rel_to_gamma(0.10) == pytest.approx(6.94, abs=0.01)


def test_autoguidance_ema():
    flat = flat_lines("autoguidance-ema")
    assert list(flat.count()) == [3, 3] and flat.agg(np.ptp).max() == 0
    assert flat.first().nunique() == 2  # guided by a broader law, and by itself


def implied(material, solver, sigmas):
    """Mean over seeds of the root mean square of (end - exact end), by the gains of each mode."""
    seeds = list(material.seeds)
    noise = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    gains = solver_gains(solver, sigmas, VARIANCES)
    off = 80.0 * noise.flatten(1).double().numpy() * (gains["gain"] - gains["exact"]).to_numpy()
    return float(np.sqrt((off**2).mean(1)).mean())


def test_edm_fid_vs_nfe():
    material = one_gaussian(data=False)
    table = numbers("edm-fid-vs-nfe", material).tables["steps"]
    found = by_metric(table, "end_error", "solver", "grid", "steps")
    for key, (solver, sigmas) in atlas_steps.solver_walks(toy_material()).items():
        assert found[key] == pytest.approx(implied(material, solver, sigmas), rel=0.01, abs=2e-4)
    calls = table.groupby(["solver", "steps"])["calls"].first()
    assert sorted(calls["Heun"]) == sorted(calls["Euler"]) == list(atlas_steps.CALLS)


def test_edm_fid_vs_rho():
    material = one_gaussian(data=False)
    found = by_metric(numbers("edm-fid-vs-rho", material).tables["steps"], "end_error", "rho", "steps")
    for (_, rho, steps), (solver, sigmas) in atlas_steps.rho_walks(material).items():
        assert found[float(rho), steps] == pytest.approx(implied(material, solver, sigmas), rel=0.01, abs=2e-4)


def recursion(variance, solver, steps):
    """Variance of one mode's end: noise adds, and a step multiplies by its gain."""
    sigmas = edm_sigmas(steps)
    gamma, found = min(solver.churn / steps, 2**0.5 - 1), sigmas[0] ** 2
    known = Gaussian(torch.zeros(1, dtype=torch.float64), torch.eye(1).double(), torch.tensor([variance]).double())
    for high, low in itertools.pairwise(sigmas):
        raised = high * (1 + gamma) if solver.churn_min <= high <= solver.churn_max else high
        found += raised**2 - high**2
        found *= float(run_path(known, torch.ones(1, 1).double(), [raised, low]).end) ** 2
    return found


def test_edm_churn():
    """Variance of the end samples of a Gaussian, pooled over 256 samples and modes of one variance."""
    variances = torch.full((16,), 0.5, dtype=torch.float64)
    material = one_gaussian(256, variances, data=False)
    walks = atlas_steps.churn_walks(material)
    table = numbers("edm-churn", material).tables["steps"]
    assert sorted(table["churn"].unique()) == sorted({float(churn) for _, churn, _ in walks})
    for (_, _, steps), (solver, sigmas) in walks.items():
        samples = atlas_steps._sampled(material, solver, sigmas, list(material.seeds)).run.samples
        exact = recursion(0.5, solver, steps)
        assert float(samples.double().square().mean()) == pytest.approx(exact, rel=4 * (2 / 4096) ** 0.5)
    spread = [recursion(0.5, solver, steps) for (_, _, steps), (solver, _) in walks.items()]
    assert max(spread) / min(spread) > 1.2  # which the test could see


def test_edm_local_error():
    """Against the exact flow of a Gaussian."""
    material = one_gaussian()
    known, table = material.studied.denoiser, numbers("edm-local-error", material).tables["errors"]
    start = 80.0 * torch.stack(
        [torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(16)]
    )  # fmt: skip
    for row in table[table["grid"] == "ρ = 7"].itertuples():
        state = known.flow(start.double(), 80.0, row.sigma)
        solver = {"Euler": Euler(), "Heun": Heun()}[row.solver]
        step = run_path(known, state, [row.sigma, row.sigma_next], solver=solver).end
        exact = known.flow(state, row.sigma, row.sigma_next)
        error = float((step - exact).flatten(1).square().mean(1).sqrt().mean())
        assert row.mean == pytest.approx(error, rel=0.15, abs=10 * row.rounding)  # six steps are long ones


def test_denoised_strip():
    """At the highest noise level each row's first picture is the mean of its class."""
    material = toy_material()
    found = numbers("denoised-strip", material)
    first = found.pictures["strips"].reshape(4, -1, *SHAPE)[:, 0]
    means = torch.stack([part.mean for part in law().components])
    torch.testing.assert_close(first.double(), means, atol=0.01, rtol=0)
    assert found.facts["columns"][0] == "80" and len(found.facts["columns"]) == len(atlas_paths.SHOWN) + 1


def test_trajectory_shape():
    """Of a Gaussian model the curves are those of its exact paths."""
    material = one_gaussian()
    exact = atlas_paths.path_geometry(
        atlas_paths.gaussian_path(material.studied.denoiser, atlas_paths.fine_path(material))
    )
    table = numbers("trajectory-shape", material).tables["geometry"]
    rows = table[table["path"] == "model"]
    for quantity in exact["quantity"].unique():
        one, other = (t[t["quantity"] == quantity]["mean"].to_numpy() for t in (rows, exact))
        known = np.isfinite(one)  # all but what float32 rounds away, at the lowest levels, and ends that have no angle
        assert known[2:40].all() and np.isfinite(other[known]).all()
        # 60 steps of Heun bend by themselves; rounding adds up to 0.8 degrees to an angle
        rtol = 0.06 if "turn" in quantity or quantity == "curvature" else 0.02
        np.testing.assert_allclose(one[known], other[known], rtol=rtol, atol=0.8 if "turn" in quantity else 1e-3)
    state, denoised = (exact[exact["quantity"] == name]["mean"].max() for name in ("state", "denoised"))
    assert state < 0.02 < denoised  # variance-exploding states hide the bend


EVEN = 0.3 * torch.ones(16, dtype=torch.float64)  # variances of a Gaussian whose modes are all alike


def starts(material):
    """Noise at the highest level, shape (n, 16), in float64."""
    return 80.0 * seed_noise(list(material.seeds), SHAPE, torch.float32).double().flatten(1).numpy()


def levels_of(rows):
    return rows["sigma"].to_numpy(), rows["sigma_next"].to_numpy()


def without_conditions(**how):
    """The mixture of all classes, of which a classless model is one."""
    return replace(toy_material(**how), model=Model(law(), "mixture", SHAPE, lambda n: None, (-2.5, 2.5)))


def test_step_errors():
    """Shares add up to 1 on a mixture; an error of a Gaussian is shrunk by its flow, and last by its prediction."""
    table = numbers("step-errors", without_conditions(count=8)).tables["step_errors"]
    ended = table[table["quantity"] == "cumulative_share"].groupby("solver")["value"].last()
    np.testing.assert_allclose(ended.loc[["Euler", "DPM++ 2M"]], 1, atol=1e-4)  # float32
    table = numbers("step-errors", one_gaussian(8, EVEN)).tables["step_errors"]
    rows = table[(table["quantity"] == "amplification") & (table["sigma_next"] > 0)]
    low, (_, after) = rows["sigma_next"].min(), levels_of(rows)
    exact = np.sqrt((0.3 + low**2) / (0.3 + after**2)) * 0.3 / (0.3 + low**2)
    np.testing.assert_allclose(rows["value"], exact, rtol=0.05)  # two steps of Runge and Kutta for one of ten


def test_solver_orders():
    table = numbers("solver-orders", toy_material(count=8)).tables["orders"].groupby("solver")["order"].last()
    assert table["Euler"] == pytest.approx(1, abs=0.05)
    assert table["Heun"] == pytest.approx(2, abs=0.1) and table["DPM++ 2M"] == pytest.approx(2, abs=0.1)


def test_tuned_schedule():
    """On a mixture, judged by seeds that had no part in it."""
    material = without_conditions(count=16)
    found = numbers("tuned-schedule", material)
    table, levels = found.tables["schedules"].set_index("schedule"), found.tables["levels"]
    assert table.loc["tuned", "typical_ratio_high"] < 1
    assert table.loc["tuned", "typical_ratio"] < table.loc[found.facts["best"], "typical_ratio"]
    assert found.facts["seeds"] == "0 to 15" and found.facts["others"] == "16 to 31"
    tuned = levels[levels["schedule"] == "tuned"]["sigma"].to_numpy()
    assert (np.diff(tuned) < 0).all() and tuned[-1] == 0 and tuned[0] == 80


def test_step_damage():
    """The last step is the prediction at its level: left out or repeated it is that of the level before."""
    material = one_gaussian(8, EVEN)
    one = Gaussian(torch.zeros(1).double(), torch.eye(1).double(), EVEN[:1])
    path = run_path(one, torch.ones(1, 1).double(), edm_sigmas(10), solver=DPMSolverPP2M())
    before, last = path.denoised[-2:, 0, 0].numpy()
    exact = abs(last - before) * np.sqrt((starts(material) ** 2).mean(1)).mean()
    table = numbers("step-damage", material).tables["damages"]
    for name in ("left out", "prediction repeated", "difference"):
        rows = table[table["name"] == name].set_index("step")["mean"]
        assert rows[9] == pytest.approx(exact, rel=1e-4)  # float32


def test_decided_when():
    """Of one variance l the prediction goes as 1 / sqrt(l + sigma^2), whatever the sample and the band."""
    table = numbers("decided-when", one_gaussian(8, EVEN)).tables["decisions"]
    known = table[np.isfinite(table["left"])]
    assert set(known["quantity"]) == {"whole", "band"}
    for _, rows in known.groupby(["quantity", "low_frequency"], dropna=False):
        size = 1 / np.sqrt(0.3 + rows["sigma"].to_numpy() ** 2)
        exact = (size - size[-1]) / (size[0] - size[-1])
        np.testing.assert_allclose(rows["left"], exact, atol=3e-3)  # 60 steps of Heun


def test_variance_bias():
    """A step of Euler from s to t multiplies a mode of variance l by (l + s t) / (l + s^2)."""
    material = one_gaussian(12, EVEN)
    fitted, table = fit_gaussian(material.data.train.double()), numbers("variance-bias", material).tables["moments"]
    rows = table[table["quantity"] == "variance"]
    sigma = rows["sigma"].to_numpy()
    gains = np.cumprod([1, *((0.3 + s * t) / (0.3 + s**2) for s, t in itertools.pairwise(sigma))])
    states = gains[:, None, None] * starts(material) - fitted.mean.flatten().numpy()
    scheduled = fitted.variance / fitted.dimension + sigma**2
    np.testing.assert_allclose(rows["mean"], (states**2).mean((1, 2)) / scheduled - 1, atol=1e-4)  # float32
    assert rows["beyond"].abs().max() < 0.05 < rows["mean"].abs().max()  # the fit is of 160 draws


class Diagonal(nn.Module):
    """D = w x, of each element."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x, sigma, condition=None):
        return self.weights.to(x) * x


def linear_network():
    """The network as a model, with draws of a Gaussian as data."""
    weights = torch.linspace(0.1, 0.9, 16).view(SHAPE)
    return replace(one_gaussian(), model=Model(Diagonal(weights), "linear", SHAPE, lambda n: None)), weights


def test_gradient_affinity():
    """d/dw E(w x - x0)^2 = 2 (w (l + s^2) - l), of each element."""
    material, weights = linear_network()
    made = make(find_entry("gradient-affinity"), material)
    w = weights.flatten().double()
    variances = material.data.train.double().flatten(1).square().mean(0)  # of these draws, not of their law
    other = made.table[(made.table["sigma"] != made.table["sigma_other"]) & made.table["agreement"].notna()]
    assert len(other) >= 10 and other["agreement"].min() < 0.5
    for row in other.itertuples():
        one, two = (w * (variances + s**2) - variances for s in (row.sigma, row.sigma_other))
        exact = float(one @ two / one.norm() / two.norm())
        assert row.agreement == pytest.approx(exact, abs=0.1)
    assert faults(made.figure) == []


def test_gradients_need_weights_and_room(monkeypatch):
    entry, (material, _) = find_entry("gradient-affinity"), linear_network()
    assert "torch.nn.Module" in entry.why_not(toy_material()) and entry.why_not(material) == ""
    monkeypatch.setattr(atlas_solvers, "MOST", 100)
    assert "GB" in entry.why_not(material)


def test_checkpoint_kl():
    """Of two Gaussians half of delta S^-1 delta, up to what is left above the highest and below the lowest level."""
    variances = torch.full((16,), 0.3, dtype=torch.float64)
    eye, zero = torch.eye(16).double(), torch.zeros(SHAPE, dtype=torch.float64)
    laws = [Gaussian(zero + shift, eye, variances) for shift in (0.2, 0.0)]
    models = {str(k): Model(one, f"{k}", SHAPE, lambda n: None, (-1.0, 1.0)) for k, one in enumerate(laws)}
    material = Material(None, checkpoints=models, count=8, steps=6)
    table = numbers("checkpoint-kl", material).tables["divergence"]
    half = 0.5 * 16 * 0.2**2
    low, high = table["sigma"].min(), table["sigma"].max()
    exact = half / (0.3 + low**2) - half / (0.3 + high**2)
    assert table["divergence"].iloc[-1] == pytest.approx(exact, rel=1e-2)
    assert list(table["pair"].unique()) == ["1 against 0"]


class Layers(nn.Module):
    """Three convolutions that keep the mean square of what they get, or multiply it."""

    shape = (4, 4, 4)

    def __init__(self, factor=1.0):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=False) for _ in range(3))
        for block in self.blocks:
            nn.init.orthogonal_(block.weight.data.view(4, 4))
        self.blocks[-1].weight.data *= factor

    def forward(self, x, sigma, condition=None):
        x = x / (1 + sigma[:, None, None, None] ** 2).sqrt()
        for block in self.blocks:
            x = block(x)
        return x


def networks():
    """Checkpoints of which the last block of the second is twice as large."""
    images = torch.randn(60, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    models = {
        str(10 * factor): Model(Layers(factor), "layers", (4, 4, 4), lambda n: None) for factor in (1, 2)
    }  # fmt: skip
    return Material(None, checkpoints=models, data=Data(images[20:], images[:20]), count=20)


def test_edm2_magnitudes():
    table = numbers("edm2-magnitudes", networks()).tables["magnitudes"]
    activation = table[table["quantity"] == "activation"].pivot(index="site", columns="position", values="mean")
    np.testing.assert_allclose(activation.loc["blocks.0"], 1, rtol=0.05)
    np.testing.assert_allclose(activation.loc["blocks.2"], [1, 2], rtol=0.05)
    weight = table[table["quantity"] == "weight"].pivot(index="site", columns="position", values="mean")
    np.testing.assert_allclose(weight.loc["blocks.2"], [0.5, 1], rtol=1e-5)
    made = make(find_entry("edm2-magnitudes"), networks())
    assert faults(made.figure) == []


def test_laws_have_no_magnitudes():
    assert "torch.nn.Module" in find_entry("edm2-magnitudes").why_not(toy_material())


def test_checkpoint_grid():
    """Equal checkpoints have equal curves; a Gaussian is explained by the Gaussian of many of its draws."""
    material = toy_material()
    model, same = material.studied, {"a": material.studied, "b": material.studied}
    equal = Material(model, checkpoints=same, data=material.data, count=24, steps=6)
    table = numbers("checkpoint-grid", equal).tables["curves"]
    assert set(table["quantity"]) == {"loss", "fraction", "information"}
    one, other = (table[table["checkpoint"] == name]["mean"].to_numpy() for name in "ab")
    np.testing.assert_array_equal(one, other)
    known = one_gaussian()
    alone = Material(known.studied, checkpoints={"a": known.studied, "b": model}, data=known.data, count=24, steps=6)
    table = numbers("checkpoint-grid", alone).tables["curves"]
    share = (
        table[(table["quantity"] == "fraction") & table["sigma"].between(0.2, 2.0)].groupby("checkpoint")["mean"].max()
    )
    assert share["a"] < 0.1 < share["b"]


def test_names_of_checkpoints_are_numbers_or_not():
    numbers = [atlas_training.number_of(name) for name in ("10", "0.05", "1e3", "inf", "nan", "last")]
    np.testing.assert_array_equal(numbers, [10, 0.05, 1000, np.nan, np.nan, np.nan])


def test_without_conditions_there_is_one_line_of_lengths():
    known = one_gaussian()
    material = Material(None, checkpoints={"0.05": known.studied, "0.1": known.studied}, data=known.data, count=24)
    table = numbers("edm2-ema", material).tables["metrics"]
    assert set(table["line"]) == {"w = 1"}


def test_calls_of_checkpoints_are_counted():
    """A cost that is said before anything runs is of all checkpoints."""
    entry, material = find_entry("fid-during-training"), toy_material()
    assert entry.calls_of(material) == {"checkpoints without guidance": 3 * 35}
