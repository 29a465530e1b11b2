import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis.gaussian.far_field import far_field_constant
from scorescope.analysis.gaussian.paths import (
    beside,
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
    path_pair,
    seed_noise,
)
from scorescope.analysis.gaussian.skip import FEWER_CALLS, FINE_STEPS, FINER_STEPS, skip_table, suggest_skip
from scorescope.analysis.gaussian.solver_errors import linear_error, solver_gains
from scorescope.analysis.statistics.bootstrap import known_ends
from scorescope.data import InputError, load_digits
from scorescope.probes.approximations import fit_gaussian, fit_per_class
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun
from scorescope.probes.sampling.paths import run_path


@pytest.fixture(scope="module")
def digits():
    return load_digits().train


@pytest.fixture(scope="module")
def images(digits):
    return digits.images.double()


@pytest.fixture(scope="module")
def gaussian(images):
    return fit_gaussian(images)


@pytest.fixture(scope="module")
def mixture(images, digits):
    return fit_per_class(images, digits.labels, shrinkage="none")


def test_a_gaussian_network_follows_the_closed_form(gaussian):
    pair = path_pair(gaussian, gaussian, seeds=range(20), sigmas=edm_sigmas(300)[:-1], dtype=torch.float64)
    errors = path_errors(pair, resamples=20)
    assert errors["ratio_of_sums"].max() < 1e-7  # Heun's own error at 300 steps
    amplitudes = mode_amplitudes(pair, modes=5)
    np.testing.assert_allclose(amplitudes["network"], amplitudes["gaussian"], rtol=2e-3)
    table = emergence(pair, modes=10, resamples=20)
    np.testing.assert_allclose(table["sigma_network"], table["sqrt_eigenvalue"], rtol=2e-3)
    ends = end_agreement({"closed form": pair.end}, pair.network.end, gaussian.mean, None)
    assert ends["ratio_of_sums"][0] < 1e-7
    assert np.isnan(ends["flips"][0])


def test_a_mode_that_never_appears_has_no_level_and_no_interval(gaussian):
    at_once = lambda x, sigma, condition: gaussian.mean.to(x) + 0.1 * torch.ones_like(x)  # noqa: E731
    pair = path_pair(at_once, gaussian, seeds=range(12), sigmas=edm_sigmas(12)[:-1], dtype=torch.float64)
    table = emergence(pair, modes=3, resamples=20)
    assert table[["sigma_network", "low", "high"]].isna().all().all()


def test_an_interval_takes_nearly_all_resamples():
    drawn = np.tile(np.linspace(1, 2, 200)[:, None], (1, 3))
    drawn[:20, 1] = np.nan  # a tenth
    drawn[:3, 2] = np.nan  # less than a tail
    low, high = known_ends(drawn, 10**6)
    assert np.isnan([low[1], high[1]]).all() and (low[[0, 2]] < 1.05).all() and (high[[0, 2]] > 1.95).all()


def test_flips_are_counted_against_the_reference(mixture, images, digits):
    classify = mode_of(mixture)
    assert (classify(images) == digits.labels).double().mean() > 0.95
    other = images[:40].clone()
    other[:10] = images[digits.labels == (digits.labels[0] + 1) % 10][:10]
    same_class = (classify(images[:40]) == classify(other)).sum()
    ends = end_agreement({"other": other}, images[:40], mixture.mean, classify)
    assert ends["flips"][0] == pytest.approx(1 - int(same_class) / 40)
    assert ends["flips_low"][0] < ends["flips"][0] < ends["flips_high"][0]
    assert ends["median"][0] == 0
    with pytest.raises(InputError, match="like the reference"):
        end_agreement({"other": other[:3]}, images[:40], mixture.mean, None)


def test_solver_gains_are_the_known_ones():
    """Inflation of the standard deviation by Heun on the 18-level grid 80 -> 0.002."""
    table = solver_gains(Heun(), edm_sigmas(18)[:-1], [25, 1, 0.1, 1e-4])
    np.testing.assert_allclose(table["relative_error"], [0.027, 0.045, 0.064, 0.186], atol=6e-4)


def test_solver_gains_predict_the_error_on_the_linear_part(gaussian):
    sigmas = edm_sigmas(18)[:-1]
    values = gaussian.eigenvalues[gaussian.eigenvalues > 1e-10]
    assert linear_error(solver_gains(Heun(), sigmas, values)) == pytest.approx(0.047, abs=0.003)


@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1), (Heun(), 2), (DPMSolverPP2M(), 2)])
def test_solvers_converge_at_their_order(solver, order):
    errors = [
        solver_gains(solver, edm_sigmas(steps, sigma_min=0.05)[:-1], [1.0])["relative_error"].abs().iloc[0]
        for steps in (200, 400)
    ]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_gains_refuse_noise_and_bad_variances():
    with pytest.raises(InputError, match="deterministic"):
        solver_gains(Heun(churn=10), edm_sigmas(18), [1.0])
    with pytest.raises(InputError, match="positive variances"):
        solver_gains(Heun(), edm_sigmas(18), [1.0, 0.0])


def test_suggested_skip_is_the_lowest_within_tolerance(gaussian, mixture, images):
    constant = far_field_constant(images)
    advice = suggest_skip(mixture, gaussian, constant, tolerance=1e-5, seeds=range(60), dtype=torch.float64)
    table = advice.table.set_index("sigma")
    assert advice.measured_high <= 1e-5
    below = table[table.index < advice.sigma_skip].iloc[0]
    assert below["high"] > 1e-5
    # the per-class law has nearly the data's third cumulant: the prediction is right to a factor of 2 at high noise
    high = table[(table.index > 5) & (table.index < 60)]
    assert ((high["predicted_error"] / high["measured_error"]).between(0.5, 3)).all()
    assert advice.sigma_skip / advice.sigma_predicted == pytest.approx(1, abs=0.5)
    none = suggest_skip(mixture, gaussian, constant, tolerance=1e-15, seeds=range(10), dtype=torch.float64)
    assert none.sigma_skip == 80.0
    with pytest.raises(InputError, match="candidates"):
        suggest_skip(mixture, gaussian, constant, candidates=[100.0])


def test_a_path_that_was_run_is_not_run_again(gaussian, mixture, images):
    """One fine path serves the suggestion, the reference of the skips and the comparison with the closed form."""
    seeds, constant = range(20), far_field_constant(images)
    start = 80.0 * seed_noise(seeds, gaussian.shape, torch.float64)
    fine, calls = run_path(mixture, start, edm_sigmas(FINE_STEPS)), []

    def counted(x, sigma, condition):
        calls.append(float(sigma[0]))
        return mixture(x, sigma, condition)

    how = {"tolerance": 1e-5, "seeds": seeds, "dtype": torch.float64}
    own, given = (suggest_skip(counted, gaussian, constant, path=path, **how) for path in (None, fine))
    assert len(calls) == 2 * FINE_STEPS - 1  # of one path: twice at each level but the last
    # the default candidates are those of an 18-step grid, each on the fine one: the same path
    np.testing.assert_allclose(given.table["measured_error"], own.table["measured_error"], rtol=1e-9)
    assert given.sigma_skip == own.sigma_skip
    with pytest.raises(InputError, match=r"path: found no state at 3\.21"):
        suggest_skip(mixture, gaussian, constant, candidates=[3.21], path=fine, **how)
    with_path = {"skips": [80.0, 8.4], "steps": [8], "real": images, "solvers": {"Heun": Heun()}}
    tables = [
        skip_table(mixture, gaussian, seeds=seeds, dtype=torch.float64, reference=end, **with_path)
        for end in (None, fine.end)
    ]
    pd.testing.assert_frame_equal(*tables)
    pair = path_pair(mixture, gaussian, seeds=seeds, sigmas=edm_sigmas(FINE_STEPS), dtype=torch.float64)
    pd.testing.assert_frame_equal(path_errors(pair), path_errors(beside(fine, gaussian)))
    thin = path_errors(beside(fine.thinned(7), gaussian))
    assert len(thin) == 2 * 18
    merged = thin.merge(path_errors(pair), on=["sigma", "quantity"], suffixes=("", "_all"))
    assert len(merged) == len(thin) and (merged["ratio_of_sums"] == merged["ratio_of_sums_all"]).all()


@pytest.fixture(scope="module")
def skips(mixture, gaussian, images):
    return skip_table(
        mixture, gaussian, seeds=range(100), skips=[80.0, 19.3524526, 8.4, 2.0], steps=[8, 18], real=images,
        solvers={"Heun": Heun(), "DPM++ 2M": DPMSolverPP2M()}, classify=mode_of(mixture), dtype=torch.float64,
    )  # fmt: skip


def test_skips_save_calls_or_error(skips):
    rows = skips[(skips["solver"] == "Heun") & (skips["steps"] == 18)]
    fewer = rows[rows["spent"] == FEWER_CALLS].set_index("sigma_skip")
    finer = rows[rows["spent"] == FINER_STEPS].set_index("sigma_skip")
    none = finer.loc[80.0]
    assert none["calls"] == 35
    assert none["median"] == pytest.approx(1.6e-3, rel=0.15)  # the reference table: 2.05e-3 in the mean, one flip in
    skipped = fewer[np.isclose(fewer.index, 19.3524526)].iloc[0]
    assert skipped["calls"] == 27
    assert skipped["median"] == pytest.approx(none["median"], rel=0.05)
    assert finer.loc[8.4, "calls"] == 35
    assert 5 < none["median"] / finer.loc[8.4, "median"] < 15  # 6 to 15 times better at equal calls
    assert finer.loc[2.0, "flips"] >= finer.loc[8.4, "flips"]
    # 100 samples: the distance of good samples is the floor's, that of 8 Heun steps from 80 is twice it
    coarse = skips[(skips["solver"] == "Heun") & (skips["steps"] == 8) & (skips["sigma_skip"] == 80)].iloc[0]
    assert coarse["frechet"] > 1.5 * coarse["frechet_floor"]
    assert finer.loc[8.4, "frechet"] < 1.2 * finer.loc[8.4, "frechet_floor"]
    assert not skips.duplicated(["solver", "steps", "spent", "sigma_skip"]).any()
