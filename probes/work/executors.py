"""Where chunks are made: processes of this machine, or the workers of a Dask cluster.

    with process_pool(8) as executor: ...
    with dask_executor("tcp://head:8786") as executor: ...

Anything else with the interface of `concurrent.futures` will do as well.
"""

import math
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

ANSWER = 60.0  # seconds that a scheduler has to hand over a few numbers
LOCAL_RANK = "LOCAL_RANK"  # as torchrun calls the number of a process on its machine


@checked
def process_pool(workers: int) -> Executor:
    """Processes of this machine, each replaced when it dies; a model loaded in one stays there.

    Parameters
    ----------
    workers : int
        How many. They share the devices of the machine in turn, see `worker_device`.

    Raises
    ------
    InputError
        For less than one.
    """
    if workers < 1:
        raise InputError("workers", found=str(workers), expected="at least 1")
    return _Processes(workers)


@contextmanager
@checked
def dask_executor(address: str) -> Iterator[Executor]:
    """The workers of a Dask cluster, within a with block.

    Parameters
    ----------
    address : str
        Of its scheduler, as "tcp://head:8786", or a file that the scheduler wrote (`--scheduler-file`).

    Raises
    ------
    InputError
        Without Dask, and where no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        expected = "Dask, the extra 'cluster': pip install 'scorescope[cluster]'"
        raise InputError("dask", found="no package distributed", expected=expected) from None
    where = {"scheduler_file": address} if os.path.isfile(address) else {"address": address}
    try:
        client = Client(**where, set_as_default=False)
    except (OSError, ValueError) as error:
        found = f"{address!r}, where no scheduler answers ({error})"
        raise InputError("dask", found=found, expected="the address of a Dask scheduler, as tcp://head:8786") from None
    with client:
        yield _Dask(client)


def worker_device(asked: str) -> str:
    """The device of this worker: of several that "cuda" could mean its own, by its number on the machine."""
    if asked != "cuda" or LOCAL_RANK not in os.environ or not torch.cuda.device_count():
        return asked
    return f"cuda:{int(os.environ[LOCAL_RANK]) % torch.cuda.device_count()}"


def as_they_end(executor: Executor, calls: deque[tuple[Any, ...]]) -> Iterator[tuple[tuple[Any, ...], Future[Any]]]:
    """Calls (function, *arguments) with their futures, as they end; those that are added to `calls` meanwhile too.

    No more wait in a pool than it has workers: they would begin after Ctrl-C.
    """
    most = getattr(executor, "_max_workers", math.inf)
    running, ended = dict[Future[Any], tuple[Any, ...]](), queue.SimpleQueue[Future[Any]]()
    try:
        while calls or running:
            while calls and len(running) < most:
                call = calls.popleft()
                future = _submitted(executor, call)
                running[future] = call
                future.add_done_callback(ended.put)
            future = ended.get()
            yield running.pop(future), future
    finally:
        for future in running:
            future.cancel()


def lost(error: BaseException) -> str:
    """What is said of an error that is not the work's own."""
    return f"its worker was lost ({type(error).__name__}: {str(error) or 'no reason given'})"


def _submitted(executor: Executor, call: tuple[Any, ...]) -> Future[Any]:
    try:
        return executor.submit(*call)
    except Exception as error:  # of an executor that is broken, or was shut down
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


class _Processes(Executor):
    """Pools of one process each, so that one that dies takes no other's work with it."""

    def __init__(self, workers: int) -> None:
        self._max_workers = workers
        self._pools = [_one_process(number) for number in range(workers)]
        self._waiting: list[list[Future[Any]]] = [[] for _ in range(workers)]

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give work to the process that has least to do."""
        self._waiting = [[future for future in waiting if not future.done()] for waiting in self._waiting]
        number = min(range(self._max_workers), key=lambda one: len(self._waiting[one]))
        try:
            future = self._pools[number].submit(function, *args, **kwargs)
        except BrokenExecutor:
            self._pools[number] = _one_process(number)
            future = self._pools[number].submit(function, *args, **kwargs)
        self._waiting[number].append(future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `Executor.shutdown`."""
        for pool in self._pools:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)


class _Dask(Executor):
    """A client of Dask. Its own executor waits for ever where the scheduler is lost just before a result is read."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give work to the cluster."""
        future: Future[Any] = Future()

        def ended(found: Any) -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(found.result(timeout=ANSWER))
            except BaseException as error:  # Dask's own error for a lost task is no `Exception`
                future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

        task = self._client.submit(function, *args, **kwargs, pure=False)
        future.task = task  # type: ignore[attr-defined]  # Dask forgets tasks that nobody holds
        task.add_done_callback(ended)
        return future


def _one_process(number: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that it does not copy
    return ProcessPoolExecutor(1, context, initializer=_begin, initargs=(number,))


def _begin(number: int) -> None:
    os.environ.setdefault(LOCAL_RANK, str(number))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that waits for this one was killed: it would keep its model, and its device, for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
