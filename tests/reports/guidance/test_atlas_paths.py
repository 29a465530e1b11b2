"""The oracles of the atlas's entries on whole paths, and on what branches say along them."""

import numpy as np
import torch
from tests.atlas_material import SHAPE, conditions, law, toy_material

from scorescope.analysis.guidance import separation
from scorescope.analysis.guidance.known_laws import KnownBranches
from scorescope.probes.approximations import Mixture, isotropic
from scorescope.probes.guidance import CFG
from scorescope.probes.models.model import Model
from scorescope.reports.atlas import find_entry
from scorescope.reports.entries import Material


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


def gaussian_pair(variance=0.5, gap=2.0, size=4):
    """Two Gaussians of one covariance as the branches of a model."""
    means = [torch.full((size,), side * gap / 2, dtype=torch.float64) for side in (1, -1)]
    laws = KnownBranches(*(isotropic(mean, variance) for mean in means))
    return Model(laws, "pair", (size,), lambda count: torch.zeros(count), None)


def test_rules_part():
    """CFG moves a Gaussian's states by (w - 1) (m_c - m_u) (1 - sqrt((l + s^2) / (l + s_max^2)))."""
    variance, gap, weight = 0.5, 2.0, 4.0
    material = Material(gaussian_pair(variance, gap), count=8, steps=60)
    table = numbers("rules-part", material).tables["separation"]
    table = table[(table["setting"] == "no guidance") & (table["sigma"] < 60) & (table["sigma"] > 0.01)]
    sigma, top = table["sigma"].to_numpy(), 80.0
    known = (weight - 1) * gap * (1 - np.sqrt((variance + sigma**2) / (variance + top**2))) / sigma
    np.testing.assert_allclose(table["mean"], known, rtol=0.02)
    base = material.path(CFG(weight), count=8)
    assert (separation(base, base)["mean"] == 0).all()


def test_rules_by_sigma():
    """At w = 1 all rules predict the same."""
    made = numbers("rules-by-sigma", toy_material(weights=(1.0,), weight=1.0, count=8))
    first, *others = made.pictures.values()
    assert len(others) >= 2 and all(torch.equal(first, other) for other in others)
    guided = numbers("rules-by-sigma", toy_material(count=8)).pictures
    assert not torch.equal(guided["no guidance"], guided["CFG, w = 4"])


def test_icg_update_agreement():
    """At high noise the update of ICG is m_c - m_r, of a class r at random; CFG's is m_c less the mean of all."""
    rows = numbers("icg-update-agreement").tables["rows"]
    top = rows[(rows["sigma"] == rows["sigma"].max())]
    mixture = law()
    means = torch.stack([part.mean.flatten() for part in mixture.components])
    for row in top.itertuples():
        mine = means[row.sample % 4] - means.mean(0)
        known = torch.cosine_similarity(mine[None], means[row.sample % 4] - means)
        off = (known - row.cosine).abs() if row.cosine == row.cosine else torch.zeros(1)
        assert float(off.min()) < 0.02
    assert 0 < top["cosine"].isna().sum() < len(top)  # one class in four is the sample's own


def test_icg_of_one_class_has_no_update():
    mixture = law()
    one = Mixture(mixture.components[:1], torch.ones(1, dtype=torch.float64), labels=(0,))
    alone = Model(one, "one class", SHAPE, lambda count: torch.zeros(count, dtype=torch.int64), (-1.0, 1.0))
    assert "no noise level" in numbers("icg-update-agreement", Material(alone, count=8, steps=4)).why


def test_cfgpp_effective_weight():
    """lambda sigma / (sigma - sigma'): more steps, larger weights."""
    table = numbers("cfgpp-effective-weight").tables["weights"]
    own = table[table["setting"].str.startswith("CFG++")]
    np.testing.assert_allclose(own["weight"], 0.6 * own["sigma"] / (own["sigma"] - own["sigma_next"]), rtol=1e-6)
    firsts = own.groupby("setting", sort=False)["weight"].first()
    assert firsts.is_monotonic_increasing and len(firsts) == 3


def test_autoguidance_update():
    """Of two Gaussians of mean 0 the update is [S (S + s^2)^-1 - S_0 (S_0 + s^2)^-1] x."""
    strong, weak = 0.25, 1.0
    models = [Model(isotropic(torch.zeros(SHAPE), part), name, SHAPE, conditions) for name, part in
              (("strong", strong), ("weak", weak))]  # fmt: skip
    steps = numbers("autoguidance-update", Material(*models, count=8, steps=6)).tables["steps"]
    found = steps[(steps["line"] == "the weak model") & (steps["quantity"] == "update_ratio")]
    found = found[found["sigma"] > 0.1]  # below, the update is of the size of rounding
    shrink = [part / (part + found["sigma"] ** 2) for part in (strong, weak)]
    np.testing.assert_allclose(found["mean"], (shrink[1] - shrink[0]) / shrink[0], rtol=1e-4)
