"""The oracles of the atlas's entries on sparse features, on a subject of which all is known."""

from functools import cache

import numpy as np
import pytest
from tests.atlas_material import toy_material
from tests.planted_subject import planted_subject

from scorescope.reports.atlas import find_entry
from scorescope.reports.atlas.make import numbers_of
from scorescope.reports.entries import Material
from scorescope.reports.inside.atlas_sparse import ENTRIES

material = cache(toy_material)


@cache
def numbers(name):
    return numbers_of(find_entry(name), material())


def test_sae_sheet():
    """Nothing reads `decoy`: no loss is raised there; what is kept of a site is a part of its variance."""
    sheet = numbers("sae-sheet").tables["sheet"]
    decoy = sheet[sheet["site"] == "decoy"]
    assert (decoy.loc[decoy["quantity"].str.startswith("rise"), "value"] == 0).all()
    assert decoy.loc[decoy["quantity"] == "share_of_zero", "missing"].str.contains("not shown to be above 0").all()
    assert decoy.loc[decoy["quantity"] == "fvu", "value"].between(0, 0.5).all()


def test_sae_density():
    """Shares of positions add up to how many features are active at one, on average."""
    sums = numbers("sae-density").tables["density"].groupby(["site", "sigma"])["density"].sum()
    sheet = numbers("sae-sheet").tables["sheet"]
    active = sheet[sheet["quantity"] == "l0"].set_index(["site", "sigma"])["value"]
    assert np.allclose(sums, active.loc[sums.index], rtol=1e-9)


def test_sae_read_vs_move():
    """Features of `decoy`, which nothing reads, move nothing."""
    judged = numbers("sae-read-vs-move").tables["judged"].set_index("site")
    assert (judged.loc["decoy", "effect"] == 0).all() and (judged.loc["decoy", "verdict"] == "not steerable").all()
    assert (judged.loc["free", "effect"].abs() > 0).all()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_few_images_are_a_reason(entry):
    assert entry.why_not(Material(subject=lambda: planted_subject(40))) == "the subject has 40 images, fewer than 60"
