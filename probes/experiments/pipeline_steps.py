"""The steps of one short call of a pipeline: states, levels, branches, and what the network was given for each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import STEPS, call_arguments, call_told, takes
from scorescope.probes.experiments.pipeline_runs import seeded
from scorescope.probes.guidance.scheduler_step import LEAST_ALPHA, step_state, to_denoised_space
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.engine import Engine
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelReaders
from scorescope.probes.pipelines.listener import Listener, StepEvent
from scorescope.probes.pipelines.sample_calls import SampleCall
from scorescope.probes.pipelines.separator import Separated, Separator

LENGTH = 5  # steps of a call that is watched to its end


@displayed
@dataclass(frozen=True, eq=False)
class PipelineStep:
    """One step of a call that makes one sample, in the variance-exploding convention.

    Attributes
    ----------
    scheduler : object
        Whose step it was.
    sigma : float
        Noise level, in units of the data.
    x : Tensor, shape (1, *shape)
        State x0 + sigma n, float64.
    time : float
        The time that the network was given.
    skip, out : float
        D = skip * x + out * (what the network put out).
    cond, uncond : Tensor, shape (1, *shape)
        D of both branches, float64; uncond None where it was not made.
    cond_call, uncond_call : SampleCall
        What the network was given.
    view : str
        How its output has the shape of the state; see `Layout`.
    """

    scheduler: Any
    sigma: float
    x: Tensor
    time: float
    skip: float
    out: float
    cond: Tensor
    uncond: Tensor | None
    cond_call: SampleCall
    uncond_call: SampleCall | None
    view: str


class _Enough(BaseException):
    """Ends a call of a pipeline; it is no error, so that pipelines let it pass."""


class _Watch(Listener):
    """Keeps the steps of one call."""

    wants_outputs = wants_arguments = True

    def __init__(self, most: int | None) -> None:
        self.steps: list[PipelineStep] = []
        self.why: InputError | None = None
        self._most, self._separator, self._readers = most, Separator(), LevelReaders()

    def before_step(self, step: StepEvent) -> None:
        """See `Listener`."""
        if step.place:
            return
        given, owner = step.given, step.owner
        try:
            level = self._readers.of(owner).read(owner, given.timestep, given.state, given.extra)
            found = self._separator.separate(step.calls, given.prediction, given.state, level, step.place)
            if (kept := _step(owner, found, level)) is not None:
                self.steps.append(kept)
        except InputError as error:  # of this step; what is not known at any is told at the end
            self.why = error
        if self._most is not None and len(self.steps) >= self._most:
            raise _Enough


def watch_calls(
    pipe: Any, row: Mapping[str, Any], shared: Mapping[str, Any], *, most: int | None = None
) -> list[PipelineStep]:
    """The steps of one call whose levels and branches are known.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline.
    row, shared : mapping
        Arguments of the call.
    most : int, optional
        End the call after so many steps.

    Raises
    ------
    InputError
        Where there is none, with the reason.
    """
    length = {STEPS: LENGTH} if takes(pipe, STEPS) else {}
    given = {"seed": 0, **{name: value for name, value in row.items() if name != STEPS}}
    watch, engine = _Watch(most), Engine.of(pipe)
    seat = engine.join(watch, find.denoisers(pipe, None))
    try:
        with torch.no_grad(), call_told(pipe), seeded(int(given["seed"])):
            pipe(**call_arguments(pipe, given, {**shared, **length}))
    except _Enough:
        pass
    finally:
        engine.leave(seat)
    if not watch.steps:
        raise watch.why or InputError("pipe", found="a call without a finite noise level", expected="steps with one")
    return watch.steps


def precision_of(given: Any) -> float:
    """Relative spacing of the numbers that a network was given, that of float32 at least."""
    least = torch.finfo(torch.float32).eps
    is_float = isinstance(given, Tensor) and given.is_floating_point()
    return max(torch.finfo(given.dtype).eps, least) if is_float else least


def _step(scheduler: Any, found: Separated, level: Level) -> PipelineStep | None:
    """One step; None at a state that holds no data, which has no x = x0 + sigma n."""
    state = step_state(found.state, level)
    if state.sigma >= 0.1 / LEAST_ALPHA:
        return None
    if len(state.x) != 1:
        raise InputError("pipe", found=f"{len(state.x)} samples in one call", expected="arguments that make one")
    sources = found.source("cond"), found.source("uncond")
    if sources[0] is None or (sources[1] is None and found.uncond is not None):
        raise InputError("pipe", found="branches that lie in several calls", expected="one call for each branch")
    calls = [None if source is None else SampleCall.of(*source) for source in sources]
    cond, uncond = (
        None if one is None else to_denoised_space(one, found.state, level) for one in (found.cond, found.uncond)
    )
    verdict = found.verdicts[0]
    if verdict.mix:
        expected = "one that hands on what its network puts out"
        raise InputError("pipe", found="a pipeline that mixes the state into predictions", expected=expected)
    assert calls[0] is not None and cond is not None  # of every step
    return PipelineStep(
        scheduler, state.sigma, state.x.clone(), _time(calls[0]), float(level.skip) * float(level.alpha),
        float(level.out) * verdict.scale, cond, uncond, calls[0], calls[1], found.layout.view,
    )  # fmt: skip


def _time(call: SampleCall) -> float:
    """The one time that a network was given for a sample."""
    values = torch.as_tensor(call.given_time if call.time else math.nan).double().flatten().unique()
    if len(values) != 1 or math.isnan(float(values[0])):
        found = f"times {values.tolist()[:4]} for one sample"
        raise InputError("pipe", found=found, expected="a network that is given one time a sample")
    return float(values[0])
