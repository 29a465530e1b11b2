"""The directions report on a small random network: every section is written, whatever the subject lacks."""

import functools
import json
import re

import pandas as pd
import pytest
import torch
from tests.claims import check_page
from tests.reports.directions.test_readings import WITH_ENDS
from torch import nn

from scorescope.analysis import steer_curve
from scorescope.data import EDMDenoiser, InputError, UNetConfig
from scorescope.data.checkpoints import SHIPPED
from scorescope.probes import sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler
from scorescope.reports import directions
from scorescope.reports.directions import Contrast, Subject, load_subject, sections_sampling
from scorescope.reports.directions import workbench as directions_workbench
from scorescope.reports.directions.sections_conditions import _name_tokens, patch_section, token_section
from scorescope.reports.directions.sections_information import classification_section, information_section
from scorescope.reports.directions.sections_probing import model_section
from scorescope.reports.directions.sections_sampling import emergence_section
from scorescope.reports.directions.sections_steering import confirm, steering_section, window_section
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.studies import bibtex

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


@functools.cache
def world():
    """A denoiser, labels, and its images of them, made once."""
    model, labels = denoiser(), draw_labels(240)
    return model, labels, samples(model, labels, seed=1000)


def subject(**changed):
    model, labels, images = world()
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


def test_the_methods_of_its_sections_are_cited(report):
    entries = bibtex(report[1])
    assert "{hewitt2019designing," in entries and "{kong2024interpretable," in entries


def test_sentences_hold_what_they_owe(report):
    out, outcome = report
    assert check_page(out, outcome.readings) > 0


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
    for sentence in outcome.readings:
        assert not re.search(r"\b(nan|inf)\b", sentence), sentence
        assert all(float(low) <= float(value) <= float(high) for value, low, high in WITH_ENDS.findall(sentence)), (
            sentence
        )


def test_tables_are_the_sizes_that_were_asked(report):
    out, _ = report
    assert len(table(out, "probes")) == 2 * 3 * 9 and set(table(out, "probes")["site"]) == set(SITES)
    steered = table(out, "steer_map")  # every third site in a quick report
    assert set(zip(steered["attribute"], steered["site"], strict=True)) == {
        (name, site) for name in ATTRIBUTES for site in SITES[::3]
    }
    arms = set(table(out, "dose_response")["arm"])
    assert {"direction", "shuffled 1", "shuffled 2", "random 1", "random 2"} <= arms
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


def test_a_subject_that_has_less(tmp_path, unrendered):
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
    none = emergence_section(shifted("size", "hue"))  # a section that says why, not a failed one
    assert not none.figures and not none.tables
    assert none.text.startswith("No attribute can be followed here.") and none.text.count("of 16 final images") == 2


def test_what_fails_of_one_attribute_does_not_cost_the_others(monkeypatch):
    traced = sections_sampling._trace

    def failing(*names):
        def trace(bench, contrast, site, scan):
            if contrast.attribute in names:
                raise InputError("scan", found="too few", expected="more")
            return traced(bench, contrast, site, scan)

        monkeypatch.setattr(sections_sampling, "_trace", trace)
        return emergence_section(Workbench(subject(), quick=True, progress=False))

    section = failing("size")
    assert "Without size: scan: found too few" in section.text and section.figures
    with pytest.raises(InputError, match="scan: found too few"):  # no reason why nothing can be followed: a fault
        failing("size", "hue")


def told_two():
    """Three attributes, of which the condition names the last two: its tokens are not the labels' columns."""
    model, labels, images = world()
    shade = torch.arange(240)[:, None] % 2
    return subject(
        denoiser=model, images=images, labels=torch.cat([shade, labels], dim=1), told=["size", "hue"],
        attributes={"shade": ("dark", "light"), **ATTRIBUTES}, conditions=lambda rows: rows[:, 1:],
        draw_labels=lambda count: torch.cat([torch.arange(count)[:, None] % 2, draw_labels(count)], dim=1),
    )  # fmt: skip


def test_tokens_are_those_of_the_attributes_that_the_condition_names():
    given = told_two()
    section = token_section(Workbench(given, quick=True, progress=False))
    tables = {part.name: part.table for part in section.tables}
    shares = tables["token_attribution"].groupby(["score", "token"])["share"].mean()
    assert set(tables["token_attribution"]["token"]) == {"size", "hue"}
    whole = tables["linearity"].query("multiple > 0.75")
    assert whole["gap"].max() < 1e-3  # one token differs, and the shift replaces it
    # the same model with a condition that names all it has, in the same order
    plain = token_section(Workbench(subject(), quick=True, progress=False)).tables[0].table
    pd.testing.assert_series_equal(shares, plain.groupby(["score", "token"])["share"].mean(), rtol=1e-3, atol=1e-4)


def test_names_of_tokens():
    given = told_two()
    assert given.token_names == ["size", "hue"] and subject(told=["hue"]).token_names == ["hue"]
    assert _name_tokens(given, 3) == ["size", "hue", "token 2"]
    with pytest.raises(InputError, match="1 tokens; expected at least 2"):
        _name_tokens(given, 1)


def recorded(monkeypatch):
    """Seeds of every steering curve that is made, and of its controls."""
    found = []

    def spy(*args, **given):
        found.append((set(given["seeds"]), given["seed"]))
        return steer_curve(*args, **given)

    monkeypatch.setattr(directions_workbench, "steer_curve", spy)
    return found


def test_what_is_chosen_by_some_seeds_is_measured_on_others(monkeypatch):
    made = recorded(monkeypatch)
    bench = Workbench(subject(), quick=True, progress=False)
    chosen_by = set().union(*(seeds for seeds, _ in made[: len(bench.steered)]))
    assert chosen_by == set(range(8)) and len(made) == len(bench.steered)
    steering_section(bench)
    window_section(bench)
    later = made[len(bench.steered) :]
    assert len(later) >= 3 and all(len(seeds) >= 8 and not seeds & chosen_by for seeds, _ in later)
    controls = [seed for _, seed in made[: len(bench.steered)]]
    assert len(set(controls)) == len(controls)  # drawn anew for every cell
    assert not set(controls) & {seed for _, seed in later}
    assert set(bench.steered["family"]) == {len(bench.steered)}


def test_the_quoted_cell_is_scored_on_test_images(monkeypatch):
    bench = Workbench(subject(), quick=True, progress=False)
    cell = bench.steered.assign(finding="readable, not steerable", margin_high=[-0.1, -0.9])
    bench.__dict__["steered"] = cell
    made = recorded(monkeypatch)
    row = confirm(bench).iloc[0]
    assert (row["attribute"], row["site"]) == tuple(cell.iloc[1][["attribute", "site"]])  # the smaller margin
    assert row["n"] == 8 and made[0][0] == set(range(1000, 1008))
    test, level = bench.scan.split.test, bench.activations.nearest_level(1.0)
    probe = bench.scan.probes[row["attribute"], row["site"], level]
    right = probe.predict(bench.activations.at(row["site"], level)[test]) == bench.labels[test, 1].numpy()
    recalls = [right[bench.labels[test, 1].numpy() == value].mean() for value in range(3)]
    assert row["images"] == len(test) and row["accuracy"] == pytest.approx(sum(recalls) / 3)
    assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    bench.__dict__["steered"] = cell.assign(finding="undecided")
    assert confirm(bench).empty


def test_the_best_site_moves_forwards_and_keeps_the_image():
    bench = Workbench(subject(), quick=True, progress=False)
    rows = [("a", 3.0, -2.0, True), ("b", 1.0, 1.2, True), ("c", 2.0, 2.0, False), ("d", 0.5, 0.6, True)]
    table = pd.DataFrame(rows, columns=["site", "margin", "effect", "within_budget"]).assign(attribute="size")
    for kept, best in (("abcd", "b"), ("ac", "c"), ("a", "a")):
        bench.__dict__["steered"] = table[table["site"].isin(list(kept))]
        assert bench.best_site(bench.contrasts[0]) == best


def test_a_score_of_the_other_sign_turns_the_effect_around():
    usual = subject()

    def flipped(images):
        found = dict(usual.scorer(images))
        return found | {"size": found["size"].flip(1)}

    rows = []
    for scorer in (usual.scorer, flipped):
        bench = Workbench(subject(scorer=scorer), quick=True, progress=False)
        direction = bench.direction(bench.contrasts[0], SITES[1], sigma=1.0)
        rows.append(bench.steer(bench.contrasts[0], direction, strengths=(-3, 3), seeds=range(8)).verdicts.iloc[0])
    assert rows[1]["effect"] == pytest.approx(-rows[0]["effect"]) and abs(rows[0]["effect"]) > 0
    for name in ("margin", "low", "high", "p", "p_not"):
        assert rows[1][name] == pytest.approx(rows[0][name])
    turned = {"steerable": "reversed", "reversed": "steerable"}
    assert rows[1]["verdict"] == turned.get(rows[0]["verdict"], rows[0]["verdict"])


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
        "from tests.reports.directions.test_report import subject as mine\ndef other():\n    return 3\nnumber = 3\n"
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
