"""The weight of least one-step error, where it is known: errors in proportion, a Gaussian, exact models."""

import numpy as np
import pytest
import torch

from scorescope.analysis.information import optimal_weights
from scorescope.analysis.information.optimal_weights import FEW, SAME
from scorescope.probes.bank import Arm, Bank, compare_arms

SIGMAS = (4.0, 1.0, 0.25)


def shrink(factor):
    """D = factor x, whatever the noise."""
    return lambda x, sigma, condition: factor * x


def found(images, weak, strong, **how):
    bank = Bank(images, SIGMAS, draws=2)
    return optimal_weights(compare_arms(bank, [Arm("weak", weak), Arm("strong", strong)]), **how)


@pytest.mark.parametrize("k", [3.0, 1.5, -1.0])
def test_errors_in_proportion(k):
    """Of data that are 0, D is the error: k times as large, it is repaired at 1 + 1 / (k - 1)."""
    table = found(torch.zeros(20, 6), shrink(0.1 * k), shrink(0.1))
    np.testing.assert_allclose(table[["weight", "low", "high"]], 1 + 1 / (k - 1), rtol=1e-6)
    np.testing.assert_allclose(table[["alignment", "alignment_low"]], np.sign(k - 1), rtol=1e-6)


def test_shrinkage_of_a_gaussian():
    """N(0, 1): any two factors are mixed to 1 / (1 + sigma^2)."""
    images = torch.randn(1200, 3, generator=torch.Generator().manual_seed(0))
    table = found(images, shrink(0.2), shrink(0.6))
    known = (1 / (1 + np.square(SIGMAS)) - 0.2) / 0.4
    np.testing.assert_allclose(table["weight"], known, atol=0.12)
    assert ((table["low"] <= known) & (known <= table["high"])).all()


def test_an_interval_holds_one_for_an_exact_model_as_often_as_it_says():
    """1 within 95 of 100 intervals; 1 of alignment 0."""
    generator = torch.Generator().manual_seed(1)
    inside = []
    for _ in range(60):
        images = torch.randn(64, 3, generator=generator)
        bank = Bank(images, (1.0,), seed=int(torch.randint(2**31, (1,), generator=generator)))
        arms = [Arm("weak", shrink(0.1)), Arm("strong", shrink(0.5))]
        row = optimal_weights(compare_arms(bank, arms), resamples=400).iloc[0]
        inside.append((row["low"] <= 1 <= row["high"], row["alignment_low"] <= 0 <= row["alignment_high"]))
    assert np.mean(inside, axis=0) == pytest.approx([0.95, 0.95], abs=0.08)


def test_missing_is_said():
    images = torch.randn(20, 3)
    same = found(images, shrink(0.5), shrink(0.5))
    assert (same["missing"] == SAME).all() and same["weight"].isna().all()
    few = found(images[:8], shrink(0.1), shrink(0.5))
    assert (few["missing"] == FEW).all() and few["weight"].notna().all() and few["low"].isna().all()
