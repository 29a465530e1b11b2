"""The oracles of the entries on information, and on the denoiser as a classifier."""

from functools import cache

import numpy as np
import pytest
import torch
from tests.atlas_material import CLASSES, data_of, law, model_of, toy_material

from scorescope.analysis.information import likelihood_weights, pairwise_information
from scorescope.analysis.statistics.splits import stratified_halves
from scorescope.probes.bank import Bank, log_snr_grid
from scorescope.probes.models.model import Model
from scorescope.reports.atlas import find_entry
from scorescope.reports.directions import atlas_information as atlas
from scorescope.reports.directions import load_subject
from scorescope.reports.entries import Material
from scorescope.reports.gaussian import Data

BROAD = 1.0  # variance of classes that overlap, so that a classifier errs


@cache
def broad():
    return Material(model_of(law(BROAD)), data=data_of(law(BROAD)), count=80)


def numbers(name, material):
    return find_entry(name).numbers(material)


def closed_losses(found, bank):
    """|D_k - x0|^2 / sigma^2 of every class k, shape (class, image, level), by the formula of a ball around a mean."""
    losses = torch.full((CLASSES, len(bank), len(bank.sigmas)), torch.nan, dtype=torch.float64)
    means = [part.mean.double() for part in law(BROAD).components]
    for point in bank.points(batch=64):
        sigma = float(point.sigma[0])
        for k, mean in enumerate(means):
            denoised = mean + BROAD / (BROAD + sigma**2) * (point.x.double() - mean)
            squares = (denoised - point.x0.double()).flatten(1).square().sum(1)
            losses[k, point.rows, point.level] = squares / sigma**2
    return losses.numpy()


def bank_of(found, levels):
    return Bank(found.images, log_snr_grid(-2 * np.log(30.0), -2 * np.log(0.1), levels))


def test_classifier_vs_sigma():
    """Image and noise say who wins; at high noise it is the class of the nearest mean."""
    table = numbers("classifier-vs-sigma", broad()).tables["win_rates"].query("foil == 'every other'")
    found = atlas.classes_of(broad())
    losses = closed_losses(found, bank_of(found, atlas.LEVELS))
    rates = (losses.argmin(0) == found.labels.numpy()[:, None]).mean(0)
    np.testing.assert_allclose(table["rate"], rates, atol=1e-12)
    means = torch.stack([part.mean for part in law(BROAD).components]).flatten(1)
    nearest = torch.cdist(found.images.double().flatten(1), means).argmin(1)
    assert table.iloc[0]["sigma"] == pytest.approx(30)
    assert table.iloc[0]["rate"] == pytest.approx(float((nearest == found.labels).double().mean()), abs=0.02)
    assert 0.3 < rates.min() < rates.max() < 1


def test_classifier_budget():
    table = numbers("classifier-budget", broad()).tables["classification"].set_index(["rule", "levels"])
    found = atlas.classes_of(broad())
    _, test = stratified_halves(found.labels)
    for levels in atlas.BUDGETS:
        bank = bank_of(found, levels)
        losses = closed_losses(found, bank)[:, test]
        for rule, weights in (("uniform", np.ones(levels)), ("likelihood", likelihood_weights(bank.sigmas))):
            right = (losses @ weights).argmin(0) == found.labels[test].numpy()
            row = table.loc[rule, levels]
            assert row["accuracy"] == pytest.approx(right.mean())
            assert row["evaluations_an_image"] == CLASSES * levels
        if levels >= atlas.FEWEST_POINTS:
            assert table.loc["likelihood, elimination", levels]["evaluations_an_image"] <= CLASSES * levels
    assert table["accuracy"].min() < 1


def test_information_curves():
    made = numbers("information-curves", toy_material(count=80))
    entropy = np.log(CLASSES)
    assert made.facts["entropy"] == pytest.approx(entropy, abs=1e-3)
    for row in made.tables["expected"].to_dict("records"):
        assert row["low"] <= entropy <= row["high"] or row["nats"] == pytest.approx(entropy, rel=0.05)
    overlapping = numbers("information-curves", broad()).tables["expected"]
    assert overlapping["high"].max() < entropy


def test_information_maps():
    made = numbers("information-maps", toy_material())
    for name in ("true class", "next class"):
        sums = made.tables["pointwise"].query("condition == @name")["influence_nats"]
        np.testing.assert_allclose(made.pictures[name].flatten(1).sum(1), sums, rtol=1e-5)
    means = made.tables["pointwise"].groupby("condition")["influence_nats"].mean()
    assert means["next class"] > 2 * means["true class"]  # what contradicts the image changes more


def test_pid_bars(monkeypatch):
    """The parts of both aggregates sum to the influence of both conditions together."""
    monkeypatch.setattr(atlas, "NAMED", 2)
    subject = load_subject("shapes", images=40)
    material = Material(subject=lambda: subject, count=8)
    made = numbers("pid-bars", material)
    sums = made.tables["overlap"].groupby(["pair", "aggregate"])["nats"].sum().unstack()
    np.testing.assert_allclose(sums["pixelwise"], sums["sums"], rtol=1e-6)
    first, second = subject.contrasts[:2]
    labels = subject.labels[:8]
    neither = subject.opened(subject.opened(labels, first), second)
    both = pairwise_information(
        subject.denoiser, subject.images[:8], subject.conditions(labels), baseline=subject.conditions(neither),
        levels=atlas.levels_of(subject.denoiser, atlas.PAIR_LEVELS),
    )  # fmt: skip
    exact = both.expected.set_index("estimator").loc["influence", "nats"]
    assert sums.loc[f"{first.attribute}, {second.attribute}", "sums"] == pytest.approx(exact, rel=1e-4)
    assert not made.why


def test_conditions_that_are_no_classes_are_refused():
    entry, data = find_entry("classifier-vs-sigma"), data_of(law())
    tokens = Model(law(), "tokens", data.train.shape[1:], lambda count: torch.zeros(count, 3, 5), None)
    assert "no classes" in entry.why_not(Material(tokens, data=data))
    alone = Data(data.train, data.held_out, torch.zeros(len(data.train), dtype=torch.int64))
    assert "two classes" in entry.why_not(Material(model_of(law()), data=alone))
    plain = Data(data.train, data.held_out)
    assert "classes of these images" in entry.why_not(Material(model_of(law()), data=plain))


def test_classes_are_few_and_of_held_out_images_where_those_are_known():
    data = data_of(law())
    many = Data(data.train, data.held_out, torch.arange(len(data.train)) % 20, "many")
    found = atlas.classes_of(Material(model_of(law()), data=many, count=50))
    assert len(found.names) == atlas.CLASSES and found.which == "training images of many"
    assert torch.equal(found.own, torch.tensor([int(found.names[k]) for k in found.labels]))
    assert atlas.classes_of(Material(model_of(law()), data=data, count=50)).which.startswith("held-out")


@pytest.mark.parametrize("name", ["classifier-vs-sigma", "classifier-budget", "information-curves"])
def test_calls_are_counted(name):
    asked = 0

    def counting(x, sigma, condition):
        nonlocal asked
        asked += len(x)
        return law(BROAD)(x, sigma, condition)

    material = Material(Model(counting, "counting", broad().model.shape, broad().model.conditions), data=broad().data,
                        count=80)  # fmt: skip
    numbers(name, material)
    said = sum(find_entry(name).calls_of(material).values()) * (
        0.4 if "classifier" in name else 1
    )  # four classes, not ten
    assert said / 2 <= asked / 80 <= said
