"""The oracles of the Gaussian entries of the atlas."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from tests.atlas_material import RANGE, data_of, law, model_of, toy_material

from scorescope.probes.approximations import Gaussian, TrainingSet, fit_gaussian
from scorescope.probes.models.model import Model
from scorescope.probes.models.noise import edm_sigmas
from scorescope.reports.atlas import find_entry
from scorescope.reports.entries import Material
from scorescope.reports.gaussian import Data

COUNT = 16
DATA = data_of(law())


def unconditional(denoiser, name="law"):
    return Model(denoiser, name, DATA.train.shape[1:], lambda count: None, RANGE)


@cache
def of_gaussian():
    """A network that is the Gaussian of its training images."""
    return Material(unconditional(fit_gaussian(DATA.train.double())), data=DATA, count=COUNT)


@cache
def of_memoriser():
    return Material(unconditional(TrainingSet(DATA.train.double())), data=DATA, count=COUNT)


def numbers(name, material):
    return find_entry(name).numbers(material)


def test_gaussian_unexplained():
    made = numbers("gaussian-unexplained", of_gaussian())
    centred = made.tables["scores"].query("metric == 'centred'")
    own = centred[centred["approximation"] == "gaussian"]
    assert own["ratio_of_sums"].max() < 1e-9
    assert centred.query("approximation == 'isotropic'")["ratio_of_sums"].min() > 1e-4
    far = made.facts["far"]
    asked = replace(DATA, held_out=DATA.held_out.repeat(12, 1, 1, 1), held_out_labels=None)
    many = replace(of_memoriser(), data=asked, count=960)  # few modes: the sum is carried by few noises
    exact = numbers("gaussian-unexplained", many).tables["scores"]
    high = exact.query("metric == 'centred' and approximation == 'gaussian' and sigma >= 20").set_index("sigma")
    for sigma, row in high.iterrows():
        assert row["ratio_of_sums"] == pytest.approx(far["third"] / sigma**2 + far["fourth"] / sigma**4, rel=0.15)


def test_gaussian_conventions():
    """The memoriser has the moments of the fitted Gaussian exactly, so that only higher ones are left."""
    table = numbers("gaussian-conventions", of_memoriser()).tables["scores"].query("query == 'held_out'")
    for metric, slope in (("centred", -2), ("denoised", -4), ("score", -6)):
        rows = table[table["metric"] == metric].set_index("sigma")["ratio_of_sums"]
        assert np.log(rows.loc[80.0] / rows.loc[28.0]) / np.log(80 / 28) == pytest.approx(slope, abs=0.15), metric
    assert set(numbers("gaussian-conventions", of_memoriser()).tables["scores"]["query"]) == {
        "held_out", "train", "noise", "path"}  # fmt: skip


def test_linear_first():
    frozen = {str(step): model_of(law()) for step in (10, 100, 1000)}
    table = numbers("linear-first", Material(checkpoints=frozen, data=DATA, count=COUNT)).tables["dynamics"]
    one = table.pivot(index=["sigma", "approximation", "metric"], columns="training_step", values="ratio_of_sums")
    np.testing.assert_array_equal(one[10], one[1000])
    moved = numbers("linear-first", toy_material()).tables["dynamics"].query("metric == 'centred' and sigma == 0.5")
    assert moved.groupby("approximation")["ratio_of_sums"].agg(np.ptp).min() > 1e-3


def test_gaussian_emergence():
    table = numbers("gaussian-emergence", of_gaussian()).tables["emergence"]
    np.testing.assert_allclose(table["sigma_network"], table["sqrt_eigenvalue"], rtol=0.02)
    sizes = numbers("gaussian-emergence", of_gaussian()).tables["mode_amplitudes"]
    np.testing.assert_allclose(sizes["network"], sizes["gaussian"], atol=2e-3)


def test_gaussian_path():
    """What is left is the square of the solver's error: a sixteenth with twice the steps."""
    from scorescope.analysis.gaussian import path_errors, path_pair

    made = numbers("gaussian-path", of_gaussian()).tables["path_errors"]
    assert made["ratio_of_sums"].max() < 1e-5
    exact = of_gaussian().model.denoiser
    ends = []
    for steps in (40, 80):
        pair = path_pair(exact, exact, seeds=range(COUNT), sigmas=edm_sigmas(steps)[:-1], dtype=torch.float64)
        ends.append(path_errors(pair).query("quantity == 'state'")["ratio_of_sums"].iloc[-1])
    assert ends[0] / ends[1] == pytest.approx(16, rel=0.15)


def test_gaussian_pairs():
    made = numbers("gaussian-pairs", toy_material())
    ends, train = made.pictures["training set"], DATA.train
    nearest = torch.cdist(ends.flatten(1), train.flatten(1)).amin(1)
    assert float(nearest.max()) < 3e-3
    assert float(torch.cdist(made.pictures["gaussian"].flatten(1), train.flatten(1)).amin(1).min()) > 0.1


def test_teleport():
    """The Gaussian's own samples are reached from any level: what the network still does is less."""
    table = numbers("teleport", of_gaussian()).tables["skips"]
    assert (table["against_none"] <= 1 + 1e-3).all()
    lowest = table[table["sigma_skip"] == table["sigma_skip"].min()]
    assert lowest["against_none"].max() < 0.5
    whole = table[table["sigma_skip"] == 80.0]
    assert set(whole.query("solver == 'Heun'")["calls"]) == {15, 35}


def test_solver_gains():
    """Euler's gain, factor by factor; Heun's error is of the second order."""
    table = numbers("solver-gains", Material()).tables["gains"]
    euler = table[table["solver"] == "Euler"]
    sigmas, variance = np.array(edm_sigmas(35)[:-1]), euler["eigenvalue"].to_numpy()[:, None]
    factors = 1 + np.diff(sigmas) * sigmas[:-1] / (variance + sigmas[:-1] ** 2)
    np.testing.assert_allclose(euler["gain"], factors.prod(1), rtol=1e-9)
    heun = table[(table["solver"] == "Heun") & table["eigenvalue"].between(0.5, 2)]
    coarse, fine = (heun[heun["calls"] == calls]["relative_error"].mean() for calls in (16, 34))
    assert 3 < coarse / fine < 6  # 8 steps and 17: (17 / 8) squared is 4.5


def test_memorisation_gap():
    """Of the memoriser nothing is left at its own images; an exact denoiser's trace is its error."""
    made = numbers("memorisation-gap", replace(toy_material(), count=80)).tables["memorisation"]
    table = made.set_index(["denoiser", "images", "quantity", "sigma"])["mean"]
    assert table["memoriser", "train", "error", 0.05] < 1e-6
    assert table["memoriser", "train", "trace", 0.05] < 1e-3
    assert table["memoriser", "held out", "error", 0.05] > 0.01
    for sigma in (0.2, 0.5):
        error, expected = (table["mixture", "held out", name, sigma] for name in ("error", "expected_error"))
        assert error == pytest.approx(expected, rel=0.05)


def test_flipd_curve():
    """A Gaussian on a plane of three dimensions, along the axes, so that the probes are exact."""
    variance, k = torch.tensor([0.5, 0.2, 0.1]).double(), 3
    plane = Gaussian(torch.zeros(DATA.train.shape[1:]).double(), torch.eye(16).double()[:, :k], variance)
    images = plane.sample(60, generator=torch.Generator().manual_seed(0))
    material = Material(unconditional(plane), data=Data(images[20:], images[:20]), count=20)
    table = numbers("flipd-curve", material).tables["flipd"].query("quantity == 'flipd' and denoiser == 'law'")
    lowest = table[table["sigma"] == table["sigma"].min()]
    np.testing.assert_allclose(lowest["mean"], k, atol=0.01)
    sigma = float(table["sigma"].max())
    shrink = (sigma**2 / (variance + sigma**2)).numpy()
    held = (plane.modes(images[:20]).numpy() ** 2).mean(0)
    exact = (1 - shrink).sum() + (shrink**2 * held).sum() / sigma**2
    found = table[(table["sigma"] == sigma) & (table["images"] == "held out")]["mean"]
    np.testing.assert_allclose(found, exact, rtol=1e-6)


def test_jacobian_rank():
    made = numbers("jacobian-rank", of_gaussian()).tables["ranks"]
    gaussian = of_gaussian().model.denoiser
    for (sigma, quantity), rows in made.groupby(["sigma", "quantity"]):
        spectrum = gaussian.jacobian_spectrum(torch.tensor([sigma]))[0]
        squares = spectrum.square().cumsum(0)
        rank = int((squares < 0.99 * squares[-1]).sum()) + 1
        np.testing.assert_allclose(rows["mean"], {"rank": rank, "trace": float(spectrum.sum())}[quantity], rtol=1e-4)


@pytest.mark.parametrize("name", ["memorisation-gap", "flipd-curve", "jacobian-rank"])
def test_a_denoiser_without_a_gradient_is_refused_before_anything_runs(name):
    def flat(x, sigma, condition):
        return x.detach()

    assert "differentiated" in find_entry(name).why_not(Material(unconditional(flat), data=DATA, count=COUNT))
    assert not find_entry(name).why_not(of_gaussian())


def test_what_laws_cannot_be_fitted_to_is_said():
    few = Data(DATA.train[:5], DATA.held_out)
    other = Data(DATA.train[..., :2], DATA.held_out[..., :2])
    bytes_ = Data(100 * DATA.train, 100 * DATA.held_out)
    brought = [Material(of_gaussian().model, data=data) for data in (few, other, bytes_)]
    why = [find_entry("gaussian-path").why_not(material) for material in brought]
    assert "at least 12 images" in why[0] and "shape (1, 4, 2)" in why[1] and "-2.5 to 2.5" in why[2]
    named = Material(checkpoints={"ema": model_of(law()), "10": model_of(law())}, data=DATA)
    assert "'ema'" in find_entry("linear-first").why_not(named)
    merged = Material(checkpoints={name: model_of(law()) for name in ("7", "30", "07")}, data=DATA)
    assert "'7' and '07' are of one" in find_entry("linear-first").why_not(merged)


@pytest.mark.parametrize("name", ["gaussian-unexplained", "gaussian-conventions", "gaussian-emergence",
                                  "memorisation-gap", "flipd-curve", "teleport"])  # fmt: skip
def test_calls_are_counted(name):
    """No more evaluations a sample than an entry says, and no less than half of them."""
    asked = 0
    plain = of_gaussian().model.denoiser

    def counting(x, sigma, condition):
        nonlocal asked
        asked += len(x)
        return plain(x, sigma, condition)

    material = Material(unconditional(counting), data=DATA, count=COUNT)
    find_entry(name).numbers(material)
    said = sum(find_entry(name).calls_of(material).values())
    assert said / 2 <= asked / COUNT <= said
