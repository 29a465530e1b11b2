"""Rare attributes are read as well as frequent ones, intervals have a width, and repeated images stay in one part."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from tests.benchmarks.coverage.directions import rare

from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.statistics.splits import Part, Split, one_against_rest, recall_interval, stratified_halves
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank
from scorescope.probes.sites.interventions import INPUT

BEST = norm.cdf(1.0)  # two normal classes, two standard deviations apart: 0.84 in balanced accuracy


def activations(values, **more):
    return Activations({"a": values}, (1.0,), torch.arange(values.shape[1]), {"a": "mean"}, **more)


@pytest.mark.parametrize("method", ["ridge", "lda", "logistic"])
@pytest.mark.parametrize("prevalence", [0.5, 0.2, 0.1, 0.05])
def test_a_rare_attribute_is_read_as_well_as_it_can_be(prevalence, method):
    rows = []
    for seed in range(4):
        values, labels = rare(prevalence, np.random.default_rng(seed), 2000)
        found = probe_scan(activations(values), {"y": labels}, method=method, strengths=[1e-2], seed=seed, resamples=50)
        rows.append(found.final.iloc[0])
    assert np.mean([row["value"] for row in rows]) == pytest.approx(BEST, abs=0.05)
    assert np.mean([row["auc"] for row in rows]) == pytest.approx(norm.cdf(2 / 2**0.5), abs=0.04)
    assert all(row["low"] < row["value"] < row["high"] for row in rows)


def test_a_rare_class_of_three():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [1500, 400, 100]))
    values = torch.from_numpy(rng.normal(size=(1, 2000, 8)) + 4 * np.eye(3, 8)[labels]).float()
    row = probe_scan(activations(values), {"y": labels}, resamples=50).final.iloc[0]
    assert row["value"] > 0.97 and row["auc"] > 0.99


@pytest.mark.parametrize("right", [True, False])
def test_an_interval_has_a_width_where_every_prediction_is_right_or_one_class(right):
    truth = np.arange(60) % 2
    predicted = truth if right else np.zeros(60, int)
    part = Part.of(np.arange(60), np.arange(60), np.arange(60), resamples=50, seed=0)
    low, high = recall_interval(predicted[None], truth, part)
    # Wilson, 30 of 30: 0.886 to 1, so that the mean of two lies 0.114 / sqrt(2) below; and 0 of 30 besides
    arm = (1 - 0.8865) / 2**0.5
    if right:
        assert low[0] == pytest.approx(1 - arm, abs=1e-3) and high[0] == 1
    else:
        assert (low[0], high[0]) == pytest.approx((0.5 - arm / 2**0.5, 0.5 + arm / 2**0.5), abs=1e-3)


def test_a_probe_that_is_always_right_has_an_interval():
    labels = np.arange(100) % 2
    values = torch.from_numpy(np.eye(2)[labels] * 9).float()[None] + 0.01 * torch.randn(1, 100, 2)
    scan = probe_scan(activations(values), {"y": labels}, resamples=50)
    for table in (scan.table, scan.final):
        assert (table["value"] == 1).all() and (table["low"] < 0.95).all() and (table["auc"] == 1).all()
        assert (table["selectivity_high"] - table["selectivity_low"] > 0.05).all()


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    outputs, truth = rng.normal(size=(2, 90, 3)).round(1), np.arange(90) % 3
    centred = outputs - outputs.mean(-1, keepdims=True)
    expected = [np.mean([roc_auc_score(truth == k, cell[:, k].round(12)) for k in range(3)]) for cell in centred]
    np.testing.assert_allclose(one_against_rest(outputs, truth), expected, atol=1e-3)


def test_repeated_images_stay_in_one_part():
    """Every image twice, its label drawn at random once: a probe that had seen it would know it."""
    rng = np.random.default_rng(0)
    contents = torch.arange(60).repeat(2)
    labels = rng.integers(0, 2, 60)[contents]
    values = torch.from_numpy(rng.normal(size=(60, 200))).float()[contents][None]
    leaking = probe_scan(activations(values), {"y": labels}, strengths=[1e-3], resamples=20)
    scan = probe_scan(activations(values, contents=contents), {"y": labels}, strengths=[1e-3], resamples=20)
    assert leaking.final["value"].iloc[0] > 0.75  # what a repeated image is worth
    assert scan.final["value"].iloc[0] < 0.7 and scan.final["low"].iloc[0] < 0.5
    for part in ("train", "validation", "test"):
        mine = getattr(scan.split, part)
        assert set((mine + 60) % 120) == set(mine)
    # beside groups of one's own: 0 and 1 are one group, and so are their repeats
    groups = np.arange(120)
    groups[1] = 0
    joined = probe_scan(activations(values, contents=contents), {"y": labels}, groups=groups, resamples=2).split
    places = [name for name in ("train", "validation", "test") if set(getattr(joined, name)) & {0, 1, 60, 61}]
    assert len(places) == 1
    with pytest.raises(InputError, match="leakage"):
        split = Split(np.arange(0, 60), np.arange(60, 90), np.arange(90, 120))
        probe_scan(activations(values, contents=contents), {"y": labels}, split=split)


def test_a_bank_knows_its_repeats_and_collect_keeps_them():
    images = torch.randn(5, 1, 2, 2)
    images[3], images[4] = images[0], -0.0 * images[1]
    images[1] = 0.0
    bank = Bank(images, [1.0, 0.5], draws=2)
    assert bank.contents().tolist() == [0, 1, 2, 0, 1]

    class Same(torch.nn.Module):
        shape = (1, 2, 2)

        def forward(self, x, sigma, condition=None):
            return x

    assert collect(Same(), bank, [INPUT]).contents.tolist() == [0, 1, 2, 0, 1] * 2
    with pytest.raises(InputError, match="one a row"):
        activations(torch.randn(1, 4, 2), contents=torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    "labels", [np.arange(20) % 2, np.arange(30) % 10, np.arange(24) // 12, np.arange(21) % 4],
    ids=["alternating", "cycling", "sorted", "odd"],
)  # fmt: skip
def test_halves_hold_every_class_alike(labels):
    first, second = (part.numpy() for part in stratified_halves(labels))
    assert sorted([*first, *second]) == list(range(len(labels))) and abs(len(first) - len(second)) <= 1
    counts = [np.bincount(labels[part], minlength=10) for part in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
