"""A fixed ring of host buffers between the device and a writer thread.

    ring = Ring(slots=4)
    ring.put(tensors, consume)        # returns as soon as a slot is free; consume(host tensors) runs in the thread

Copies go to pinned buffers on a side stream; when all slots are in use `put` waits (back-pressure), so memory does
not grow with the number of steps. On the CPU the same code runs without pinning and streams. An error in the
thread is raised by the next `put` or by `close`.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Consume = Callable[[dict[str, Tensor]], None]


class Ring:
    """Moves named tensors to the host, a bounded number of batches at a time.

    Parameters
    ----------
    slots : int
        Batches in flight at most.
    """

    def __init__(self, slots: int = 4) -> None:
        self._free: queue.Queue[dict[str, Any]] = queue.Queue()
        for _ in range(slots):
            self._free.put({"buffer": None})
        self._full: queue.Queue[tuple[dict[str, Any], dict[str, Tensor], Any, Consume] | None] = queue.Queue()
        self._error: BaseException | None = None
        self._streams: dict[torch.device, Any] = {}
        self._thread = threading.Thread(target=self._work, name="scorescope-writer", daemon=True)
        self._thread.start()

    def put(self, tensors: Mapping[str, Tensor], consume: Consume) -> None:
        """Copy to a slot and hand it to the thread; waits while no slot is free.

        Parameters
        ----------
        tensors : mapping
            What to move. May be changed by the caller once `put` has returned on the CPU; on an accelerator they
            must not be written to again.
        consume : callable
            Gets the host copies, which are only valid until it returns.
        """
        self._check()
        slot = self._free.get()
        self._check()
        device = next((t.device for t in tensors.values() if t.device.type == "cuda"), None)
        if device is None:
            self._full.put((slot, self._copy(slot, tensors, pinned=False), None, consume))
            return
        side = self._streams.setdefault(device, torch.cuda.Stream(device))
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            host = self._copy(slot, tensors, pinned=True)
            for tensor in tensors.values():
                if tensor.device.type == "cuda":
                    tensor.record_stream(side)
            done = side.record_event()
        self._full.put((slot, host, done, consume))

    def close(self, *, raise_errors: bool = True) -> None:
        """Wait until everything has been consumed and end the thread."""
        self._full.put(None)
        self._thread.join()
        if raise_errors:
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    @staticmethod
    def _copy(slot: dict[str, Any], tensors: Mapping[str, Tensor], *, pinned: bool) -> dict[str, Tensor]:
        sizes = {name: -(-tensor.numel() * tensor.element_size() // 64) * 64 for name, tensor in tensors.items()}
        total = max(64, sum(sizes.values()))
        if slot["buffer"] is None or slot["buffer"].numel() < total:
            slot["buffer"] = torch.empty(total, dtype=torch.uint8, pin_memory=pinned)
        host, start = {}, 0
        for name, tensor in tensors.items():
            used = tensor.numel() * tensor.element_size()
            view = slot["buffer"][start : start + used].view(tensor.dtype).view(tensor.shape)
            view.copy_(tensor, non_blocking=pinned)
            host[name] = view
            start += sizes[name]
        return host

    def _work(self) -> None:
        while (job := self._full.get()) is not None:
            slot, host, done, consume = job
            try:
                if done is not None:
                    done.synchronize()
                if self._error is None:
                    consume(host)
            except BaseException as error:
                self._error = error
            finally:
                self._free.put(slot)
