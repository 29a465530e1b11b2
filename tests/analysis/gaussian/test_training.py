import numpy as np
import pytest
import torch

from scorescope.analysis.gaussian.jacobians import flipd
from scorescope.analysis.gaussian.training import memorisation, nearest_step, training_dynamics
from scorescope.data import InputError, load_digits
from scorescope.probes.approximations import TrainingSet, fit_gaussian, fit_isotropic

SETS = {"train": load_digits().train.images[:300].double(), "held out": load_digits().held_out.images[:300].double()}


@pytest.fixture(scope="module")
def gaussian():
    return fit_gaussian(load_digits().train.images.double())


def values(table, quantity):
    return table[table["quantity"] == quantity].set_index(["images", "sigma"])


def test_trace_is_that_of_the_law(gaussian):
    found = values(memorisation(gaussian, SETS, [0.3, 2.0], probes=8), "trace")
    for sigma in (0.3, 2.0):
        exact = float(gaussian.jacobian_trace(SETS["train"][:1], sigma))
        for name in SETS:
            row = found.loc[name, sigma]
            assert row["low"] <= exact <= row["high"] or row["mean"] == pytest.approx(exact, rel=0.01)


def test_a_law_expects_the_error_that_it_makes_on_its_own_samples(gaussian):
    own = gaussian.sample(2000, generator=torch.Generator().manual_seed(0))
    table = memorisation(gaussian, {"own": own}, [0.2, 1.0, 5.0])
    error, expected = values(table, "error"), values(table, "expected_error")
    np.testing.assert_allclose(error["mean"], expected["mean"], rtol=0.05)


def test_the_memoriser_shows(gaussian):
    """No error and no Jacobian on training points; a plateau at the nearest neighbour's distance on fresh ones."""
    exact = TrainingSet(load_digits().train.images.double())
    table = memorisation(exact, SETS, [0.1, 0.2])
    error, trace = values(table, "error")["mean"], values(table, "trace")["mean"]
    assert error["train", 0.2] < 1e-4
    assert trace["train", 0.1] < 1e-3
    assert error["held out", 0.1] == pytest.approx(error["held out", 0.2], rel=0.02)
    assert error["held out", 0.1] * 64 == pytest.approx(4.8, rel=0.1)  # squared distance to the nearest image
    kind = values(memorisation(gaussian, SETS, [0.2]), "error")["mean"]
    assert kind["held out", 0.2] / kind["train", 0.2] < 1.2


def test_arguments_that_do_not_fit_are_refused(gaussian):
    with pytest.raises(InputError, match="positive noise levels"):
        memorisation(gaussian, SETS, [0.0])
    for name, rows, said in (("Train", 300, "found 'Train'"), ("train", 7, "7 rows for 'train'")):
        with pytest.raises(InputError, match=said):
            memorisation(gaussian, SETS, [1.0], conditions={name: torch.zeros(rows)})
    with pytest.raises(InputError, match="without gradient"):
        memorisation(lambda x, sigma, condition: x.detach(), SETS, [1.0])


@pytest.mark.parametrize("measure", [memorisation, flipd])
def test_points_and_numbers_that_are_none_are_refused(gaussian, measure):
    for more in ({"probes": 0}, {"batch": 0}, {"batch": -1}, {"seed": -1}):
        with pytest.raises(InputError, match="probes, batch, seed"):
            measure(gaussian, SETS, [1.0], **more)
    with pytest.raises(InputError, match="positive noise levels"):
        measure(gaussian, SETS, [])
    with pytest.raises(InputError, match="sets: found whole: 300 of"):
        measure(gaussian, {"whole": SETS["train"].long()}, [1.0])


def test_dynamics_find_the_nearest_snapshot(gaussian):
    """A network that starts at the mean, passes the Gaussian, and ends at the training set."""
    exact, mean = TrainingSet(load_digits().train.images.double()), fit_isotropic(SETS["train"], variance=False)
    table = training_dynamics(
        {10: mean, 20: gaussian, 30: exact}, [gaussian, fit_gaussian(SETS["train"], rank=5)], SETS["held out"],
        [0.5, 2.0],
    )  # fmt: skip
    nearest = nearest_step(table).set_index(["approximation", "sigma"])
    assert nearest.loc[("gaussian", 0.5), "training_step"] == 20
    assert nearest.loc[("gaussian", 0.5), "fraction"] < 1e-12
    assert nearest.loc[("gaussian", 2.0), "rises"]
    assert (nearest["snapshots"] == 3).all()
    with pytest.raises(InputError, match="snapshots"):
        training_dynamics({}, [gaussian], SETS["train"], [1.0])
