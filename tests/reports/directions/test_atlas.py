"""The oracles of the directions entries of the atlas, on a subject of which all is known."""

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import norm
from tests.atlas_material import toy_material
from tests.planted_subject import OPEN, SPREAD, PlantedAttributes, basis, planted_subject

from scorescope.analysis.directions.balance import balance_table, imbalance
from scorescope.data import InputError
from scorescope.probes.models.noise import SampleNoise
from scorescope.reports.atlas import find_entry, make, make_all
from scorescope.reports.atlas.make import numbers_of
from scorescope.reports.directions.atlas import ENTRIES
from scorescope.reports.directions.atlas_bench import STRENGTHS, arm_seeds, bench_of, steered
from scorescope.reports.directions.workbench import FOUND_AT
from scorescope.reports.entries import Material

material = cache(toy_material)


@cache
def numbers(name):
    return numbers_of(find_entry(name), material())


def paths(sigmas, seeds, means):
    """Coefficients of both attributes at the end of Euler steps; `means(step, z, total)` are the posterior means."""
    start = SampleNoise(list(seeds), PlantedAttributes.shape, torch.device("cpu"), torch.float32).draw()
    z = sigmas[0] * (start.flatten(1) @ basis()[:2].T).double().numpy()
    for step, (sigma, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):  # noqa: RUF007
        total = SPREAD**2 + sigma**2
        mean = means(step, z, total)
        denoised = mean + SPREAD**2 / total * (z - mean)
        z = z + (after - sigma) / sigma * (z - denoised)
    return z


def pushed(strength):
    """End coefficients of the samples of `dose-response`, its direction added all along."""
    bench = bench_of(material())
    contrast = bench.strongest
    direction = bench.direction(contrast, bench.best_site(contrast), sigma=FOUND_AT)
    shift = strength * direction.scale * direction.unit[:2].double().numpy()
    seeds = arm_seeds(material())
    open_ = bench.subject.opened(bench.subject.drawn(len(seeds), contrast), contrast).numpy()

    def means(step, z, total):
        return np.where(open_ == OPEN, np.tanh(z / total), 2.0 * open_ - 1) + shift

    return paths(bench.sampling.sigmas, seeds, means)


def test_ddae_probe_map():
    """Along an attribute's pattern the two laws are Gaussians 2 apart: the best reader of either has this accuracy."""
    table = numbers("ddae-probe-map").tables["probes"]
    rows = table[table["site"].isin(["read", "free"])]
    gaps = rows["value"] - norm.cdf(1 / np.sqrt(SPREAD**2 + rows["sigma"] ** 2))
    assert gaps.abs().max() < 0.17 and gaps.abs().mean() < 0.05  # of 80 images: 0.056 is one standard error
    assert (table["control"] - 0.5).abs().mean() < 0.06
    assert rows.query("sigma < 0.3")["value"].min() > 0.97


def switched(sigmas, at):
    """End coefficients of the seeds of `attribute-timeline` under low values before a step and high ones from it on."""
    return paths(sigmas, range(16), lambda step, z, total: np.full_like(z, 1.0 if step >= at else -1.0))


def test_attribute_timeline():
    """Under a named value the coefficient is linear in its start: the share that follows a switch is known by seed."""
    curves = numbers("attribute-timeline").tables["curves"]
    sigmas = bench_of(material()).steps(10)
    for column, attribute in enumerate(("size", "hue")):
        rows = curves[(curves["curve"] == "switch") & (curves["attribute"] == attribute)].sort_values("step")
        assert rows["value"].iloc[0] == 1.0
        ends = [switched(sigmas, int(step)) for step in rows["step"]]
        np.testing.assert_allclose(rows["value"], [(end[:, column] > 0).mean() for end in ends])
        assert rows["value"].iloc[-1] == 0.0


def test_direction_through_time():
    """`means` has the attribute along one axis at all levels at which it can be read."""
    tables = numbers("direction-through-time").tables
    low = tables["step_cosines"].query("sigma_a < 0.3 and sigma_b < 0.3")
    assert len(low) > 3 and low["crossed"].min() > 0.98
    stability = tables["stability"].set_index("cosine")
    assert abs(stability.loc["shuffled", "mean"]) < stability.loc["shuffled", "null"] < 1
    top = tables["step_cosines"].query("sigma_a > 50 and sigma_b > 50")["crossed"]
    assert top.abs().max() < stability.loc["shuffled", "null"]


class Curved(PlantedAttributes):
    """A condition's value v counts as v + v^2 / 4 - 1 / 4: nothing changes at the two values that there are."""

    def forward(self, x, sigma, condition=None):
        named = condition is not None and condition.is_floating_point()
        tokens = condition if named else self.embed(condition, batch=len(x))
        value = tokens[:, :, 0] + (tokens[:, :, 0].square() - 1) * tokens[:, :, 1] / 4
        return super().forward(x, sigma, torch.stack([value, tokens[:, :, 1]], dim=2))


def test_token_linearity():
    assert numbers("token-linearity").tables["linearity"]["gap"].max() < 1e-3
    curved = dataclasses.replace(material(), subject=lambda: planted_subject(denoiser=Curved()))
    table = find_entry("token-linearity").numbers(curved).tables["linearity"]
    whole = table["multiple"] > 0.75
    np.testing.assert_allclose(table.loc[~whole, "gap"], 0.25, rtol=1e-3)
    assert table.loc[whole, "gap"].max() < 1e-3


def test_diti_attribute_loss():
    """Nothing lies between the two images of a pair: the exact denoiser of all is as good as that of these two."""
    curve = numbers("diti-attribute-loss").tables["loss"].query("metric == 'pixels'")
    np.testing.assert_allclose(curve["floor"], norm.cdf(-1 / curve["sigma"]), rtol=1e-6, atol=1e-12)
    spread = np.sqrt(curve["floor"] * (1 - curve["floor"]) / 80)  # both images of 40 pairs
    assert (curve["excess"].abs() < 3.5 * spread + 1e-9).all() and (spread > 0.02).sum() > 6


def test_dose_response():
    """Nothing without a push, and else what an Euler solver makes of the two coefficients alone."""
    bench, curve = bench_of(material()), numbers("dose-response").tables["curve"]
    own = curve[curve["arm"] == "direction"]
    assert (own.loc[own["strength"] == 0, ["value", "low", "high"]] == 0).all(axis=None)
    bare = pushed(0.0)
    for strength in STRENGTHS:
        change = 4 * (pushed(strength) - bare).mean(0)
        for place, name in enumerate(("size", "hue")):
            found = own[(own["strength"] == strength) & (own["score"] == name)]["value"].item()
            assert found == pytest.approx(change[place] / bench.natural[name], rel=1e-3, abs=1e-4)


def test_read_vs_move():
    """The attributes are independent: their difference of means moves one and leaves the other."""
    table = numbers("read-vs-move").tables["readers"].set_index("method")
    assert table.loc["difference", "purity"] > 0.98 and table.loc["difference", "moves"]
    sigma = table.loc["difference", "sigma"]
    bayes = norm.cdf(2 / np.sqrt(2 * (SPREAD**2 + sigma**2)))  # area under the curve of two Gaussians 2 apart
    assert table.loc["difference", "auc"] == pytest.approx(bayes, abs=0.08)


def test_mixing_step():
    found = numbers("mixing-step")
    norms, images = found.tables["norms"], bench_of(material()).images
    expected = (float(images.square().mean()) + norms["sigma"] ** 2) / (1 + norms["sigma"] ** 2)
    assert (np.abs(norms["mean"] - expected) < (norms["high"] - norms["low"])).all()
    pure = norms.query("sigma > 20")  # all but noise
    assert (pure["inside_low"] <= 0.95).all() and (pure["inside_high"] >= 0.94).all()
    state = found.tables["probes"].query("site == 'x'")
    gaps = state["value"] - norm.cdf(1 / np.sqrt(SPREAD**2 + state["sigma"] ** 2))
    assert gaps.abs().mean() < 0.06
    assert found.tables["windows"].set_index("sigma_high")["effect"].idxmax() < 20  # shifts die out before the end


def test_causal_trace():
    """All of the condition goes through `means`; `decoy` holds a copy that nothing reads."""
    table = numbers("causal-trace").tables["recovery"]
    whole = table[table["sigma_low"] == 0].set_index(["site", "form"])["median"]
    for form in ("sufficiency", "necessity"):
        assert whole["means", form] == pytest.approx(1, abs=1e-4)
        assert whole["decoy", form] == pytest.approx(0, abs=1e-6)


def test_fairness_balance():
    bench, table = bench_of(material()), numbers("fairness-balance").tables["balance"]
    contrast, own = bench.strongest, table[table["arm"].isin(["direction", "none"])]
    place = bench.subject.column(contrast.attribute)
    for strength in (0.0, *STRENGTHS):
        share = (pushed(strength)[:, place] > 0).mean()
        row = own[(own["strength"] == strength) & (own["value"] == contrast.high)].iloc[0]
        assert row["share"] == pytest.approx(share)
        assert row["imbalance"] == pytest.approx(math.sqrt(2) * abs(share - 0.5))
        assert row["imbalance_low"] <= row["imbalance"] <= row["imbalance_high"]
    assert imbalance(np.full(4, 0.25)) == 0
    assert imbalance(np.array([1.0, 0, 0, 0])) == pytest.approx(math.sqrt(3 / 4))
    with pytest.raises(InputError, match="score: found 'age'"):
        balance_table(steered(material()).samples, score="age", values=("young", "old"))


def test_what_a_subject_lacks_is_said_before_anything_runs():
    of_subjects = [entry for entry in ENTRIES if "subject" in entry.needs]
    for entry in of_subjects:
        assert entry.why_not(Material(toy_material().model)).startswith("it needs a subject: a denoiser with labelled")

    def why(name, **changed):
        return find_entry(name).why_not(Material(subject=lambda: planted_subject(**changed)))

    assert why("diti-attribute-loss", pairs=None).startswith("no counterfactual pairs")
    assert "names none of its attributes" in why("causal-trace", told=[]) and why("token-linearity", told=[])
    reason = "The condition is a prompt: its tokens are no attributes, so that this part is left out."
    assert why("token-linearity", left_out={"tokens": reason}) == reason.rstrip(".")
    assert not any(why(entry.name) for entry in of_subjects)


def test_numbers_of_another_subject_are_not_taken_for_this_ones(tmp_path):
    def gaps(**changed):
        one = Material(subject=lambda: planted_subject(**changed), count=24)
        return make(find_entry("token-linearity"), one, folder=tmp_path).table["gap"]

    first, other = gaps(), gaps(denoiser=Curved())
    assert first.max() < 1e-3 < other.max()
    assert gaps().equals(first)


def test_a_page_without_a_model_says_what_the_subject_costs(tmp_path, capsys):
    one = Material(subject=planted_subject, count=24, progress=True)
    outcome = make_all(tmp_path, one, names=["causal-trace", "apg-update-parts"])
    assert not outcome.failures and (tmp_path / "figures/causal-trace.pdf").is_file()
    assert "1 figures: some 2520 of the subject's, about" in capsys.readouterr().err
    page = (tmp_path / "index.html").read_text()
    assert "Atlas: what was brought" in page and "it needs a denoiser, a pipeline, or recorded traces" in page


def test_a_caption_speaks_of_the_subject_alone():
    made = make(find_entry("causal-trace"), material())
    assert "Heun" not in made.caption and "planted" in made.caption and "seeds 0 to 19" in made.caption
