import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis import measure_sweep
from scorescope.analysis.guidance import changes, pareto, sample_metrics
from scorescope.analysis.guidance.paired_runs import savings
from scorescope.data import InputError
from scorescope.probes import CFG
from scorescope.probes.experiments import Setting
from scorescope.probes.sampling import Run

COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)
REFERENCE = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))


def test_metrics_are_what_they_say(settings):
    table = measure_sweep(
        settings,
        value_range=(-1, 1),
        labels=LABELS,
        scorer=lambda x: (x[:, 0] > 0).double(),
        reference=REFERENCE,
    ).set_index(["setting", "metric"])
    images = settings[1].run.samples
    assert table.loc[("w3", "overshoot_share"), "value"] == pytest.approx(
        (images.abs() > 1 + 2 / 510).double().mean().item()
    )
    assert table.loc[("w3", "score"), "value"] == pytest.approx((images[:, 0] > 0).double().mean().item())
    assert table.loc[("w1", "calls"), "value"] == 35 and table.loc[("w3", "calls"), "value"] == 70
    assert 35 < table.loc[("adaptive", "calls"), "value"] < 70
    distances = torch.cdist(images, images)
    assert table.loc[("w3", "diversity"), "value"] == pytest.approx(
        (distances.sum() / COUNT / (COUNT - 1)).item(), rel=1e-5
    )
    # the Gaussian form of the Frechet distance, written out
    x, y = images.double().numpy(), REFERENCE.double().numpy()
    c1, c2 = np.cov(x.T), np.cov(y.T)
    root = np.sqrt(np.linalg.eigvals(c1 @ c2).real).sum()
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1) + np.trace(c2) - 2 * root
    assert table.loc[("w3", "frechet"), "value"] == pytest.approx(expected, rel=1e-9)
    assert {"precision", "recall"} <= set(table.loc["w1"].index)
    table = table.drop(index="frechet", level="metric")  # as measured, without an interval
    assert (table["low"] <= table["value"] + 1e-12).all() and (table["value"] <= table["high"] + 1e-12).all()


def test_paired_changes_are_narrower_than_their_parts(settings):
    rows = sample_metrics(settings, value_range=(-1, 1))
    found = changes(rows, against="adaptive", metrics=["contrast"]).set_index("setting")
    by_hand = rows.pivot(index="sample", columns="setting", values="contrast")
    assert found.loc["w3", "value"] == pytest.approx((by_hand["w3"] - by_hand["adaptive"]).mean())
    table = measure_sweep(settings, rows=rows).set_index(["setting", "metric"])
    parts = [table.loc[(name, "contrast")] for name in ("adaptive", "w3")]
    assert found.loc["w3", "high"] - found.loc["w3", "low"] < 0.7 * sum(part["high"] - part["low"] for part in parts)
    with pytest.raises(InputError, match="against"):
        changes(rows, against="nothing")


def test_rows_given_are_not_measured_again(settings):
    how = {"value_range": (-1, 1), "labels": LABELS, "scorer": lambda x: (x[:, 0] > 0).double()}
    rows = sample_metrics(settings, **how)
    for reference in (None, REFERENCE):
        expected = measure_sweep(settings, **how, reference=reference)
        found = measure_sweep(settings, rows=rows, reference=reference)
        pd.testing.assert_frame_equal(found, expected)


def test_samples_with_a_gradient_are_measured(settings):
    first = settings[0]
    graded = Setting(first.name, first.rule, Run(first.run.samples.clone().requires_grad_(), first.run.trace))
    how = {"value_range": (-1, 1), "labels": LABELS, "reference": REFERENCE.clone().requires_grad_()}
    pd.testing.assert_frame_equal(measure_sweep([graded], **how), measure_sweep([first], **how))


def test_a_score_that_never_fails_is_not_certain():
    settings = [Setting(name, CFG(1.0), Run(torch.ones(8, 2), None)) for name in "ab"]
    rows = sample_metrics(settings, scorer=lambda x: x[:, 0])
    score = measure_sweep(settings, rows=rows).set_index(["setting", "metric"]).loc[("a", "score")]
    assert (score["value"], score["high"]) == (1, 1) and score["low"] == pytest.approx(0.025 ** (1 / 8))
    change = changes(rows, against="a", metrics=["score"]).iloc[0]
    assert change["value"] == 0 and change["high"] == -change["low"] == pytest.approx(0.324, abs=1e-3)


def test_diversity_intervals_cover():
    # E|x - y| of two normal points of the plane is sqrt(pi) times their standard deviation. Before the jackknife
    # pseudo-values 67 % and 60 % of the intervals held it; 40 runs tell 95 % to within 6.9 % (two standard errors),
    # those of tests/benchmarks/coverage better
    generator, inside = torch.Generator().manual_seed(0), np.zeros(2)
    labels, runs = torch.arange(8).repeat_interleave(20), 40
    true, spread = np.sqrt(np.pi), np.sqrt(1.3**2 + 0.5**2)
    for _ in range(runs):
        x = torch.randn(160, 2, generator=generator)
        y = 1.3 * x + 0.5 * torch.randn(160, 2, generator=generator)
        settings = [Setting(name, CFG(1.0), Run(values, None)) for name, values in (("x", x), ("y", y))]
        rows = sample_metrics(settings, labels=labels)[["setting", "rule", "weight", "sample", "score", "diversity"]]
        alone = measure_sweep(settings, rows=rows).set_index(["setting", "metric"]).loc[("x", "diversity")]
        pair = changes(rows, against="x", metrics=["diversity"]).iloc[0]
        for place, (row, value) in enumerate([(alone, true), (pair, true * (spread - 1))]):
            inside[place] += row["low"] <= value <= row["high"]
    assert (inside / runs > 0.95 - 2 * np.sqrt(0.95 * 0.05 / runs)).all()


def test_diversity_of_few_samples():
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    x = torch.tensor([[0.0], [1.0], [0.0], [1.0], [3.0], [9.0]])
    rows = sample_metrics([Setting("a", CFG(1.0), Run(x, None))], labels=labels)["diversity"].to_numpy()
    # one pair is one value, and one sample has none
    assert rows[0] == 1 and np.isnan(rows[[1, 5]]).all() and rows[2:5].mean() == pytest.approx(2)
    # n U - (n - 1) U_without_i, the distances that are left being 2, 3 and 1
    assert rows[2:5] == pytest.approx([3 * 2 - 2 * 2, 3 * 2 - 2 * 3, 3 * 2 - 2 * 1])


def drawn(count, generator, *, shuffled):
    """A mixture of eight Gaussians of six features, as many of each as divides, or independent draws."""
    means = 2 * torch.randn(8, 6, generator=torch.Generator().manual_seed(5))
    labels = torch.randint(0, 8, (count,), generator=generator) if shuffled else torch.arange(count) % 8
    return means[labels] + torch.randn(count, 6, generator=generator), labels


@pytest.mark.parametrize("shuffled", [(False, False), (True, True)], ids=str)
def test_frechet_distances_of_sets_drawn_by_class_are_not_below_zero(shuffled):
    # two sets of one law. By class, without the classes, their mean was -0.23, and 24 of 40 intervals lay below 0
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(12):
        (x, labels), (y, classes) = (
            drawn(count, generator, shuffled=random) for count, random in zip((240, 400), shuffled, strict=True)
        )
        how = {"labels": labels, "reference": y, "reference_labels": classes}
        table = measure_sweep([Setting("a", CFG(1.0), Run(x, None))], **how).set_index("metric")
        found.append(table.loc["frechet_debiased", ["value", "low", "high"]].to_numpy(float))
    value, low, high = np.array(found).T
    assert abs(value.mean()) < 0.12 and (high < 0).sum() <= 2 and ((low <= 0) & (high >= 0)).sum() >= 9


def test_too_few_images_of_a_class_for_the_jackknife():
    x, labels = drawn(16, torch.Generator().manual_seed(0), shuffled=False)
    table = measure_sweep([Setting("a", CFG(1.0), Run(x, None))], labels=labels, reference=torch.randn(80, 6))
    assert "frechet" in set(table["metric"]) and "frechet_debiased" not in set(table["metric"])


def test_pareto_marks_what_no_other_dominates():
    rows = {"a": (1.0, 5.0), "b": (2.0, 4.0), "c": (1.0, 4.0), "d": (0.5, 9.0), "e": (2.0, 4.0)}
    table = pd.DataFrame(
        [
            (name, metric, value)
            for name, pair in rows.items()
            for metric, value in zip(("q", "cost"), pair, strict=True)
        ],
        columns=["setting", "metric", "value"],
    )
    found = pareto(table, better={"q": "high", "cost": "low"}).set_index("setting")
    assert list(found.index) == list("abcde")
    assert found["pareto"].to_dict() == {"a": False, "b": True, "c": False, "d": False, "e": True}
    assert found.loc["a", "dominated_by"] == "b" and found.loc["b", "dominated_by"] == ""
    with pytest.raises(InputError, match="metrics \\['x'\\]"):
        pareto(table, better={"x": "high"})


def to_pictures(latents):
    """A decoder with a closed form: three channels of 2 x 2 pixels from two numbers."""
    return torch.tanh(latents @ torch.linspace(-1, 1, 24, dtype=latents.dtype).reshape(2, 12)).reshape(-1, 3, 2, 2)


def test_with_a_decoder_everything_is_measured_on_the_images(settings):
    images = [to_pictures(s.run.samples) for s in settings]
    pictures = [Setting(s.name, s.rule, Run(x, s.run.trace)) for s, x in zip(settings, images, strict=True)]
    how = {"labels": LABELS, "scorer": lambda x: x[:, 0, 0, 0], "reference": to_pictures(torch.randn(80, 2))}
    expected = measure_sweep(pictures, value_range=(-1, 1), features=lambda x: x[:, :2, 0, 0], **how)
    found = measure_sweep(settings, decoder=to_pictures, features=lambda x: x[:, :2, 0, 0], **how)
    pd.testing.assert_frame_equal(found, expected)
    assert {"saturation", "frechet"} <= set(found["metric"])
    changed = savings(settings, against="w3", decoder=to_pictures).set_index("setting")["change"]
    assert changed["w1"] == pytest.approx(
        (images[0] - images[1]).double().square().mean((1, 2, 3)).sqrt().mean().item()
    )
