"""FLIPD and numerical ranks, against laws whose Jacobian is known."""

import numpy as np
import pytest
import torch

from scorescope.analysis.gaussian import flipd, jacobian_ranks
from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian, TrainingSet, isotropic

IMAGES = torch.randn(12, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def plane(dimensions=5, *, spread=1.0):
    """A Gaussian without variance but along some directions that are oblique to the axes."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(12, dimensions, generator=generator, dtype=torch.float64)).Q
    return Gaussian(torch.zeros(1, 3, 4).double(), basis, spread * torch.arange(1.0, dimensions + 1).double())


def test_flipd_is_the_dimension_of_a_plane():
    law = plane()
    own = law.sample(300, generator=torch.Generator().manual_seed(2))
    found = flipd(law, {"own": own}, [0.01], probes=16).set_index("quantity")
    assert found.loc["flipd", "low"] <= 5 <= found.loc["flipd", "high"]
    assert found.loc["flipd", "mean"] == pytest.approx(5, abs=0.2)
    assert found.loc["flipd", "mean"] == pytest.approx(found.loc[["trace", "residual"], "mean"].sum())


def test_flipd_of_a_ball_is_known_at_every_level():
    """D is linear: the trace is d v / (v + s2), the residual |x|^2 s2 / (v + s2)^2."""
    table = flipd(isotropic(torch.zeros(1, 3, 4).double(), 0.5), {"a": IMAGES}, [0.1, 1.0, 10.0])
    for sigma, rows in table.groupby("sigma"):
        shrink = sigma**2 / (0.5 + sigma**2)
        exact = 12 * (1 - shrink) + shrink**2 * IMAGES.flatten(1).square().sum(1).mean() / sigma**2
        assert rows.set_index("quantity").loc["flipd", "mean"] == pytest.approx(float(exact))


def test_flipd_of_a_memoriser_is_nothing_at_its_own_images():
    table = flipd(TrainingSet(IMAGES), {"own": IMAGES, "fresh": IMAGES + 0.5}, [0.05])
    found = table[table["quantity"] == "flipd"].set_index("images")["mean"]
    assert found["own"] < 1e-6
    assert found["fresh"] == pytest.approx(12 * 0.25 / 0.05**2, rel=0.01)  # the squared distance to the nearest


@pytest.mark.parametrize("energy", [0.9, 0.99])
def test_rank_and_trace_are_those_of_the_spectrum(energy):
    law = plane()
    table = jacobian_ranks(law, IMAGES, [0.1, 1.0, 20.0], energy=energy)
    for sigma, rows in table.groupby("sigma"):
        values = law.jacobian_spectrum(torch.tensor([sigma]).double())[0]
        share = values.square().cumsum(0) / values.square().sum()
        found = rows.set_index("quantity")["mean"]
        assert found["trace"] == pytest.approx(float(values.sum()))
        assert found["rank"] == int((share < energy).sum()) + 1


def test_blocks_of_images_change_nothing(monkeypatch):
    whole = jacobian_ranks(plane(), IMAGES, [1.0])
    monkeypatch.setattr("scorescope.analysis.gaussian.jacobians.ROWS", 30)
    np.testing.assert_allclose(jacobian_ranks(plane(), IMAGES, [1.0])["mean"], whole["mean"])


@pytest.mark.parametrize(
    "measure", [lambda d, s: flipd(d, {"a": IMAGES}, s), lambda d, s: jacobian_ranks(d, IMAGES, s)]
)
def test_what_cannot_be_asked_is_refused(measure):
    for levels in ([], [0.0], [1.0, float("inf")]):
        with pytest.raises(InputError, match="positive noise levels"):
            measure(plane(), levels)
    with pytest.raises(InputError, match="differentiable in x"):
        measure(lambda x, sigma, condition: x.detach(), [1.0])


def test_empty_sets_and_shares_are_refused():
    with pytest.raises(InputError, match=r"^sets"):
        flipd(plane(), {"a": IMAGES[:0]}, [1.0])
    with pytest.raises(InputError, match=r"^images, energy"):
        jacobian_ranks(plane(), IMAGES, [1.0], energy=1.0)
