"""Quantities of a recorded path against loading it from disk: processor time.

What bounds them: L levels are 8 L bytes an element in float32, and their inner products in float64 2 (2 L + 1)^2
operations, which is about L operations for every byte that is loaded.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scorescope.analysis.trajectories import (
    decision_levels,
    decisions,
    path_geometry,
    path_shape,
    products_along,
    recorded_path,
)
from scorescope.probes import Trace, record
from tests.benchmarks.bench_replay import BATCH, SHAPE, STEPS, Pipeline

SQUARE = 2048


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run, pipe = Path(folder) / "trace", Pipeline()
        with record(pipe, keep="branches", path=run):
            pipe()
        path = recorded_path(Trace.open(run))
        loading = processor(lambda: recorded_path(Trace.open(run)))
    products = products_along(path)
    work: dict[str, Callable[[], object]] = {
        "products": lambda: products_along(path),
        "geometry": lambda: path_geometry(path, products=products),
        "shape": lambda: path_shape(path, products=products),
        "decisions": lambda: decisions(path),
        "decision levels": lambda: decision_levels(path),
    }
    taken = {name: processor(one) for name, one in work.items()}
    print(f"{BATCH} x {STEPS} x {SHAPE}: loading {loading:.2f} s, then " + ", ".join(
        f"{name} {one:.2f} s" for name, one in taken.items()))  # fmt: skip
    print(f"(loading + all) / loading: {(loading + sum(taken.values())) / loading:.2f} (bound 1.1)")
    square = torch.randn(SQUARE, SQUARE, dtype=torch.float64)
    rate = 2 * SQUARE**3 / processor(lambda: square @ square)
    operations = 2 * (2 * len(path.sigmas) + 1) ** 2 * path.states[0].numel()
    read = 2 * path.states.numel() * path.states.element_size()
    print(f"inner products once: {operations / rate:.2f} s at the {rate / 1e9:.0f} GFLOP/s of a square product, "
          f"{operations / read:.0f} operations a byte")  # fmt: skip


def processor(work: Callable[[], object]) -> float:
    """Least processor time of three."""
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)
