"""Norms of noised images against their closed forms."""

import numpy as np
import pytest
import torch

from scorescope.analysis.gaussian import noise_norms
from scorescope.data import InputError

SIGMAS = (30.0, 1.0, 0.1)


def test_pure_noise_is_inside_at_every_level():
    images = torch.randn(800, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    table = noise_norms(images, SIGMAS)
    assert ((table["inside_low"] <= 0.95) & (table["inside_high"] >= 0.95)).all()
    assert ((table["low"] <= 1) & (table["high"] >= 1)).all() and (table["d"] == 192).all()
    spread = np.sqrt(2 / 192)
    np.testing.assert_allclose(table["spread_high"], 1 + 1.96 * spread, atol=0.03)
    np.testing.assert_allclose(table["noise_low"], 1 - 1.96 * spread, atol=0.02)


def test_the_mean_of_images_has_its_closed_form():
    images = 0.5 * torch.ones(400, 1, 8, 8)
    table = noise_norms(images, SIGMAS)
    expected = [(0.25 + sigma**2) / (1 + sigma**2) for sigma in SIGMAS]
    assert ((table["low"] <= expected) & (expected <= table["high"])).all()
    assert table["inside"].iloc[0] > 0.9 and table["inside"].iloc[2] == 0  # too short where there is little noise
    with pytest.raises(InputError, match="images: found 1"):
        noise_norms(images[:1], SIGMAS)
