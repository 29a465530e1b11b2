"""The far-field prediction against clouds whose denoiser is known, and where it does not hold."""

import numpy as np
import pytest
import torch

from scorescope.analysis.gaussian import (
    far_field,
    far_field_constant,
    path_errors,
    path_pair,
    predicted_state_error,
    score_gaps,
    skip_level,
    suggest_skip,
)
from scorescope.data import InputError
from scorescope.probes.approximations import TrainingSet, fit_gaussian
from scorescope.probes.models import edm_sigmas

SQUARE = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]).double()
CLOUDS = {
    "two points": torch.tensor([[-1.0], [1.0]]).double(),
    "square": SQUARE,
    "lopsided": torch.tensor([[0.0], [0.0], [0.0], [0.0], [1.0]]).double(),
    "random": torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double(),
}


def law_of(cloud):
    return fit_gaussian(cloud, shrinkage="none")


def direct_cumulants(cloud):
    """|K3|^2 / (2 |C|^2) and |K4|^2 / (6 |C|^2) from the tensors themselves."""
    y = (cloud - cloud.mean(0)).numpy()
    c = np.einsum("ia,ib->ab", y, y) / len(y)
    third = np.einsum("ia,ib,ic->abc", y, y, y) / len(y)
    pairs = np.einsum("ab,cd->abcd", c, c) + np.einsum("ac,bd->abcd", c, c) + np.einsum("ad,bc->abcd", c, c)
    fourth = np.einsum("ia,ib,ic,id->abcd", y, y, y, y) / len(y) - pairs
    return (third**2).sum() / (c**2).sum() / 2, (fourth**2).sum() / (c**2).sum() / 6


@pytest.mark.parametrize("name", CLOUDS)
def test_constants_are_those_of_the_tensors(name):
    far = far_field(CLOUDS[name], chunk=3)
    np.testing.assert_allclose([far.third, far.fourth], direct_cumulants(CLOUDS[name]), rtol=1e-9, atol=1e-12)
    assert far.third == pytest.approx(far_field_constant(CLOUDS[name]), abs=1e-12)
    assert far.lowest == pytest.approx(3 * float(law_of(CLOUDS[name]).eigenvalues[0]) ** 0.5)


@pytest.mark.parametrize("name", CLOUDS)
def test_the_fraction_holds_in_its_range_where_c_vanishes_too(name):
    """It said 0 of symmetric laws. Too large by at most a half at the end of its range, an eighth at twice that."""
    cloud = CLOUDS[name]
    far, gaussian, exact = far_field(cloud), law_of(cloud), TrainingSet(cloud)
    generator = torch.Generator().manual_seed(1)
    data = cloud[torch.randint(len(cloud), (4000,), generator=generator)]
    levels = [4 * far.lowest, 2 * far.lowest, far.lowest]
    gaps = score_gaps(exact, [gaussian], data, levels, draws=4)
    measured = gaps.errors["gaussian"].sum(1) / gaps.totals["centred"].sum(1)
    ratio = np.array([far.fraction(sigma) for sigma in levels]) / measured
    np.testing.assert_array_less(ratio, [1.15, 1.2, 1.6])
    np.testing.assert_array_less([0.85, 0.9, 1.0], ratio)


@pytest.mark.parametrize("name", ["two points", "lopsided", "random"])
def test_the_state_error_holds_in_its_range_and_is_capped(name):
    cloud = CLOUDS[name]
    far, gaussian = far_field(cloud), law_of(cloud)
    low, top = far.lowest, 200 * far.lowest
    grid = sorted({*edm_sigmas(200, sigma_min=low, sigma_max=top)[:-1], 2 * low, low}, reverse=True)
    pair = path_pair(TrainingSet(cloud), gaussian, seeds=range(400), sigmas=grid, dtype=torch.float64)
    errors = path_errors(pair, resamples=20).query("quantity == 'state'").set_index("sigma")["ratio_of_sums"]
    for sigma, most in ((2 * low, 1.35), (low, 1.9)):
        predicted = predicted_state_error(far, gaussian, sigma, sigma_max=top)
        assert 0.8 < predicted / errors[sigma] < most, (sigma, predicted, errors[sigma])
    assert predicted_state_error(far, gaussian, 0.01) == 1.0  # was 1e8, or 0 for two points
    jump = skip_level(far, gaussian, tolerance=0.5)
    assert jump == pytest.approx(low)  # 0.5 would be reached below the range: nothing is said there


def test_two_points_are_not_said_to_be_a_gaussian():
    cloud = CLOUDS["two points"]
    far, gaussian = far_field(cloud), law_of(cloud)
    assert (far.third, far.fourth) == (0.0, pytest.approx(2 / 3))
    advice = suggest_skip(TrainingSet(cloud), gaussian, far, tolerance=1e-3, seeds=range(64), dtype=torch.float64)
    table = advice.table
    assert (table["predicted_error"] > 0).all() and (table["predicted_error"] <= 1).all()
    assert (table["in_range"] == (table["sigma"] >= 3)).all()
    assert table.loc[table["sigma"].idxmin(), "measured_error"] == pytest.approx(0.404, abs=0.15)  # not 0
    assert advice.sigma_predicted >= 3
    assert skip_level(0.0, gaussian, tolerance=1e-3) == pytest.approx(3)  # c alone: not below its range


def test_c_of_normal_samples_is_its_floor():
    values = torch.tensor([2.0, 1.0, 0.5, 0.25]).double()
    found = []
    for seed in range(60):
        noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        far = far_field(noise * values.sqrt())
        found.append((far.third, far.third_floor))
        assert far.fraction(0.01) == 1.0
    measured, floor = np.mean(found, axis=0)
    assert measured == pytest.approx(floor, rel=0.15)
    with pytest.raises(InputError, match="two different"):
        far_field(torch.ones(3, 2))
