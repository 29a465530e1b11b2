"""A fixed ring of host buffers between the device and the threads that write.

    ring = Ring(slots=4)
    ring.put(tensors, consume)        # returns as soon as a slot is free

`consume(host tensors)` runs in one of a few threads, beside that of other batches; what it returns, if anything, is
called in the order of `put`. So shards are written, hashed and synced side by side, and their lines follow in order.

Copies go to pinned buffers on a side stream; when all slots are in use `put` waits (back-pressure), so memory does
not grow with the number of steps. On the CPU there is nothing to copy and the rest is the same. An error in a thread
is raised by the next `put` or by `close`; what was put before the batch that failed is finished, nothing after it.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 4096  # pages: a disk may take the bytes from where they lie

Commit = Callable[[], None]
Consume = Callable[[dict[str, Tensor]], Commit | None]


@dataclass
class _Slot:
    buffer: Tensor | None = None


@dataclass
class _Job:
    slot: _Slot
    host: dict[str, Tensor]
    copied: list[Any]
    consume: Consume


class Ring:
    """Moves named tensors to the host, a bounded number of batches at a time.

    Parameters
    ----------
    slots : int
        Batches in flight at most.
    threads : int
        How many of them are consumed at once.
    """

    def __init__(self, slots: int = 5, threads: int = 3) -> None:
        self._free: queue.Queue[_Slot] = queue.Queue()
        for _ in range(slots):
            self._free.put(_Slot())
        self._full: queue.Queue[_Job | None] = queue.Queue()
        self._error: BaseException | None = None
        self._failing = False
        self._streams: dict[torch.device, Any] = {}
        self._taking, self._taken = threading.Lock(), 0
        self._turn, self._turns = 0, threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name="scorescope-writer", daemon=True) for _ in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, tensors: Mapping[str, Tensor], consume: Consume) -> None:
        """Copy to a slot and hand it to a thread; waits while no slot is free.

        Parameters
        ----------
        tensors : mapping
            What to move; must not be written to again. On the CPU these are what is consumed.
        consume : callable
            Gets the host copies; those in pinned memory are only valid until it returns. Runs beside those of other
            batches; what it returns runs after everything that was put before.
        """
        self._check()
        slot = self._free.get()
        self._check()
        devices = {tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"}
        if not devices:
            self._full.put(_Job(slot, dict(tensors), [], consume))
            return
        try:
            host = self._places(slot, tensors)
            copied = [self._copy(device, tensors, host) for device in devices]
        except BaseException:
            self._free.put(slot)
            raise
        self._full.put(_Job(slot, host, copied, consume))

    def close(self, *, raise_errors: bool = True) -> None:
        """Wait until everything has been consumed and end the threads."""
        for _ in self._threads:
            self._full.put(None)
        for thread in self._threads:
            thread.join()
        if raise_errors:
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _copy(self, device: torch.device, tensors: Mapping[str, Tensor], host: Mapping[str, Tensor]) -> Any:
        """Copy what lies on one device, on a stream of its own; the event after it."""
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        side = self._streams[device]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for name, tensor in tensors.items():
                if tensor.device == device:
                    host[name].copy_(tensor, non_blocking=True)
                    tensor.record_stream(side)
            return side.record_event()

    @staticmethod
    def _places(slot: _Slot, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Room for tensors in the buffer of a slot; those that are on the host already are copied to it."""
        sizes = {name: -(-tensor.nbytes // _ALIGNED) * _ALIGNED for name, tensor in tensors.items()}
        total = max(_ALIGNED, sum(sizes.values()))
        if slot.buffer is None or slot.buffer.numel() < total:
            slot.buffer = torch.empty(total, dtype=torch.uint8, device="cpu", pin_memory=True)
        host, start = {}, 0
        for name, tensor in tensors.items():
            view = slot.buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            if tensor.device.type != "cuda":
                view.copy_(tensor)
            host[name] = view
            start += sizes[name]
        return host

    def _work(self) -> None:
        while True:
            with self._taking:  # so that the numbers are those of the queue
                job, number = self._full.get(), self._taken
                self._taken += 1
                late = self._failing  # whatever is taken from now on came after the batch that failed
            if job is None:
                return
            self._finish(number, *self._consume(job, late))

    def _consume(self, job: _Job, late: bool) -> tuple[Commit | None, BaseException | None]:
        try:
            for event in job.copied:
                event.synchronize()
            return (None if late else job.consume(job.host)), None
        except BaseException as error:
            self._failing = True
            return None, error
        finally:
            job.host.clear()
            self._free.put(job.slot)

    def _finish(self, number: int, commit: Commit | None, error: BaseException | None) -> None:
        with self._turns:
            self._turns.wait_for(lambda: self._turn == number)
        try:
            if self._error is None and error is None and commit is not None:
                commit()
        except BaseException as late:
            error, self._failing = late, True
        if self._error is None:
            self._error = error
        with self._turns:
            self._turn += 1
            self._turns.notify_all()
