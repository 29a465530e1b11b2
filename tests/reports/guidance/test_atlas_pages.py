"""The oracles of the atlas's pages: those of their panels, and closed forms of two Gaussians."""

import math

import numpy as np
import torch
from tests.artists import faults
from tests.atlas_material import toy_material

from scorescope.analysis.guidance.known_laws import KnownBranches
from scorescope.probes.approximations import isotropic
from scorescope.probes.models.model import Model
from scorescope.reports.atlas import find_entry
from scorescope.reports.atlas.make import drawn
from scorescope.reports.entries import Material
from scorescope.reports.gaussian import Data


def gaussian_material(variance=0.5, gap=1.0, size=4, **how):
    """Branches of one covariance, and draws of the unconditional law."""
    cond, uncond = (isotropic(torch.full((size,), mean, dtype=torch.float64), variance) for mean in (gap, 0.0))
    model = Model(KnownBranches(cond, uncond), "pair", (size,), lambda count: torch.zeros(count), None)
    draws = uncond.sample(600, generator=torch.Generator().manual_seed(0)).float()
    return Material(model, data=Data(draws[:500], draws[500:]), count=64, steps=8, **how)


def test_guidance_page():
    """Its tables are those of the figures of one panel."""
    material = toy_material()
    page = find_entry("guidance-page").numbers(material).tables
    for name in ("apg-update-parts", "apg-parallel-share", "fdg-band-norms", "guidance-information"):
        for key, table in find_entry(name).numbers(material).tables.items():
            own = page[key]
            if name == "apg-update-parts":
                own = own[(own["rule"] == "CFG") & (own["weight"] == material.weight)]
            assert own.reset_index(drop=True).equals(table.reset_index(drop=True)), (name, key)
    gains = page["gains"]
    np.testing.assert_allclose(gains[(gains["weight"] == 1) & (gains["quantity"] == "path_gain")]["mean"], 1, rtol=1e-6)


def test_a_page_says_what_it_has_not():
    made = find_entry("guidance-page")
    numbers = made.numbers(gaussian_material(weights=(1.0, 4.0)))
    assert "images" in numbers.facts["no_bands"]
    figure = drawn(made, numbers, "paper-double")
    (panel,) = [ax for ax in figure.axes if ax.texts]
    assert panel.get_title() == "(d) bands of the update" and faults(figure) == []
    assert "bands of frequency" in panel.texts[0].get_text().replace("\n", " ")


def test_schedule_page():
    """Of Gaussians: nothing is left of the prediction but what few images leave, and information in closed form."""
    variance, gap, size = 0.5, 1.0, 4
    material = gaussian_material(variance, gap, size)
    tables = find_entry("schedule-page").numbers(material).tables
    scores = tables["gaussian"]
    assert (scores["ratio_of_sums"] <= scores["floor_high"]).mean() >= 0.9
    curve = tables["information"].query("sigma > 0")
    known = math.log(2) * size * gap**2 * curve["sigma"] ** 2 / (variance + curve["sigma"] ** 2) ** 2
    np.testing.assert_allclose(curve["density"], known, rtol=1e-3)
    np.testing.assert_allclose(tables["grid"]["sigma"], material.sigmas[:-1])
