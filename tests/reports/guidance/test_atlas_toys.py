"""The oracles of the atlas's entries on known laws: Gaussians, for which guided flows have closed forms."""

import math

import numpy as np
import pytest
import torch
from tests.atlas_material import toy_material

from scorescope.analysis.guidance.known_laws import INSIDE, KnownBranches, law_kept, line_densities, line_paths
from scorescope.data import InputError
from scorescope.probes.approximations import Mixture, isotropic
from scorescope.probes.guidance import CFG, Autoguidance, Interval
from scorescope.probes.models.noise import edm_sigmas
from scorescope.reports.atlas import find_entry
from scorescope.reports.guidance import atlas_toys


def point(*place):
    return torch.tensor(place, dtype=torch.float64)


def test_interval_toy_1d():
    """Of two Gaussians: the mean moves by a known share, the variance stays."""
    variance, weight, low, high = 0.25, 3.0, 0.2, 2.0
    pair = KnownBranches(isotropic(point(1.0), variance), isotropic(point(-0.5), variance))
    sigmas = sorted({*edm_sigmas(120), low, high}, reverse=True)  # an interval ends on steps of the grid
    rules = {"none": CFG(1.0), "CFG": CFG(weight), "interval": Interval(CFG(weight), low, high)}
    ends = line_paths(pair, rules, sigmas=sigmas, count=64).query("sigma == 0").groupby("rule")["x"]
    share = math.sqrt(variance) * ((variance + low**2) ** -0.5 - (variance + high**2) ** -0.5)
    moved = {"none": 0.0, "CFG": 1.0, "interval": share}
    for rule, part in moved.items():
        assert ends.mean()[rule] == pytest.approx(1 + part * (weight - 1) * 1.5, abs=0.03)
        assert ends.std()[rule] == pytest.approx(ends.std()["none"], rel=0.01)


def test_the_line_shows_what_it_says():
    """Without guidance the ends have the law's density; the interval keeps nearer to it than CFG."""
    tables = find_entry("interval-toy-1d").numbers(toy_material()).tables
    own = tables["densities"].query("rule == 'no guidance'")
    law = torch.distributions.Normal(1.0, atlas_toys.SPREAD).log_prob(torch.tensor(own["x"].to_numpy())).exp()
    np.testing.assert_allclose(own["density"][8:-8], law[8:-8], rtol=0.02)  # between few ends the law bends
    ends = tables["paths"].query("sigma == 0").groupby("rule")["x"].mean()
    assert abs(ends["interval"] - 1) < abs(ends["CFG"] - 1) / 2


def test_densities_of_ends_are_densities():
    pair = KnownBranches(isotropic(point(0.0), 1.0), isotropic(point(0.0), 1.0))
    paths = line_paths(pair, {"none": CFG(1.0)}, sigmas=edm_sigmas(32), count=100)
    found = line_densities(paths)
    ends = np.sort(paths.query("sigma == 0")["x"])
    assert (found["density"] * np.diff(ends)).sum() == pytest.approx(0.99)
    with pytest.raises(InputError, match="on a line"):
        line_paths(atlas_toys.both_trees(0.1), {"none": CFG(1.0)}, sigmas=edm_sigmas(8))


def test_autoguidance_toy_2d():
    """Blurred Gaussians: the guided end has standard deviation sqrt(l) (l / l0)^((w - 1) / 2); and the law itself."""
    strong, weak, weight = 0.3, 0.5, 3.0
    pairs = [KnownBranches(isotropic(point(0.0), part), isotropic(point(0.0), part)) for part in (strong, weak)]
    paths = line_paths(pairs[0], {"auto": Autoguidance(weight, pairs[1])}, sigmas=edm_sigmas(120), count=64)
    ends, starts = (paths[paths["sigma"] == level]["x"].std() for level in (0.0, 80.0))
    gain = math.sqrt(strong) * (strong / weak) ** ((weight - 1) / 2)
    assert ends / starts == pytest.approx(gain / 80, rel=0.01)
    kept = find_entry("autoguidance-toy-2d").numbers(toy_material()).tables["kept"].set_index("arm")
    assert kept.loc["the law itself", "low"] <= 1 - INSIDE <= kept.loc["the law itself", "high"]
    assert kept.loc["autoguidance", "high"] < kept.loc["no guidance", "low"]


def test_scores_of_the_tree_are_slopes_of_its_density():
    law = atlas_toys.tree(1, 0.1)
    x = law.sample(20, generator=torch.Generator().manual_seed(0), sigma=0.3)
    step = 1e-4 * torch.eye(2, dtype=torch.float64)
    slopes = [(law.log_density(x + h, 0.3) - law.log_density(x - h, 0.3)) / 2e-4 for h in step]
    np.testing.assert_allclose(law.score(x, 0.3), torch.stack(slopes, 1), rtol=1e-5, atol=1e-6)


def test_what_is_lost_of_a_law_is_counted():
    """All samples of one of two equal components: half of the law is lost, and nothing is outside."""
    parts = (isotropic(point(-5.0), 1.0), isotropic(point(5.0), 1.0))
    law = Mixture(parts, point(0.5, 0.5))
    row = law_kept({"one": torch.full((40, 1), 5.0, dtype=torch.float64)}, law).iloc[0]
    assert row["lost"] == pytest.approx(0.5) and row["outside"] == 0 < row["high"]
    assert law_kept({"far": torch.full((40, 1), 20.0, dtype=torch.float64)}, law).iloc[0]["outside"] == 1
