"""A rule in a pipeline whose own guidance ends half-way, or begins there: steps with one prediction."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.pipelines import GUIDANCE, generator, output_of, sd15
from tests.probes.pipelines.test_branches import COND, UNCOND, Net, Scheduler
from torch import Tensor

from scorescope.data import InputError
from scorescope.probes import APG, CFG, Recording, guide, record
from scorescope.probes.experiments import sample_pipeline
from scorescope.probes.guidance import AdaptiveGuidance, Interval

LIBRARIES = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
SAID = "the pipeline makes one prediction, without CFG"


def ended(pipe: Any, step: int, time: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """As diffusers' documentation turns guidance off: https://huggingface.co/docs/diffusers/using-diffusers/callback."""
    if step == 1:
        kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[-1]
        pipe._guidance_scale = 0.0
    return kwargs


def ending() -> tuple[Any, dict[str, Any]]:
    pipe, arguments = sd15(steps=5)
    more = {"callback_on_step_end": ended, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    return pipe, arguments | more


@LIBRARIES
def test_steps_after_the_end_go_on_unguided_and_say_so_once() -> None:
    pipe, arguments = ending()
    expected = output_of(pipe(**arguments))
    with pytest.warns(UserWarning, match=f"from step 2 .*{SAID}") as said, guide(pipe, CFG(GUIDANCE)) as session:
        found = output_of(pipe(**arguments | {"generator": generator()}))
    assert (found - expected).abs().max() <= 3e-5 * expected.abs().max()
    assert len([one for one in said if SAID in str(one.message)]) == 1
    assert session.steps == 2 and session.unguided == [2, 3, 4]
    assert [one.made for one in session.evaluations] == [2, 2, 1, 1, 1]
    assert [one.needed for one in session.evaluations] == [[2], [2], [1], [1], [1]]


@LIBRARIES
def test_a_recording_around_it_says_which_steps_were_guided() -> None:
    pipe, arguments = ending()
    with record(pipe) as trace, pytest.warns(UserWarning, match=SAID), guide(pipe, CFG(3.0)):
        pipe(**arguments)
    assert trace.scalars["rule"].tolist() == ["cfg", "cfg", "none", "none", "none"]
    assert trace.scalars["weight"].iloc[:2].to_numpy() == pytest.approx(3.0, rel=1e-4)
    assert trace.problems == ["run 0: the rule changes within the run: cfg in steps 0 to 1, none in steps 2 to 4"]


@LIBRARIES
def test_it_may_be_refused() -> None:
    pipe, arguments = ending()
    with pytest.raises(InputError, match="one prediction in step 2"), guide(pipe, CFG(3.0), unguided="never"):
        pipe(**arguments)
    with pytest.raises(InputError, match=r"unguided.*'maybe'.*after guided steps"):
        guide(pipe, CFG(3.0), unguided="maybe")  # type: ignore[arg-type]


@LIBRARIES
def test_every_run_of_a_block_has_to_begin_with_guidance() -> None:
    pipe, arguments = ending()
    off = arguments | {"guidance_scale": 1.0, "callback_on_step_end": None}
    with (
        pytest.raises(InputError, match=r"one prediction in step 0.*guidance_scale above 1"),
        pytest.warns(UserWarning, match=SAID),
        guide(pipe, CFG(3.0)),
    ):
        pipe(**arguments)
        pipe(**off)


def loop(guided: list[int], *, calls: int = 1, steps: int = 4) -> tuple[Any, Any]:
    """A loop of the user's own that guides in some steps: a doubled call or two calls there, one call elsewhere."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler(steps))

    def run(weight: float = 5.0) -> Tensor:
        x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
        pipe.scheduler.step_index, pipe.scheduler.timesteps = 0, pipe.scheduler.timesteps.clone()
        for i, t in enumerate(pipe.scheduler.timesteps):
            cond = uncond = None
            if i in guided and calls == 1:
                uncond, cond = pipe.net(torch.cat([x, x]), [UNCOND, COND]).chunk(2)
            elif i in guided:
                cond, uncond = pipe.net(x, [COND]), pipe.net(x, [UNCOND])
            else:
                cond = pipe.net(x, [COND])
            x = pipe.scheduler.step(cond if uncond is None else uncond + weight * (cond - uncond), t, x)[0]
        return x

    return pipe, run


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize(("guided", "unguided"), [([0, 1], "after guided steps"), ([1, 2], "always"), ([3], "always")])
def test_a_guidance_interval_of_the_pipeline(calls: int, guided: list[int], unguided: Any) -> None:
    pipe, run = loop(guided, calls=calls)
    expected = run(3.0)
    with pytest.warns(UserWarning, match=SAID), guide(pipe, CFG(3.0), unguided=unguided) as session:
        found = run()
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    assert session.steps == len(guided) and session.unguided == [i for i in range(4) if i not in guided]


def test_guidance_that_begins_later_is_an_error_until_it_is_allowed() -> None:
    pipe, run = loop([2, 3])
    with pytest.raises(InputError, match="one prediction in step 0"), guide(pipe, CFG(3.0)):
        run()


@pytest.mark.parametrize("rule", [Interval(CFG(3.0), low=2.0), AdaptiveGuidance(CFG(3.0), threshold=-1.0), CFG(1.0)])
def test_a_rule_that_needs_no_other_branch_there_says_nothing(rule: Any) -> None:
    pipe, run = loop([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with guide(pipe, rule) as session:
            run()
    assert session.steps == 4 and session.unguided == []


def test_what_the_rule_remembers_is_that_of_guided_steps() -> None:
    pipe, run = loop([0, 1])
    with pytest.warns(UserWarning, match="without APG"), guide(pipe, APG(4.0, momentum=-0.5)) as session:
        first, second = run(), run()
    assert torch.equal(first, second) and session.unguided == [2, 3, 6, 7]


def test_two_predictions_at_weight_one_are_guided_by_the_rule() -> None:
    """The pipeline's weight goes to 1 and both branches are made: its own weight has no effect."""
    pipe = SimpleNamespace(net=Net(), scheduler=Scheduler())

    def run(weights: list[float]) -> Tensor:
        x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
        pipe.scheduler.step_index = 0
        for weight, t in zip(weights, pipe.scheduler.timesteps, strict=True):
            uncond, cond = pipe.net(torch.cat([x, x]), [UNCOND, COND]).chunk(2)
            x = pipe.scheduler.step(uncond + weight * (cond - uncond), t, x)[0]
        return x

    with guide(pipe, CFG(3.0)) as session:
        found = run([5.0, 5.0, 1.0, 1.0])
    assert session.unguided == []
    assert torch.allclose(found, run([3.0] * 4), rtol=0, atol=1e-5)


@LIBRARIES
def test_samples_of_a_pipeline_whose_guidance_ends() -> None:
    pipe, arguments = ending()
    arguments.pop("generator")
    condition = {name: arguments.pop(name) for name in ("prompt_embeds", "negative_prompt_embeds")}
    given: dict[str, Any] = {"condition": condition, "arguments": arguments, "record": Recording(), "progress": False}
    with pytest.warns(UserWarning, match=SAID):
        run = sample_pipeline(pipe, rule=CFG(3.0), seeds=[0], **given)
    assert run.trace.scalars["needed"].tolist() == [2, 2, 1, 1, 1]
