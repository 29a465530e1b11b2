"""One case of growth, its time and memory at every size, and the exponent that they grow with."""

import ctypes
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy

TOLERANCE = 0.3  # of an exponent: arrays that outgrow a cache bend the line of a linear cost by 0.1 to 0.3
NOISE = 0.03  # of a value, at least: residuals of five points can be small by chance
SMALL = 32.0  # MB: less growth than that is hidden by what allocators keep
PAGES = 2.0  # MB by which a peak is uncertain
REPEAT = 0.15  # seconds that short runs are repeated for, three times at least; the least is taken
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of the C library


@dataclass(frozen=True)
class Case:
    """What is measured along one axis.

    `make` draws the input of a size and is not timed; `run` takes it. `time` and `memory` are the exponents of the cost
    formula, `cost`; memory is what a run takes at its peak beyond its input.
    """

    name: str  # "instrument: what"
    axis: str
    sizes: tuple[int, ...]
    make: Callable[[int], Any]
    run: Callable[[Any], object]
    cost: str
    time: float
    memory: float

    def __post_init__(self) -> None:
        assert len(self.sizes) >= 4 and self.sizes[-1] >= 8 * self.sizes[0], self.name

    def quick(self) -> tuple[int, ...]:
        """The least sizes: shows that it runs, and no exponent."""
        return self.sizes[:2]


class Power(NamedTuple):
    """value = constant + something * size^exponent."""

    exponent: float
    error: float  # standard error
    constant: float  # as a share of the largest value

    def verdict(self, expected: float) -> str:
        bound = expected + TOLERANCE
        if self.exponent + self.error <= bound:
            return ""
        return "ABOVE" if self.exponent - self.error > bound else "undecided"


def fit_power(sizes: Sequence[int], values: Sequence[float], *, off: float = 0.0) -> Power:
    """Least squares of a constant >= 0 and a power: the exponent is that of what grows.

    A value is taken to be uncertain by `NOISE` of itself and by `off`.
    """
    n, y = np.log(np.asarray(sizes, float) / sizes[-1]), np.asarray(values, float) / values[-1]
    spread = np.hypot(NOISE * y, off / values[-1])

    def residuals(parameters: Any) -> Any:
        constant, scale, exponent = parameters
        return (constant + np.exp(scale + exponent * n) - y) / spread

    starts = [(share * y.min(), 0.0, 1.0) for share in (0.0, 0.5, 0.95)]
    bounds = ([0, -20, 0], [np.inf, 20, 6])
    fits = [scipy.optimize.least_squares(residuals, start, bounds=bounds) for start in starts]
    best = min(fits, key=lambda found: found.cost)
    constant, _, exponent = best.x
    free = np.array([constant > 1e-6, True, True])
    products = best.jac[:, free].T @ best.jac[:, free]
    scatter = max(1.0, 2 * best.cost / max(1, len(sizes) - int(free.sum())))
    variance = np.linalg.pinv(products, hermitian=True)[-1, -1] if np.linalg.cond(products) < 1e12 else np.inf
    return Power(float(exponent), float(np.sqrt(scatter * variance)), float(constant))


def measure(case: Case, sizes: Sequence[int]) -> list[tuple[float, float]]:
    """(processor seconds, MB at the peak beyond the input) of each size, each in a forked child of its own.

    Memory is the resident memory of the child as Linux keeps it, so that torch's, numpy's and Arrow's all count.
    """
    case.run(case.make(sizes[0]))  # imports and first calls, which children have then behind them
    with tempfile.TemporaryDirectory() as folder:
        return [_in_child(case, size, folder) for size in sizes]


def _in_child(case: Case, size: int, folder: str) -> tuple[float, float]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            tempfile.tempdir = folder  # what a child leaves there goes with the folder
            os.write(writing, json.dumps(_timed(case, size)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        written = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{case.name}, {case.axis} {size}: the child ended with {status}")
    seconds, megabytes = json.loads(written)
    return seconds, megabytes


def _timed(case: Case, size: int) -> tuple[float, float]:
    given = case.make(size)
    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)  # what making it has freed would be taken again, and not be seen
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    times = [_seconds(case, given)]
    megabytes = (_memory("VmHWM") - before) / 1024
    # from here on freed memory is kept: fresh pages cost more than most of what is computed in them, and only large
    # arrays have them, which looks like an exponent of 2
    libc.mallopt(M_MMAP_MAX, 0), libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    while len(times) < 3 or sum(times) < REPEAT:
        times.append(_seconds(case, given))
    return min(times), max(megabytes, 0.0)


def _seconds(case: Case, given: Any) -> float:
    start = time.process_time()
    case.run(given)
    return max(time.process_time() - start, 1e-6)


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
