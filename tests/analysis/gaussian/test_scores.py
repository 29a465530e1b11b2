import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from scorescope.analysis.gaussian.far_field import (
    covariance_floor,
    far_field_constant,
    predicted_state_error,
    skip_level,
)
from scorescope.analysis.gaussian.gaps import score_gaps
from scorescope.analysis.gaussian.scores import compare_scores, lowest_run, regimes, score_table
from scorescope.data import InputError, load_denoiser
from scorescope.probes.approximations import Mixture, TrainingSet, fit_gaussian, fit_isotropic, fit_per_class


@pytest.fixture(scope="module")
def split():
    """The split of the reference table: 1200 training and 597 held-out digits, a permutation of seed 0."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    images = torch.from_numpy(pixels / 8 - 1).reshape(-1, 1, 8, 8)[order]
    return images[:1200], torch.from_numpy(labels[order][:1200]), images[1200:]


@pytest.fixture(scope="module")
def laws(split):
    images, labels, _ = split
    return {
        "isotropic": fit_isotropic(images),
        "gaussian": fit_gaussian(images),
        "ppca 16": fit_gaussian(images, rank=16),
        "per class": fit_per_class(images, labels, shrinkage="none"),
    }


@pytest.fixture(scope="module")
def exact(split):
    return TrainingSet(split[0])


def fractions(denoiser, laws, data, sigmas, metric="centred", **options):
    table = score_table(score_gaps(denoiser, list(laws.values()), data, sigmas, **options), resamples=50)
    table = table[table["metric"] == metric]
    return table.pivot(index="approximation", columns="sigma", values="ratio_of_sums")


REFERENCE = {  # centred, ratio of sums, held-out y + sigma n
    "gaussian": [0.26, 0.26, 0.30, 0.33, 0.28, 0.22, 0.13, 0.058, 0.016, 3.9e-3],
    "ppca 16": [0.26, 0.27, 0.31, 0.34, 0.29, 0.23, 0.14, 0.066, 0.024, 0.012],
    "per class": [0.24, 0.22, 0.19, 0.14, 0.092, 0.054, 0.023, 6.9e-3, 1.6e-3, 3.6e-4],
}
SIGMAS = [0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20]


def test_reference_table_on_held_out_digits(split, laws, exact):
    found = fractions(exact, laws, split[2], SIGMAS, draws=6)
    for name, expected in REFERENCE.items():
        np.testing.assert_allclose(found.loc[name, SIGMAS], expected, rtol=0.1, err_msg=name)


def test_training_queries_read_differently_at_low_noise(split, laws, exact):
    """The memorised point is the clean image there: 11 times smaller at 0.1, the same above 1."""
    found = fractions(exact, laws, split[0], [0.1, 0.2, 0.5, 2, 5], query="train")
    np.testing.assert_allclose(found.loc["gaussian"], [0.024, 0.075, 0.24, 0.23, 0.058], rtol=0.1)


def test_raw_score_metric_is_blind_at_high_noise(split, laws, exact):
    found = fractions(exact, laws, split[2], [0.02, 0.5, 2, 10], metric="score", draws=6)
    np.testing.assert_allclose(found.loc["gaussian"], [1.0, 0.28, 5.2e-3, 6.7e-7], rtol=0.1)


def test_far_field_constant_and_slopes(split, laws, exact):
    images = split[0]
    constant = far_field_constant(images)
    assert constant == pytest.approx(1.609, abs=5e-4)
    assert far_field_constant(images, chunk=100) == pytest.approx(constant, rel=1e-12)
    sigmas = [10.0, 14.0, 20.0, 28.0, 40.0, 57.0, 80.0]
    for metric, slope, tolerance in (("centred", -2, 0.1), ("denoised", -4, 0.3), ("score", -6, 0.1)):
        found = fractions(exact, laws, images, sigmas, metric=metric, query="noise", draws=3).loc["gaussian"]
        fitted = np.polyfit(np.log(sigmas), np.log(found[sigmas]), 1)[0]
        assert fitted == pytest.approx(slope, abs=tolerance), metric
        if metric == "centred":
            np.testing.assert_allclose(found[sigmas] * np.square(sigmas), constant, rtol=0.05)


def test_a_wrong_covariance_leaves_its_floor(split, laws, exact):
    floor = covariance_floor(laws["ppca 16"], laws["gaussian"])
    assert floor == pytest.approx(7.8e-3, rel=0.05)
    found = fractions(exact, laws, split[2], [80.0, 160.0], query="noise")
    assert found.loc["ppca 16", 160.0] == pytest.approx(floor, rel=0.1)


def test_predicted_state_error_is_the_measured_one(split, laws, exact):
    """Leading order: exact as sigma grows. The denoiser is the cloud's own, the path is integrated finely."""
    from scorescope.analysis.gaussian.paths import path_errors, path_pair
    from scorescope.probes.models import edm_sigmas

    constant, levels = far_field_constant(split[0]), [20.0, 10.0, 6.0]
    grid = sorted({*edm_sigmas(300, sigma_min=6.0)[:-1], *levels}, reverse=True)
    pair = path_pair(exact, laws["gaussian"], seeds=range(200), sigmas=grid, dtype=torch.float64)
    errors = path_errors(pair, resamples=20).query("quantity == 'state'").set_index("sigma")["ratio_of_sums"]
    for level in levels:
        predicted = predicted_state_error(constant, laws["gaussian"], level)
        assert errors[level] == pytest.approx(predicted, rel=0.2), level
    assert math.log(errors[20.0] / errors[10.0], 2) == pytest.approx(-6, abs=0.25)
    jump = skip_level(constant, laws["gaussian"], tolerance=1e-6)
    assert predicted_state_error(constant, laws["gaussian"], jump) == pytest.approx(1e-6, rel=1e-6)


def test_equal_laws_have_no_gap(split, laws):
    one = Mixture((laws["gaussian"],), torch.ones(1, dtype=torch.float64), name="one component")
    found = fractions(laws["gaussian"], {**laws, "one": one}, split[2][:50], [0.1, 1.0, 30.0])
    assert (found.loc[["gaussian", "one component"]] < 1e-12).all(axis=None)


def test_intervals_cover_and_do_not_depend_on_the_batch(split, laws, exact):
    listed = list(laws.values())
    gaps = score_gaps(exact, listed, split[2][:150], [1.0, 3.0], draws=3)
    other = score_gaps(exact, listed, split[2][:150], [1.0, 3.0], draws=3, batch=37)
    for name in gaps.errors:
        np.testing.assert_allclose(gaps.errors[name], other.errors[name], rtol=1e-9)
    table = score_table(gaps)
    assert (table["n"] == 450).all()
    assert (table["images"] == 150).all()
    for kind in ("ratio_of_sums", "mean_of_ratios"):
        assert (table[f"{kind}_low"] < table[kind]).all()
        assert (table[kind] < table[f"{kind}_high"]).all()
    assert table.equals(compare_scores(exact, listed, split[2][:150], [1.0, 3.0], draws=3))
    row = table.query("approximation == 'gaussian' and metric == 'centred' and sigma == 1").iloc[0]
    assert (row["ratio_of_sums_high"] - row["ratio_of_sums_low"]) / row["ratio_of_sums"] < 0.3


def test_regimes_of_a_known_denoiser(split, laws, exact):
    """Truth: the exact denoiser plus an error of its own at high noise only."""

    def imperfect(x, sigma, condition):
        return exact(x, sigma) + 0.05 * (sigma[:, None, None, None] > 15)

    gaps = score_gaps(imperfect, [*laws.values(), exact], split[2][:200], [40.0, 20.0, 10.0, 2.0])
    table = regimes(gaps).set_index("sigma")
    assert table["network_error"].tolist() == [True, True, False, False]
    assert table["best"].tolist()[2:] == ["training set"] * 2
    assert table.loc[40.0, "gaussian_is_best"]
    assert not table.loc[2.0, "gaussian_is_best"]
    assert lowest_run(table.reset_index(), "network_error") == 20.0
    assert math.isnan(lowest_run(table.reset_index().assign(never=False), "never"))


def test_every_query_on_a_network(split, laws):
    denoiser, _ = load_denoiser("digits_weak")
    data = split[2][:20].float()
    for query in ("held_out", "train", "noise", "path"):
        gaps = score_gaps(denoiser, list(laws.values()), data, [80.0, 5.0, 0.5], query=query)
        assert score_table(gaps, resamples=20)["query"].unique().tolist() == [query]
    labels = torch.arange(20) % 10
    conditional = score_gaps(denoiser, list(laws.values()), data, [1.0], condition=labels)
    plain = score_gaps(denoiser, list(laws.values()), data, [1.0])
    assert (conditional.errors["per class"] != plain.errors["per class"]).all()


def test_arguments_that_do_not_fit_are_refused(split, laws, exact):
    data, listed = split[2][:5], list(laws.values())
    cases = [
        ({"query": "somewhere"}, listed, [1.0], "query"),
        ({}, listed, [0.0], "sigmas"),
        ({}, [laws["isotropic"]], [1.0], "a Gaussian among"),
        ({}, [laws["gaussian"], laws["gaussian"]], [1.0], "different names"),
        ({"query": "path"}, listed, [1.0, 2.0], "falling"),
    ]
    for options, approximations, sigmas, message in cases:
        with pytest.raises(InputError, match=message):
            score_gaps(exact, approximations, data, sigmas, **options)
    with pytest.raises(InputError, match=r"finite.*|NaN"):
        score_gaps(lambda x, sigma, c: x / 0, listed, data, [1.0])
    with pytest.raises(InputError, match="two different"):
        far_field_constant(data[:1].expand(4, -1, -1, -1))
    with pytest.raises(InputError, match="tolerance"):
        skip_level(1.0, laws["gaussian"], tolerance=0)
