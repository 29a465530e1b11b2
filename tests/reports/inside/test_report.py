"""The inside report: whole on a planted network, on a tiny pipeline, gone on with, and what it refuses."""

import pandas as pd
import pytest
from tests.claims import check_page
from tests.planted_subject import planted_subject
from tests.saved_pipelines import saved

from scorescope.analysis.inside.features import FEATURE_READS
from scorescope.data import InputError, PromptPair
from scorescope.probes.models import load_pipeline
from scorescope.reports import inside
from scorescope.reports.directions import pipeline_subject
from scorescope.reports.inside import sections_attention, sparse_study
from scorescope.reports.inside.sections_attention import word_of
from scorescope.reports.inside.workbench import Workbench

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

CARS = [PromptPair("colour", "a red car", "a blue car", "red", "blue")]


def small(monkeypatch):
    for name, value in {"STEPS": 100, "SHEET_IMAGES": 20, "FEATURES": 1, "BATCH": 256}.items():
        monkeypatch.setattr(sparse_study, name, value)
    monkeypatch.setattr(sparse_study, "JUDGED", range(5000, 5010))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        given = {"sites": ["means", "decoy"], "count": 240, "quick": True, "progress": False}
        return out, inside.build(out, planted_subject(240), command="test", **given), given


def test_every_section_is_made_or_says_why_not(planted):
    out, outcome, _ = planted
    assert outcome.status == "complete", outcome.failures
    assert sections_attention.PLAIN in (out / "index.html").read_text()
    assert check_page(out, outcome.readings) > 0
    FEATURE_READS.check(outcome.tables["reads"].query("site == 'means'"))


def test_what_reads_and_moves_nothing_is_told_from_what_does(planted):
    table = planted[1].tables["features"].set_index(["site", "attribute"])
    assert (table.loc["means", "effect"] > 0).all() and (table.loc["decoy", "effect"] == 0).all()
    assert (table["value_low"] <= table["value"]).all() and (table["value"] <= table["value_high"]).all()
    assert (table.loc["means", "value"] > 0.5).all()  # turned to what it read in training


def test_activations_go_and_autoencoders_stay(planted):
    out, _, _ = planted
    kept = [path for path in (out / "activations").rglob("*") if path.is_file()]
    assert sorted(path.name for path in kept) == ["decoy.safetensors", "means.safetensors"]


def test_the_same_again_gives_the_same_and_another_seed_its_own(planted, monkeypatch):
    out, outcome, given = planted
    small(monkeypatch)
    again = inside.build(out, planted_subject(240), command="test", **given)
    pd.testing.assert_frame_equal(again.tables["features"], outcome.tables["features"])
    other = inside.build(out, planted_subject(240), command="test", seed=1, **given)
    assert len(list((out / "activations").iterdir())) == 2
    assert not other.tables["sparse_sheet"].equals(outcome.tables["sparse_sheet"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"count": 59}, "count, seed: found 59, 0; expected 60 to 240 images"),
        ({"seed": -1}, "expected 60 to 240 images, a seed from 0"),
        ({"sites": ["mean"]}, "site: found 'mean'"),
        ({"sites": ["means", "means"]}, "sites: .*each once"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path, given, said):
    with pytest.raises(InputError, match=said):
        inside.build(tmp_path / "out", planted_subject(240), command="test", **given)
    assert not (tmp_path / "out").exists()


def test_words_of_pairs():
    assert word_of(CARS[0]) == ("blue", "a blue car", "a red car")
    assert word_of(PromptPair("c", "a red car", "a blue car", "r", "b", "a car"))[2] == "a car"
    assert word_of(PromptPair("c", "a red car", "a car", "r", "none")) == ("red", "a red car", "a car")


def brightness(images):
    return (images.mean((1, 2, 3)) + 0.02) * 50


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    folder, call = saved("sd15", tmp_path_factory.mktemp("sd15"))
    return load_pipeline(str(folder)), {**call, "num_inference_steps": 2}


def test_a_pipeline_has_its_words_looked_at(sd15, tmp_path, monkeypatch):
    small(monkeypatch)
    pipe, call = sd15
    given = {"arguments": call, "images": 60, "quick": True, "progress": False, "sites": ["mid_block"]}
    outcome = inside.build_from_pipeline(tmp_path, pipe, CARS, brightness, command="test", **given)
    assert outcome.status == "complete", outcome.failures
    table = outcome.tables["attention"]
    assert set(table["compared"]) == {"influence", "image"} and set(table["word"]) == {"blue"}
    assert (table["n"] == 12).all() and table["mean"].abs().max() <= 1
    page = (tmp_path / "index.html").read_text()
    assert "looks at the word" in page and "They are labelled with what was asked" in page


def test_a_word_that_cannot_be_found_is_no_failure(sd15, tmp_path, monkeypatch):
    pipe, call = sd15

    def refuses(*_, **__):
        raise InputError("tokenizer", found="a slow one", expected="a fast one")

    monkeypatch.setattr(sections_attention, "compare_word", refuses)
    subject = pipeline_subject(
        pipe, CARS, brightness, folder=tmp_path, arguments=call, images=20, sites=["mid_block"], progress=False
    )
    bench = Workbench(subject, True, False, tmp_path, pipe=pipe, arguments=call)
    section = sections_attention.attention_section(bench)
    assert section.text.startswith("Not made for colour: tokenizer: found a slow one") and not section.figures
