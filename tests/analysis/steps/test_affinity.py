"""Gradients between noise levels: a linear denoiser in closed form, gradients of noise alone, refusals."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.steps import gradient_affinity
from scorescope.data import InputError

SIGMAS = [0.2, 1.0, 4.0]
VARIANCE = torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


class Diagonal(nn.Module):
    """D = w x, or at levels above 1 another set of weights."""

    def __init__(self, weights, *, split=False):
        super().__init__()
        self.low = nn.Parameter(torch.as_tensor(weights, dtype=torch.float64))
        self.high = nn.Parameter(self.low.detach().clone())
        self.split = split

    def forward(self, x, sigma, condition=None):
        high = (sigma > 1)[:, None] & self.split
        return torch.where(high, self.high, self.low) * x


def images(count):
    draws = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return draws * VARIANCE.sqrt()


def test_of_a_linear_denoiser_in_closed_form():
    """d/dw E(w x - x0)^2 = 2 (w (l + s^2) - l), of each coordinate."""
    weights = torch.tensor([0.2, 0.9, 0.1, 0.5], dtype=torch.float64)
    table = gradient_affinity(Diagonal(weights), images(4000), SIGMAS, progress=False)
    g = torch.stack([weights * (VARIANCE + s**2) - VARIANCE for s in SIGMAS])
    exact = (g @ g.T / g.norm(dim=1) / g.norm(dim=1)[:, None]).numpy()
    other = table[table["sigma"] != table["sigma_other"]]
    assert len(other) == 3
    for row in other.itertuples():
        expected = exact[SIGMAS.index(row.sigma), SIGMAS.index(row.sigma_other)]
        assert row.low < expected < row.high and row.agreement == pytest.approx(expected, abs=0.05)
        assert row.cosine == pytest.approx(expected, abs=0.05) and row.reliability > 0.98
    assert exact.min() < 0 < exact.max()


def test_levels_with_weights_of_their_own_do_not_meet():
    table = gradient_affinity(Diagonal([0.1] * 4, split=True), images(200), [0.2, 4.0], progress=False)
    row = table[table["sigma"] != table["sigma_other"]].iloc[0]
    assert row["cosine"] == 0 and row["agreement"] == 0


def test_noise_draws_the_cosine_to_0_and_not_the_agreement():
    """Gradients of a few images: the plain cosine is too small, the split one is right on average."""
    weights = torch.tensor([1.0, 0.9, 0.8, 0.6], dtype=torch.float64)
    found = [gradient_affinity(Diagonal(weights), images(32), [0.6, 0.8], seed=seed, progress=False).iloc[1]
             for seed in range(20)]  # fmt: skip
    g = [weights * (VARIANCE + s**2) - VARIANCE for s in (0.6, 0.8)]
    exact = float(g[0] @ g[1] / g[0].norm() / g[1].norm())
    cosine, agreement = (np.nanmedian([row[name] for row in found]) for name in ("cosine", "agreement"))
    assert abs(agreement - exact) < abs(cosine - exact)
    assert 0 < np.mean([row["reliability"] for row in found]) < 0.98


def test_gradients_stay_as_they_were_and_batches_do_not_matter():
    model = Diagonal([0.2] * 4)
    one, two = (gradient_affinity(model, images(40), SIGMAS, batch=batch, progress=False) for batch in (3, 64))
    np.testing.assert_allclose(one["cosine"], two["cosine"], rtol=1e-9)
    assert model.low.grad is None
    frozen = gradient_affinity(model.requires_grad_(False), images(40), SIGMAS, progress=False)
    np.testing.assert_allclose(frozen["cosine"], two["cosine"])
    assert not model.low.requires_grad


@pytest.mark.parametrize("how", [{"groups": 3}, {"groups": 50}, {"most": 100}], ids=str)
def test_what_cannot_be_done_is_refused(how):
    with pytest.raises(InputError, match="groups"):
        gradient_affinity(Diagonal([0.2] * 4), images(40), SIGMAS, progress=False, **how)


def test_a_law_has_no_parameters():
    with pytest.raises(InputError, match="without parameters"):
        gradient_affinity(lambda x, sigma, condition: x, images(40), SIGMAS)
