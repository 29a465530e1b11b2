"""The directions report on a small random network: every section is written, whatever the subject lacks."""

import json

import pandas as pd
import pytest
import torch
from torch import nn

from scorescope.data import EDMDenoiser, InputError, UNetConfig
from scorescope.data.checkpoints import SHIPPED
from scorescope.probes import Euler, edm_sigmas, sample
from scorescope.reports import directions
from scorescope.reports.directions_conditions import patch_section, token_section
from scorescope.reports.directions_information import classification_section, information_section
from scorescope.reports.directions_probing import model_section
from scorescope.reports.directions_study import Contrast, Subject, load_subject
from scorescope.reports.directions_time import emergence_section
from scorescope.reports.directions_workbench import Workbench

SIZES = (2, 3)
ATTRIBUTES = {"size": ("small", "large"), "hue": ("red", "green", "blue")}
SITES = ("network.down.0", "network.middle1", "network.up.1")


class WithoutEmbed(nn.Module):
    """A denoiser of which only the call and the modules inside are known."""

    def __init__(self, denoiser):
        super().__init__()
        self.network = denoiser.network
        self.inner = [denoiser]  # not a second module of the same weights

    def forward(self, x, sigma, condition=None):
        return self.inner[0](x, sigma, condition)


def denoiser(channels=3):
    """Random weights under which samples depend on the condition, and vary where it leaves an attribute open."""
    config = UNetConfig(shape=(channels, 8, 8), channels=(16, 16), attributes=SIZES, embedding=12, dropout=0.0)
    made = EDMDenoiser(config, 0.5).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in made.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 100
        gain = 15.0 if "attribute" in name else 3.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * gain / fan**0.5
    rows = made.network.attribute_embedding.table.weight.data
    rows[2], rows[6] = rows[:2].mean(0), rows[3:6].mean(0)  # an open attribute is between its values
    return made


def draw_labels(count):
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randint(size, (count,), generator=generator) for size in SIZES], dim=1)


def samples(model, labels, seed=0):
    """What the model makes of labels: images of its own law."""
    seeds = range(seed, seed + len(labels))
    grid = edm_sigmas(8)
    return sample(model, seeds=seeds, condition=labels, sigmas=grid, solver=Euler(), progress=False).samples


def judge(images, labels):
    """The nearest class mean, as log-probabilities; and a brightness that no label names."""
    flat = images.flatten(1)
    means = {
        name: torch.stack([flat[labels[:, column] == value].mean(0) for value in range(size)])
        for column, (name, size) in enumerate(zip(ATTRIBUTES, SIZES, strict=True))
    }

    def scorer(given):
        points = given.flatten(1)
        found = {name: (-torch.cdist(points, mean).square()).log_softmax(1) for name, mean in means.items()}
        bright = points.mean(1) - flat.mean()
        return found | {"brightness": torch.stack([-bright, bright], dim=1).log_softmax(1)}

    return scorer


def subject(channels=3, **changed):
    model = denoiser(channels)
    labels = draw_labels(240)
    images = samples(model, labels, seed=1000)
    given = {
        "denoiser": model, "name": "tiny", "images": images, "labels": labels, "attributes": ATTRIBUTES,
        "scorer": judge(images, labels), "sites": SITES,
        "contrasts": [Contrast("size", "small", "large"), Contrast("hue", "red", "blue")],
        "conditions": lambda labels: labels, "draw_labels": draw_labels, "pairs": lambda labels: samples(model, labels),
    }  # fmt: skip
    return Subject(**given | changed)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, directions.build(out, subject(), command="test", quick=True, progress=False)


def table(out, name):
    return pd.read_parquet(out / f"tables/{name}.parquet")


def test_report_is_complete(report):
    out, outcome = report
    assert outcome.status == "complete" and not outcome.failures, outcome.failures
    assert {path.stem for path in (out / "figures").glob("*.svg")} == {
        "samples", "probe_map", "probe_selectivity", "steer_map", "dose_response", "strength_strip", "windows",
        "emergence", "landmarks", "switch_strip", "readers", "step_cosines", "token_attribution", "linearity",
        "recovery", "attribute_loss", "information", "influence_maps", "win_rates",
    }  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["contrasts"] == ["size: small to large", "hue: red to blue"] and manifest["sites"] == list(SITES)
    assert all(outcome.readings) and len(outcome.readings) == 19


def test_tables_are_the_sizes_that_were_asked(report):
    out, _ = report
    assert len(table(out, "probes")) == 2 * 3 * 9 and set(table(out, "probes")["site"]) == set(SITES)
    steered = table(out, "steer_map")  # every third site in a quick report
    assert set(zip(steered["attribute"], steered["site"], strict=True)) == {
        (name, site) for name in ATTRIBUTES for site in SITES[::3]
    }
    arms = set(table(out, "dose_response")["arm"])
    assert {"direction", "shuffled", "random 1", "random 2"} <= arms
    # the attribute that only the judge knows is among what should not move
    assert set(table(out, "dose_response")["score"]) == {"size", "hue", "brightness"}
    agreement = table(out, "agreement").query("what == 'samples' and attribute == 'hue'")
    assert agreement["low"].iloc[0] > 0.8  # the judge is made of the model's own samples
    classes = table(out, "classification").set_index("attribute")
    assert classes.loc["hue", "low"] > 0.6
    landmarks = table(out, "landmarks")
    assert len(landmarks) == 2 * 4 and set(landmarks["attribute"]) == set(ATTRIBUTES)


def bare(**changed):
    """Grey images, one contrast, one site, no `embed`, no pairs."""
    model = denoiser(channels=1)
    labels = draw_labels(160)
    images = samples(model, labels, seed=1000)
    less = {
        "denoiser": WithoutEmbed(model), "images": images, "labels": labels, "scorer": judge(images, labels),
        "sites": SITES[1:2], "contrasts": [Contrast("size", "small", "large")], "pairs": None,
    }  # fmt: skip
    return subject(**less | changed)


def test_a_subject_that_has_less(tmp_path):
    outcome = directions.build(tmp_path, bare(), command="test", quick=True, progress=False)
    assert outcome.status == "complete", outcome.failures
    figures = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert "emergence" in figures and not figures & {"token_attribution", "attribute_loss"}
    page = (tmp_path / "index.html").read_text()
    assert "has no `embed`" in page and "No counterfactual pairs" in page


def test_an_attribute_that_never_comes_does_not_cost_the_others():
    usual = subject()

    def shifted(*names):
        away = torch.tensor([50.0, -50.0])
        changes = {"size": away, "hue": torch.tensor([50.0, 50.0, -50.0])}

        def scorer(images):
            found = dict(usual.scorer(images))
            return found | {name: found[name] + changes[name] for name in names}

        return Workbench(subject(scorer=scorer), quick=True, progress=False)

    section = emergence_section(shifted("size"))
    landmarks = next(part.table for part in section.tables if part.name == "landmarks")
    assert set(landmarks["attribute"]) == {"hue"}
    assert "Without size: observed: found 0 of 16 final images" in section.text
    with pytest.raises(InputError, match="observed: found 0 of 16 final images"):
        emergence_section(shifted("size", "hue"))


def test_a_condition_that_names_no_attribute():
    bench = Workbench(subject(told=[]), quick=True, progress=False)
    section = model_section(bench)
    assert not section.tables and "names none" in section.figures[0].reading
    for make in (token_section, patch_section, information_section, classification_section):
        left_out = make(bench)
        assert not left_out.figures and "The condition names" in left_out.text


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"labels": torch.zeros(240, 3, dtype=torch.int64)}, r"labels: found shape \(240, 3\); expected \(240, 2\)"),
        ({"labels": torch.zeros(10, 2, dtype=torch.int64)}, r"\(240, 2\)"),
        ({"sites": ["network.midle1"]}, r"network\.middle1"),
        ({"contrasts": [Contrast("size", "small", "huge")]}, "size='huge'.*small.*large"),
        ({"contrasts": [Contrast("colour", "red", "blue")]}, "'colour'.*size, hue"),
        ({"contrasts": []}, "at least one of each"),
        ({"sites": []}, "at least one of each"),
        ({"told": ["shade"]}, "'shade'.*size, hue"),
    ],
)
def test_a_subject_that_does_not_fit_is_refused(changed, text):
    with pytest.raises(InputError, match=text):
        subject(**changed)


def test_a_subject_knows_its_labels():
    given = subject()
    contrast = given.contrasts[1]
    rows, high = given.rows(contrast)
    assert set(given.labels[rows, 1].tolist()) == {0, 2}  # red and blue, no green
    assert torch.equal(high, (given.labels[rows, 1] == 2).long())
    changed = given.set_to(given.labels, contrast, high=True)
    assert (changed[:, 1] == 2).all() and torch.equal(changed[:, 0], given.labels[:, 0])
    assert (given.opened(given.labels, contrast)[:, 1] == 3).all()  # the null value
    scores = given.scores()(given.images[:5])
    found = given.scorer(given.images[:5])
    torch.testing.assert_close(scores["hue"], found["hue"][:, 2] - found["hue"][:, 0])
    torch.testing.assert_close(scores["brightness"], found["brightness"][:, 1] - found["brightness"][:, 0])
    presence = given.presence(contrast)(given.images[:5])["hue"]
    torch.testing.assert_close(presence.sigmoid(), found["hue"][:, 2].exp())  # log-odds of its probability


def test_the_shipped_shapes_are_a_subject():
    given = load_subject("shapes", images=40)
    assert given.images.shape == (40, 3, 32, 32) and given.name == "shapes" and "sha256" in given.source
    assert given.pairs is not None
    labels = given.draw_labels(4)
    low, high = (given.pairs(given.set_to(labels, given.contrasts[0], high=end)) for end in (False, True))
    assert (low != high).flatten(1).any(1).all() and torch.equal(low, given.pairs(given.set_to(
        labels, given.contrasts[0], high=False
    )))  # fmt: skip


def test_weights_of_another_model_are_refused():
    with pytest.raises(InputError, match=r"weights: found a model of \(1, 8, 8\) data.*one of the shapes"):
        load_subject(str(SHIPPED / "digits.safetensors"))


def test_a_subject_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_subject_module.py").write_text(
        "from tests.reports.test_directions import subject as mine\ndef other():\n    return 3\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(load_subject("my_subject_module:mine"), Subject)
    for name, text in [
        ("my_subject_module:other", "a int from 'my_subject_module:other'; expected a Subject"),
        ("my_subject_module:number", "a function that returns a subject"),
        ("my_subject_module:missing", "missing"),
        ("no_such_module:mine", "no_such_module"),
        ("shaeps", "package.module:factory"),
    ]:
        with pytest.raises(InputError, match=text):
            load_subject(name)
