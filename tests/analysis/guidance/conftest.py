"""Fixtures that several files of this wing use."""

import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.probes import CFG, AdaptiveGuidance, Recording, sample, sweep

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)


@pytest.fixture(scope="module")
def settings():
    rules = {"w1": CFG(1.0), "w3": CFG(3.0), "adaptive": AdaptiveGuidance(CFG(3.0), threshold=0.997, below=2.0)}
    return sweep(
        PAIR,
        rules,
        seeds=range(COUNT),
        condition=LABELS,
        record=Recording(value_range=(-1, 1), keep=True),
        progress=False,
    )


@pytest.fixture(scope="module")
def whole():
    """A run with both branches kept at every call."""
    options = Recording(keep=True, all_branches=True)
    return sample(PAIR, seeds=range(20), condition=LABELS[:20], rule=CFG(2.0), record=options, progress=False).trace
