"""Nothing of ours stays, however a block is left; what other people put there does."""

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import Trace, record
from scorescope.probes.pipelines import Level
from scorescope.probes.pipelines.taps import StepTap
from tests.pipelines import generator, modular_sdxl, output_of, sd15, wan

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def hooks(module: nn.Module) -> int:
    """Hooks on a module and everything in it."""
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def is_clean(pipe: Any) -> bool:
    """Whether a pipeline is as we found it."""
    modules = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    guider = getattr(pipe, "guider", None)
    return (
        all(hooks(module) == 0 and "cache_context" not in vars(module) for module in modules)
        and "step" not in vars(pipe.scheduler)
        and (guider is None or "prepare_inputs" not in vars(guider))
    )


def failing_at(count: int, error: type[BaseException]) -> Any:
    """A hook that raises in the count-th call."""
    calls = iter(range(10**6))

    def fail(*_: Any) -> None:
        if next(calls) == count:
            raise error("injected")

    return fail


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("count", range(4))
def test_an_error_in_any_denoiser_call(error: type[BaseException], count: int) -> None:
    pipe, arguments = sd15(steps=4)
    handle = pipe.unet.mid_block.register_forward_pre_hook(failing_at(count, error))
    with pytest.raises(error), record(pipe, keep="all", sites=["unet.mid_block"]) as trace:
        pipe(**arguments)
    handle.remove()
    assert is_clean(pipe)
    assert trace.status == ("failed" if error is RuntimeError else "interrupted")
    assert len(trace.scalars) == count
    assert trace.scalars["update_sq"].notna().all()
    assert "injected" in trace.manifest["error"]


@pytest.mark.parametrize("count", range(4))
def test_an_error_in_any_step(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, arguments = sd15(steps=4)
    fail = failing_at(count, RuntimeError)
    inner = type(pipe.scheduler).step

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        fail()
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(type(pipe.scheduler), "step", step)
    with pytest.raises(RuntimeError, match="injected"), record(pipe) as trace:
        pipe(**arguments)
    assert is_clean(pipe)
    assert trace.status == "failed"
    assert len(trace.scalars) == count


@pytest.mark.parametrize("count", range(8))
def test_an_error_in_any_call_of_two_branches(count: int) -> None:
    pipe, arguments = wan()
    handle = pipe.transformer.blocks[0].register_forward_pre_hook(failing_at(count, RuntimeError))
    with pytest.raises(RuntimeError, match="injected"), record(pipe) as trace:
        pipe(**arguments)
    handle.remove()
    assert is_clean(pipe)
    assert len(trace.scalars) == count // 2


def test_a_modular_pipeline_is_left_clean() -> None:
    pipe, arguments = modular_sdxl()
    with record(pipe):
        pipe(**arguments)
    assert is_clean(pipe)


def test_an_error_half_way_through_entering(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, _ = wan(experts=2)
    count = iter(range(100))
    inner = nn.Module.register_forward_hook

    def register(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if next(count) == 1:
            raise RuntimeError("half-way")
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "register_forward_hook", register)
    with pytest.raises(RuntimeError, match="half-way"), record(pipe):
        pass
    assert is_clean(pipe)
    assert hooks(pipe.transformer_2) == 0


def test_wrong_names_are_refused_before_anything_is_touched() -> None:
    pipe, _ = sd15()
    with pytest.raises(InputError, match="modules"):
        record(pipe, modules="nothing")
    with pytest.raises(InputError, match="sites"):
        record(pipe, sites=["unet.nothing"])
    with pytest.raises(InputError, match="sites"):
        record(pipe, sites=["vae.encoder"])
    assert is_clean(pipe)


def test_other_peoples_hooks_and_wrappers_stay() -> None:
    pipe, arguments = sd15()
    seen: list[str] = []
    handle = pipe.unet.register_forward_hook(lambda *_: seen.append("hook"))
    inner = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        seen.append("step")
        return inner(*args, **kwargs)

    pipe.scheduler.step = step
    with record(pipe) as trace:
        pipe(**arguments)
    assert seen == ["hook", "step"] * 4
    assert pipe.scheduler.step is step
    assert hooks(pipe.unet) == 1
    assert len(trace.scalars) == 4
    handle.remove()


def test_a_wrapper_put_on_inside_the_block_stays_and_ours_passes_through() -> None:
    pipe, arguments = sd15()
    bare = output_of(pipe(**arguments))
    with record(pipe):
        inner = pipe.scheduler.step
        pipe.scheduler.step = lambda *args, **kwargs: inner(*args, **kwargs)
        theirs = pipe.scheduler.step
    assert pipe.scheduler.step is theirs
    pipe.prepare_extra_step_kwargs = lambda *_: {}
    assert torch.equal(output_of(pipe(**arguments | {"generator": generator()})), bare)


def test_recordings_nest_and_leave_in_any_order() -> None:
    pipe, arguments = sd15()
    with record(pipe) as outer, record(pipe, keep="latents") as inner:
        pipe(**arguments)
    assert is_clean(pipe)
    assert outer.scalars.equals(inner.scalars)
    first, second = record(pipe), record(pipe)
    one, two = first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    pipe(**arguments)
    second.__exit__(None, None, None)
    assert is_clean(pipe)
    assert len(one.scalars) == 0
    assert len(two.scalars) == 4


def test_repeated_recordings_and_two_pipelines_at_once() -> None:
    pipe, arguments = sd15()
    other, more = wan()
    with record(pipe) as first:
        pipe(**arguments)
    with record(pipe) as second, record(other) as third:
        pipe(**arguments | {"generator": generator()})
        other(**more)
    assert is_clean(pipe)
    assert is_clean(other)
    assert first.scalars.equals(second.scalars)
    assert len(third.scalars) == 4


def test_two_pipelines_with_one_network() -> None:
    pipe, arguments = sd15()
    other, more = sd15(unet=pipe.unet, steps=2)
    with record(pipe) as first:
        with record(other) as second:
            other(**more)
        pipe(**arguments)
    assert hooks(pipe.unet) == 0
    assert len(second.scalars) == 2
    assert len(first.scalars) == 4
    assert set(first.scalars["rule"]) == {"cfg"}


def test_several_runs_in_one_block() -> None:
    pipe, arguments = sd15(steps=3)
    with record(pipe) as trace:
        for seed in range(3):
            pipe(**arguments | {"generator": generator(seed)})
    assert trace.scalars.groupby("run").size().tolist() == [3, 3, 3]
    assert trace.samples["run"].tolist() == [0, 1, 2]
    assert not trace.scalars.duplicated(["sample", "step", "call"]).any()
    assert not trace.scalars.query("event == 0")["chained"].any()


def test_the_signature_of_step_is_still_there() -> None:
    """Pipelines look at it to see which arguments a scheduler takes."""
    import inspect

    pipe, _ = sd15()
    before = inspect.signature(pipe.scheduler.step)
    with record(pipe):
        assert inspect.signature(pipe.scheduler.step) == before


@torch.no_grad()
def test_a_copied_scheduler_steps_its_own_state_and_is_recorded() -> None:
    pipe, arguments = sd15()
    from diffusers import EulerDiscreteScheduler

    def loop(record_it: bool) -> tuple[Tensor, Any, Any]:
        scheduler = EulerDiscreteScheduler()
        scheduler.set_timesteps(3)
        holder = SimpleNamespace(unet=pipe.unet, scheduler=scheduler)
        session = record(holder)
        trace = session.__enter__() if record_it else None
        second = copy.deepcopy(scheduler)
        x = y = torch.ones(1, 4, 8, 8) * 10
        for t in scheduler.timesteps:
            out = pipe.unet(scheduler.scale_model_input(x, t), t, arguments["prompt_embeds"]).sample
            x = scheduler.step(out, t, x).prev_sample
            y = second.step(out, t, y).prev_sample
        if record_it:
            session.__exit__(None, None, None)
        assert scheduler.step_index == second.step_index == 3
        return x + y, trace, (scheduler, second)

    bare, _, _ = loop(False)
    recorded, trace, schedulers = loop(True)
    assert torch.equal(bare, recorded)
    assert trace.scalars["stream"].tolist() == [0, 1] * 3
    assert all("step" not in vars(scheduler) for scheduler in schedulers)
    assert trace.scalars.query("step > 0")["chained"].all()


@torch.no_grad()
def test_a_scheduler_whose_dict_is_saved_and_restored() -> None:
    """As the panorama pipeline does for each of its views."""
    from diffusers import DPMSolverMultistepScheduler

    pipe, arguments = sd15()

    def loop(record_it: bool) -> tuple[list[Tensor], Any]:
        scheduler = DPMSolverMultistepScheduler()
        scheduler.set_timesteps(4)
        session = record(SimpleNamespace(unet=pipe.unet, scheduler=scheduler))
        trace = session.__enter__() if record_it else None
        views = [torch.full((1, 4, 8, 8), value) for value in (1.0, 2.0)]
        saved = [copy.deepcopy(scheduler.__dict__)] * 2
        for t in scheduler.timesteps:
            for place in range(2):
                scheduler.__dict__.update(saved[place])
                out = pipe.unet(views[place], t, arguments["prompt_embeds"]).sample
                views[place] = scheduler.step(out, t, views[place]).prev_sample
                saved[place] = copy.deepcopy(scheduler.__dict__)
        if record_it:
            session.__exit__(None, None, None)
            assert "step" not in vars(scheduler)
        return views, trace

    bare, _ = loop(False)
    recorded, trace = loop(True)
    assert all(torch.equal(a, b) for a, b in zip(bare, recorded, strict=True))
    assert trace.scalars["follows"].tolist() == [-1, -1, 0, 1, 2, 3, 4, 5]
    sigma = trace.scalars["sigma"].to_numpy()
    assert (sigma[::2] == sigma[1::2]).all()


def test_a_scheduler_swapped_inside_the_block_is_recorded() -> None:
    from diffusers import EulerDiscreteScheduler

    pipe, arguments = sd15(steps=3)
    with record(pipe) as trace:
        old = pipe.scheduler
        pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        pipe(**arguments)
    assert len(trace.scalars) == 3
    assert is_clean(pipe)
    assert "step" not in vars(old)


def test_a_run_whose_steps_cannot_be_seen_is_an_error() -> None:
    """The loop uses a scheduler that the object does not hold."""
    from diffusers import DDIMScheduler

    pipe, arguments = sd15()
    hidden = DDIMScheduler()
    hidden.set_timesteps(2)
    with pytest.raises(InputError, match="not one scheduler step"), record(pipe):
        x = torch.ones(1, 4, 8, 8)
        for t in hidden.timesteps:
            x = hidden.step(pipe.unet(x, t, arguments["prompt_embeds"]).sample, t, x).prev_sample
    assert is_clean(pipe)


def test_states_edited_after_the_step_are_not_chained() -> None:
    def edit(pipe: Any, step: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            kwargs["latents"].add_(0.01)
        return kwargs

    pipe, arguments = sd15()
    with record(pipe, keep="all") as trace:
        pipe(**arguments, callback_on_step_end=edit)
    assert trace.scalars["chained"].tolist() == [False, True, False, True]
    assert torch.equal(trace.load("x_prev", 1) + 0.01, trace.load("x", 2))


def test_what_cannot_be_recorded_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="step"):
        record(SimpleNamespace(unet=nn.Identity()))
    with pytest.raises(InputError, match="denoiser"):
        record(SimpleNamespace(scheduler=sd15()[0].scheduler))
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters())
    with pytest.raises(InputError, match="scheduler"):
        record(SimpleNamespace(unet=nn.Identity(), vae=nn.Identity(), other=optimiser.defaults))


class Reversed:
    """A user's scheduler: arguments in another order, a bare tensor back, levels of its own."""

    def __init__(self) -> None:
        self.levels = [4.0, 2.0, 1.0, 0.0]
        self.count = 0

    def step(self, latent: Tensor, noise: Tensor) -> Tensor:
        before, after = self.levels[self.count : self.count + 2]
        self.count += 1
        return latent + (after - before) * noise


@pytest.mark.parametrize("pair", [False, True])
def test_a_users_own_loop_and_scheduler(pair: bool) -> None:
    class Paired(Reversed):
        def step(self, latent: Tensor, noise: Tensor) -> Any:
            denoised = latent - self.levels[self.count] * noise
            after = super().step(latent, noise)
            return (after, denoised) if pair else after

    holder = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Paired())

    def level(scheduler: Any, timestep: Any, state: Tensor) -> Level:
        return Level.of(1.0, scheduler.levels[scheduler.count], "eps", sigma_next=scheduler.levels[scheduler.count + 1])

    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad(), record(holder, level=level, keep="all") as trace:
        for _ in range(3):
            x = holder.scheduler.step(x, holder.net(x))
            x = x[0] if pair else x
    assert trace.scalars["sigma"].tolist() == [4.0, 2.0, 1.0]
    assert trace.scalars["sigma_next"].tolist() == [2.0, 1.0, 0.0]
    assert trace.scalars["chained"].tolist() == [False, True, True]
    assert (trace.scalars["x0_gap"].dropna() < 1e-6).all()
    assert trace.scalars["x0_gap"].notna().all() == pair
    first = trace.load("x", 0)
    with torch.no_grad():
        assert torch.equal(trace.load("guided", 0), holder.net(first))


def test_a_scheduler_of_unknown_levels_says_so() -> None:
    holder = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Reversed())
    x = torch.randn(1, 4, 8, 8)
    with torch.no_grad(), record(holder) as trace:
        x = holder.scheduler.step(x, holder.net(x))
    assert trace.scalars["sigma"].isna().all()
    assert trace.scalars["note"].str.contains("level=").all()
    assert trace.scalars["cond_sq"].isna().all()


def test_a_compiled_root_is_recorded_and_its_inside_refused() -> None:
    """eager backend: Dynamo's guards and frames without a compiler."""
    pipe, arguments = sd15(steps=3)
    bare = output_of(pipe(**arguments))
    compiles: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiles.append(1)
        return graph.forward

    torch._dynamo.reset()
    pipe.unet.compile(backend=backend)
    pipe(**arguments | {"generator": generator()})
    before = len(compiles)
    with record(pipe, keep="all") as trace:
        recorded = output_of(pipe(**arguments | {"generator": generator()}))
    assert torch.allclose(bare, recorded)
    assert set(trace.scalars["rule"]) == {"cfg"}
    assert len(trace.scalars) == 3
    extra = len(compiles) - before
    assert extra <= before, f"{extra} compilations for the hook, {before} for the network"
    assert is_clean(pipe)
    with pytest.raises(InputError, match="compiled"):
        record(pipe, sites=["unet.mid_block"])
    torch._dynamo.reset()


def test_a_module_wrapped_by_compile_is_recorded() -> None:
    pipe, arguments = sd15(steps=2)
    torch._dynamo.reset()
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    with record(pipe) as trace:
        pipe(**arguments)
    assert set(trace.scalars["rule"]) == {"cfg"}
    with pytest.raises(InputError, match="compiled"):
        record(pipe, sites=["unet.mid_block"])
    torch._dynamo.reset()


def test_offloaded_modules_are_recorded() -> None:
    """As model offload does it: accelerate's hook replaces `forward` (here from the CPU to the CPU)."""
    from accelerate import cpu_offload_with_hook

    pipe, arguments = sd15(steps=2)
    bare = output_of(pipe(**arguments))
    cpu_offload_with_hook(pipe.unet, execution_device=torch.device("cpu"))
    with record(pipe) as trace:
        recorded = output_of(pipe(**arguments | {"generator": generator()}))
    assert torch.equal(bare, recorded)
    assert set(trace.scalars["rule"]) == {"cfg"}


def test_under_inference_mode() -> None:
    pipe, arguments = sd15(steps=2)
    with torch.inference_mode(), record(pipe) as trace:
        pipe(**arguments)
    assert set(trace.scalars["rule"]) == {"cfg"}


def test_taps_of_a_session_that_has_ended_pass_through() -> None:
    pipe, arguments = sd15(steps=2)
    with record(pipe) as trace:
        kept = pipe.scheduler.step
        late = copy.deepcopy(pipe.scheduler)
        pipe(**arguments)
    assert isinstance(kept, StepTap)
    assert "step" not in vars(late)
    x = torch.ones(1, 4, 8, 8)
    assert torch.equal(kept(x, 1, x)[0], pipe.scheduler.step(x, 1, x)[0])
    assert len(trace.scalars) == 2


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("keep", ["scalars", "all"])
def test_a_cell_that_is_interrupted_leaves_a_readable_trace(keep: str, tmp_path: Path) -> None:
    """As by the stop button of Jupyter, which sends SIGINT to the kernel."""
    pipe, arguments = sd15(steps=4)
    calls = iter(range(10))
    handle = pipe.unet.register_forward_pre_hook(
        lambda *_: signal.raise_signal(signal.SIGINT) if next(calls) == 2 else None
    )
    with pytest.raises(KeyboardInterrupt), record(pipe, keep=keep, path=tmp_path / "a", progress=False) as trace:
        pipe(**arguments)
    handle.remove()
    assert is_clean(pipe)
    for found in (trace, Trace.open(tmp_path / "a")):
        assert found.status == "interrupted" and sorted(set(found.scalars["step"])) == [0, 1]
        assert repr(found).startswith("Trace(status='interrupted'")
    with record(pipe, path=tmp_path / "b", progress=False) as again:  # the pipeline records as before
        pipe(**arguments)
    assert again.status == "complete" and again.scalars["step"].nunique() == 4
