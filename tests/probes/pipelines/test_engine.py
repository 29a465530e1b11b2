"""One engine under all tools: what holds for one holds for all, and for several at once."""

import copy
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.pipelines import animatediff, dit, flux_true, generator, modular_sdxl, output_of, sd15, sdxl
from tests.probes.recording.test_leaving import hooks, is_clean
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import APG, CFG, Intervention, guide, intervene, record
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.listener import Listener
from scorescope.probes.sites import ActivationCache, cache_activations

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

MIDDLE = "unet.mid_block"
OTHERS = [(), ("guide",), ("intervene",), ("guide", "intervene")]


def run(pipe: Any, arguments: dict[str, Any]) -> Tensor:
    return output_of(pipe(**arguments | {"generator": generator()}))


def push(pipe: Any, **how: Any) -> Intervention:
    width = int(pipe.unet.config.block_out_channels[-1])
    return Intervention("add", MIDDLE, torch.randn(width, generator=generator(1)), **how)


def others(pipe: Any, arguments: dict[str, Any], names: tuple[str, ...]) -> ExitStack:
    """Further tools that change nothing: the pipeline's own rule, a push of length zero."""
    made = {
        "guide": lambda: guide(pipe, CFG(arguments["guidance_scale"])),
        "intervene": lambda: intervene(pipe, [push(pipe, strength=0.0)]),
    }
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(made[name]())
        return stack.pop_all()


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4)  # `guide` combines the branches again, in float64


# --- one set of taps


@pytest.mark.parametrize("build", [sd15, modular_sdxl])
def test_tools_share_one_set_of_taps(build: Any) -> None:
    pipe, _ = build()
    with record(pipe):
        alone = hooks(pipe.unet)
        with record(pipe), guide(pipe, CFG(3.0)):
            assert hooks(pipe.unet) == alone
            assert not hasattr(vars(pipe.scheduler)["step"].below, "below")  # one stand-in, over the scheduler's own
    assert is_clean(pipe)


def test_taps_that_nobody_needs_any_more_leave_with_the_tool_that_did() -> None:
    pipe, _ = sd15()
    other = nn.Linear(2, 2)
    with record(pipe):
        few = hooks(pipe.unet)
        with record(pipe, modules={"net": other}):
            assert hooks(other) and hooks(pipe.unet) == few
        assert not hooks(other) and hooks(pipe.unet) == few
    assert is_clean(pipe)


def test_a_listener_is_told_of_calls_and_steps_in_order() -> None:
    class Log(Listener):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def before_call(self, call: Any, args: Any, kwargs: Any) -> None:
            self.lines.append(f"before {call.module}")

        def after_call(self, call: Any, outputs: Any) -> None:
            self.lines.append(f"after {call.module} {tuple(outputs[0].shape)}")

        def before_step(self, step: Any) -> None:
            self.lines.append(f"step of {len(step.calls)}{' begins' if step.begins else ''}")

        def after_step(self, step: Any, result: Any) -> None:
            self.lines.append("stepped")

    pipe, arguments = sd15(steps=2)
    log, engine = Log(), Engine.of(pipe)
    seat = engine.join(log, {"denoiser": pipe.unet})
    run(pipe, arguments)
    run(pipe, arguments)
    engine.leave(seat)
    one = ["before denoiser", "after denoiser (2, 4, 8, 8)", "step of 1", "stepped"]
    assert log.lines == one * 2 + [*one[:2], "step of 1 begins", "stepped"] + one
    assert is_clean(pipe)


@pytest.mark.parametrize("rule", [CFG(3.0), APG(4.0)])
def test_labels_of_our_guider_are_read_by_a_recording_around_it(rule: Any) -> None:
    pipe, arguments = modular_sdxl()
    with record(pipe) as trace, guide(pipe, rule):
        run(pipe, arguments)
    assert set(trace.proof["evidence"]) == {"labels"}
    assert trace.scalars["uncond_sq"].gt(0).all()


# --- two tools, or a stranger's


def wrapped(scheduler: Any) -> tuple[list[int], Any]:
    """A stranger's wrapper around whatever `step` is now, and how to take it off."""
    seen: list[int] = []
    inner, before = scheduler.step, vars(scheduler).get("step")

    def step(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return inner(*args, **kwargs)

    scheduler.step = step

    def take_off() -> None:
        if before is None:
            del scheduler.step
        else:
            scheduler.step = before

    return seen, take_off


@pytest.mark.parametrize("names", OTHERS)
@pytest.mark.parametrize("when", ["before", "inside", "between two runs", "after"])
def test_a_strangers_wrapper_makes_no_step_count_twice(when: str, names: tuple[str, ...]) -> None:
    pipe, arguments = sd15(steps=3)
    bare, seen = run(pipe, arguments), []
    if when == "before":
        seen, _ = wrapped(pipe.scheduler)
    with record(pipe, sites=[MIDDLE], keep="all") as trace, others(pipe, arguments, names):
        if when == "inside":
            seen, _ = wrapped(pipe.scheduler)
        assert close(run(pipe, arguments), bare)
        if when == "between two runs":
            seen, _ = wrapped(pipe.scheduler)
        assert close(run(pipe, arguments), bare)
    assert trace.scalars.groupby("run").size().tolist() == [3, 3]
    assert len(seen) == {"before": 6, "inside": 6, "between two runs": 3, "after": 0}[when]
    if when == "after":
        wrapped(pipe.scheduler)
    with record(pipe) as again:
        run(pipe, arguments)
    assert len(again.scalars) == 3


def test_a_wrapper_taken_off_inside_the_block_leaves_the_tap_in_place() -> None:
    pipe, arguments = sd15(steps=3)
    with record(pipe) as trace:
        seen, take_off = wrapped(pipe.scheduler)
        run(pipe, arguments)
        take_off()
        run(pipe, arguments)
    assert trace.scalars.groupby("run").size().tolist() == [3, 3] and len(seen) == 3
    assert is_clean(pipe)


def test_a_tap_that_is_put_back_after_the_block_leaves_when_it_is_called() -> None:
    pipe, arguments = sd15(steps=3)
    bare = run(pipe, arguments)
    with record(pipe):
        _, take_off = wrapped(pipe.scheduler)
    take_off()
    assert torch.equal(run(pipe, arguments), bare)
    assert is_clean(pipe)


@pytest.mark.parametrize("names", OTHERS)
def test_two_recordings_each_record_every_step_once(names: tuple[str, ...]) -> None:
    pipe, arguments = sd15(steps=3)
    bare = run(pipe, arguments)
    cache = cache_activations(pipe, [MIDDLE], ActivationCache())
    with record(pipe) as outer, others(pipe, arguments, names), cache, record(pipe) as inner:
        assert close(run(pipe, arguments), bare)
    assert len(outer.scalars) == len(inner.scalars) == 3
    assert is_clean(pipe)


@pytest.mark.parametrize("names", OTHERS)
def test_a_scheduler_that_hands_its_steps_on_is_recorded_once(names: tuple[str, ...]) -> None:
    """A proxy in the scheduler's place whose `step` calls that of the scheduler it stands for."""

    class Proxy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["inner"], name)

        def step(self, model_output: Tensor, timestep: Any, sample: Tensor, **more: Any) -> Any:
            return self.inner.step(model_output, timestep, sample, **more)

    pipe, arguments = sd15(steps=3)
    bare = run(pipe, arguments)
    with record(pipe) as trace, others(pipe, arguments, names):
        pipe.scheduler = Proxy(pipe.scheduler)
        assert close(run(pipe, arguments), bare)
    assert len(trace.scalars) == 3
    assert "step" not in vars(pipe.scheduler) and "step" not in vars(pipe.scheduler.inner)


# --- copies of the pipeline


def has_nothing_of_ours(pipe: Any) -> bool:
    guider = getattr(pipe, "guider", None)
    return is_clean(pipe) and "RuleGuider" not in type(guider).__name__ and "maybe_free_model_hooks" not in vars(pipe)


@pytest.mark.parametrize("names", OTHERS)
@pytest.mark.parametrize("build", [sd15, modular_sdxl])
def test_a_copied_pipeline_carries_nothing_that_acts(build: Any, names: tuple[str, ...]) -> None:
    pipe, arguments = build()
    names = names if build is sd15 else tuple(name for name in names if name == "guide")
    scale = arguments if "guidance_scale" in arguments else arguments | {"guidance_scale": 3.0}
    bare = run(pipe, arguments)
    with record(pipe, sites=[MIDDLE], keep="all") as trace, others(pipe, scale, names):
        run(pipe, arguments)
        mine = copy.deepcopy(pipe)
        assert has_nothing_of_ours(mine)
        assert torch.equal(run(mine, arguments), bare)
        before = len(trace.scalars)
        run(pipe, arguments)
    assert before == 0  # is filled when the block is left
    assert trace.scalars.groupby("run").size().nunique() == 1 and trace.scalars["run"].nunique() == 2
    assert is_clean(pipe) and has_nothing_of_ours(mine)
    assert torch.equal(run(mine, arguments), bare)


def test_a_copy_acts_neither_under_a_rule_nor_under_an_intervention() -> None:
    pipe, arguments = sd15()
    bare = run(pipe, arguments)
    with guide(pipe, CFG(1.5)) as session, intervene(pipe, [push(pipe)]):
        assert not close(run(pipe, arguments), bare)
        steps, mine = session.steps, copy.deepcopy(pipe)
        assert torch.equal(run(mine, arguments), bare)
        assert session.steps == steps
    assert torch.equal(run(mine, arguments), bare) and torch.equal(run(pipe, arguments), bare)


def test_a_pipeline_made_of_copied_parts_is_not_recorded() -> None:
    """The scheduler is copied before anybody can know that the denoiser will be."""
    pipe, arguments = sd15(steps=3)
    with record(pipe) as trace:
        run(pipe, arguments)
        parts = copy.deepcopy({"scheduler": pipe.scheduler, "unet": pipe.unet})
        mine = type(pipe)(**pipe.components | parts, requires_safety_checker=False)
        mine.set_progress_bar_config(disable=True)
        run(mine, arguments)
        assert hooks(mine.unet) == 0
    assert len(trace.scalars) == 3
    assert is_clean(mine) and is_clean(pipe)


def test_other_peoples_hooks_go_with_the_copy() -> None:
    pipe, arguments = sd15()
    calls: list[int] = []
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with record(pipe):
        mine = copy.deepcopy(pipe)
        assert hooks(mine.unet) == 1
        run(mine, arguments)
    assert len(calls) == 4


# --- runs


@pytest.mark.parametrize("names", OTHERS)
def test_three_schedulers_compared_in_one_block_are_three_runs(names: tuple[str, ...]) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    pipe, arguments = sd15(steps=3)
    with record(pipe) as trace, others(pipe, arguments, names):
        for kind in (DDIMScheduler, EulerDiscreteScheduler, DPMSolverMultistepScheduler):
            pipe.scheduler = kind.from_config(pipe.scheduler.config)
            run(pipe, arguments)
    assert trace.scalars.groupby("run").size().tolist() == [3, 3, 3]
    assert trace.scalars["step"].tolist() == [0, 1, 2] * 3
    assert trace.scalars["stream"].eq(0).all() and not trace.scalars.query("event == 0")["chained"].any()


@torch.no_grad()
def test_a_scheduler_swapped_in_a_loop_written_by_hand_is_another_run() -> None:
    from diffusers import DDIMScheduler, EulerDiscreteScheduler

    pipe, arguments = sd15()
    holder = SimpleNamespace(unet=pipe.unet, scheduler=None)
    holder.scheduler = DDIMScheduler()
    with record(holder) as trace:
        for scheduler in (holder.scheduler, EulerDiscreteScheduler()):
            holder.scheduler = scheduler
            scheduler.set_timesteps(2)
            x = torch.ones(1, 4, 8, 8)
            for t in scheduler.timesteps:
                prediction = pipe.unet(x, t, arguments["prompt_embeds"]).sample
                x = scheduler.step(prediction, t, x).prev_sample
    assert trace.scalars.groupby("run").size().tolist() == [2, 2]


@pytest.mark.parametrize("names", OTHERS)
def test_one_call_is_one_run_where_its_loop_goes_back_up(names: tuple[str, ...]) -> None:
    """FreeInit: the same levels are passed several times within one call."""
    pipe, arguments = animatediff()
    pipe.enable_free_init(num_iters=2, use_fast_sampling=False)
    with record(pipe) as trace, others(pipe, arguments, names):
        run(pipe, arguments)
        run(pipe, arguments)
    steps = trace.scalars.drop_duplicates(["run", "step", "call"])
    assert steps.groupby("run").size().tolist() == [4, 4]
    assert steps["step"].tolist() == [0, 1, 2, 3] * 2
    assert steps["sigma"].tolist()[:2] == steps["sigma"].tolist()[2:4]


class Looping:
    """A pipeline of somebody's own whose one call passes its levels twice; it says nothing when it is done."""

    def __init__(self, unet: nn.Module, scheduler: Any, embeds: Tensor) -> None:
        self.unet, self.scheduler, self.embeds = unet, scheduler, embeds

    @torch.no_grad()
    def __call__(self, passes: int = 2) -> Tensor:
        x = torch.ones(1, 4, 8, 8)
        for _ in range(passes):
            self.scheduler.set_timesteps(2)
            for t in self.scheduler.timesteps:
                x = self.scheduler.step(self.unet(x, t, self.embeds).sample, t, x).prev_sample
        return x


def test_calls_of_a_pipeline_of_ones_own_are_runs() -> None:
    pipe, arguments = sd15()
    mine = Looping(pipe.unet, pipe.scheduler, arguments["prompt_embeds"])
    with record(mine) as trace:
        mine()
        mine(1)
        with pytest.raises(RuntimeError):
            mine.embeds, kept = torch.ones(1, 1, 1), mine.embeds
            mine()
        mine.embeds = kept
        mine()
    assert trace.scalars.groupby("run").size().tolist() == [4, 2, 4]


def test_nothing_of_a_call_is_held_when_it_is_over() -> None:
    """The frame by which a call is recognised is let go when a diffusers pipeline says that it is done."""
    import gc
    import weakref

    pipe, arguments = sd15(steps=2)
    held: list[Any] = []

    def keep(pipe: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        held.append(weakref.ref(kwargs["latents"]))
        return kwargs

    with record(pipe):
        pipe(**arguments, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["latents"])
        gc.collect()
        assert pipe.scheduler is not None
        engine = Engine.of(pipe)
        assert engine._runs._frame is None
    assert held


# --- rows of a branch


def by_hand(pipe: Any, arguments: dict[str, Any], given: Intervention, order: tuple[str, ...]) -> Tensor:
    with intervene(pipe, [given], branches=order):
        return run(pipe, arguments)


@pytest.mark.parametrize("with_others", [False, True])
@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_an_earlier_step_proves_which_rows_are_whose(branch: str, with_others: bool) -> None:
    pipe, arguments = sd15(batch=2)
    given = push(pipe, branch=branch, high=5.0)  # not in the first step, in which nothing is proved yet
    expected = by_hand(pipe, arguments, given, ("uncond", "cond"))
    with ExitStack() as stack:
        trace = stack.enter_context(record(pipe, keep="branches")) if with_others else None
        stack.enter_context(intervene(pipe, [given]))
        if with_others:
            stack.enter_context(guide(pipe, CFG(arguments["guidance_scale"])))
        assert close(run(pipe, arguments), expected)
        assert close(run(pipe, arguments), expected)  # and in another run
    assert not close(run(pipe, arguments), expected)
    assert trace is None or len(trace.scalars) == 16
    assert is_clean(pipe)


def test_calls_of_their_own_are_told_apart_by_an_earlier_step() -> None:
    pipe, arguments = flux_true()
    width = pipe.transformer.config.num_attention_heads * pipe.transformer.config.attention_head_dim
    site = "transformer.norm_out"
    seen: list[bool] = []
    given = Intervention("add", site, torch.ones(width), branch="cond", high=2.0)
    with intervene(pipe, [given]), record(pipe, sites=[site], keep="all") as trace:
        run(pipe, arguments)
    seen = trace.scalars["sigma"].lt(2.0).tolist()
    assert any(seen) and not all(seen)
    assert is_clean(pipe)


@pytest.mark.parametrize("with_others", [False, True])
def test_a_label_for_no_class_tells_from_the_first_call_on(with_others: bool) -> None:
    pipe, arguments = dit()
    site = "transformer.transformer_blocks.0"
    given = Intervention("zero", site, branch="uncond")
    expected = by_hand(pipe, arguments, given, ("cond", "uncond"))
    with ExitStack() as stack:
        trace = stack.enter_context(record(pipe)) if with_others else None
        stack.enter_context(intervene(pipe, [given]))
        if with_others:
            stack.enter_context(guide(pipe, CFG(arguments["guidance_scale"])))
        found = run(pipe, arguments)
    assert close(found, expected)
    assert trace is None or set(trace.scalars["rule"]) == {"cfg"} or with_others


def test_a_condition_of_zeros_tells_from_the_first_call_on() -> None:
    pipe, arguments = sdxl()
    arguments = arguments | {
        name: torch.zeros_like(value) for name, value in arguments.items() if name.startswith("negative_")
    }
    given = push(pipe, branch="cond")
    expected = by_hand(pipe, arguments, given, ("uncond", "cond"))
    with intervene(pipe, [given]):
        assert close(run(pipe, arguments), expected)


def test_where_nothing_tells_the_error_stands() -> None:
    pipe, arguments = sd15()
    with (
        pytest.raises(InputError, match=r"'cond' in an unnamed call of 2 rows"),
        intervene(pipe, [push(pipe, branch="cond")]),
    ):
        run(pipe, arguments)
    assert is_clean(pipe)


def test_inputs_that_mislead_are_refused_by_the_proof() -> None:
    """Here the condition that is zero is the one that guidance pushes to."""
    pipe, arguments = sd15()
    arguments = arguments | {"prompt_embeds": torch.zeros_like(arguments["prompt_embeds"])}
    with (
        pytest.raises(InputError, match=r"branches.*as the step that they fed proves"),
        intervene(pipe, [push(pipe, branch="cond")]),
    ):
        run(pipe, arguments)
    assert is_clean(pipe)


def test_names_that_the_proof_contradicts_are_refused() -> None:
    pipe, arguments = sd15()
    with (
        pytest.raises(InputError, match=r"\('cond', 'uncond'\) in call 0.*as the step that they fed proves"),
        intervene(pipe, [push(pipe, branch="cond")], branches=("cond", "uncond")),
    ):
        run(pipe, arguments)
    assert is_clean(pipe)


def test_a_proof_does_not_outlive_its_run() -> None:
    pipe, arguments = sd15()
    with intervene(pipe, [push(pipe, branch="cond", high=5.0)]) as session:
        run(pipe, arguments)
        session.interventions = (push(pipe, branch="cond"),)
        with pytest.raises(InputError, match="in an unnamed call"):
            run(pipe, arguments)
