import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.analysis import measure_sweep
from scorescope.analysis.guidance import changes, pareto, sample_metrics
from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.paired_runs import parting, savings, separation
from scorescope.analysis.guidance.paths import clip_activity, clip_share, decoded_path, gain_path, momentum_updates
from scorescope.data import InputError
from scorescope.probes import APG, CFG, AdaptiveGuidance, Recording, Trace, replay, sample, sweep
from scorescope.probes.decomposition import image_statistics
from scorescope.probes.experiments import Setting
from scorescope.probes.sampling import Euler, Run

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)
REFERENCE = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def settings():
    rules = {"w1": CFG(1.0), "w3": CFG(3.0), "adaptive": AdaptiveGuidance(CFG(3.0), threshold=0.997, below=2.0)}
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
    # pseudo-values 67 % and 60 % of the intervals held it; 150 runs tell 95 % to within 3.6 % (two standard errors)
    generator, runs, inside = torch.Generator().manual_seed(0), 150, np.zeros(2)
    labels = torch.arange(8).repeat_interleave(20)
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


def test_savings_count_calls_and_change(settings):
    found = savings(settings, against="w3").set_index("setting")
    assert found.loc["w3", "change"] == 0 and found.loc["w3", "calls_saved"] == 0
    assert found.loc["w1", "calls_saved"] == 0.5
    change = (settings[0].run.samples - settings[1].run.samples).square().mean(1).sqrt().mean().item()
    assert found.loc["w1", "change"] == pytest.approx(change, rel=1e-5)
    adaptive = found.loc["adaptive"]
    assert 0 < adaptive["calls_saved"] < 0.5 and adaptive["change"] < found.loc["w1", "change"]
    # against a rule that always needs 70 calls the share saved is a mean over samples
    scalars = settings[2].run.trace.scalars
    shares = 1 - scalars.groupby("sample")["needed"].sum() / 70
    assert adaptive["calls_saved"] == pytest.approx(shares.mean())
    half = 1.96 * shares.std() / np.sqrt(COUNT)
    assert adaptive["saved_high"] - adaptive["saved_low"] == pytest.approx(2 * half, rel=0.15)
    assert adaptive["saved_low"] < adaptive["calls_saved"] < adaptive["saved_high"]
    # those that stopped at the first of the steps from sigma = 2 down, the eleventh of two calls each
    assert found["first_look"].to_dict() == {"w1": 1, "w3": 0, "adaptive": (shares == 15 / 70).mean()}


def test_adaptive_guidance_that_stops_at_once_is_seen():
    # at sigma = 80 both eps predictions are the noise: without `below` the rule is no guidance, and saves half
    rule, how = AdaptiveGuidance(CFG(3.0), threshold=0.9), {"seeds": range(20), "condition": LABELS[:20]}
    settings = sweep(PAIR, {"full": CFG(3.0), "adaptive": rule}, **how, progress=False)
    found = savings(settings, against="full").set_index("setting").loc["adaptive"]
    assert found["first_look"] == 1 and found["calls_saved"] == 33 / 70


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


def test_parting_is_the_first_and_last_separated_step(settings):
    table = separation(settings[0].run.trace, settings[1].run.trace)
    steps = table.loc[table["separated"], "step"]
    found = parting(table).set_index("which")
    assert found.loc["first", "step"] == steps.min() and found.loc["last", "step"] == steps.max() == 17
    assert found.loc["last", "mean"] == table["mean"].iloc[-1]
    met = table.assign(separated=table["step"].isin([4, 5, 7]))
    assert list(parting(met)["step"]) == [4, 7] and parting(table.assign(separated=False)).empty


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


def test_paths_after_decoding(settings):
    a, b = settings[0].run.trace, settings[1].run.trace
    table = separation(a, b, decoder=to_pictures)
    one, two = (
        to_pictures(next(v.guided for v in t.kept if v.step == 9 and v.call == 0)).double().flatten(1) for t in (a, b)
    )
    assert table["mean"][9] == pytest.approx((one - two).square().mean(1).sqrt().mean().item())
    path = decoded_path(b, to_pictures)
    guided = next(v.guided for v in b.kept if v.step == 5 and v.call == 0)
    expected = image_statistics(to_pictures(guided), (-1, 1))
    for quantity in ("saturation", "contrast", "overshoot_share"):
        row = path[(path["quantity"] == quantity) & (path["step"] == 5)].iloc[0]
        assert row["mean"] == pytest.approx(expected[quantity].mean().item()) and row["n"] == COUNT
    assert set(path["rule"]) == {"CFG"} and len(path) == 18 * 4


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
    none = found.query("quantity == 'active' and mean == 0")
    assert len(none) and none["high"].to_numpy() == pytest.approx(1 - 0.025 ** (1 / 20))  # of 20 samples that agree
    with pytest.raises(InputError, match="norm"):
        clip_activity(table, norm=0)


@pytest.fixture(scope="module")
def whole():
    """A run with both branches kept at every call."""
    options = Recording(keep=True, all_branches=True)
    return sample(PAIR, seeds=range(20), condition=LABELS[:20], rule=CFG(2.0), record=options, progress=False).trace


def test_no_momentum_leaves_the_updates_as_they_are(whole):
    keys = ["sample", "step"]
    plain = decompose(whole).query("call == 0").set_index(keys).sort_index()
    found = momentum_updates(whole, momentum=0.0).set_index(keys).sort_index()
    for name in ("update_norm", "update_ratio", "sigma"):
        assert found[name].to_numpy() == pytest.approx(plain[name].to_numpy(), rel=1e-5)
    assert set(found["rule"]) == {"CFG"} and set(found["weight"]) == {2.0}


def test_clips_with_momentum_are_those_of_the_replayed_rule(whole):
    momentum = -0.6
    table = momentum_updates(whole, momentum=momentum)
    norm = float(table["update_norm"].median())
    replayed = replay(whole, APG(2.0, eta=1.0, norm=norm, momentum=momentum), keep=True)  # D_c + the clipped update
    guided = pd.concat(
        pd.DataFrame(
            {
                "step": v.step,
                "sample": v.first + np.arange(len(v.x)),
                "clipped": (v.guided - v.cond).double().flatten(1).norm(dim=1).numpy(),
            }
        )
        for v in replayed.kept
        if v.call == 0
    )
    both = table.merge(guided, on=["step", "sample"])
    assert both["clipped"].to_numpy() == pytest.approx(both["update_norm"].clip(upper=norm).to_numpy(), abs=1e-5)
    active = clip_activity(table, norm=norm).query("quantity == 'active'").set_index("step")["mean"]
    share = both.assign(active=both["update_norm"] > norm).groupby("step")["active"].mean()
    assert active.to_numpy() == pytest.approx(share[active.index].to_numpy())
    assert 0 < active.mean() < 1
    shares = [clip_share(t, norms=[norm])["mean"].iloc[0] for t in (momentum_updates(whole, momentum=0.0), table)]
    assert shares[1] < shares[0]  # a negative momentum shortens updates that keep their direction


def test_momentum_needs_both_branches_everywhere(settings, whole):
    with pytest.raises(InputError, match="step 0 without the unconditional branch"):
        momentum_updates(settings[0].run.trace, momentum=-0.5)
    with pytest.raises(InputError, match="momentum"):
        momentum_updates(whole, momentum=-1.0)


def test_runs_of_unknown_seeds_pair_by_their_first_states(settings, whole):
    def unknown(trace):
        return Trace(trace.scalars, trace.samples.assign(seed=-1), trace.manifest, kept=trace.kept)

    draw = {"condition": LABELS[:20], "record": Recording(keep=True), "progress": False}
    same, other = (sample(PAIR, seeds=seeds, **draw).trace for seeds in (range(20), range(1, 21)))
    assert separation(unknown(whole), unknown(same))["separated"].iloc[-1]
    with pytest.raises(InputError, match="other states at the first step"):
        separation(unknown(whole), unknown(other))
