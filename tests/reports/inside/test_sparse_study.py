"""The study of sparse features: on a planted network it finds what is planted, and on shapes it says what it finds."""

from dataclasses import replace

import pytest
import torch
from tests.planted_subject import planted_subject

from scorescope.analysis.inside.features import FEATURE_READS
from scorescope.analysis.inside.sparse_metrics import SPARSE_DENSITY, SPARSE_SHEET
from scorescope.data.errors import InputError
from scorescope.reports.directions import shapes_subject
from scorescope.reports.inside import figures, study_sparse
from scorescope.reports.inside import sparse_study as module


def small(monkeypatch):
    monkeypatch.setattr(module, "STEPS", 150)
    monkeypatch.setattr(module, "SHEET_IMAGES", 30)
    monkeypatch.setattr(module, "JUDGED", range(5000, 5012))
    monkeypatch.setattr(module, "FEATURES", 1)
    monkeypatch.setattr(module, "BATCH", 256)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        folder = tmp_path_factory.mktemp("study")
        return study_sparse(planted_subject(300), ["means", "decoy"], folder=folder, levels=3, candidates=2), folder


def test_tables_are_those_declared(planted):
    study, _ = planted
    for schema, table in ((SPARSE_SHEET, study.sheet), (SPARSE_DENSITY, study.density)):
        schema.check(table)
    FEATURE_READS.check(study.reads.query("site == 'means'"))
    assert len(study.verdicts) == 4 == len(study.chosen) and (study.verdicts["family"] == 4).all()
    assert set(study.verdicts["untested"]) == {""}


def test_what_nothing_reads_moves_nothing(planted):
    """Features of `decoy`, a copy that nothing reads, read as those of `means` do, and no effect is theirs."""
    study, _ = planted
    decoy = study.verdicts.query("site == 'decoy'")
    assert (decoy["effect"] == 0).all() and (decoy["verdict"] == "not steerable").all()
    best = study.reads.assign(apart=(study.reads["value"] - 0.5).abs()).groupby("site")["apart"].max()
    assert best["decoy"] > 0.1
    mean = study.sheet.query("site == 'decoy' and quantity == 'rise_zero'")
    assert (mean["value"] == 0).all()


def test_a_feature_that_moves_is_said_to(planted):
    study, _ = planted
    means = study.verdicts.query("site == 'means'")
    assert (means["effect"] > 0).all() and (means["verdict"] != "not steerable").all()


def test_a_study_goes_on_with_its_folder(planted, monkeypatch):
    study, folder = planted
    small(monkeypatch)
    again = study_sparse(planted_subject(300), ["means", "decoy"], folder=folder, levels=3, candidates=2)
    assert again.verdicts.equals(study.verdicts) and again.sheet.equals(study.sheet)


def test_few_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 60"):
        study_sparse(planted_subject(40), ["means"], folder=tmp_path)


def test_samples_are_made_where_the_images_are(tmp_path):
    subject = planted_subject(60)
    elsewhere = replace(subject, images=subject.images.to("meta"))
    assert module._Work(elsewhere, ["means"], tmp_path, 3, 0, False).sampling.device == torch.device("meta")


@pytest.mark.slow
def test_features_of_the_shapes_are_judged(tmp_path):
    """One site of the shipped model: the sheet keeps what it says, and a page can be drawn of any feature."""
    subject = shapes_subject(images=900)
    study = study_sparse(subject, ["network.up.0"], folder=tmp_path, candidates=2)
    sheet = study.sheet.query("quantity == 'fvu'")
    assert (sheet["value"] < 0.4).all() and (sheet["low"] < sheet["high"]).all()
    assert len(study.verdicts) == len(subject.contrasts)
    figures.sparse_sheet(study.sheet)
    page = study.page(0)
    assert len(page.axes) == 12 + 3 and torch.isfinite(study.images).all()
