"""`record`: an unmodified pipeline is listened to, and every step becomes a row of a `Trace`.

    with record(pipe, keep="branches", path="runs/a") as trace:
        pipe("a lighthouse", num_inference_steps=30)
    trace.scalars

Taps go on when the block is entered and leave when it is left, however it is left.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.call import Call, leaves
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.pipelines.listener import Listener, StepEvent
from scorescope.probes.pipelines.seat import Seat, check_left
from scorescope.probes.recording.estimate import says_it_guides
from scorescope.probes.recording.kept_sites import KeptSites, Site
from scorescope.probes.recording.plan import Budget, Every, Keep, plan
from scorescope.probes.recording.runs import Runs
from scorescope.probes.recording.sink import Sink
from scorescope.probes.recording.steps import Begun, Recorder
from scorescope.probes.recording.trace import Trace
from scorescope.probes.recording.under_way import OneProcess, OneThread


@checked
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
    overwrite: bool = False,
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
    overwrite : bool
        Replace the trace at `path`, if there is one, when the block is entered: for a cell that is run again. A folder
        that holds anything but a trace is refused.
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
    denoisers, engine = find.denoisers(pipe, modules), Engine(pipe)
    sink = Sink(Path(path) if path is not None else None, resume=resume, overwrite=overwrite)
    inner = KeptSites(tuple(sites), denoisers)
    recorder = Recorder(what, sink, level, value_range, branches, progress=progress)
    return Session(engine, denoisers, inner, recorder, sink)


class Session(Listener):
    """The context manager that `record` returns."""

    wants_outputs = True

    def __init__(
        self, engine: Engine, denoisers: Mapping[str, nn.Module], sites: KeptSites, recorder: Recorder, sink: Sink,
    ) -> None:  # fmt: skip
        self._engine, self._denoisers, self._sites = engine, denoisers, sites
        self._recorder, self._sink = recorder, sink
        self._seat: Seat | None = None
        self._begun: Begun | None = None
        self._thread, self._process = OneThread(), OneProcess()
        self.trace = Trace.empty()

    @property
    def epoch(self) -> object:  # type: ignore[override]
        """See `Listener`."""
        return self._recorder.begun

    def __enter__(self) -> Trace:
        check_left(self._seat)
        self._engine = Engine.of(self._engine.pipe)  # of others who have come since
        self._recorder.copies = self._engine.copies
        self._sink.open(self._manifest())
        try:
            self._seat = self._engine.join(self, self._denoisers)
            self._sites.hook()
        except BaseException:
            self._leave()
            self._sink.close("failed", raise_errors=False)
            raise
        self.trace.begin(Runs(self._recorder, self._sink, self._engine.is_cut_off))
        return self.trace

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.catch_up()
        waiting, followed = 0 if self._seat is None else len(self._seat), self._engine.follows_all()
        self._recorder.cut_off = self._engine.is_cut_off()
        self._leave()
        status = "complete" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        more: dict[str, Any] = {} if error is None else {"error": f"{type(error).__name__}: {error}"}
        if self._recorder.room.size:
            more["estimated_bytes"] = self._recorder.room.size
        try:
            self._recorder.finish(error is None)
            self._sink.flush(raise_errors=error is None)
            if error is None and waiting and not (self._recorder.steps and followed):
                raise self._unseen(waiting)
            if error is None and self._recorder.steps:
                self._sites.warn_unheard()
        except BaseException as late:
            status, more = "failed", more | {"error": f"{type(late).__name__}: {late}"}
            if error is None:
                raise
        finally:
            self.trace.fill(self._sink.finish(status, more))

    def _unseen(self, waiting: int) -> InputError:
        after = "after the last scheduler step" if self._recorder.steps else "and not one scheduler step"
        expected = "a run that calls step on the scheduler that was there when recording began"
        return InputError("pipe", found=f"{waiting} denoiser calls {after}", expected=expected)

    def _leave(self) -> None:
        """Take off everything of ours, and nothing else."""
        self._sites.remove()
        if self._seat is not None:
            self._engine.leave(self._seat)
            self._seat = None

    def before_call(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See `Listener`."""
        self._sites.forget()
        if call.repeated or self._process.is_other():
            return
        self._thread.begin(call.network)
        self._sink.unreturned += 1
        self._recorder.unreturned.begin(goes_on=self._engine.goes_on(on_one_grid=True))
        tensors = leaves([*args, *kwargs.values()])
        if tensors:
            guided = says_it_guides(self._engine.pipe)
            self._recorder.room.expect(call.network, tensors[0], self._engine.schedulers, guided=guided)

    def after_call(self, call: Call, outputs: list[Tensor]) -> None:
        """See `Listener`."""
        if call.repeated or self._process.is_other():
            self._sites.forget()
            return
        call.sites = self._sites.take()
        self._thread.end()
        self._sink.unreturned -= 1
        self._recorder.unreturned.end()

    def before_step(self, step: StepEvent) -> None:
        """See `Listener`."""
        if self._process.is_other():
            return
        self._sites.check_heard(call.module for call in step.calls)
        self._sink.unreturned += 1
        self._recorder.unreturned.step(begins=step.begins, cut_off=self._engine.is_cut_off(before=True))
        self._begun = self._recorder.before(step)
        self._begun.record["sites"] = self._sites.outputs()

    def after_step(self, step: StepEvent, result: Any) -> None:
        """See `Listener`."""
        if self._process.is_other():
            return
        assert self._begun is not None
        self._recorder.after(self._begun, result, returns_x0=step.returns_x0, replaced=step.replaced)
        self._begun = None
        self._sink.unreturned -= 1
        self._recorder.unreturned.stepped()

    def _manifest(self) -> dict[str, Any]:
        return {
            "pipeline": type(self._engine.pipe).__name__,
            "schedulers": {name: _describe(part) for name, part in self._engine.schedulers.items()},
            "modules": {name: type(module).__name__ for name, module in self._denoisers.items()},
            **self._sites.describe(),
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
