"""Probes agree with an independent implementation, read what is there, and read nothing where nothing is."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, r2_score

from scorescope.analysis.directions.linear_probes import Target, fit_paths
from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.statistics.splits import Part, Split, balanced_accuracy, grouped_split
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank, log_snr_grid


def activations(values, sigmas=None, images=None):
    values = {"a": values} if isinstance(values, torch.Tensor) else values
    levels, rows = next(iter(values.values())).shape[:2]
    sigmas = sigmas or tuple(float(s) for s in np.geomspace(4, 0.25, levels))
    images = torch.arange(rows) if images is None else images
    return Activations(values, sigmas, images, dict.fromkeys(values, "mean"))


def draw(n, d, levels=2, seed=0, classes=3):
    """Features of unequal scale whose mean depends on a class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    centres = rng.normal(size=(classes, d))
    mixing = rng.normal(size=(d, d)) / d**0.5
    x = rng.normal(size=(levels, n, d)) @ mixing * 3 + centres[labels] * np.array([1.0, 0.3])[:levels, None, None]
    return torch.from_numpy(x * rng.uniform(0.1, 10, size=d) + 5).float(), labels


def standardised(x, train):
    x = x.double().numpy()
    return (x - x[train].mean(0)) / x[train].std(0)


@pytest.mark.parametrize(("n", "d"), [(300, 12), (90, 200)])
@pytest.mark.parametrize("classes", [2, 3])
def test_ridge_and_lda_equal_scikit_learn_on_the_same_split(n, d, classes):
    values, labels = draw(n, d, classes=classes)
    split = grouped_split(np.arange(n), seed=1)
    for method in ("ridge", "lda"):
        scan = probe_scan(activations(values), {"c": labels}, method=method, strengths=[0.3], split=split, resamples=2)
        for level in range(2):
            x = standardised(values[level], split.train)
            model = RidgeClassifier(alpha=0.3 * len(split.train), class_weight="balanced")
            if method == "lda":
                priors = np.full(classes, 1 / classes)
                model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=priors)
            model.fit(x[split.train], labels[split.train])
            ours = scan.probes["c", "a", level].outputs(values[level]).numpy()
            theirs = model.decision_function(x)
            if theirs.ndim == 1:
                ours = (ours[:, 1] - ours[:, 0]) / (2 if method == "ridge" else 1)
            elif method == "lda":
                theirs = theirs + np.log(classes)  # its equal priors, the same for every class
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
            expected = balanced_accuracy_score(labels[split.validation], model.predict(x[split.validation]))
            row = scan.table.query("level == @level").iloc[0]
            assert row["value"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_equals_scikit_learn_at_the_stated_penalty(classes):
    values, labels = draw(300, 6, classes=classes)
    path = fit_paths("logistic", values, [Target(labels)], strengths=[0.05])[0]
    x = standardised(values[1], slice(None))
    model = LogisticRegression(C=1 / (0.05 * 300), class_weight="balanced", tol=1e-8, max_iter=5000)
    model.fit(x, labels)
    ours = path.probe(level=1, strength=0).outputs(values[1]).softmax(1).numpy()
    np.testing.assert_allclose(ours, model.predict_proba(x), atol=2e-4)


def test_a_continuous_attribute_equals_ridge_regression_and_r2():
    values, _ = draw(300, 8)
    truth = (values[0, :, 0] * 0.7 + torch.randn(300, generator=torch.Generator().manual_seed(0)) * 3).numpy()
    split = grouped_split(np.arange(300), seed=0)
    scan = probe_scan(activations(values), {"t": truth}, strengths=[0.1], split=split)
    x = standardised(values[0], split.train)
    model = Ridge(alpha=0.1 * len(split.train)).fit(x[split.train], truth[split.train])
    row = scan.table.query("level == 0").iloc[0]
    expected = r2_score(truth[split.validation], model.predict(x[split.validation]))
    assert row["metric"] == "r2" and row["value"] == pytest.approx(expected, abs=1e-6)
    assert row["control"] < 0.05 < row["low"] < row["value"] < row["high"]


def test_control_tasks_are_at_chance_and_random_labels_are_learnt_by_heart_where_n_is_small():
    held_out = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = torch.from_numpy(rng.normal(size=(1, 200, 1000))).float()
        scan = probe_scan(activations(values), {"none": rng.integers(0, 2, 200)}, strengths=[1e-3], resamples=50)
        row = scan.final.iloc[0]
        assert row["train"] == row["control_train"] == 1.0 and row["chance"] == 0.5
        held_out.append(row[["value", "control"]])
    # 40 images each: a standard error of 0.08 / sqrt(20) = 0.018
    assert np.abs(np.mean(held_out, axis=0) - 0.5).max() < 0.06


def test_a_row_of_the_same_image_never_helps_its_control():
    # ten levels of the same images without noise: a split by rows would let the control be remembered
    rng = np.random.default_rng(0)
    base = torch.from_numpy(rng.normal(size=(150, 60))).float()
    images = torch.arange(150).repeat(4)
    scan = probe_scan(activations(base.repeat(4, 1)[None], images=images), {"n": rng.integers(0, 2, 150)})
    row = scan.table.iloc[0]
    assert row["control_train"] > 0.8 and row["control_low"] < 0.5 < row["control_high"]
    assert row["n"] == 30


def test_intervals_cover_the_expected_accuracy():
    """Gaussian classes: the Bayes accuracy is known, and probes of many samples reach nearly all of it."""
    from scipy.stats import norm

    covered, rng = 0, np.random.default_rng(0)
    for seed in range(40):
        labels = rng.integers(0, 2, 600)
        x = torch.from_numpy(rng.normal(size=(1, 600, 4)) + np.outer(2 * labels - 1, [0.7, 0, 0, 0])).float()
        row = probe_scan(activations(x), {"y": labels}, strengths=[0.01], seed=seed, resamples=300).final.iloc[0]
        covered += row["low"] <= norm.cdf(0.7) <= row["high"]
    assert covered >= 33  # 95 % of 40 is 38; fewer than 33 has probability 1e-3 at 93 %


def test_rows_of_an_image_are_drawn_together():
    """Four identical rows an image: the interval is as wide as with one row."""
    rng = np.random.default_rng(0)
    images, truth = np.arange(100), rng.integers(0, 2, 100)
    predicted = np.where(rng.random(100) < 0.8, truth, 1 - truth)
    once = Part.of(images, images, images, resamples=2000, seed=0)
    four = Part.of(images, np.tile(images, 4), images, resamples=2000, seed=0)
    a = balanced_accuracy(predicted[None], truth, once)
    b = balanced_accuracy(np.tile(predicted, 4)[None], np.tile(truth, 4), four)
    np.testing.assert_allclose(a, b)


def test_the_final_number_is_of_the_cell_chosen_on_validation_and_is_scored_on_test_alone():
    values, labels = draw(400, 6, levels=2)
    scan = probe_scan(activations({"a": values, "b": torch.randn_like(values)}), {"c": labels})
    best = scan.table.loc[scan.table["value"].idxmax()]
    row = scan.final.iloc[0]
    assert (row["site"], row["level"], row["validation"]) == (best["site"], best["level"], best["value"])
    test = scan.split.test
    predicted = scan.probe("c", row["site"], sigma=row["sigma"]).predict(values[row["level"]])[test]
    assert row["value"] == pytest.approx(balanced_accuracy_score(labels[test], predicted))
    changed = values.clone()
    changed[:, test] = 7.0  # test images decide neither the strength nor the cell
    again = probe_scan(activations({"a": changed, "b": values * 0 + torch.randn(6)}), {"c": labels})
    other = again.table.query("site == 'a'")["value"].to_numpy()
    np.testing.assert_allclose(other, scan.table.query("site == 'a'")["value"].to_numpy())


class Planted(torch.nn.Module):
    """Channel 0 of `inner` makes the attribute (the sign of the image's mean); channel 1 is a copy nobody uses."""

    shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()
        self.idle = torch.nn.Identity()

    def forward(self, x, sigma, condition=None):
        level = (x / (1 + sigma[:, None, None, None] ** 2)).mean((2, 3))
        noise = torch.sin(50 * x.flatten(1)[:, :6])
        hidden = self.inner(torch.cat([level, level, noise], dim=1)[:, :, None, None])
        self.idle(noise[:, :, None, None])
        return hidden[:, :1].expand(-1, -1, 4, 4)


def test_probes_find_the_planted_unit_and_the_decoy_and_nothing_in_an_idle_site():
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (500,))
    images = (2.0 * labels - 1)[:, None, None, None] + 0.1 * torch.randn(500, 1, 4, 4)
    bank = Bank(images, log_snr_grid(-6, 2, 3))
    found = collect(Planted(), bank, ["inner", "idle"])
    scan = probe_scan(found, {"sign": labels})
    value = scan.table.set_index(["site", "level"])["value"]
    assert value["inner", 2] > 0.98 and value["inner", 0] < 0.75
    assert (scan.table.query("site == 'idle'")["low"] < 0.55).all()
    weights = scan.probe("sign", "inner", sigma=bank.sigmas[2]).weights
    size = (weights[:, 1] - weights[:, 0]).abs()
    torch.testing.assert_close(size[0], size[1])
    assert size[0] > 5 * size[2:].max()
    again = probe_scan(collect(Planted(), bank, ["inner", "idle"], batch=17), {"sign": labels})
    np.testing.assert_allclose(again.table["value"], scan.table["value"], atol=1e-9)


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        (np.zeros(60, int), {}, "a single class"),
        (np.arange(50) % 2, {}, r"\(60,\) classes"),
        (np.full(60, np.nan), {}, "NaN"),
        (np.arange(60) == 3, {}, "images of the rarest class of 'y'"),
        (np.arange(60) % 2, {"groups": np.arange(60) // 30}, "2 groups"),
        (np.arange(60) % 2, {"groups": np.arange(3)}, "60"),
        (np.arange(60) % 2, {"method": "forest"}, "ridge, lda, logistic"),
        (np.arange(60) % 2, {"strengths": [0.0]}, "positive"),
        (np.arange(60) % 2, {"method": "lda", "strengths": [2.0]}, "at most 1"),
    ],
)
def test_bad_input(labels, options, text):
    with pytest.raises(InputError, match=text):
        probe_scan(activations(torch.randn(1, 60, 3)), {"y": labels}, **options)


def test_the_same_image_or_group_in_two_parts_is_refused():
    with pytest.raises(InputError, match=r"image 3 in train and in test.*leakage"):
        Split(np.array([0, 3]), np.array([1]), np.array([2, 3]))
    split = Split(np.arange(0, 30), np.arange(30, 45), np.arange(45, 60))
    with pytest.raises(InputError, match="leakage"):
        probe_scan(activations(torch.randn(1, 60, 3)), {"y": np.arange(60) % 2}, groups=np.arange(60) % 30, split=split)
    with pytest.raises(InputError, match="beyond the labels"):
        probe_scan(activations(torch.randn(1, 50, 3)), {"y": np.arange(50) % 2}, split=split)


def test_unknown_probes_and_other_widths_are_refused():
    scan = probe_scan(activations(torch.randn(1, 60, 3)), {"y": np.arange(60) % 2})
    with pytest.raises(InputError, match="y at a"):
        scan.probe("y", "b", sigma=1.0)
    with pytest.raises(InputError, match=r"\(row, 3\)"):
        scan.probe("y", "a", sigma=1.0).predict(torch.randn(2, 4))
