"""Makes a record of every scheduler step: what it was, where its state came from, what is kept of it."""

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.probes.pipelines.branches import Aligned, align, without_variance
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelFunction, LevelReader, LevelReaders
from scorescope.probes.pipelines.listener import Made, StepEvent
from scorescope.probes.pipelines.measure import Packed, add_gap, add_statistics, denoised, measure
from scorescope.probes.pipelines.naming import check_names
from scorescope.probes.pipelines.run_watch import Stream
from scorescope.probes.pipelines.step_arguments import StepArguments, step_results
from scorescope.probes.pipelines.tensor_copies import Copies, same_bits
from scorescope.probes.recording.estimate import Room
from scorescope.probes.recording.made import line_of, text_of_maker
from scorescope.probes.recording.plan import Plan
from scorescope.probes.recording.sink import Sink, Step
from scorescope.probes.recording.under_way import Unreturned

_REMEMBERED = 8  # earlier states of one scheduler that a new state is compared with


@displayed
@dataclass(frozen=True)
class Returned:
    """A state that a scheduler returned: the object itself, and a copy of what it held then."""

    event: int
    original: Tensor
    copy: Tensor


@dataclass
class RecordedStream(Stream):
    """One scheduler in one run, with the states that it returned."""

    returned: deque[Returned] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


@displayed
@dataclass
class Begun:
    """A step that the scheduler is busy with."""

    record: dict[str, Any]
    packed: Packed
    described: list[dict[str, Any]]
    level: Level
    arrays: dict[str, Tensor]
    state: Tensor
    guided: Callable[[], Tensor] | None
    stream: RecordedStream
    wanted: bool


class Recorder:
    """Turns steps into records and hands them to the sink."""

    def __init__(
        self, plan: Plan, sink: Sink, level: LevelFunction | None, value_range: tuple[float, float] | None,
        branches: Sequence[str] = (), *, progress: bool = True,
    ) -> None:  # fmt: skip
        self.plan, self.sink, self.value_range = plan, sink, value_range
        self._branches = check_names(branches)
        self.steps = 0
        self.begun: object = None  # another one in every run
        self.room = Room(plan, progress=progress)
        self._readers = LevelReaders(level)
        self._streams: dict[int, RecordedStream] = {}
        self._run: int | None = None
        self._spec: dict[str, Any] | None = None
        self._event = 0
        self._next: int | None = None
        self.copies = Copies()
        self.unreturned = Unreturned()
        self.cut_off: bool = False  # the pipeline was left in the run that ends

    def describe(self) -> dict[str, Any]:
        """What the manifest says of the plan."""
        kept = asdict(self.plan) | {"arrays": sorted(self.plan.arrays)}
        return {"recording": kept | {"value_range": list(self.value_range) if self.value_range else None}}

    def begin_run(self, number: int | None, spec: dict[str, Any] | None) -> None:
        """Start a run."""
        if number is None:
            number = self.sink.next_run if self._next is None else self._next
        self._run, self._spec, self._event, self._next = number, spec, 0, number + 1
        self._streams = {}  # of schedulers that may be copies for one run
        self._readers.forget()
        self.begun = object()
        self.room.begin_run()
        self.copies.forget()

    def end_run(self) -> None:
        """Finish a run."""
        if self._run is not None:
            line = {
                "kind": "end",
                "run": self._run,
                "attempt": self.sink.attempt,
                "spec": self._spec,
                "steps": self._event,
            }
            self._run = None
            left = self.cut_off or (self._spec is None and self.unreturned.are_left())
            self.sink.end_run(line, unfinished=left)

    def finish(self, complete: bool) -> None:
        """The block was left."""
        if complete and self._spec is None:
            self.end_run()

    def before(self, step: StepEvent) -> Begun:
        """Everything that has to be read before the scheduler steps."""
        given, calls, place = step.given, step.calls, step.place
        if self._run is None or (step.begins and self._spec is None):
            self.end_run()
            self.begin_run(None, None)
        stream = self._streams.setdefault(id(step.owner), RecordedStream(step.owner, len(self._streams)))
        stream.count()
        reader = self._readers.of(step.owner)
        level = reader.read(step.owner, given.timestep, given.state, given.extra)
        packed = Packed()
        prediction = self.copies.of(given.prediction)  # a step may edit it, and the state
        state, follows = self._state(stream, given.state, packed)
        aligned = align(calls, prediction, state, place, given.prediction)
        target = without_variance(prediction, state)
        described, guided = [], None
        if target is not None and state.is_floating_point() and target.numel():
            described = measure(packed, aligned, target, state, level)
            guided = functools.partial(denoised, target, state, level)
            if self.value_range is not None or (target.ndim == 4 and target.shape[1] == 3):
                add_statistics(packed, guided(), self.value_range)
        embedded = any(call.embedded for call in calls)
        described = [part | {"embedded": embedded, "labels": self._named(part["labels"])} for part in described]
        record = self._record(stream, given, reader, packed, place)
        record["follows"] = follows
        if step.made is not None:
            record["made"] = line_of(step.made)
        wanted = bool(self.plan.arrays or any(call.sites for call in calls)) and self.plan.wants(
            self._event, level.sigma
        )
        arrays = self._arrays(prediction, state, aligned, calls) if wanted else {}
        return Begun(record, packed, described, level, arrays, state, guided, stream, wanted)

    def after(self, step: Begun, result: Any, *, returns_x0: bool, replaced: Made | None = None) -> None:
        """What the scheduler returned, and who made the prediction that it received in place of the recorded one."""
        if replaced is not None:
            step.record["replaced"] = text_of_maker(replaced)
        original, estimate = step_results(result, step.state, second=returns_x0)
        returned = None if original is None else self.copies.of(original)  # may be edited in place from here on
        if original is not None and returned is not None:
            step.stream.returned.appendleft(Returned(self._event, original, returned))
        if estimate is not None and step.guided is not None:
            add_gap(step.packed, step.guided(), estimate.detach())
        if step.wanted:
            kept = {"x_prev": returned, "x0": estimate}
            step.arrays |= {
                n: self.copies.of(t) if n == "x0" else t
                for n, t in kept.items()
                if t is not None and n in self.plan.arrays
            }
            self.room.settle(step.arrays, step.stream.owner)
        step.record["arrays"] = {
            name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in step.arrays.items()
        }
        self.sink.put(Step(step.record, step.packed, step.described, step.level, step.arrays, step.state.device))
        self._event += 1
        self.steps += 1

    def _named(self, labels: list[str]) -> list[str]:
        """The pipeline's own labels, else the names that the user gave."""
        return list(self._branches) if not any(labels) and len(labels) == len(self._branches) else labels

    def _record(
        self, stream: RecordedStream, given: StepArguments, reader: LevelReader, packed: Packed, place: int
    ) -> dict[str, Any]:
        time: Any = None
        if given.timestep is not None:
            time = reader.time(stream.owner, given.timestep)
            if time is None and given.timestep.numel() in (1, len(given.state)):
                packed.add("t", given.timestep.flatten())
        small = given.prediction.numel() < given.state.numel()
        return {
            "kind": "step", "run": self._run, "attempt": self.sink.attempt, "event": self._event,
            "stream": stream.number, "step": stream.step, "call": stream.call, "t": time, "place": place,
            "rows": len(given.state), "size": given.state[0].numel() if len(given.state) else 0,
            "shape": list(given.state.shape), "dtype": str(given.state.dtype).removeprefix("torch."),
            "missing": "the prediction is smaller than the state" if small else "",
        }  # fmt: skip

    def _state(self, stream: RecordedStream, given: Tensor, packed: Packed) -> tuple[Tensor, list[list[Any]]]:
        """A copy of the state, and the earlier events of this scheduler that returned it, or may have.

        Each comes with one answer a sample; None where the device has to be asked, which `packed` does.
        """
        candidates = list(stream.returned)
        if candidates and candidates[0].original is given:
            candidates = candidates[:1]  # compared all the same: it may have been edited in place
        alike = [
            earlier
            for earlier in candidates
            if earlier.copy.shape == given.shape
            and earlier.copy.dtype == given.dtype
            and earlier.copy.device == given.device
        ]
        return self._state_on_host(alike, given) if given.device.type == "cpu" else self._ask(alike, given, packed)

    def _state_on_host(self, candidates: Sequence[Returned], given: Tensor) -> tuple[Tensor, list[list[Any]]]:
        events: list[list[Any]] = []
        for earlier in candidates:
            equal = same_bits(earlier.copy, given.detach())
            events.append([earlier.event, equal])
            if all(equal):
                return earlier.copy, events  # nobody writes to it: one copy serves both
        return self.copies.of(given), events

    def _ask(self, candidates: Sequence[Returned], given: Tensor, packed: Packed) -> tuple[Tensor, list[list[Any]]]:
        state = self.copies.of(given)
        for earlier in candidates:
            packed.add(f"follows/{earlier.event}", _same_bits(earlier.copy, state))
        return state, [[earlier.event, None] for earlier in candidates]

    def _arrays(
        self, prediction: Tensor, state: Tensor, aligned: Sequence[Aligned], calls: Sequence[Call]
    ) -> dict[str, Tensor]:
        wanted, found = self.plan.arrays, {}
        if "x" in wanted:
            found["x"] = state
        if "guided" in wanted:
            found["guided"] = prediction
        place = {id(call): number for number, call in enumerate(calls)}
        if "branches" in wanted:
            found |= {f"call{place[id(part.call)]}|{part.view}": part.rows for part in aligned}
        for number, call in enumerate(calls):
            for site, values in call.sites.items():
                found |= {f"site|{site}|{number}|{turn}": value for turn, value in enumerate(values)}
        return found


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _same_bits(a: Tensor, b: Tensor) -> Tensor:
    """Whether each sample is the same, bit for bit."""
    if not a.is_complex():
        a, b = (tensor.view(_BITS[tensor.element_size()]) for tensor in (a, b))
    return (a == b).reshape(len(a), -1).all(1)
