import numpy as np
import pytest
import torch

from scorescope.analysis import pairwise_information
from scorescope.analysis.information import grid_levels, overlap


@pytest.fixture(scope="module")
def found(known):
    return pairwise_information(known.law, known.images, known.labels, levels=grid_levels(-8, 7, 26), draws=3)


def overlapping():
    """Two conditions on images (1, 1, 3): each moves the prediction of some pixels by a known amount."""
    moves = {1: torch.tensor([1.0, 2.0, 0.0]), 2: torch.tensor([2.0, 1.0, 0.0]), 3: torch.tensor([1.0, 2.0, 1.0])}

    def denoiser(x, sigma, condition):
        if condition is None:
            return torch.zeros_like(x)
        return torch.stack([moves[int(k)] for k in condition]).view(-1, 1, 1, 3).to(x) + 0 * x

    return denoiser


def test_overlap_of_influence_by_hand():
    levels = grid_levels(-1, 1, 3)
    images = torch.zeros(2, 1, 1, 3)
    first, second, joint = (torch.tensor([k]) for k in (1, 2, 3))
    found = overlap(overlapping(), images, first, second, joint, levels=levels)
    unit = float(levels.weights @ np.exp(levels.log_snr)) / 2  # influence of a move by 1 in one pixel
    rows = found.images.set_index("aggregate")
    pixelwise, sums = rows.loc["pixelwise"].iloc[0], rows.loc["sums"].iloc[0]
    parts = ["redundancy", "unique_first", "unique_second", "synergy", "joint"]
    np.testing.assert_allclose([pixelwise[p] / unit for p in parts], [2, 3, 3, -2, 6], rtol=1e-6)
    np.testing.assert_allclose([sums[p] / unit for p in parts], [5, 0, 0, 1, 6], rtol=1e-6, atol=1e-9)


def test_overlap_parts_sum_to_the_joint_influence(known):
    part = slice(0, 25)
    labels = known.labels[part]
    found = overlap(
        known.law, known.images[part], (labels + 1) % 3, (labels + 2) % 3, labels, levels=grid_levels(-4, 4, 9)
    )
    table = found.images
    total = table[["redundancy", "unique_first", "unique_second", "synergy"]].sum(axis=1)
    np.testing.assert_allclose(total, table["joint"])
    wide = table.pivot(index="image", columns="aggregate", values="redundancy")
    assert (wide["pixelwise"] <= wide["sums"] + 1e-12).all()
    assert len(found.summary) == 8 and (found.summary["low"] <= found.summary["nats"]).all()
