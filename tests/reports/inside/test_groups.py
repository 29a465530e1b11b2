"""Groups of a planted model whose condition leaves one attribute open, which guidance does not touch."""

import numpy as np
import pandas as pd
import pytest
from tests.claims import check_sentences
from tests.planted_subject import OPEN, planted_subject

from scorescope.data import InputError
from scorescope.probes.guidance import CFG
from scorescope.reports.inside import figures, findings, groups_study, readings, sections_groups
from scorescope.reports.inside.groups_study import BARE, STRONG, judge_of, named_contrast, open_attribute, study_groups
from scorescope.reports.inside.workbench import Workbench


def size_alone(labels):
    labels = labels.clone()
    labels[:, 1] = OPEN
    return labels


def subject(count=240):
    return planted_subject(count, told=["size"], conditions=size_alone)


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups_study, "RULES", {BARE: CFG(1.0), STRONG: CFG(4.0)})
        return study_groups(subject(), seeds=120, paths=60, control=60)


def test_the_open_attribute_and_the_classes_are_found(study):
    assert (study.attribute, study.groups, study.classes) == ("hue", ("red", "blue"), ("small", "large"))
    everything = planted_subject(20)
    assert open_attribute(everything) is None and named_contrast(everything).attribute == "size"
    with pytest.raises(InputError, match="an attribute that the condition names, and one that it does not"):
        study_groups(everything)
    unnamed = planted_subject(20, scorer=lambda images: {"tint": images.flatten(1)[:, :3].log_softmax(1)})
    assert judge_of(unnamed, "tint")[1] == ("0", "1", "2")


def test_guidance_towards_an_independent_attribute_changes_nothing(study):
    """Both branches have the same posterior of the open attribute: every seed keeps its group."""
    rows = study.amplification[study.amplification["setting"] == STRONG]
    assert (rows["change"] == 0).all() and (rows["change_low"] < 0).all() and (rows["change_high"] > 0).all()
    assert (rows["n"] == 60).all() and (rows["data_share"] == 0.5).all()
    found = study.landmarks.query("landmark == 'departs_from_data'")
    assert not np.isfinite(found["high"]).any()
    (one,) = findings.amplified(study.amplification, "hue", "blue", BARE)
    assert not one.is_shown and one.unit == "seeds"
    text = readings.read_along(study.landmarks, study.along, "blue", BARE, STRONG)
    assert text.count("it is not shown that they do") == 4


def test_a_class_that_is_amplified_is_told(study):
    table = study.amplification.copy()
    chosen = (table["setting"] == STRONG) & (table["class"] == "large") & (table["group"] == "blue")
    columns = ["share", "low", "high", "difference", "difference_low", "difference_high"]
    columns += ["change", "change_low", "change_high"]
    table.loc[chosen, columns] = [0.9, 0.8, 0.95, 0.4, 0.25, 0.5, 0.3, 0.2, 0.4]
    bare = (table["setting"] == BARE) & (table["class"] == "large") & (table["group"] == "blue")
    table.loc[bare, "share"] = 0.6
    (one,) = findings.amplified(table, "hue", "blue", BARE)
    assert one.is_shown and one.text.endswith(
        "under CFG, w = 4 90% (80% to 95%) of samples of 'large' have hue 'blue', +0.30 (+0.20 to +0.40) from 60% at "
        "CFG, w = 1; of such images it is 50%."
    )
    (one,) = findings.amplified(table.assign(change=0.3, change_low=-0.1, change_high=0.7), "hue", "blue", BARE)
    assert not one.is_shown  # however far samples are from the data
    text = readings.read_amplification(table, "hue", "blue")
    assert "of images of 'large' 50% have hue 'blue', of samples under CFG, w = 4 90% (80% to 95%)" in text
    departs = study.landmarks.assign(log_snr=-2.0, low=-3.0, high=-1.0, sigma=np.exp(1))
    along = readings.read_along(departs, study.along, "blue", BARE, STRONG)
    assert "'small': under CFG, w = 4 below σ = 2.7 (1.6 to 4.5)" in along
    assert check_sentences([one.text, text, along]) == 8


def test_steered_shares_are_told_with_their_cost():
    rows = pd.DataFrame(
        {
            "site": "up", "value": "blue", "strength": [-8.0, 0.0, 8.0], "share": [0.2, 0.5, 0.9],
            "low": [0.1, 0.3, 0.8], "high": [0.4, 0.7, 0.99], "distance": [0.1, 0.0, 0.2], "feature": 7,
            "reads": 0.8, "random_least": [0.4, np.nan, 0.3], "random_most": [0.5, np.nan, 0.6],
        }
    )  # fmt: skip
    text = readings.read_steered(rows, "blue")
    assert "feature 7 of up, which reads it best (AUC 0.80): 50% (30% to 70%)" in text
    assert "20% (10% to 40%) at -8 (random directions 40% to 50%; a change of 0.1) and 90% (80% to 99%) at +8" in text


def test_a_report_without_open_attributes_says_so(tmp_path):
    bench = Workbench(planted_subject(60), True, False, tmp_path)
    assert sections_groups.groups_section(bench).text == sections_groups.ALL_NAMED
    nothing = planted_subject(60, told=[])
    assert sections_groups.groups_section(Workbench(nothing, True, False, tmp_path)).text == sections_groups.NONE_NAMED


def test_figures_refuse_a_group_that_is_not_there(study):
    with pytest.raises(InputError, match="green"):
        figures.amplification(study.amplification, "green")
