"""Sweeps of unmodified pipelines: the samples are the pipeline's own, calls are counted, finished settings are kept."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDPMScheduler, EulerAncestralDiscreteScheduler
from tests.pipelines import GUIDANCE, dit, modular_sdxl, sd15

from scorescope.analysis import measure_sweep
from scorescope.analysis.guidance import decompose, separation
from scorescope.data import InputError
from scorescope.probes import APG, CFG, Interval, Recording, guide, sample_pipeline, sweep
from scorescope.probes.experiments import with_weight
from scorescope.probes.guidance import AdaptiveGuidance, FrequencyDecoupled, LinearWeight, Scheduled

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SEEDS = (11, 12, 13)
RULES = {"CFG": CFG(GUIDANCE), "APG": APG(GUIDANCE), "interval": Interval(CFG(GUIDANCE), low=0.5, high=5.0)}


def stable_diffusion(scheduler=None):
    pipe, arguments = sd15(scheduler, batch=len(SEEDS))
    rows = {name: arguments.pop(name) for name in ("prompt_embeds", "negative_prompt_embeds")}
    del arguments["generator"]
    return pipe, {"condition": rows, "arguments": arguments, "seeds": SEEDS, "progress": False}


def transformer():
    pipe, arguments = dit()
    del arguments["generator"], arguments["class_labels"]
    return pipe, {"condition": {"class_labels": [1, 2, 1]}, "arguments": arguments, "seeds": SEEDS, "progress": False}


def count_calls(pipe, name="unet"):
    calls = []
    getattr(pipe, name).register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_samples_are_those_of_the_pipeline_called_by_hand(batch):
    pipe, how = stable_diffusion()
    found = sweep(pipe, RULES, batch=batch, **how)
    for setting in found:
        for place, seed in enumerate(SEEDS):
            rows = {name: value[[place]] for name, value in how["condition"].items()}
            with guide(pipe, setting.rule) as session:
                own = pipe(**rows, **how["arguments"], generator=torch.Generator().manual_seed(seed)).images[0]
            assert all(step.asked.shape == (1,) for step in session.evaluations)  # left where they are, as tensors
            assert all(step.needed in ([1], [2]) for step in session.evaluations)
            # one rounding of the network a step where the batch differs, grown by the sampler
            assert (setting.run.samples[place] - own).abs().max() <= 3e-5 * own.abs().max()
    assert not torch.allclose(found[0].run.samples, found[1].run.samples, rtol=1e-3)


def test_stochastic_schedulers_give_each_seed_its_own_sample():
    pipe, how = stable_diffusion(EulerAncestralDiscreteScheduler())
    a, b = (sweep(pipe, {"CFG": CFG(3.0)}, batch=batch, **how)[0].run.samples for batch in (1, 3))
    assert (a - b).abs().max() <= 3e-5 * a.abs().max()


def test_draws_past_the_generators_are_the_same_for_every_rule_and_leave_the_users_generator_alone():
    pipe, how = transformer()
    pipe.scheduler = DDPMScheduler(clip_sample=False)  # the pipeline hands it no generator
    torch.manual_seed(5)
    a, b = (s.run.samples for s in sweep(pipe, {"one": CFG(2.0), "two": CFG(2.0)}, **how))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(a, b) and torch.equal(drawn, torch.rand(1))


def test_class_labels_and_pictures():
    pipe, how = transformer()
    found = sweep(pipe, {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=(2.0, 6.0), batch=2, **how)
    assert [s.name for s in found] == ["CFG, w = 2", "CFG, w = 6", "APG, w = 2", "APG, w = 6"]
    assert [s.rule.weight for s in found] == [2.0, 6.0, 2.0, 6.0]
    samples = found[0].run.samples
    assert samples.shape == (3, 3, 16, 16) and samples.min() >= 0 and samples.max() <= 1
    assert list(found[0].run.trace.samples["condition"]) == [1, 2, 1]
    labels = torch.tensor([1, 2, 1])
    table = measure_sweep(found, value_range=(0, 1), labels=labels).set_index(["setting", "metric"])
    assert (table.xs("calls", level="metric")["value"] == 8).all()  # two evaluations in each of four steps
    assert {"saturation", "contrast", "diversity"} <= set(table.index.get_level_values("metric"))


def test_fields_of_a_rule_are_varied_in_a_pipeline_too(tmp_path):
    pipe, how = stable_diffusion()
    settings = [sweep(pipe, {"APG": APG(6.0)}, over={"eta": (0.0, 1.0)}, folder=tmp_path, **how) for _ in range(2)]
    for found in settings:  # sampled, and read again
        assert [one.name for one in found] == ["APG, eta = 0", "APG, eta = 1"]
        assert list(decompose(found[1].run)["rule_eta"].unique()) == [1.0]
        table = measure_sweep(found, value_range=(-1, 1))
        assert dict(table.groupby("setting")["rule_eta"].first()) == {"APG, eta = 0": 0.0, "APG, eta = 1": 1.0}
    assert not torch.equal(found[0].run.samples, found[1].run.samples)


def test_calls_are_counted_those_that_the_rule_needs_and_those_that_are_made():
    pipe, how = stable_diffusion()
    trace = sweep(pipe, {"interval": RULES["interval"]}, **how)[0].run.trace
    inside = trace.scalars["sigma"].between(0.5, 5.0, inclusive="right")
    assert 0 < inside.sum() < len(inside)
    assert (trace.scalars["needed"] == np.where(inside, 2, 1)).all()
    assert (trace.scalars["needed"] + trace.scalars["observed"] == 2).all()
    rule = AdaptiveGuidance(CFG(GUIDANCE), threshold=-1.0)  # every sample stops after its first step
    first = sweep(pipe, {"adaptive": rule}, **how)[0].run.trace.scalars
    assert (first["needed"] == np.where(first["step"] == 0, 2, 1)).all()


def test_a_pipeline_with_guiders_does_not_make_the_calls_that_the_rule_saves():
    pipe, arguments = modular_sdxl()
    rows = {k: arguments.pop(k) for k in list(arguments) if k.endswith("embeds")}
    arguments.pop("generator")
    calls = count_calls(pipe)
    run = sample_pipeline(
        pipe, rule=CFG(1.0), seeds=[1], condition=rows, arguments=arguments, progress=False,
    )  # fmt: skip
    assert len(calls) == run.trace.scalars["needed"].sum() and (run.trace.scalars["observed"] == 0).all()


def test_a_sweep_of_a_pipeline_resumes(tmp_path, monkeypatch):
    pipe, how = stable_diffusion()
    whole = sweep(pipe, RULES, **how)
    sweep(pipe, {"CFG": RULES["CFG"]}, folder=tmp_path, **how)
    again, how = stable_diffusion()
    forward, calls = type(again.unet).forward, []  # of the class: a hook would make it another model

    @functools.wraps(forward)
    def counted(*args, **kwargs):
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(type(again.unet), "forward", counted)
    found = sweep(again, RULES, folder=tmp_path, **how)
    assert len(calls) == 2 * 4  # the two settings that were missing, one batch of four steps each
    for a, b in zip(whole, found, strict=True):
        assert torch.equal(a.run.samples, b.run.samples)
        assert a.run.trace.scalars[["sample", "step", "needed", "update_sq"]].equals(
            b.run.trace.scalars[["sample", "step", "needed", "update_sq"]]
        )


def test_another_model_or_other_arguments_are_another_sweep(tmp_path):
    pipe, how = stable_diffusion()
    sweep(pipe, {"CFG": CFG(2.0)}, folder=tmp_path, **how)
    for change in ("weights", "scheduler", "arguments", "condition", "seeds"):
        other, changed = stable_diffusion(EulerAncestralDiscreteScheduler() if change == "scheduler" else None)
        if change == "weights":
            next(iter(other.unet.parameters())).data.add_(0.1)
        if change == "arguments":
            changed["arguments"] |= {"num_inference_steps": 5}
        if change == "condition":
            changed["condition"]["prompt_embeds"] = changed["condition"]["prompt_embeds"] + 1
        if change == "seeds":
            changed["seeds"] = (11, 12, 14)
        with pytest.raises(InputError, match="another sweep"):
            sweep(other, {"CFG": CFG(2.0)}, folder=tmp_path, **changed)


def test_states_are_kept_for_what_needs_them():
    pipe, how = stable_diffusion()
    a, b = sweep(pipe, {"CFG": CFG(2.0), "APG": APG(6.0)}, record=Recording(keep=True), batch=2, **how)
    table = separation(a.run.trace, b.run.trace)
    assert table["mean"].iloc[0] == 0 and (table["n"] == 3).all() and table["separated"].iloc[-1]


def test_a_call_of_the_users_own():
    pipe, how = stable_diffusion()
    seen = []

    def call(pipe, arguments):
        seen.append(len(arguments["generator"]))
        return pipe(**arguments).images * 2

    plain = sweep(pipe, {"CFG": CFG(2.0)}, **how)[0].run.samples
    assert torch.equal(sweep(pipe, {"CFG": CFG(2.0)}, call=call, **how)[0].run.samples, 2 * plain) and seen == [3]


def test_a_call_that_sets_no_timesteps_numbers_its_samples_all_the_same():
    """Timesteps are set once, outside; each batch is a run all the same."""
    pipe, how = stable_diffusion()
    pipe.scheduler.set_timesteps(3)
    rows = how["condition"]

    def call(pipe, arguments):
        x = torch.stack([torch.randn(4, 8, 8, generator=g) for g in arguments["generator"]])
        text = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
        pipe.scheduler._step_index = None
        for t in pipe.scheduler.timesteps:
            uncond, cond = pipe.unet(torch.cat([x, x]), t, encoder_hidden_states=text).sample.chunk(2)
            x = pipe.scheduler.step(uncond + 3.0 * (cond - uncond), t, x).prev_sample
        return x

    run = sample_pipeline(
        pipe, rule=CFG(3.0), seeds=SEEDS, condition=rows, call=call, batch=1, progress=False,
    )  # fmt: skip
    table = run.trace.scalars
    assert run.trace.samples["sample"].tolist() == [0, 1, 2]
    assert table.groupby("sample").size().to_dict() == {0: 3, 1: 3, 2: 3}
    whole = sample_pipeline(pipe, rule=CFG(3.0), seeds=SEEDS, condition=rows, call=call, batch=3, progress=False)
    pd.testing.assert_frame_equal(
        table.sort_values(["step", "sample"])[["sample", "step", "update_sq"]].reset_index(drop=True),
        whole.trace.scalars[["sample", "step", "update_sq"]],
        rtol=1e-3,  # one rounding of the network a step, squared
    )


def test_weights_reach_the_rule_inside():
    assert with_weight(Interval(APG(1.0, norm=3.0), low=0.1), 5.0) == Interval(APG(5.0, norm=3.0), low=0.1)
    for rule in (FrequencyDecoupled((1.0, 2.0)), Scheduled(CFG(1.0), LinearWeight(1.0, 2.0))):
        with pytest.raises(InputError, match="no single weight"):
            with_weight(rule, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"condition": {"prompt": "a cat"}}, "expected 3 rows"),
        ({"condition": {"prompt": ["a cat"]}}, "found 1 rows"),
        ({"condition": None}, "condition: found None"),
        ({"seeds": (1, 1, 2)}, "repeated seeds"),
        ({"arguments": {"generator": None}}, "generator given as well"),
        ({"sigmas": [1.0, 0.0]}, "arguments of sample_pipeline"),
        ({"record": Recording(centred=True)}, "centred"),
        ({"call": lambda pipe, arguments: torch.zeros(2, 4)}, "2 samples"),
        ({"weights": (2.0, 2.0)}, "each once"),
    ],
)
def test_bad_input(change, message):
    pipe, how = stable_diffusion()
    with pytest.raises(InputError, match=message):
        sweep(pipe, {"CFG": CFG(2.0)}, **(how | change))
