"""The oracles of the atlas's entries on whole paths, and on what branches say along them."""

import numpy as np
from tests.atlas_material import toy_material

from scorescope.reports.atlas import find_entry


def numbers(name, material=None):
    return find_entry(name).numbers(material or toy_material())


def test_optimal_weight_vs_sigma():
    """The mixture is the law of its data: nothing is better than no guidance, away from whatever."""
    table = numbers("optimal-weight-vs-sigma", toy_material(count=80)).tables["weights"]
    assert set(table["weak"]) == {"weak: broader", "without condition"}
    told = table[table["high"] - table["low"] < 2]
    assert len(told) > 10 and ((told["low"] <= 1) & (told["high"] >= 1)).mean() > 0.8
    np.testing.assert_allclose(told["weight"], 1, atol=0.6)
    assert ((table["alignment_low"] <= 0) & (table["alignment_high"] >= 0)).mean() > 0.8


def test_what_an_optimal_weight_needs_is_said():
    material = toy_material()
    alone = type(material)(material.model, data=type(material.data)(material.data.train, material.data.held_out))
    assert "--weak" in find_entry("optimal-weight-vs-sigma").why_not(alone)
