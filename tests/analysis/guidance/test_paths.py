import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.paired_runs import separation
from scorescope.analysis.guidance.paths import clip_activity, clip_share, decoded_path, gain_path, momentum_updates
from scorescope.analysis.guidance.run_keys import summarise_runs
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.data import InputError
from scorescope.probes import APG, CFG, Recording, replay, sample
from scorescope.probes.decomposition import image_statistics
from scorescope.probes.sampling import Euler

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)


def to_pictures(latents):
    """A decoder with a closed form: three channels of 2 x 2 pixels from two numbers."""
    return torch.tanh(latents @ torch.linspace(-1, 1, 24, dtype=latents.dtype).reshape(2, 12)).reshape(-1, 3, 2, 2)


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


def test_the_last_step_of_a_path_ends_where_it_ends():
    levels = (10.0, 5.0, 2.0)
    trace = sample(
        PAIR, seeds=range(3), condition=LABELS[:3], rule=CFG(3.0), solver=Euler(), sigmas=(*levels, 1.0),
        record=Recording(), progress=False,
    ).trace  # fmt: skip
    table = decompose(trace)
    assert table.query("sample == 0")["sigma_next"].tolist() == [5.0, 2.0, 1.0]
    doubled = table.assign(applied_gain=2.0)
    ends = gain_path(doubled).query("quantity == 'path_gain'")["mean"].tolist()
    assert ends == pytest.approx([1.5, 1.5 * 1.6, 1.5 * 1.6 * 1.5])  # taken as going to 0, the last factor was 2
    unknown = gain_path(doubled.assign(sigma_next=np.nan)).query("quantity == 'path_gain'")["mean"]
    assert unknown.tolist()[:2] == pytest.approx(ends[:2]) and unknown.isna().iloc[2]


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


def path_table(gains):
    """A decomposition of two samples whose gain is known at every step but where it is NaN."""
    keys = {"rule": "CFG", "weight": 3.0, "path_weight": 3.0, "run": 0, "stream": 0, "call": 0}
    keys |= {"step": range(4), "sigma": [8.0, 4.0, 2.0, 1.0], "sigma_next": [4.0, 2.0, 1.0, 0.0]}
    parts = [pd.DataFrame(keys | {"sample": sample, "applied_gain": values}) for sample, values in enumerate(gains)]
    return pd.concat(parts, ignore_index=True)


def test_a_product_is_unknown_from_an_unknown_gain_on():
    found = gain_path(path_table([[3.0, np.nan, 3.0, 3.0], [3.0, 1.0, 1.0, 1.0]])).set_index(["quantity", "step"])
    assert list(found.loc["path_gain", "n"]) == [2, 1, 1, 1] and list(found.loc["step_gain", "n"]) == [2, 1, 2, 2]
    # that of the sample whose gains are all known, and not one without a step
    assert found.loc["path_gain", "mean"].to_numpy() == pytest.approx(2.0)
    gone = gain_path(path_table([[np.nan, 3.0, 3.0, 3.0]])).set_index(["quantity", "step"])
    assert gone.loc["path_gain", "mean"].isna().all() and gone.loc["step_gain", "n"].sum() == 3


def test_a_share_of_clipped_steps_lies_between_none_and_all():
    table = path_table([[1.0] * 4] * 4).assign(update_ratio=0.1)
    clipped = table.assign(update_norm=np.where(table["sample"] == 0, 2.0, 0.5))
    row = clip_share(clipped, norms=[1.0]).iloc[0]
    assert row["mean"] == 0.25 and row["low"] == 0 and row["high"] <= 1
    most = clip_share(table.assign(update_norm=np.where(table["sample"] == 0, 0.5, 2.0)), norms=[1.0]).iloc[0]
    assert most["mean"] == 0.75 and most["high"] == 1


def test_samples_that_are_never_clipped_are_no_certainty():
    table = path_table([[1.0] * 4] * 16).assign(update_ratio=0.1, update_norm=0.5)
    never, always = (clip_share(table, norms=[norm]).iloc[0] for norm in (1.0, 0.1))
    assert (never["mean"], never["low"]) == (0, 0) and never["high"] == pytest.approx(1 - 0.05 ** (1 / 16))
    assert (always["mean"], always["high"]) == (1, 1) and always["low"] == pytest.approx(0.05 ** (1 / 16))


def test_intervals_of_shares_and_norms_do_not_leave_their_range_and_those_of_differences_may():
    values = [0.0, 0.0, 0.0, 0.0, 0.02, 0.9]
    columns = dict.fromkeys(["parallel_share", "update_norm", "applied_gain", "overshoot_share"], values)
    rows = pd.DataFrame({"sample": range(6), "run": 0, "g": 0, **columns})
    found = summarise_runs(rows, by=["g"], quantities=list(columns)).set_index("quantity")
    assert (found["low"].drop("applied_gain") == 0).all() and found.loc["applied_gain", "low"] < 0
    lower = rows.assign(overshoot_share=-rows["overshoot_share"])  # a paired difference has the name of its metric
    assert summarise_by(lower, by=["g"], quantities=["overshoot_share"])["low"].iloc[0] < 0
