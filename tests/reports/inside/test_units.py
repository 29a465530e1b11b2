"""Units in the inside report: a small study of the shipped shapes model, its section and sentences, and no masks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.planted_subject import planted_subject

from scorescope.analysis.units.ablation import UNIT_ARMS, UNIT_EFFECTS
from scorescope.analysis.units.overlap import UNIT_OVERLAP
from scorescope.data.errors import InputError
from scorescope.reports.directions import shapes_subject
from scorescope.reports.inside import findings, readings, study_units, units_study
from scorescope.reports.inside.sections_units import PLAIN, units_section
from scorescope.reports.inside.workbench import Workbench

SITE = "network.up.2"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SEEDS": 8, "INTERVALS": 1, "STEPS": 3}.items():
            patch.setattr(units_study, name, value)
        found = Workbench(
            shapes_subject(images=100), True, False, tmp_path_factory.mktemp("units"), count=80, named=[SITE]
        )
        assert found.units is found.units  # measured once, while it is small
        yield found


def test_tables_are_those_declared(bench):
    study = bench.units
    UNIT_OVERLAP.check(study.overlap)
    UNIT_EFFECTS.check(study.effects.verdicts)
    UNIT_ARMS.check(study.effects.arms)
    assert study.site == SITE and study.region == "shape" and (study.overlap["n"] == 40).all()
    assert len(study.overlap) == 48 * 5 and len(study.units) == 4
    assert study.pictures.shape == (4, 5, 3, 32, 32) and study.maps.maps.shape == (4, 5, 16, 16)


def test_some_units_of_the_shipped_model_fire_where_the_shape_is(bench):
    """Drawn shapes are bright and of one colour: a decoder that paints them has channels for that."""
    overlap = bench.units.overlap
    assert (overlap["p_adjusted"] <= 0.05).any() and (overlap["value"] > 3 * overlap["chance"]).any()
    assert bench.units.regional and set(bench.units.effects.verdicts["score"]) == {"pixels inside", "pixels outside"}
    assert (bench.units.effects.verdicts["value"] > 0).all()


def test_the_section_shows_and_says_what_was_found(bench):
    section = units_section(bench)
    assert [figure.name for figure in section.figures] == ["unit_overlap", "unit_effects", "units_maximised"]
    assert [table.name for table in section.tables] == ["unit_overlap", "unit_effects", "unit_arms", "unit_ascent"]
    assert len(section.findings) == 2 and "unlike its background" in section.text
    assert "of 40 images" in section.text and "other 40" in section.text


def test_sentences_follow_the_verdicts(bench):
    verdicts = bench.units.effects.verdicts
    none, all_ = (verdicts.assign(verdict=said, p_adjusted=p) for said, p in (("undecided", 1.0), ("moves", 0.05)))
    assert readings.read_effects(none).startswith("In none of 4 combinations")
    assert readings.read_effects(all_).startswith("In 4 of 4 combinations")
    overlap = bench.units.overlap
    strengths = [findings.units(overlap, "shape", table)[1].strength for table in (none, all_)]
    assert strengths[0] == 0 and strengths[1] == pytest.approx(1)
    assert f"unit {bench.units.units[0]}, overlaps most at σ = {bench.units.sigma:.2g}" in readings.read_overlap(
        overlap, "shape"
    )


def test_what_is_shown_said_and_edited_is_chosen_by_one_rule(bench):
    """Units of the largest mean, of the largest value and of the clearest one: the first is chosen everywhere."""
    values = {0: (0.3, 0.31), 1: (0.5, 0.0), 2: (0.1, 0.1)}
    overlap = pd.DataFrame([
        {"site": SITE, "region": "shape", "unit": unit, "sigma": sigma, "value": value, "low": value, "high": value,
         "chance": 0.01, "bound": 0.6, "n": 9, "p_adjusted": 0.001 if unit == 2 else 0.04}
        for unit, both in values.items() for sigma, value in zip((10.0, 0.5), both, strict=True)
    ])  # fmt: skip
    assert units_study.chosen_units(overlap, "shape", 2) == [0, 1]
    first = findings.units(overlap, "shape", bench.units.effects.verdicts)[0]
    assert first.text.startswith("Unit 0 of") and "at σ = 0.5 the IoU is 0.310" in first.text
    assert "unit 0, overlaps most at σ = 0.5, by 0.310" in readings.read_overlap(overlap, "shape")
    study = bench.units
    assert study.units == units_study.chosen_units(study.overlap, "shape") == study.maps.units
    assert study.effects.verdicts["units"].iloc[0] == ", ".join(map(str, study.units))


def test_verdicts_stand_before_the_numbers_that_they_are_of(bench):
    for table in units_section(bench).tables:
        shown = list(table.first)
        if table.shown:
            assert shown.index("verdict") < shown.index("value") and "verdict" in shown[:5]


def test_the_first_units_are_raised_beyond_the_prior_alone(bench):
    study = bench.units
    assert [one.unit for one in study.maximised] == study.units[:2] and study.why_not == ""
    ascent = pd.concat([one.ascent for one in study.maximised])
    last = ascent[ascent["sigma"] == ascent["sigma"].min()].groupby("unit").tail(1)
    assert (last["above_low"] > 0).all() and (last["residual"] < 1.1 * last["control_residual"]).all()
    assert torch.equal(*(one.control for one in study.maximised))  # one row of pictures for both
    assert readings.read_ascent(ascent).startswith("Standard deviations by which states at σ = 0.3 go beyond")


def test_where_no_gradient_passes_the_section_says_so(bench, monkeypatch):
    module = bench.subject.denoiser.network.up[2]
    hook = module.register_forward_hook(lambda _module, _given, found: found.detach())
    found, why = units_study._maximised(bench.subject, SITE, [0], 0)
    hook.remove()
    assert not found and why.startswith("site: found 'network.up.2', without a gradient")
    study = replace(bench.units, maximised=[], why_not=why)
    monkeypatch.setitem(bench.__dict__, "units", study)
    section = units_section(bench)
    assert len(section.figures) == 2 and "No unit was raised by its gradient: site: found" in section.text


def test_without_regions_in_samples_units_are_edited_everywhere(bench, tmp_path, monkeypatch):
    for name, value in {"SEEDS": 8, "INTERVALS": 1, "STEPS": 2, "LEAST": 2000, "RAISED": 0}.items():
        monkeypatch.setattr(units_study, name, value)
    subject = bench.subject
    study = study_units(subject, subject.masks, SITE, folder=tmp_path, levels=2, random=19, progress=False)
    assert not study.regional and set(study.effects.verdicts["score"]) == {"pixels"}
    assert np.isfinite(study.effects.verdicts["value"]).all()


def test_no_masks(tmp_path):
    subject = planted_subject(80)
    assert units_section(Workbench(subject, True, False, tmp_path)).text == PLAIN
    with pytest.raises(InputError, match="at least one region"):
        study_units(subject, {}, "means", folder=tmp_path)
