"""Runs that are cut off, forked, run by two threads, killed: what is said of them, and what is on disk."""

import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes import Trace, record
from scorescope.probes.pipelines.taps import hooks_on, taps_on
from scorescope.probes.recording.reading import verify
from tests.pipelines import generator, sd15
from tests.probes.recording.test_resuming import SPECS, Net, run, toy

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what was imported")


class Failing(Net):
    fails_at, calls = -1, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("out of memory")
        return super().forward(x)


def caught(path: Path | None, *, fails_at: int = -1, resume: bool = False) -> Trace:
    """Three runs of three steps; whoever runs them catches errors and goes on."""
    pipe = toy(net=Failing())
    pipe.net.fails_at = fails_at
    with record(pipe, keep="latents", path=path, resume=resume, progress=False) as trace:
        for spec in trace.runs(SPECS, progress=False):
            try:
                run(pipe, spec["seed"])
            except RuntimeError:
                continue
    return trace


@pytest.mark.parametrize(("fails_at", "words"), [(2, "run 0 unfinished after 1 steps"), (6, "run 1 .* after 2 steps")])
def test_a_run_whose_error_was_caught_is_not_complete_and_comes_in_its_place_when_it_is_made_again(
    fails_at: int, words: str, tmp_path: Path
) -> None:
    whole = caught(tmp_path / "whole")
    trace = caught(tmp_path / "a", fails_at=fails_at)
    assert (whole.status, whole.unfinished) == ("complete", [])
    assert trace.status == Trace.open(tmp_path / "a").status == caught(None, fails_at=fails_at).status == "incomplete"
    assert len(trace.unfinished) == 1 and pd.Series(trace.unfinished).str.fullmatch(words).all()
    resumed = caught(tmp_path / "a", resume=True)
    for found in (resumed, Trace.open(tmp_path / "a")):
        assert (found.status, found.unfinished) == ("complete", [])
        pd.testing.assert_frame_equal(found.scalars, whole.scalars)
        for place in range(9):
            assert torch.equal(found.load("x", place), whole.load("x", place))


@pytest.mark.parametrize(
    ("fails_at", "unfinished"),
    [(2, ["run 0 unfinished after 1 steps"]), (4, []), (5, ["run 1 unfinished after 1 steps"])],
)
def test_runs_without_specs_whose_error_was_caught(fails_at: int, unfinished: list[str]) -> None:
    """The fourth call is the first of its run: a run of no step is none."""
    pipe = toy(net=Failing())
    pipe.net.fails_at = fails_at
    with record(pipe, progress=False) as trace:
        for seed in range(3):
            pipe.scheduler.timesteps = pipe.scheduler.timesteps.clone()  # a new grid, as set_timesteps gives
            try:
                run(pipe, seed)
            except RuntimeError:
                continue
    assert trace.unfinished == unfinished and trace.status == ("incomplete" if unfinished else "complete")


def test_a_call_that_is_repeated_after_its_error_leaves_a_whole_run() -> None:
    pipe = toy(net=Failing())
    pipe.net.fails_at = 2
    x = torch.randn(1, 4, 8, 8)
    with record(pipe, progress=False) as trace:
        for t in pipe.scheduler.timesteps:
            try:
                prediction = pipe.net(x)
            except RuntimeError:
                prediction = pipe.net(x)
            x = pipe.scheduler.step(prediction, t, x)[0]
    assert (trace.status, len(trace.scalars)) == ("complete", 3)


@pytest.mark.parametrize("specs", [True, False])
def test_a_pipeline_that_was_left_by_a_callback_did_not_finish_its_run(specs: bool) -> None:
    """No call of ours raised: the pipeline's own call was left."""
    pipe, arguments = sd15(steps=3)

    def callback(pipe: Any, step: int, t: Any, given: dict[str, Any]) -> dict[str, Any]:
        if calls == [1] and step == 1:
            raise ValueError("the user's callback")
        return given

    calls: list[int] = []
    with record(pipe, progress=False) as trace:
        given = SPECS if specs else [{}] * 3
        for _ in trace.runs(given, progress=False) if specs else given:
            calls.append(1)
            try:
                pipe(**arguments | {"generator": generator()}, callback_on_step_end=callback)
            except ValueError:
                continue
    assert (trace.status, trace.unfinished) == ("incomplete", ["run 0 unfinished after 2 steps"])


def _in_child(work: Callable[[], object]) -> int:
    """Exit status of a forked process that does this."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(9)
        os._exit(0)
    return os.waitpid(child, 0)[1]


@forks
@pytest.mark.parametrize("keep", ["scalars", "latents"])
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_forked_child_does_not_write_into_its_parents_trace(keep: str, where: str, tmp_path: Path) -> None:
    pipe = toy()
    session = record(pipe, keep=keep, path=tmp_path / "a" if where == "disk" else None, progress=False)

    def child() -> None:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run(pipe, 1)
            run(pipe, 2)
            session.__exit__(None, None, None)
        assert sum("was forked" in str(one.message) for one in told) <= 2, "once of the steps, once of the end"
        assert any("not recorded" in str(one.message) for one in told)

    with session as trace:
        run(pipe, steps=1)
        assert _in_child(child) == 0
        run(pipe)
    assert trace.status == "complete" and len(trace.scalars) == 4 and "step" not in vars(pipe.scheduler)
    if where == "disk":
        assert list(verify(tmp_path / "a")) == [] and len(Trace.open(tmp_path / "a").scalars) == 4


class Meeting(Net):
    """Waits in its first call until another thread calls it too."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.seen = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        if not self.inside.is_set():
            self.inside.set()
            self.seen.wait(20)
        return super().forward(x)


def test_two_threads_at_one_pipeline_are_refused() -> None:
    pipe = toy(net=Meeting())
    with record(pipe, progress=False) as trace:
        first = threading.Thread(target=run, args=(pipe,))
        first.start()
        assert pipe.net.inside.wait(20)
        with pytest.raises(InputError, match="one thread at a time"):
            run(pipe)
        pipe.net.seen.set()
        first.join()
    assert len(trace.scalars) == 3


def test_threads_one_after_the_other_are_not(tmp_path: Path) -> None:
    """Also after a call in another thread that raised."""
    pipe = toy(net=Failing())
    pipe.net.fails_at = 5
    with record(pipe, progress=False) as trace:
        for spec in trace.runs(SPECS, progress=False):

            def work(seed: int = spec["seed"]) -> None:
                try:
                    run(pipe, seed)
                except RuntimeError:
                    return

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert trace.unfinished == ["run 1 unfinished after 1 steps"] and len(trace.scalars) == 7


def test_what_a_kill_leaves_is_removed_when_the_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a"
    caught(path, fails_at=5)
    before = {file.name for file in (path / "shards").iterdir()}
    for name in ("manifest.json.partial", "shards/00000003.safetensors.partial", "shards/00000009.safetensors"):
        (path / name).write_bytes(b"half")
    (path / "shards/notes.txt").write_text("mine")
    resumed = caught(path, resume=True)
    assert resumed.status == "complete" and list(verify(path)) == []
    assert not list(path.rglob("*.partial")) and (path / "shards/notes.txt").read_text() == "mine"
    named = {event["shard"] for event in resumed.arrays.events}
    assert named <= {file.name for file in (path / "shards").iterdir()} <= named | before | {"notes.txt"}


@forks
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("handled", [False, True])
def test_a_signal_leaves_a_trace_that_goes_on(number: signal.Signals, handled: bool, tmp_path: Path) -> None:
    """As it comes, or with a handler that ends the process in Python's way."""
    path = tmp_path / "a"
    if handled and number is signal.SIGKILL:
        pytest.skip("cannot be handled")

    def leave(*_: Any) -> None:
        raise SystemExit(1)

    def child() -> None:
        if handled:
            signal.signal(number, leave)
        pipe, calls = toy(), iter(range(100))

        def hook(*_: Any) -> None:
            if next(calls) == 4:
                os.kill(os.getpid(), number)

        pipe.net.register_forward_hook(hook)
        with record(pipe, keep="latents", path=path, progress=False) as trace:
            for spec in trace.runs(SPECS, progress=False):
                run(pipe, spec["seed"])

    assert _in_child(child) == (9 << 8 if handled else number)
    trace = Trace.open(path)
    assert trace.status == "interrupted" and trace.problems == [] and len(trace.scalars) in (3, 4)
    resumed = _goes_on(path)
    pd.testing.assert_frame_equal(resumed.scalars, caught(None).scalars)


def _goes_on(path: Path) -> Trace:
    pipe = toy()
    with record(pipe, keep="latents", path=path, resume=True, progress=False) as trace:
        for spec in trace.runs(SPECS, progress=False):
            run(pipe, spec["seed"])
    return trace


def test_a_pipeline_that_is_pickled_while_it_is_recorded_comes_out_without_us() -> None:
    """As spawned workers get it."""
    pipe = toy()
    with record(pipe, keep="latents", progress=False) as trace:
        copied = pickle.loads(pickle.dumps(pipe))  # noqa: S301
        run(copied)
        run(pipe)
    run(copied)
    assert len(trace.scalars) == 3
    assert not hooks_on(copied.net) and not taps_on(copied.scheduler)


class Wrapped(StableDiffusionPipeline):
    """As users wrap a pipeline's call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


class Early(StableDiffusionPipeline):
    """Returns before it says that it is done, half-way, as inpainting with `denoising_end` and latents does."""

    def maybe_free_model_hooks(self) -> None:
        """Never called by a pipeline that returns early."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for t in self.scheduler.timesteps[:2]:
            self.latents = self.scheduler.step(
                self.unet(self.latents, t, self.text).sample, t, self.latents
            ).prev_sample
        if len(self.scheduler.timesteps) > 2:
            return self.latents
        self.maybe_free_model_hooks()
        return None


@pytest.mark.parametrize("kind", [StableDiffusionPipeline, Wrapped])
@pytest.mark.parametrize(("fails_at", "status"), [(1, "incomplete"), (3, "incomplete"), (99, "complete")])
def test_a_pipeline_left_by_a_callback_was_cut_off_whoever_wraps_it(kind: type, fails_at: int, status: str) -> None:
    def fail(pipe: Any, step: int, t: Any, kept: dict[str, Any]) -> dict[str, Any]:
        if step == fails_at:
            raise ValueError("the user's callback")
        return kept

    whole, arguments = sd15()
    pipe = kind(**whole.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with record(pipe, progress=False) as trace, suppress(ValueError):
        pipe(**arguments, callback_on_step_end=fail)
    assert trace.status == status and bool(trace.unfinished) == (status == "incomplete")


def test_a_pipeline_that_returns_early_was_not_cut_off() -> None:
    whole, _ = sd15()
    pipe = Early(**whole.components, requires_safety_checker=False)
    pipe.scheduler.set_timesteps(4)
    pipe.latents = torch.randn(1, 4, 8, 8, generator=generator(0))
    pipe.text = torch.randn(1, 7, pipe.unet.config.cross_attention_dim, generator=generator(1))
    with torch.no_grad(), record(pipe, progress=False) as trace:
        pipe()
    assert (trace.status, trace.unfinished, len(trace.scalars)) == ("complete", [], 2)
