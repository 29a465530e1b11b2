"""Where recorded steps go: a folder, or memory. The session fills it, the trace is made from it."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.measure import Packed, unread
from scorescope.probes.recording.made import prove_step
from scorescope.probes.recording.offload import Ring
from scorescope.probes.recording.reading import Contents, making_sense, read
from scorescope.probes.recording.resuming import reopen
from scorescope.probes.recording.store import Writer, is_unbegun, remove_trace, text_of
from scorescope.probes.recording.table import prove_all, sample_offsets, scalar_table
from scorescope.probes.recording.under_way import OneProcess

_HELD = 256  # steps whose numbers may wait on the device before they are read back


@displayed
@dataclass
class Step:
    """One recorded step on its way to the host.

    Attributes
    ----------
    record : dict
        What the host knows already.
    packed : Packed
        Names of the numbers in `vector`.
    described : list of dict
        The hypotheses that the numbers judge.
    level : Level
        Noise level.
    arrays : dict of Tensor
        What is kept.
    device : torch.device
        Where the numbers are.
    """

    record: dict[str, Any]
    packed: Packed
    described: list[dict[str, Any]]
    level: Level
    arrays: dict[str, Tensor]
    device: torch.device

    def whole(self, vector: Tensor) -> dict[str, Any]:
        """The complete record, with the numbers from the host."""
        return self.record | unread(self.record, self.packed.read(vector), self.described, self.level)


@displayed
@dataclass
class Memory:
    """Lines and arrays of a trace that is not on disk."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def add(self, record: dict[str, Any]) -> None:
        """Append a line."""
        self.lines.append({**record, "line": len(self.lines)})

    def hold(self, record: dict[str, Any], arrays: dict[str, Tensor]) -> None:
        """Append a line with its arrays."""
        self.arrays[len(self.lines)] = arrays
        self.add(record)


@dataclass
class Recorded:
    """What a finished recording leaves.

    Attributes
    ----------
    contents : Contents
        Manifest and lines.
    memory : Memory or None
        Arrays, where they are not on disk.
    """

    contents: Contents
    memory: Memory | None


def _verdicts(record: dict[str, Any]) -> dict[str, Any]:
    """What the step proves by itself, for people who read the lines; tables are made from the inner products."""
    found = prove_step(record).verdicts
    return {
        "rule": [verdict.rule for verdict in found],
        "weight": [verdict.weight for verdict in found],
        "residual": [None if verdict.fit is None else verdict.fit.residual for verdict in found],
    }


def _status(status: str, contents: Contents) -> str:
    """A recording that is complete but for runs that were cut off is not."""
    return "incomplete" if status == "complete" and contents.unfinished() else status


def _own(tensor: Tensor) -> Tensor:
    """A tensor that holds no more memory than its own, and may be kept."""
    shares = tensor.untyped_storage().nbytes() > tensor.nbytes or tensor.is_pinned()
    return tensor.clone(memory_format=torch.contiguous_format) if shares else tensor


class Sink:
    """Takes steps without waiting for the device.

    Parameters
    ----------
    path : Path or None
        Folder of the trace; None holds it in memory.
    resume : bool
        Continue the trace that is there.
    overwrite : bool
        Replace the trace that is there.

    Attributes
    ----------
    attempt : int
        Number of this recording of the same trace.
    next_run : int
        The first run number that the recordings before it left free.
    unreturned : int
        Calls of denoisers and schedulers, in this run, that were begun and did not return.
    """

    def __init__(self, path: Path | None, *, resume: bool, overwrite: bool = False) -> None:
        if resume and path is None:
            raise InputError("resume", found="True without a path", expected="the path of the trace to continue")
        if overwrite and (resume or path is None):
            found = "True beside resume=True" if resume else "True without a path"
            raise InputError("overwrite", found=found, expected="the path of the trace to replace, and no resume")
        self._path, self._resume, self._overwrite = path, resume, overwrite
        self._writer: Writer | None = None
        self._memory = Memory()
        self._ring: Ring | None = None
        self._held: list[tuple[Step, Tensor]] = []
        self._manifest: dict[str, Any] = {}
        self._ended: dict[int, dict[str, Any]] = {}
        self._process = OneProcess()
        self.attempt = self.next_run = self.unreturned = 0

    def is_finished(self, run: int, spec: Mapping[str, Any]) -> bool:
        """Whether a run was finished by an earlier recording.

        Raises
        ------
        InputError
            Where that recording did another run under this number.
        """
        end = self._ended.get(run)
        if end is not None and text_of(end["spec"]) != text_of(spec):  # as text, where NaN is NaN
            raise InputError("specs", found=f"{spec} as run {run}", expected=f"{end['spec']}, as in the trace")
        return end is not None

    def open(self, manifest: dict[str, Any]) -> None:
        """Make or continue the folder.

        Raises
        ------
        TraceError
            For a folder that cannot be written, or a trace that cannot be continued, or not with this manifest.
        """
        self._manifest = {"status": "recording", **manifest}
        if self._path is None:
            return
        if self._resume and not is_unbegun(self._path):
            self._writer, earlier = reopen(self._path, manifest)
            self.attempt = 1 + max((line["attempt"] for line in earlier.lines), default=-1)
            self.next_run = 1 + max((line["run"] for line in earlier.lines), default=-1)
            self._ended = earlier.finished_runs()
            return
        if self._overwrite and not is_unbegun(self._path):
            remove_trace(self._path)
        self._writer = Writer.create(self._path, manifest)

    def put(self, step: Step) -> None:
        """Take one step."""
        vector = step.packed.vector(step.device)
        if self._writer is None and not step.arrays and self._ring is None:
            self._held.append((step, vector))
            if len(self._held) >= _HELD:
                self._read_held()
            return
        self._read_held()
        if self._ring is None:
            self._ring = Ring()
        shard = self._writer.reserve() if self._writer is not None and step.arrays else None
        self._ring.put({"": vector, **step.arrays}, functools.partial(self._consume, step, shard))
        step.arrays.clear()

    def _consume(self, step: Step, shard: str | None, host: dict[str, Tensor]) -> Callable[[], None]:
        """Bring one step to its place; what is returned adds its line when its turn has come."""
        record = step.whole(host.pop(""))
        if self._writer is None:
            arrays = {name: _own(tensor) for name, tensor in host.items()}
            return functools.partial(self._memory.hold, record, arrays)
        if shard is not None:
            record |= self._writer.shard(shard, host)
        return functools.partial(self._writer.append, record | _verdicts(record))

    def _read_held(self) -> None:
        """Read everything back at once; steps are held only while there is no ring, so that their order stays."""
        if not self._held:
            return
        vectors = [vector for _, vector in self._held]
        whole = torch.cat([vector.to(vectors[0].device) for vector in vectors]).cpu()
        start = 0
        for step, vector in self._held:
            self._memory.add(step.whole(whole[start : start + len(vector)]))
            start += len(vector)
        self._held.clear()

    def end_run(self, line: dict[str, Any], *, unfinished: bool) -> None:
        """Note that a run came to its end.

        Not of one that was cut off, of one that was asked for and has no step, or in which a call raised: whoever
        caught that error went on to the next run, and this one is still to be made.
        """
        self.flush(raise_errors=True)
        unfinished = unfinished or self._process.is_other()
        if unfinished or (line["spec"] is not None and (self.unreturned or not line["steps"])):
            return
        if self._writer is not None:
            self._writer.line(line)
        else:
            self._memory.add(line)

    def flush(self, *, raise_errors: bool) -> None:
        """Wait until every step has arrived."""
        if self._process.is_other():
            return
        if self._ring is not None:
            self._ring.close(raise_errors=raise_errors)
            self._ring = None  # not before: whoever is interrupted while waiting has to wait again
        self._read_held()

    def close(self, status: str, *, raise_errors: bool) -> None:
        """Give up before anything was recorded."""
        self.flush(raise_errors=raise_errors)
        if self._writer is not None:
            self._writer.abandon()

    def finish(self, status: str, more: Mapping[str, Any]) -> Recorded:
        """Write what is written last, and hand over."""
        if self._process.is_other():  # the parent writes, and goes on
            return Recorded(Contents(Path(), self._manifest | {"status": "interrupted", **more}), Memory())
        self.flush(raise_errors=False)
        if self._writer is None:
            contents = Contents(Path(), self._manifest, self._memory.lines)
            contents.manifest = self._manifest | {"status": _status(status, contents), **more}
            return Recorded(contents, self._memory)
        path = self._writer.path
        contents = read(path)
        status, events = _status(status, contents), contents.events()
        try:
            with making_sense(path):
                proved = prove_all(events)
                table = scalar_table(events, proved, sample_offsets(events, proved))
            self._writer.close(status, table, **more)
        except InputError:
            self._writer.abandon()
            if status in ("complete", "incomplete"):
                raise
        contents.manifest = self._writer.manifest  # not read again: the lines are held once
        return Recorded(contents, None)
