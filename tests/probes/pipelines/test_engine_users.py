"""What users really do around one engine: nested and shared pipelines, blocks left in any order, odd loops."""

import copy
from typing import Any

import pytest
import torch
from tests.pipelines import flux_true, generator, modular_sdxl, output_of, pag, sd15, sdxl
from tests.probes.pipelines.test_engine import Looping, close, push, run
from tests.probes.recording.test_leaving import is_clean
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes import APG, CFG, guide, intervene, record

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def sister(pipe: Any, **parts: Any) -> Any:
    """Another pipeline of the same class, with the same parts but for some."""
    made = type(pipe)(**pipe.components | parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


class Several(Looping):
    """One call makes several images one after another, of several sizes."""

    @torch.no_grad()
    def __call__(self, sizes: tuple[int, ...]) -> list[Tensor]:
        return [self.image(size) for size in sizes]

    def image(self, size: int) -> Tensor:
        self.scheduler.set_timesteps(4)
        x = torch.ones(1, 4, size, size)
        for t in self.scheduler.timesteps:
            uncond, cond = self.unet(torch.cat([x, x]), t, self.embeds).sample.chunk(2)
            x = self.scheduler.step(uncond + 5.0 * (cond - uncond), t, x).prev_sample
        return x


def test_a_rule_starts_anew_where_the_levels_go_back_up_inside_one_call() -> None:
    pipe, arguments = sd15()
    embeds = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
    several = Several(pipe.unet, pipe.scheduler, embeds)
    with guide(several, APG(4.0, momentum=-0.5)):
        (alone,) = several((8,))
        images = several((8, 16, 8))
    assert torch.equal(images[0], alone) and torch.equal(images[2], alone)
    with record(several) as trace:
        several((8, 8))
    assert trace.scalars["run"].eq(0).all() and len(trace.scalars) == 8


def test_another_pipeline_of_the_class_in_a_callback_is_not_ours() -> None:
    pipe, arguments = sd15(steps=6)
    rule = APG(4.0, momentum=-0.5)

    def preview(_: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 4:
            run(sister(pipe, scheduler=copy.deepcopy(pipe.scheduler)), arguments | {"num_inference_steps": 1})
        return kwargs

    with guide(pipe, rule):
        plain = run(pipe, arguments)
        assert torch.equal(run(pipe, arguments | {"callback_on_step_end": preview}), plain)
    with record(pipe) as trace, intervene(pipe, [push(pipe, branch="cond", high=5.0)]):
        run(pipe, arguments | {"callback_on_step_end": preview})
    assert trace.scalars["run"].eq(0).all()
    assert trace.scalars.query("stream == 0")["step"].tolist() == list(range(6))


@pytest.mark.parametrize("tool", ["record", "guide"])
def test_a_scheduler_that_another_pipeline_uses_too_is_left_alone(tool: str) -> None:
    pipe, arguments = sd15()
    other = sister(pipe, unet=copy.deepcopy(pipe.unet))
    bare = run(other, arguments)
    with record(pipe) as trace, guide(pipe, CFG(2.0)) if tool == "guide" else record(pipe):
        for used in (pipe, other, pipe):
            found = run(used, arguments)
            assert used is pipe or torch.equal(found, bare)
    assert trace.scalars.groupby("run").size().tolist() == [4, 4]
    assert trace.scalars["rule"].eq("cfg").all()


@pytest.mark.parametrize("first", [0, 1])
def test_two_pipelines_with_one_network_both_read_its_labels(first: int) -> None:
    pipe, arguments = flux_true()
    pipes = [pipe, type(pipe)(**pipe.components)]
    pipes[1].set_progress_bar_config(disable=True)
    sessions = [record(one) for one in pipes]
    traces = [session.__enter__() for session in sessions]
    for one in pipes:
        run(one, arguments)
    for place in (first, 1 - first):
        sessions[place].__exit__(None, None, None)
    assert all(set(trace.scalars["evidence"]) == {"labels"} for trace in traces)
    assert all(is_clean(one) for one in pipes)


@pytest.mark.parametrize("first", [0, 1])
def test_two_rules_in_a_modular_pipeline_leave_in_any_order(first: int) -> None:
    pipe, arguments = modular_sdxl()
    before = pipe.guider
    sessions = [guide(pipe, CFG(3.0)), guide(pipe, CFG(5.0))]
    for session in sessions:
        session.__enter__()
    for place in (first, 1 - first):
        sessions[place].__exit__(None, None, None)
    assert pipe.guider is before
    assert output_of(pipe(**arguments | {"generator": generator()})).isfinite().all()


@pytest.mark.parametrize(
    "make", [record, lambda pipe: guide(pipe, CFG(3.0)), lambda pipe: intervene(pipe, [push(pipe)])]
)
def test_a_block_is_entered_once(make: Any) -> None:
    pipe, arguments = sd15()
    session = make(pipe)
    with session, pytest.raises(InputError, match="entered already"), session:
        pass
    assert is_clean(pipe) and "maybe_free_model_hooks" not in vars(pipe)
    assert run(pipe, arguments).isfinite().all()


def test_models_freed_half_way_do_not_end_a_run() -> None:
    pipe, arguments = sd15()

    def free(pipe: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe.maybe_free_model_hooks()
        return kwargs

    with record(pipe) as trace:
        run(pipe, arguments | {"callback_on_step_end": free})
    assert trace.scalars["run"].eq(0).all()


def test_an_object_in_the_place_of_cache_context_keeps_its_attributes() -> None:
    class Context:
        owner = name = below = None

        def __init__(self) -> None:
            self.owner, self.name, self.below = "mine", "mine", "mine"

        def __call__(self, name: str) -> Any:
            from contextlib import nullcontext

            return nullcontext()

    pipe, arguments = flux_true()
    pipe.transformer.cache_context = mine = Context()
    with record(pipe):
        run(pipe, arguments)
    assert pipe.transformer.cache_context is mine and mine.owner == "mine"


def test_inputs_alone_are_not_believed_where_the_step_proves_nothing() -> None:
    """The condition of zeros is the one that guidance pushes to, and rescale hides that."""
    pipe, arguments = sdxl()
    zeros = {n: torch.zeros_like(v) for n, v in arguments.items() if n in ("prompt_embeds", "pooled_prompt_embeds")}
    given = [push(pipe, branch="cond")]
    with pytest.raises(InputError, match="of a step that proves nothing"), intervene(pipe, given):
        run(pipe, arguments | zeros | {"guidance_rescale": 0.7})
    assert is_clean(pipe)


@pytest.mark.parametrize("names", [("cond", "uncond", "perturbed"), ("uncond", "cond")])
def test_names_are_held_against_the_proof_of_three_branches(names: tuple[str, ...]) -> None:
    pipe, arguments = pag()
    arguments |= {name: arguments[name].repeat(2, 1, 1) for name in ("prompt_embeds", "negative_prompt_embeds")}
    given = [push(pipe, branch="cond")]
    with pytest.raises(InputError, match="as the step that they fed proves"), intervene(pipe, given, branches=names):
        run(pipe, arguments)
    with intervene(pipe, given, branches=("uncond", "cond", "perturbed")):
        run(pipe, arguments)


def test_guidance_that_ends_half_way_leaves_the_rows_of_cond() -> None:
    pipe, arguments = sd15(batch=2)

    def end(pipe: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            pipe._guidance_scale = 0.0
            kwargs["prompt_embeds"] = kwargs["prompt_embeds"].chunk(2)[1]
        return kwargs

    ending = {"callback_on_step_end": end, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    given = push(pipe, branch="cond", high=5.0)
    with record(pipe) as trace:
        run(pipe, arguments | ending)
    levels = iter(trace.scalars.drop_duplicates("event")["sigma"])

    def by_hand(module: Any, args: Any, output: Tensor) -> Tensor:
        cond = torch.arange(len(output)) >= len(output) - 2  # the last two rows, of four or of two
        return output + (next(levels) <= 5.0) * cond[:, None, None, None] * given.value[:, None, None]

    handle = pipe.unet.mid_block.register_forward_hook(by_hand)
    expected = run(pipe, arguments | ending)
    handle.remove()
    with intervene(pipe, [given]):
        assert close(run(pipe, arguments | ending), expected)
    assert is_clean(pipe)
