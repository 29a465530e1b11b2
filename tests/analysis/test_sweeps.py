import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.analysis import changes, measure_sweep, pareto, sample_metrics
from scorescope.analysis.guidance import decompose
from scorescope.analysis.guidance_paths import clip_activity, gain_path, savings, separation
from scorescope.data import InputError
from scorescope.probes import APG, CFG, AdaptiveGuidance, Euler, Recording, sample, sweep

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)


@pytest.fixture(scope="module")
def settings():
    rules = {"w1": CFG(1.0), "w3": CFG(3.0), "adaptive": AdaptiveGuidance(CFG(3.0), threshold=0.9)}
    return sweep(
        PAIR,
        rules,
        seeds=range(COUNT),
        condition=LABELS,
        record=Recording(value_range=(-1, 1), keep=True),
        progress=False,
    )


def test_metrics_are_what_they_say(settings):
    table = measure_sweep(
        settings,
        value_range=(-1, 1),
        labels=LABELS,
        scorer=lambda x: (x[:, 0] > 0).double(),
        reference=torch.randn(80, 2),
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
    x, y = images.double().numpy(), torch.randn(80, 2)
    assert (
        table.loc[("w3", "frechet_debiased"), "low"] <= table.loc[("w3", "frechet"), "value"]
        and len(x) == COUNT
        and len(y) == 80
    )
    assert {"precision", "recall"} <= set(table.loc["w1"].index)
    table = table.drop(index="frechet", level="metric")  # as measured, without an interval
    assert (table["low"] <= table["value"] + 1e-12).all() and (table["value"] <= table["high"] + 1e-12).all()


def test_paired_changes_are_narrower_than_their_parts(settings):
    rows = sample_metrics(settings, value_range=(-1, 1))
    found = changes(rows, against="w1", metrics=["contrast"]).set_index("setting")
    by_hand = rows.pivot(index="sample", columns="setting", values="contrast")
    assert found.loc["w3", "value"] == pytest.approx((by_hand["w3"] - by_hand["w1"]).mean())
    with pytest.raises(InputError, match="against"):
        changes(rows, against="nothing")


def test_savings_count_calls_and_change(settings):
    found = savings(settings, against="w3").set_index("setting")
    assert found.loc["w3", "change"] == 0 and found.loc["w3", "calls_saved"] == 0
    assert found.loc["w1", "calls_saved"] == 0.5
    change = (settings[0].run.samples - settings[1].run.samples).square().mean(1).sqrt().mean().item()
    assert found.loc["w1", "change"] == pytest.approx(change, rel=1e-5)
    assert (
        0 < found.loc["adaptive", "calls_saved"] < 0.5 and found.loc["adaptive", "change"] < found.loc["w1", "change"]
    )


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


def test_separation_finds_where_paths_part(settings):
    w1, w3 = settings[0].run.trace, settings[1].run.trace
    assert not separation(w1, w1)["separated"].any()
    table = separation(w1, w3)
    assert table["mean"].iloc[0] == 0 and table["separated"].iloc[-1]
    x1, x3 = (next(v.x for v in t.kept if v.step == 9 and v.call == 0).double() for t in (w1, w3))
    expected = ((x1 - x3).square().mean(1).sqrt() / table["sigma"][9]).mean().item()
    assert table["mean"][9] == pytest.approx(expected)
    other = sample(PAIR, seeds=range(1, COUNT + 1), condition=LABELS, record=Recording(keep=True), progress=False).trace
    with pytest.raises(InputError, match="pairs with the first"):
        separation(w1, other)


def test_gain_path_multiplies_up():
    run = sample(
        PAIR, seeds=range(20), condition=LABELS[:20], rule=CFG(3.0), solver=Euler(), record=Recording(), progress=False
    )
    table = decompose(run.trace)
    found = gain_path(table)
    one = table[table["sample"] == 4].sort_values("step")
    after = np.append(one["sigma"].to_numpy()[1:], 0)
    product = np.prod(1 + (1 - after / one["sigma"]) * (one["applied_gain"] - 1))
    alone = gain_path(table[table["sample"] == 4])
    assert alone.query("quantity == 'path_gain'")["mean"].iloc[-1] == pytest.approx(product)
    assert (found["n"] == 20).all()
    apg = decompose(
        sample(PAIR, seeds=range(5), condition=LABELS[:5], rule=APG(3.0), record=Recording(), progress=False).trace
    )
    assert gain_path(apg)["mean"].to_numpy() == pytest.approx(1, abs=1e-4)


def test_clip_activity_is_where_the_clip_acts():
    def run(norm):
        return sample(
            PAIR, seeds=range(20), condition=LABELS[:20], rule=APG(3.0, norm=norm), record=Recording(), progress=False
        )

    table = decompose(run(0.05).trace)
    found = clip_activity(table, norm=0.05)
    active = found.query("quantity == 'active'").set_index("step")["mean"]
    first = table[table["call"] == 0]
    for step in (3, 8, 12):
        rows = first[first["step"] == step]
        clipped = rows["applied_norm"] < 2 * rows["orthogonal_norm"] * (1 - 1e-4)
        assert active[step] == pytest.approx(clipped.mean())
    assert 0 < active.mean() < 1
    with pytest.raises(InputError, match="norm"):
        clip_activity(table, norm=0)
