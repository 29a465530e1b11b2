import json
import re

import pandas as pd
import pytest
import torch
from tests.claims import check_page

from scorescope.data import InputError
from scorescope.probes import APG, Model, Recording, load_model, sample
from scorescope.reports import guidance
from scorescope.reports.guidance import study
from scorescope.reports.studies import bibtex


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    outcome = guidance.build(out, load_model("digits"), command="test", count=24, progress=False)
    return out, outcome


def test_the_rules_that_were_sampled_are_cited(report):
    entries = bibtex(report[1])
    for key in (
        "ho2022classifier",
        "sadat2025eliminating",
        "castillo2025adaptive",
        "kwon2025tcfg",
        "karras2024guiding",
    ):
        assert f"{{{key}," in entries


def test_report_is_complete(report):
    out, outcome = report
    assert outcome.status == "complete" and not outcome.failures
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    assert {"update_parts", "parallel_share", "branch_cosine", "applied_gain"} <= figures
    assert {"value_density", "overshoot", "contrast", "samples"} <= figures
    assert {"gain_path", "clip", "separation"} <= figures
    assert {"information", "bands", "calls_quality", "frechet", "diversity", "thresholds"} <= figures
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["samples_per_setting"] == 24 and "sha256" in manifest["model_source"]


def test_tables_hold_every_setting(report):
    out, _ = report
    rows = pd.read_parquet(out / "tables/decomposition.parquet")
    assert len(rows) == 8 * 24 * 35
    assert set(map(tuple, rows[["rule", "weight"]].drop_duplicates().to_numpy())) == {
        (rule, weight) for rule in ("CFG", "APG") for weight in (1.0, 2.0, 4.0, 8.0)
    }
    # w = 1 needs one call, and the other branch was computed for the recording alone
    assert (rows.query("weight == 1")["observed"] == 1).all() and (rows.query("weight != 1")["observed"] == 0).all()


def test_the_report_shows_the_known_effect(report):
    # overshoot grows with w under CFG, and less under APG: far outside the intervals at 24 samples already
    out, _ = report
    images = pd.read_parquet(out / "tables/images.parquet").query("quantity == 'overshoot_share'")
    found = images.set_index(["rule", "weight"])
    assert found.loc[("CFG", 8.0), "low"] > found.loc[("CFG", 1.0), "high"]
    assert found.loc[("CFG", 8.0), "low"] > found.loc[("APG", 8.0), "high"]


KNOWN = {
    "overshoot grows with w under CFG and less under APG": "shown",
    # 24 samples tell little of diversity, and no share to 2 %
    "diversity falls with w under CFG": None,
    "the suggested interval keeps class agreement while restoring diversity": None,
    "adaptive guidance saves at least 20% of the calls at unchanged class agreement": None,
}


def test_known_effects_are_tested_and_said(report):
    out, outcome = report
    parts = pd.read_parquet(out / "tables/effects.parquet")
    found = pd.read_parquet(out / "tables/conclusions.parquet").set_index("effect")
    assert set(found.index) == set(KNOWN) and (found["parts"] == 2).all()
    page = (out / "index.html").read_text()
    for effect, verdict in KNOWN.items():
        verdicts = parts.loc[parts["effect"] == effect, "verdict"]
        assert (found.loc[effect, "verdict"] == "shown") == (verdicts == "shown").all()
        assert f"{effect}: {'shown' if (verdicts == 'shown').all() else 'not shown ('}" in page
        assert verdict is None or found.loc[effect, "verdict"] == verdict, effect
    scores = parts[parts["metric"] == "score"]
    assert len(scores) == 2 and (scores["verdict"] != "shown").all() and (scores["high"] > scores["low"]).all()
    assert "24 where even without a single difference it takes 189" in page
    interval = pd.read_parquet(out / "tables/suggested_interval.parquet").iloc[0]
    assert len(pd.read_parquet(out / "tables/information.parquet")) >= 60  # levels: fewer bias the interval
    assert 0.05 < interval["low"] < interval["high"] < 20
    assert any(f"between σ = {interval['high']:.3g}" in reading for reading in outcome.readings)


def test_the_front_is_that_of_the_table(report):
    out, _ = report
    front = pd.read_parquet(out / "tables/front.parquet").set_index("setting")
    assert front["pareto"].any() and not front["pareto"].all()
    # fewer images than pixels have no jackknife; larger runs take the distance without its bias
    signs = {"score": 1, "diversity": 1, "frechet": -1, "calls": -1}
    values = front[list(signs)] * pd.Series(signs)
    for name, row in values.iterrows():
        better = (values >= row).all(axis=1) & (values > row).any(axis=1)
        assert front.loc[name, "pareto"] == (not better.any())
        assert front.loc[name, "pareto"] or better[front.loc[name, "dominated_by"]]


def test_adaptive_guidance_guides(report):
    # the cosine is looked at from where the branches of the unguided run disagree most, so no sample stops at once
    out, outcome = report
    steps = pd.read_parquet(out / "tables/decomposition.parquet").query("rule == 'CFG' and weight == 1 and call == 0")
    peak = steps.groupby("sigma")["one_minus_cos_eps"].mean().idxmax()
    stated = float(re.search(r"looked at up to σ = ([\d.]+)", (out / "index.html").read_text())[1])
    assert peak / 1.5 < stated < 1.5 * peak  # the peak of the same curve on a finer grid
    saved = pd.read_parquet(out / "tables/savings.parquet").set_index("setting")
    adaptive = saved[saved.index.str.startswith("adaptive")]
    assert len(adaptive) == 5 and (adaptive["calls"] > 50).all()
    reading = next(text for text in outcome.readings if text.startswith("Adaptive guidance saves"))
    assert ("every sample stops at the first look" in reading) == (adaptive["first_look"] == 1).any()
    assert (adaptive["change"] < 0.2).all() and adaptive["calls_saved"].is_monotonic_decreasing


def test_readings_are_made_from_the_numbers(report):
    out, outcome = report
    steps = pd.read_parquet(out / "tables/steps.parquet")
    shown = steps.query("rule == 'CFG' and weight == 4 and call == 0 and quantity == 'update_norm'")
    peak = shown.loc[shown["mean"].idxmax()]
    assert f"largest at σ = {peak['sigma']:.3g} (norm {peak['mean']:.3g}" in outcome.readings[0]
    assert all(re.search(r"\d", reading) for reading in outcome.readings)


def test_sentences_hold_what_they_owe(report):
    out, outcome = report
    assert check_page(out, outcome.readings) > 20  # values beside their intervals
    # 24 images of 64 pixels have a distance as measured alone
    assert "As measured, with the bias" in (out / "index.html").read_text()
    assert any(re.fullmatch(r"The Frechet distance goes from [\d.]+ at w = 1 .*", text) for text in outcome.readings)


def test_trace_of_the_report_is_that_of_the_sampler(report):
    out, _ = report
    model = load_model("digits")
    labels = model.conditions(24)
    images = sample(model.denoiser, seeds=range(24), condition=labels, progress=False).samples
    table = pd.read_parquet(out / "tables/images.parquet").query("rule == 'CFG' and weight == 1")
    contrast = images.double().flatten(1).std(1, correction=0).mean().item()
    assert table.set_index("quantity").loc["contrast", "mean"] == pytest.approx(contrast, rel=1e-5)


class Rows:
    """A model of table rows: one-dimensional data without a range."""

    def __call__(self, x, sigma, condition):
        mean = 0.0 if condition is None else condition[:, None] * 0.1
        return mean + (x - mean) / (1 + sigma[:, None] ** 2)


ROWS = Model(Rows(), "rows", (6,), lambda count: torch.arange(count) % 3)


def test_any_denoiser_has_a_report(tmp_path):
    outcome = guidance.build(tmp_path, ROWS, command="test", count=6, progress=False)
    assert outcome.status == "complete"
    assert not (tmp_path / "figures/samples.svg").exists() and not (tmp_path / "figures/overshoot.svg").exists()
    assert "none shown" in (tmp_path / "index.html").read_text()


def test_a_setting_that_fails_is_named_and_the_others_are_reported(tmp_path, monkeypatch, capsys, unrendered):
    def failing(denoiser, *, rule, **options):
        if rule == APG(8.0):
            raise InputError("denoiser (cond)", found="NaN or infinite values", expected="finite predictions")
        return sample(denoiser, rule=rule, **options)

    monkeypatch.setattr(study, "sample", failing)
    outcome = guidance.build(tmp_path, ROWS, command="test", count=6, progress=False)
    assert outcome.status == "incomplete" and "APG, w = 8" in outcome.failures
    assert "NaN or infinite values" in (tmp_path / "index.html").read_text()
    rows = pd.read_parquet(tmp_path / "tables/decomposition.parquet")
    assert len(rows[["rule", "weight"]].drop_duplicates()) == 7
    assert "APG, w = 8 is missing" in capsys.readouterr().err


def test_rules_that_are_compared_cost_no_calls_of_their_recording():
    """Of them the needed calls and the samples are asked about, which are the same where every branch is looked at."""
    small = study.Study(ROWS, 4, "cpu", False, print)
    others = small.compared[len(small.swept) :]
    for setting in others:
        seen = sample(
            ROWS.denoiser, seeds=range(4), condition=ROWS.conditions(4), shape=ROWS.shape, rule=setting.rule,
            record=Recording(all_branches=True), progress=False,
        )  # fmt: skip
        assert not setting.run.trace.scalars["observed"].any(), setting.name
        assert torch.equal(setting.run.samples, seen.samples)
        assert setting.run.trace.scalars["needed"].equals(seen.trace.scalars["needed"])
    assert any((setting.run.trace.scalars["needed"] == 1).any() for setting in others)
