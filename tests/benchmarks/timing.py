"""Side-by-side timing: pairs of runs in turn, medians, the ratio of each pair; and rows of the table of peers."""

import importlib
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall time of one call, or what another clock says."""
    start = clock()
    work()
    return clock() - start


def side_by_side(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    pairs: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float, float]:
    """Median seconds of both, and the median ratio ours / peer over pairs run in turn, after one warm-up each."""
    ours(), peer()
    timed = []
    for k in range(pairs):
        first, second = (ours, peer) if k % 2 else (peer, ours)
        taken = seconds(first, clock), seconds(second, clock)
        timed.append(taken if k % 2 else taken[::-1])
    return (
        statistics.median(a for a, _ in timed),
        statistics.median(b for _, b in timed),
        statistics.median(a / b for a, b in timed),
    )


@dataclass(frozen=True)
class Row:
    """A line of the table of peers: seconds of ours and of the peer, ratio ours / peer, difference of their numbers.

    What was not measured is NaN; a peer that was not there has the reason in `note`.
    """

    what: str
    peer: str
    ours: float = math.nan
    theirs: float = math.nan
    ratio: float = math.nan
    error: float = math.nan
    note: str = ""

    def __str__(self) -> str:
        times = [("-" if math.isnan(value) else f"{1e3 * value:.3g} ms") for value in (self.ours, self.theirs)]
        ratio = "-" if math.isnan(self.ratio) else f"{self.ratio:.2f}"
        error = "-" if math.isnan(self.error) else f"{self.error:.1e}"
        return f"| {self.what} | {times[0]} | {self.peer}: {times[1]} | {ratio} | {error} | {self.note} |"


def compared(
    what: str,
    peer: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    numbers: Callable[[Any], Any] = lambda returned: returned,
    pairs: int = 5,
    note: str = "",
) -> Row:
    """Processor time of both, in turn, and the largest difference of what they return, relative to the largest number.

    `numbers` makes of what the peer returns what ours does; that is not timed.
    Short work is repeated within a turn, so that a turn takes some 20 ms: the clock of a process ticks coarsely.
    """
    error = difference(ours(), numbers(theirs()))
    often = max(1, math.ceil(0.02 / max(seconds(theirs), 1e-6)))

    def repeated(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(often):
                work()

        return run

    a, b, ratio = side_by_side(repeated(ours), repeated(theirs), pairs=pairs, clock=time.process_time)
    return Row(what, peer, a / often, b / often, ratio, error, note)


def difference(ours: Any, theirs: Any) -> float:
    """Largest absolute difference over the largest number of the peer; NaN where nothing is returned."""
    if ours is None or theirs is None:
        return math.nan
    a, b = (np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, float) for value in (ours, theirs))
    return float(np.abs(a - b).max() / np.abs(b).max())


def find(name: str) -> Any:
    """A module of a peer, or the reason why it is not there."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # peers fail in their own ways
        return f"not installed ({type(error).__name__}: {error})"


def version(package: str) -> str:
    """Name and version, as installed."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


HEADER = "| what | ours | peer | ratio | error | |\n|---|---|---|---|---|---|"


def show(rows: Iterator[Row]) -> None:
    """Print rows as they come."""
    print(HEADER)
    for row in rows:
        print(row, flush=True)
