"""Fixtures that several files of this wing use."""

import pytest
from tests.mixtures import draw_labelled


@pytest.fixture(scope="module")
def known():
    return draw_labelled(300, spread=0.35)
