"""Whose weight a row has: runs, steps and samples of different weights, equal branches, and rules of `guide`."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.guidance import compare, decompose, gain_path, guidance_information, summarise
from scorescope.data import InputError
from scorescope.probes import APG, CFG, Interval, Trace, guide, record, replay
from scorescope.probes.guidance import ICG, AdaptiveGuidance, FrequencyDecoupled
from scorescope.probes.recording import trace as trace_module
from scorescope.probes.recording.weights import _settled
from tests.pipelines import generator, modular_sdxl, sd15

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Net(nn.Module):
    """A branch for each condition: a map of x plus a pattern of its own."""

    def forward(self, x, condition):
        rows, parts = len(x) // len(condition), []
        for place, seed in enumerate(condition):
            pattern = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))
            parts.append(torch.tanh(x[place * rows : (place + 1) * rows]) + pattern)
        return torch.cat(parts)


class Scheduler:
    """Euler on a flow, as a user writes it."""

    config = SimpleNamespace(prediction_type="flow_prediction", num_train_timesteps=1000)

    def __init__(self, steps=4):
        self.sigmas = torch.linspace(0.9, 0.0, steps + 1)
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output, timestep, sample):
        i = self.step_index
        self.step_index += 1
        return (sample + (self.sigmas[i + 1] - self.sigmas[i]) * model_output,)


UNCOND, COND = 1, 2


def combined(out, weight):
    uncond, cond = out.chunk(2)
    return uncond + weight * (cond - uncond)


def make_pipe():
    return SimpleNamespace(net=Net(), scheduler=Scheduler())


def call(pipe, weight, *, conditions=lambda i: [UNCOND, COND], mix=0.0, batch=2):
    """One call of a pipeline: `weight` and `conditions` of each step, and what the state has in the prediction."""
    pipe.scheduler = Scheduler()
    x = torch.randn(batch, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for i, t in enumerate(pipe.scheduler.timesteps):
        branches = conditions(i)
        out = pipe.net(torch.cat([x] * len(branches)), branches)
        g = combined(out, weight(i) if callable(weight) else weight) if len(branches) > 1 else out
        x = pipe.scheduler.step((1 - mix) * g + mix * x, t, x)[0]


def recorded(*calls, **options):
    """A trace of several calls, each of them arguments of `call`."""
    pipe = make_pipe()
    with record(pipe, **options) as trace:
        for spec in trace.runs([{"number": n} for n in range(len(calls))], progress=False):
            call(pipe, **calls[spec["number"]])
    return trace


def by_run(table, column):
    return table.groupby("run")[column].agg(lambda found: sorted(set(found))).tolist()


def test_two_calls_of_different_weights_keep_theirs():
    trace = recorded({"weight": 3.0}, {"weight": 9.0})
    table = decompose(trace)
    assert by_run(table, "weight") == by_run(table, "path_weight") == [[3.0], [9.0]]
    assert table["gain"].to_numpy() == pytest.approx(table["applied_gain"].to_numpy(), rel=1e-6)
    assert not table.duplicated(["run", "sample", "step", "call"]).any()
    assert trace.manifest["rule"] == "cfg" and math.isnan(trace.manifest["weight"])
    rows = summarise(table).query("quantity == 'applied_gain'")
    assert rows.groupby("weight")["n"].agg(set).to_dict() == {3.0: {2}, 9.0: {2}} and (rows["runs"] == 1).all()
    ends = gain_path(table).query("quantity == 'path_gain' and step == 3").set_index("weight")
    for run, weight in enumerate((3.0, 9.0)):
        alone = decompose(recorded({"weight": weight})).sort_values(["sample", "step"])
        assert ends.loc[weight, "mean"] == pytest.approx(gain_path(alone).query("step == 3")["mean"].iloc[-1]), run
    assert set(compare([trace])["weight"]) == {3.0, 9.0}


def test_runs_of_one_weight_are_averaged_and_counted():
    table = decompose(recorded({"weight": 5.0}, {"weight": 5.0}))
    rows = summarise(table).query("quantity == 'update_norm'")
    assert (rows["n"] == 4).all() and (rows["runs"] == 2).all() and table["run"].nunique() == 2
    assert (summarise(table[table["run"] == 1])["runs"] == 1).all()


def test_a_weight_that_changes_along_a_run_is_that_of_its_step():
    trace = recorded({"weight": lambda i: 3.0 + 2.0 * i})
    table = decompose(trace)
    assert table.groupby("step")["weight"].agg(set).tolist() == [{3.0}, {5.0}, {7.0}, {9.0}]
    assert table["path_weight"].isna().all() and math.isnan(trace.manifest["weight"])
    assert table["gain"].to_numpy() == pytest.approx(table["applied_gain"].to_numpy(), rel=1e-6)
    path = gain_path(table)
    assert len(path.query("quantity == 'path_gain'")) == 4 and path["weight"].isna().all()  # one path, not four


def test_a_weight_of_each_sample_is_that_of_its_rows():
    weights = torch.tensor([3.0, 9.0]).reshape(-1, 1, 1, 1)
    table = decompose(recorded({"weight": weights}))
    assert table.groupby("sample")["weight"].agg(set).tolist() == [{3.0}, {9.0}]
    rows = summarise(table).query("quantity == 'gain'")
    assert set(rows["weight"]) == {3.0, 9.0} and (rows["n"] == 1).all()


def test_guidance_that_ends_half_way_has_a_weight_until_then():
    trace = recorded({"weight": 5.0, "conditions": lambda i: [UNCOND, COND] if i < 2 else [COND]})
    table = decompose(trace)
    assert table.groupby("step")["weight"].agg(set).tolist() == [{5.0}, {5.0}, {1.0}, {1.0}]
    assert set(table["rule"]) == {"cfg, none"} and trace.manifest["weight"] == 5.0
    assert set(summarise(table)["weight"]) == {5.0}


def test_equal_branches_have_no_weight_and_say_why():
    trace = recorded({"weight": 5.0, "conditions": lambda i: [COND, COND]})
    table = decompose(trace)
    assert table["weight"].isna().all() and (table["missing"] == "both branches are the same").all()
    assert (table["update_norm"] == 0).all() and (table["gain"] == 1).all()  # whatever the weight
    assert math.isnan(trace.manifest["weight"]) and (trace.scalars["missing"] == table["missing"]).all()


@pytest.mark.parametrize("branches", [("uncond", "cond"), ()])
def test_a_step_of_equal_branches_leaves_the_others_their_weight(branches):
    trace = recorded(
        {"weight": 5.0, "conditions": lambda i: [COND, COND] if i == 1 else [UNCOND, COND]}, branches=branches
    )
    table = decompose(trace)
    assert table["weight"].isna().equals(table["step"] == 1) and set(table["path_weight"]) == {5.0}
    assert set(table.loc[table["step"] != 1, "missing"]) == {""}


def test_a_network_that_embeds_its_scale_has_no_weight():
    class Distilled(Net):
        def forward(self, x, condition, guidance=None):
            return super().forward(x, condition)

    pipe = SimpleNamespace(net=Distilled(), scheduler=Scheduler())
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with record(pipe) as trace:
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.net(x, [COND], guidance=torch.tensor([3.5])), t, x)[0]
    assert decompose(trace)["weight"].isna().all() and math.isnan(trace.manifest["weight"])
    assert trace.scalars["missing"].str.contains("distilled").all()


def test_weights_that_rounding_does_not_tell_apart_are_one():
    weights = np.array([5.0, 5.0004, 4.9, np.nan, 7.0, 1.0002])
    errors = np.array([1e-6, 1e-4, 0.05, np.nan, 1e-6, 1e-6])
    found = _settled(weights, errors)
    assert found[0] == found[1] == found[2] and found[4] == 7.0 and found[5] == 1.0 and np.isnan(found[3])


def test_a_table_of_an_earlier_version_follows_from_the_steps(tmp_path, monkeypatch):
    recorded({"weight": 5.0}, path=tmp_path / "a")
    whole = Trace.open(tmp_path / "a").scalars
    before = trace_module.read_table
    monkeypatch.setattr(trace_module, "read_table", lambda contents: before(contents).drop(columns="weight_error"))
    again = Trace.open(tmp_path / "a").scalars
    assert again["weight_error"].equals(whole["weight_error"])


PRODUCTS = ["cond_sq", "uncond_sq", "update_sq", "update_cond", "noise_sq"]
RULES = {
    "APG": APG(6.0),
    "FrequencyDecoupled": FrequencyDecoupled((8.0, 2.0)),
    "AdaptiveGuidance[APG]": AdaptiveGuidance(APG(6.0), threshold=1.0),
}


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("mix", [0.0, 0.3])
def test_a_recording_around_guide_knows_its_rule_and_its_branches(name, mix):
    pipe = make_pipe()
    with record(pipe) as own:
        call(pipe, 5.0, mix=mix)
    with record(pipe, keep="all") as trace, guide(pipe, RULES[name]):
        call(pipe, 5.0, mix=mix)
    assert set(decompose(trace)["rule"]) == {name} and trace.manifest["rule"] == name
    assert trace.scalars["made_by"].str.startswith(f"{name}(").all() and (trace.scalars["replaced_by"] == "").all()
    first = [one.scalars.query("step == 0")[PRODUCTS].to_numpy() for one in (own, trace)]
    assert first[1] == pytest.approx(first[0], rel=1e-5)  # the same states: the same branches in denoised space
    assert set(trace.proof["evidence"]) == {"guide"} and trace.proof["residual"].notna().all()
    again = replay(trace, RULES[name])
    assert (again.scalars["difference_sq"] <= 1e-9 * again.scalars["guided_sq"]).all()


def test_the_weight_under_guide_is_the_rules_where_it_acts():
    pipe = make_pipe()
    with record(pipe) as trace, guide(pipe, Interval(APG(6.0), low=0.5, high=3.0)):
        call(pipe, 5.0)
    table = decompose(trace)
    inside = table["sigma"].between(0.5, 3.0)
    assert inside.any() and not inside.all()
    assert (table.loc[inside, "weight"] == 6.0).all() and (table.loc[~inside, "weight"] == 1.0).all()
    with record(pipe) as trace, guide(pipe, FrequencyDecoupled((8.0, 2.0))):
        call(pipe, 5.0)
    assert decompose(trace)["weight"].isna().all()  # it has two
    with record(pipe) as trace, guide(pipe, CFG(2.0)):
        call(pipe, 5.0)
    assert set(trace.scalars["rule"]) == {"cfg"} and set(decompose(trace)["weight"]) == {2.0}


def test_a_recording_inside_of_guide_says_that_its_prediction_was_replaced():
    pipe = make_pipe()
    with guide(pipe, APG(6.0)), record(pipe) as trace:
        call(pipe, 5.0)
    assert set(trace.scalars["rule"]) == {"cfg"} and set(decompose(trace)["weight"]) == {5.0}
    assert (trace.scalars["made_by"] == "").all() and trace.scalars["replaced_by"].str.startswith(
        "APG(weight=6.0"
    ).all()


def test_a_path_that_guide_bent_is_not_taken_for_an_unguided_one():
    pipe, names = make_pipe(), ("uncond", "cond")
    with guide(pipe, APG(6.0), branches=names), record(pipe, branches=names) as trace:
        call(pipe, 1.0)
    assert set(decompose(trace)["weight"]) == {1.0} and (trace.scalars["applied_sq"] < 1e-9).all()
    with pytest.raises(InputError, match="a path guided by"):
        guidance_information(trace)


def test_who_made_a_prediction_comes_back_from_disk(tmp_path):
    pipe = make_pipe()
    with record(pipe, path=tmp_path / "a") as trace, guide(pipe, APG(6.0)):
        call(pipe, 5.0)
    opened = Trace.open(tmp_path / "a")
    assert opened.scalars.equals(trace.scalars) and set(decompose(opened)["rule"]) == {"APG"}
    assert not opened.problems


def test_a_rule_in_a_pipeline_with_a_guider_is_named():
    pipe, arguments = modular_sdxl()
    with record(pipe) as trace, guide(pipe, APG(6.0)):
        pipe(**arguments | {"generator": generator()})
    assert set(decompose(trace)["rule"]) == {"APG"} and set(decompose(trace)["weight"]) == {6.0}
    assert set(trace.proof["evidence"]) == {"labels"}


def test_a_rule_with_a_branch_of_its_own_is_named():
    pipe, arguments = sd15()

    with record(pipe) as trace, guide(pipe, ICG(3.0, lambda generators, condition: torch.zeros_like(condition))):
        pipe(**arguments)
    assert trace.scalars["made_by"].str.startswith("ICG(weight=3.0").all()
    assert set(decompose(trace)["rule"]) == {"ICG"} and trace.scalars["update_sq"].notna().all()
