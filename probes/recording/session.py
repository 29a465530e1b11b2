"""Recording an unmodified pipeline.

    with record(pipe, keep="branches", path="runs/a") as trace:
        pipe("a lighthouse", num_inference_steps=30)
    trace.scalars

Taps go on when the block is entered and leave when it is left, however it is left.
"""

import functools
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.inputs import named_tensors
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.pipelines.pending import Pending
from scorescope.probes.pipelines.taps import (
    Call,
    Listener,
    StepTap,
    embeds_guidance,
    is_compiled,
    is_repeated,
    leaves,
    tap_step,
)
from scorescope.probes.recording.estimate import says_it_guides
from scorescope.probes.recording.kept_sites import Site, hook, resolve
from scorescope.probes.recording.plan import Budget, Every, Keep, plan
from scorescope.probes.recording.runs import Runs
from scorescope.probes.recording.sink import Sink
from scorescope.probes.recording.steps import Recorder
from scorescope.probes.recording.trace import Trace


def record(
    pipe: Any,
    *,
    keep: Keep = "scalars",
    every: Every = None,
    budget: Budget = None,
    modules: find.Modules = None,
    sites: Sequence[str | Site] = (),
    path: str | Path | None = None,
    resume: bool = False,
    level: LevelFunction | None = None,
    value_range: tuple[float, float] | None = None,
    branches: Sequence[str] = (),
    progress: bool = True,
) -> "Session":
    """Record what a pipeline's denoiser does at every step, without changing the pipeline.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, standard or modular, or any object with a denoiser module and a scheduler.
    keep : str or iterable of str
        Arrays to keep besides the scalars: `scalars` (none), `latents` (x, x_prev), `branches` (x, guided and the
        denoiser's outputs), `all`, or names among x, x_prev, guided, branches, cond, uncond, x0 (the scheduler's own
        estimate, where it returns one).
    every : int or (float, float), optional
        In which steps to keep arrays: a stride, or an interval of noise levels. Scalars are kept in all.
    budget : int or str, optional
        Bytes of arrays that one run may take, for instance "2 GB". The size is estimated, and a budget that would be
        exceeded is an error, before the first denoiser call. What cannot be known there (branches in calls of their
        own that the pipeline does not tell of, activations at sites, a compiled network) is checked at the first
        step, before anything is written; and no step is written with which the run would exceed it.
    modules : str, sequence or mapping, optional
        Denoisers: names of components, or modules by name. By default those with customary names.
    sites : sequence of str or Site
        Inner modules whose activations are captured, for instance "unet.mid_block". They follow `every`.
    path : path, optional
        Folder to write the trace to as it grows; without one it is held in memory.
    resume : bool
        Continue the trace at `path`, if there is one: of the same pipeline, modules, schedulers and sites, with the
        same arrays kept in the same steps.
    level : callable, optional
        (scheduler, timestep, state) -> Level, for a scheduler whose noise levels cannot be recognised.
    value_range : (float, float), optional
        Range of the data, for pixel models; adds overshoot and saturation.
    branches : sequence of str
        Names of the branches in the order of the calls, for instance ("uncond", "cond"), for rules under which
        numbers cannot tell them apart. Not needed for plain guidance; labels of the pipeline come first.
    progress : bool
        Where arrays are kept, say on standard error how much room they will take.

    Returns
    -------
    Session
        A context manager; gives a `Trace` that is filled when the block is left.

    Raises
    ------
    InputError
        For a pipeline that cannot be recorded, or arguments that do not fit it.
    """
    what = plan(keep, every, budget)
    denoisers = find.denoisers(pipe, modules)
    found = find.schedulers(pipe)
    sink = Sink(Path(path) if path is not None else None, resume=resume)
    inner = resolve(tuple(sites), denoisers)
    recorder = Recorder(what, sink, level, value_range, branches, progress=progress)
    return Session(pipe, denoisers, found, inner, recorder, sink)


class Session(Listener):
    """The context manager that `record` returns."""

    def __init__(
        self, pipe: Any, denoisers: Mapping[str, nn.Module], schedulers: Mapping[str, Any],
        sites: Sequence[tuple[Site, nn.Module]], recorder: Recorder, sink: Sink,
    ) -> None:  # fmt: skip
        self._pipe, self._denoisers, self._schedulers = pipe, denoisers, schedulers
        self._sites, self._recorder, self._sink = sites, recorder, sink
        self._active = False
        self._pending = Pending()
        self._group: list[Call] = []
        self._place = 0
        self._taps: list[StepTap] = []
        self._copies: weakref.WeakSet[StepTap] = weakref.WeakSet()  # on copies that pipelines make and forget
        self._roots: dict[int, Any] = {}
        self._handles: list[Any] = []
        self.trace = Trace.empty()

    def __enter__(self) -> Trace:
        self._sink.open(self._manifest())
        try:
            self._active = True
            for scheduler in self._schedulers.values():
                self._tap(scheduler)
            for name, module in self._denoisers.items():
                self._hook(name, module)
            for guider in find.guiders(self._pipe):
                self._pending.labels.tap_guider(guider)
            for site, module in self._sites:
                self._handles.append(module.register_forward_hook(hook(site, self._pending.inner)))
        except BaseException:
            self._leave()
            self._sink.close("failed", raise_errors=False)
            raise
        self.trace.begin(Runs(self._recorder, self._sink))
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        status = "complete" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        more: dict[str, Any] = {} if error is None else {"error": f"{type(error).__name__}: {error}"}
        if self._recorder.room.size:
            more["estimated_bytes"] = self._recorder.room.size
        try:
            self._recorder.finish(error is None)
            self._sink.flush(raise_errors=error is None)
            self._check_used(error)
        except BaseException as late:
            status, more = "failed", more | {"error": f"{type(late).__name__}: {late}"}
            if error is None:
                raise
        finally:
            self.trace.fill(self._sink.finish(status, more))

    def _check_used(self, error: BaseException | None) -> None:
        count = len(self._pending.calls)
        if error is None and count and (not self._recorder.steps or self._swapped()):
            after = "after the last scheduler step" if self._recorder.steps else "and not one scheduler step"
            raise InputError(
                "pipe",
                found=f"{count} denoiser calls {after}",
                expected="a run that calls step on the scheduler that was there when recording began",
            )

    def _swapped(self) -> bool:
        """Whether a scheduler is in place that was never tapped: a compiled network does not say when it is called."""
        current = [getattr(self._pipe, name, part) for name, part in self._schedulers.items()]
        return not all(any(tap.owner is part for tap in (*self._taps, *self._copies)) for part in current)

    def _tap(self, scheduler: Any) -> None:
        self._roots[id(scheduler)] = scheduler
        tap = tap_step(scheduler, self)
        self._taps.append(tap)

    def _hook(self, name: str, module: nn.Module) -> None:
        if is_compiled(module) and not hasattr(module, "_orig_mod"):  # hooks of a wrapper stay outside of the graph
            hooked = module.register_forward_hook(self._after_compiled(name), with_kwargs=True)
        else:
            self._handles.append(module.register_forward_pre_hook(self._before_call, with_kwargs=True))
            hooked = module.register_forward_hook(functools.partial(self._after_call, name), with_kwargs=True)
        self._handles.append(hooked)
        self._pending.labels.tap_module(module)

    def _leave(self) -> None:
        """Take off everything of ours, and nothing else."""
        self._active = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for tap in (*self._copies, *reversed(self._taps)):
            tap.remove()
        self._pending.labels.remove()

    def _before_call(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if is_repeated(module):
            return
        self._sink.unreturned += 1
        self._follow_swaps()
        self._pending.enter(module, self._since())
        tensors = leaves([*args, *kwargs.values()])
        if tensors:
            guided = says_it_guides(self._pipe)
            self._recorder.room.expect(module, tensors[0], self._schedulers, guided=guided)

    def _after_call(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if is_repeated(module):
            self._pending.inner.clear()
            return
        self._sink.unreturned -= 1
        copies = [self._recorder.copies.of(leaf) for leaf in leaves(output)]
        sites = self._pending.leave(module)
        self._recorder.saw(leaves([*args, *kwargs.values()])[:1])
        inputs = named_tensors(args, kwargs)
        self._pending.add(Call(name, copies, embedded=embeds_guidance(kwargs), sites=sites, inputs=inputs))

    def _since(self) -> list[Any]:
        """What a new run changes."""
        current = [getattr(self._pipe, name, part) for name, part in self._schedulers.items()]
        grids = [(part, getattr(part, "timesteps", None)) for part in current]
        # a property that makes a new table whenever it is read tells nothing
        same = [grid if grid is getattr(part, "timesteps", None) else None for part, grid in grids]
        return [self._recorder.begun, *same]

    def _after_compiled(self, name: str) -> Any:
        pending = self._pending.calls

        def append(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not is_repeated(module):
                pending.append((name, kwargs, output))

        return append

    def _follow_swaps(self) -> None:
        """A scheduler that was put in place of a recorded one is recorded too."""
        for name in list(self._schedulers):
            current = getattr(self._pipe, name, None)
            if current is None or not hasattr(current, "__dict__") or not callable(getattr(current, "step", None)):
                continue
            if id(current) not in self._roots or not self._is_tapped(current):
                self._tap(current)

    def _is_tapped(self, scheduler: Any) -> bool:
        top = scheduler.__dict__.get("step")
        while isinstance(top, StepTap):
            if top.listener is self:
                return True
            top = top.below
        return False

    def on_copy(self, tap: StepTap, copy: StepTap) -> None:
        """See `Listener.on_copy`."""
        if self._active:
            self._copies.add(copy)

    def on_step(self, tap: StepTap, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See `Listener.on_step`."""
        if not self._active:
            return tap.below(*args, **kwargs)
        self._sink.unreturned += 1
        calls = self._calls()
        step = self._recorder.before(tap, args, kwargs, calls, self._place)
        self._place += 1
        result = tap.below(*args, **kwargs)
        self._recorder.after(step, result)
        self._sink.unreturned -= 1
        return result

    def _calls(self) -> list[Call]:
        """The denoiser calls that feed this step: those since the last one, else the same again."""
        if self._pending.calls:
            self._group = [self._call(entry, place) for place, entry in enumerate(self._pending.calls)]
            self._pending.clear()
            self._place = 0
        return self._group

    def _call(self, entry: Any, place: int) -> Call:
        if isinstance(entry, Call):
            call = entry
        else:
            name, arguments, output = entry
            copies = [self._recorder.copies.of(leaf) for leaf in leaves(output)]
            call = Call(name, copies, embedded=embeds_guidance(arguments), inputs=named_tensors((), arguments))
        call.label, call.place = self._pending.labels.of(place), place
        return call

    def _manifest(self) -> dict[str, Any]:
        return {
            "pipeline": type(self._pipe).__name__,
            "schedulers": {name: _describe(part) for name, part in self._schedulers.items()},
            "modules": {name: type(module).__name__ for name, module in self._denoisers.items()},
            "sites": [site.module for site, _ in self._sites],
            "torch": torch.__version__,
            **self._recorder.describe(),
        }


def _describe(scheduler: Any) -> dict[str, Any]:
    config = getattr(scheduler, "config", None)
    plain = {
        str(key): value
        for key, value in (dict(config) if isinstance(config, Mapping) else {}).items()
        if isinstance(value, str | int | float | bool | type(None))
    }
    return {"class": type(scheduler).__name__, "config": plain}
