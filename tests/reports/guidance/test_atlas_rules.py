"""The oracles of the atlas entries that compare guidance rules by what their samples are worth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.atlas_material import conditions, law, toy_material

from scorescope.data import load_denoiser
from scorescope.probes.approximations import Gaussian
from scorescope.probes.approximations.gaussian import isotropic
from scorescope.probes.features import classifier_extractor
from scorescope.probes.guidance import APG, CFG, TSG
from scorescope.probes.models.model import Model
from scorescope.probes.sampling import sample
from scorescope.reports.atlas import features_of, find_entry
from scorescope.reports.gaussian import Data
from scorescope.reports.guidance import atlas_costs


def numbers(name, material=None):
    return find_entry(name).numbers(material or toy_material())


def wide(table, rule, metric="frechet"):
    """Values of one metric and rule by weight."""
    return table[(table["rule"] == rule) & (table["metric"] == metric)].set_index("weight")["value"]


def assert_same(table, one, other, rtol=1e-9):
    """Every metric of two rules, with its interval, at every weight."""
    kinds = [table[table["rule"] == rule].set_index(["metric", "weight"])[["value", "low", "high"]].sort_index()
             for rule in (one, other)]  # fmt: skip
    assert len(kinds[0]) > 3
    np.testing.assert_allclose(kinds[0], kinds[1], rtol=rtol, atol=1e-9)


class Pair:
    """N(m_c, S) for every condition, and N(m_u, S) without one."""

    def __init__(self, variance=0.25):
        generator = torch.Generator().manual_seed(3)
        means = torch.randn(2, 1, 2, 2, generator=generator, dtype=torch.float64)
        self.cond, self.uncond = (isotropic(mean, variance) for mean in means)

    @property
    def gap(self):
        return (self.cond.mean - self.uncond.mean).flatten().numpy()

    def __call__(self, x, sigma, condition=None):
        law: Gaussian = self.uncond if condition is None else self.cond
        return law(x, sigma)


def pair_material(**how):
    """Two Gaussians of one covariance, in so many steps that their ends are those of the flow."""
    pair = Pair()
    images = pair.cond.sample(120, generator=torch.Generator().manual_seed(5)).float()
    data = Data(images[40:], images[:40], conditions(80), "draws", conditions(40))
    model = Model(pair, "two Gaussians", (1, 2, 2), conditions, (-1.0, 1.0))
    return pair, replace(toy_material(**how), model=model, data=data)


def moved(variance, low, high):
    """What of (w - 1) (m_c - m_u) an interval of noise levels moves a mode by."""
    high_end = 0 if np.isinf(high) else (variance + high**2) ** -0.5
    return np.sqrt(variance) * ((variance + low**2) ** -0.5 - high_end)


def test_interval_fid_vs_sigma():
    """Every sample moves by (w - 1) share (m_c - m_u), of which the distance to the real images follows."""
    pair, material = pair_material(steps=50, weights=(1.0, 3.0), weight=3.0)
    material.once("suggested interval", lambda: (0.0, 6.0))
    table = numbers("interval-fid-vs-sigma", material).tables["metrics"]
    table = table[table["metric"] == "frechet"]
    plain = sample(pair, seeds=material.seeds, condition=conditions(24), shape=(1, 2, 2), sigmas=material.sigmas)
    offset = (plain.samples.flatten(1).mean(0) - material.data.train.flatten(1).mean(0)).double().numpy()
    base = float(table.loc[table["varied"] == "no guidance", "value"].iloc[0])
    assert set(table["varied"]) == {"upper end", "lower end", "no guidance", "at all levels"}
    whole = 4 * pair.gap @ pair.gap
    for row in table[table["varied"].isin(["upper end", "lower end"])].itertuples():
        shift = 2 * moved(0.25, row.rule_low, row.rule_high) * pair.gap
        assert row.value - base == pytest.approx(shift @ shift + 2 * shift @ offset, abs=0.06 * whole)
    uppers = table[table["varied"] == "upper end"].sort_values("rule_high")["value"]
    assert uppers.iloc[-1] - uppers.iloc[0] > 0.8 * (whole + 4 * pair.gap @ offset)


def test_interval_fid_vs_w():
    """An interval of all noise levels is CFG."""
    material = toy_material()
    material.once("suggested interval", lambda: (0.0, 1e9))
    found = numbers("interval-fid-vs-w", material)
    assert not found.why
    assert_same(found.tables["metrics"], "CFG", "interval")
    part = numbers("interval-fid-vs-w", toy_material()).tables["metrics"]
    assert wide(part, "CFG")[4.0] != pytest.approx(wide(part, "interval")[4.0], rel=1e-3)


def test_an_interval_that_nothing_suggests_is_said():
    material = toy_material()
    material.once("suggested interval", lambda: (0.0, float("inf")))
    assert "suggests no interval" in numbers("interval-fid-vs-w", material).why


def test_interval_precision_recall():
    """Samples that are the real images have precision and recall 1."""
    material = toy_material()
    real = material.data.train[:40]
    model = Model(lambda x, sigma, condition=None: real.to(x)[: len(x)], "copies", (1, 4, 4), conditions, (-1.0, 1.0))
    data = replace(material.data, train=real, labels=conditions(40))
    copies = replace(toy_material(count=40), model=model, data=data)
    copies.once("suggested interval", lambda: (0.5, 5.0))
    table = numbers("interval-precision-recall", copies).tables["metrics"]
    both = table[table["metric"].isin(["precision", "recall"])]
    assert len(both) == 2 * 2 * len(copies.weights)
    np.testing.assert_allclose(both["value"], 1)


def test_interval_strips():
    """At w = 1 both rules leave the samples of no guidance, bit for bit."""
    material = toy_material()
    pictures = numbers("interval-strips", material).pictures
    model = material.studied
    plain = sample(model.denoiser, seeds=material.seeds, condition=conditions(24), shape=model.shape,
                   sigmas=material.sigmas, progress=False).samples[:8]  # fmt: skip
    assert torch.equal(pictures["CFG, w = 1"], plain)
    assert torch.equal(pictures["interval, w = 1"], plain)
    assert not torch.equal(pictures["interval, w = 4"], pictures["CFG, w = 4"])


def test_icg_metrics_vs_w():
    """Of one class alone ICG guides away from what it follows: nothing moves; and TSG without noise is no guidance."""
    one = Model(law(), "one class", (1, 4, 4), lambda count: torch.zeros(count, dtype=torch.int64), (-1.0, 1.0))
    found = numbers("icg-metrics-vs-w", replace(toy_material(), model=one))
    assert np.ptp(wide(found.tables["metrics"], "ICG")) < 1e-9
    assert np.ptp(wide(found.tables["metrics"], "CFG")) > 1e-3
    assert "TSG is left out: the model has no module" in found.facts["tsg"]
    denoiser = load_denoiser("digits")[0]
    how = {"seeds": range(2), "condition": torch.arange(2), "shape": (1, 8, 8), "sigmas": [80.0, 1.0, 0.0]}
    silent, plain = (sample(denoiser, rule=rule, progress=False, **how).samples for rule in (TSG(3.0, 0.0), CFG(1.0)))
    assert torch.equal(silent, plain)


def test_fdg_band_metrics():
    """Both bands guided alike are CFG."""
    material = toy_material()
    table = numbers("fdg-band-metrics", material).tables["metrics"]
    cfg = numbers("apg-metrics-vs-w", material).tables["metrics"]
    np.testing.assert_allclose(wide(table, "both bands"), wide(cfg, "CFG"), rtol=1e-4)
    assert wide(table, "low band")[4.0] != pytest.approx(wide(cfg, "CFG")[4.0], rel=1e-2)


def test_a_name_that_two_figures_have_for_two_rules_is_kept_apart(tmp_path):
    """With a folder, a second rule of a name was refused as another sweep."""
    material = toy_material(folder=tmp_path / "runs")
    first, second, again = (material.sweep({"CFG": CFG(w)})[0].run.samples for w in (1.0, 4.0, 1.0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_settings_are_sampled_once_for_all_sets_of_rules():
    material = toy_material()
    alone = material.sweep({"CFG": CFG(1.0)}, weights=(1.0, 2.0))
    beside = material.sweep({"APG": APG(1.0), "CFG": CFG(1.0)}, weights=(1.0, 2.0))
    assert [setting.name for setting in beside] == ["APG, w = 1", "APG, w = 2", "CFG, w = 1", "CFG, w = 2"]
    assert beside[2:] == alone


def test_the_least_distance_has_a_star():
    entry = find_entry("autoguidance-fid-vs-w")
    found = numbers("autoguidance-fid-vs-w")
    stars = [line for line in entry.draw(found).axes[0].lines if line.get_marker() == "*"]
    least = {rule: wide(found.tables["metrics"], rule) for rule in ("CFG", "Autoguidance")}
    places = [(star.get_xdata()[0], star.get_ydata()[0]) for star in stars]
    assert places == [(values.idxmin(), pytest.approx(values.min())) for values in least.values()]


def test_rules_pareto():
    """No guidance takes the fewest calls; a rule that changes nothing at more calls is dominated by it."""
    material = toy_material()
    itself = replace(material, weak=material.model)
    tables = numbers("rules-pareto", itself).tables
    front = tables["front"].set_index("setting")
    assert front["calls"].idxmin() == "CFG, w = 1"
    assert front.loc["CFG, w = 1", "pareto"]
    same = front.loc["autoguidance, w = 4"]
    assert same["frechet"] == pytest.approx(front.loc["CFG, w = 1", "frechet"], rel=1e-9)
    assert (same["calls"], bool(same["pareto"])) == (22, False)  # two branches of eleven calls
    for row in front[~front["pareto"]].itertuples():
        better = front.loc[row.dominated_by]
        assert better["frechet"] <= row.frechet and better["calls"] <= row.calls
    least = front.loc[front["frechet"].idxmin()]
    assert least["pareto"]


def test_ag_savings():
    """A threshold that is never reached saves nothing and changes nothing; lower ones save at least as much."""
    _, never = pair_material()  # of two Gaussians the branches agree less and less on the way down
    table = atlas_costs.savings_numbers(never, (1.0,)).tables["savings"].set_index("setting")
    assert (table.loc["adaptive, threshold 1", ["calls_saved", "change"]] == 0).all()
    thresholds = (0.9999, 0.9, -1.0)
    table = atlas_costs.savings_numbers(toy_material(), thresholds).tables["savings"].set_index("setting")
    saved = [table.loc[f"adaptive, threshold {threshold:g}", "calls_saved"] for threshold in thresholds]
    assert saved == sorted(saved)
    assert saved[-1] > 0.1


def test_features_are_of_images_as_saved_however_far_guidance_goes():
    """Values beyond the range by its width were refused, so that a figure with strong guidance was not made."""
    features = features_of(classifier_extractor("digits"))
    images = 2 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(features(images), features(images.clamp(-1, 1)))
