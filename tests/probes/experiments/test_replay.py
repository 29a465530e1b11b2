import importlib
from types import SimpleNamespace

import pytest
import torch
from tests.oracles import random_pair

from scorescope.analysis import decompose
from scorescope.data import InputError, load_denoiser
from scorescope.probes import APG, CFG, Interval, Recording, record, replay, sample
from scorescope.probes.experiments import replay_all, visits, with_weight
from scorescope.probes.guidance import (
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    Autoguidance,
    LinearWeight,
    RandomLabels,
    Scheduled,
    describe,
)
from scorescope.probes.pipelines import Level
from scorescope.probes.sampling import Heun

PAIR = random_pair()
LABELS = torch.zeros(5, dtype=torch.long)


def run(rule, batch=256, **recording):
    recording = {"keep": True} | recording
    return sample(
        PAIR,
        seeds=range(5),
        condition=LABELS,
        rule=rule,
        record=Recording(**recording),
        dtype=torch.float64,
        batch=batch,
        progress=False,
    ).trace


@pytest.mark.parametrize(
    "rule", [CFG(3.0), APG(4.0, norm=2.0, momentum=-0.75), Interval(CFG(3.0), low=0.1, high=5.0)], ids=describe
)
@pytest.mark.parametrize("batch", [256, 2])
def test_replay_of_a_rule_on_its_own_trace_is_the_recorded_prediction(rule, batch):
    trace = run(rule, batch, value_range=(-1, 1))
    again = replay(trace, rule, keep=True)
    assert (again.scalars["difference_sq"] == 0).all()
    assert all(torch.equal(a.guided, b.guided) for a, b in zip(again.kept, trace.kept, strict=True))
    keys = ["sample", "step", "call"]
    a, b = (t.scalars.sort_values(keys, ignore_index=True) for t in (again, trace))
    for column in (*keys, "sigma", "needed", "update_sq", "applied_sq", "overshoot_share"):
        assert (a[column] == b[column]).all() or a[column].isna().equals(b[column].isna()), column


def test_replay_of_another_rule_equals_it_at_every_state():
    trace = run(CFG(3.0))
    apg = replay(trace, APG(5.0), keep=True)
    for visit, recorded in zip(apg.kept, trace.kept, strict=True):
        c, d = recorded.cond, recorded.cond - recorded.uncond
        parallel = (d * c).sum(1, keepdim=True) / c.square().sum(1, keepdim=True) * c
        assert torch.allclose(visit.guided, c + 4 * (d - parallel), rtol=1e-10, atol=1e-12)
    table = decompose(apg)
    assert (table["rule"] == "APG").all() and (table["applied_gain"] - 1).abs().max() < 1e-9
    difference = (apg.kept[0].guided - trace.kept[0].guided).square().sum(1)
    first = apg.scalars.query("step == 0 and call == 0")
    assert first["difference_sq"].to_numpy() == pytest.approx(difference.numpy())


def test_many_rules_read_the_trace_once(monkeypatch):
    trace = run(CFG(3.0))
    passes = []
    module = importlib.import_module("scorescope.probes.experiments.replay")  # the function has the module's name
    original = module.visits
    monkeypatch.setattr(module, "visits", lambda t: passes.append(1) or original(t))
    rules = [CFG(2.0), APG(2.0), CFG(1.0)]
    found = replay_all(trace, rules)
    assert len(passes) == 1 and [t.manifest["rule"] for t in found] == ["CFG", "APG", "CFG"]
    assert (found[2].scalars["needed"] == 1).all() and (found[0].scalars["needed"] == 2).all()
    assert found[2].manifest["replayed_from"] == "CFG"
    assert [t.manifest["rule_parameters"]["weight"] for t in found] == [2.0, 2.0, 1.0]
    assert "momentum" in found[1].manifest["rule_parameters"]


def test_weak_branches_can_be_replayed():
    denoiser, _ = load_denoiser("digits")
    weak, _ = load_denoiser("digits_weak")
    rule = Autoguidance(2.0, weak)
    trace = sample(
        denoiser,
        seeds=range(3),
        condition=torch.arange(3),
        rule=rule,
        record=Recording(keep=True),
        sigmas=[5.0, 1.0, 0.2, 0.0],
        progress=False,
    ).trace
    assert (replay(trace, rule).scalars["difference_sq"] == 0).all()
    assert set(trace.scalars["reference"]) == {"weak"} and (trace.scalars["needed"] == 2).all()
    with pytest.raises(InputError, match="no uncond branch at step 0"):
        replay(trace, CFG(2.0))


def test_what_cannot_be_replayed_is_refused_with_what_to_record():
    with pytest.raises(InputError, match=r"Recording\(keep=True\)"):
        replay(run(CFG(2.0), keep=False), CFG(3.0))
    with pytest.raises(InputError, match=r"record with Recording\(all_branches=True\)"):
        replay(run(CFG(1.0)), CFG(3.0))
    assert (replay(run(CFG(1.0), all_branches=True), CFG(1.0)).scalars["difference_sq"] == 0).all()
    with pytest.raises(InputError, match="rules"):
        replay_all(run(CFG(2.0)), [])


def test_visits_are_in_the_order_of_the_run():
    trace = sample(
        PAIR,
        seeds=range(5),
        condition=LABELS,
        rule=CFG(2.0),
        solver=Heun(),
        record=Recording(keep=True),
        batch=3,
        progress=False,
    ).trace
    places = [(visit.first, visit.step, visit.call) for visit in visits(trace)]
    assert places == sorted(places) and len(places) == 2 * 35 and {len(v.x) for v in visits(trace)} == {3, 2}


def digits_trace(rule, **recording):
    denoiser, _ = load_denoiser("digits")
    return sample(
        denoiser, seeds=range(3), condition=torch.arange(3), rule=rule, record=Recording(keep=True, **recording),
        sigmas=[5.0, 1.0, 0.2, 0.0], progress=False,
    ).trace  # fmt: skip


MAKERS = {
    "ICG": ICG(3.0, RandomLabels(10)),
    "PAG": PAG(2.0),
    "TSG": TSG(2.0, site="network.noise_embedding"),
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_branches_that_a_rule_made_are_replayed_by_it_at_any_weight(name):
    rule = MAKERS[name]
    trace = digits_trace(rule)
    assert (replay(trace, rule).scalars["difference_sq"] == 0).all()
    stronger = PAG(5.0) if name == "PAG" else with_weight(rule, 5.0)
    for again in (replay(trace, stronger), replay(trace, Interval(rule, low=0.5, high=3.0))):
        assert (again.scalars["difference_sq"] > 0).any()


@pytest.mark.parametrize(
    ("made", "rule", "match"),
    [
        (CFG(2.0), MAKERS["ICG"], "the uncond branch of the denoiser at step 0; expected that of ICG"),
        (MAKERS["ICG"], CFG(2.0), "the uncond branch of ICG at step 0; expected that of the denoiser"),
        (MAKERS["ICG"], ICG(3.0, RandomLabels(5)), "of a ICG with other parameters"),
        (MAKERS["TSG"], MAKERS["PAG"], "the perturbed branch of TSG at step 0; expected that of PAG"),
        (MAKERS["PAG"], MAKERS["TSG"], "the perturbed branch of PAG"),
        (MAKERS["TSG"], TSG(2.0, scale=0.5, site="network.noise_embedding"), "of a TSG with other parameters"),
        (MAKERS["PAG"], Interval(PAG(2.0, sites=("network.other",))), "of a PAG with other parameters"),
    ],
)
def test_a_branch_of_the_same_name_that_was_made_otherwise_is_refused(made, rule, match):
    with pytest.raises(InputError, match=match):
        replay(digits_trace(made), rule)


def test_a_random_condition_is_called_independent_and_not_unconditional():
    trace = digits_trace(Interval(MAKERS["ICG"], low=0.5, high=10.0), all_branches=True)
    by_step = trace.scalars.groupby("step")["reference"].agg(set)
    assert by_step[0] == {"independent"} and by_step[2] == {"uncond"}
    again = replay(trace, Interval(MAKERS["ICG"], low=0.5, high=10.0)).scalars.groupby("step")["reference"].agg(set)
    assert again.equals(by_step)


def test_weak_branches_are_known_by_the_weak_model():
    weak, _ = load_denoiser("digits_weak")
    trace = digits_trace(Autoguidance(2.0, weak))
    again = replay(trace, Autoguidance(3.0, load_denoiser("digits_weak")[0]))  # the same weights, read once more
    assert (again.scalars["difference_sq"] > 0).any()
    with pytest.raises(InputError, match="of a Autoguidance with other parameters"):
        replay(trace, Autoguidance(2.0, load_denoiser("digits")[0]))


class PatternedConv(torch.nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 3, padding=1)

    def forward(self, x, condition):
        return super().forward(x + condition)


class Loop:
    """A pipeline of one step a level: how many branches each has, and how its scheduler tells the levels."""

    def __init__(self, branches, level=None):
        self.net, self.scheduler, self.branches, self.level = (
            PatternedConv(),
            Flow(),
            branches,
            level,
        )

    def record(self, **options):
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        pattern = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
        with torch.no_grad(), record(self, keep="all", level=self.level, progress=False, **options) as trace:
            for t, count in zip(self.scheduler.timesteps, self.branches, strict=True):
                out = self.net(torch.cat([x] * count), pattern[: 2 * count])
                if count == 2:
                    uncond, cond = out.chunk(2)
                    out = uncond + 5.0 * (cond - uncond)
                x = self.scheduler.step(out, t, x)[0]
        return trace


class Flow:
    config = SimpleNamespace(prediction_type="flow_prediction", num_train_timesteps=1000)

    def __init__(self):
        self.sigmas = torch.linspace(0.9, 0.0, 5)
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output, timestep, sample):
        self.step_index += 1
        return (sample - 0.2 * model_output,)


@pytest.mark.parametrize("branches", [(2, 2, 1, 1), (1, 1, 2, 2)])
def test_an_unguided_step_is_missing_and_the_others_are_replayed(branches):
    trace = Loop(branches).record()
    known = [count == 2 for count in branches]
    for keep in (False, True):
        same, other = replay_all(trace, [CFG(5.0), APG(3.0)], keep=keep)
        rows = same.scalars.groupby("step")
        assert rows["difference_sq"].agg(lambda v: v.notna().all()).tolist() == known
        assert rows["missing"].agg(lambda v: set(v) == {""}).tolist() == known
        assert (same.scalars["difference_sq"].dropna() <= 1e-9 * same.scalars["guided_sq"].max()).all()
        assert other.scalars["applied_sq"].notna().groupby(other.scalars["step"]).all().tolist() == known
    assert same.scalars["missing"].str.contains("no uncond branch was recorded: one prediction a step").sum() == 4
    assert replay(trace, CFG(1.0)).scalars["difference_sq"].notna().all()  # needs no other branch
    with pytest.raises(InputError, match="no uncond branch at step 0"):
        replay(Loop((1, 1, 1, 1)).record(), CFG(3.0))


def test_a_rule_that_remembers_does_not_go_on_past_a_missing_step():
    rows = replay(Loop((2, 1, 2, 2)).record(), APG(3.0, momentum=-0.5)).scalars
    assert rows["applied_sq"].notna().groupby(rows["step"]).all().tolist() == [True, False, False, False]
    assert rows.query("step > 1")["missing"].str.contains("remembers").all()


def test_what_is_missing_has_no_pixel_statistics():
    rows = replay(Loop((2, 2, 1, 1)).record(value_range=(-1, 1)), CFG(3.0)).scalars
    assert rows["contrast"].notna().groupby(rows["step"]).all().tolist() == [True, True, False, False]


def levels(sigma, note=""):
    def level(scheduler, timestep, state):
        return Level.of(1.0, sigma(timestep, len(state)), "flow", sigma_next=0.0, note=note)

    return level


def test_a_level_that_is_stored_a_sample_each_is_replayed_where_it_is_one():
    one = Loop((2, 2, 2, 2), levels(lambda t, n: float(t) / 1000)).record()
    each = Loop((2, 2, 2, 2), levels(lambda t, n: (t / 1000).expand(n))).record()
    assert isinstance(each.arrays.events[0]["level"]["sigma"], list)
    for a, b in zip(visits(one), visits(each), strict=True):
        assert a.sigma == pytest.approx(b.sigma, rel=1e-6) and a.uncond is not None


def test_levels_that_differ_between_samples_are_refused():
    # alpha is 1 for both samples: their levels alone tell that they differ
    trace = Loop((2, 2, 2, 2), levels(lambda t, n: t / 1000 * torch.linspace(1, 2, n))).record()
    with pytest.raises(InputError, match="noise levels that differ by sample"):
        replay(trace, CFG(3.0))


def test_an_unknown_level_is_named_and_not_the_branch():
    trace = Loop((2, 2, 2, 2), levels(lambda t, n: float("nan"), note="a scheduler of my own")).record()
    with pytest.raises(InputError, match="the noise level is unknown at step 0: a scheduler of my own"):
        replay(trace, CFG(3.0))


def test_one_unknown_level_is_missing_and_the_others_are_replayed():
    whole = levels(lambda t, n: float(t) / 1000)

    def level(scheduler, timestep, state):
        return Level(note="not this one") if float(timestep) > 890 else whole(scheduler, timestep, state)

    rows = replay(Loop((2, 2, 2, 2), level).record(), CFG(5.0)).scalars
    assert rows["difference_sq"].notna().groupby(rows["step"]).all().tolist() == [False, True, True, True]
    assert rows.query("step == 0")["missing"].str.contains("unknown at step 0: not this one").all()


def test_the_weight_of_a_row_is_the_one_that_acted():
    table = decompose(run(Interval(CFG(3.0), low=0.1, high=5.0), all_branches=True))
    inside = (table["sigma"] > 0.1) & (table["sigma"] <= 5.0)
    assert (table.loc[inside, "weight"] == 3.0).all() and (table.loc[~inside, "weight"] == 1.0).all()
    for rule in (Scheduled(CFG(3.0), LinearWeight(4.0, 1.0)), AdaptiveGuidance(CFG(3.0), threshold=0.9, below=1.0)):
        trace = run(rule, all_branches=True)
        for found in (decompose(trace), decompose(replay(trace, rule))):
            assert found["gain"].to_numpy() == pytest.approx(found["applied_gain"].to_numpy(), rel=1e-9)
            assert found["weight"].nunique() > 1 and set(found["path_weight"]) == {3.0}
