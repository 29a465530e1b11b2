"""Side-by-side timing: pairs of runs in turn, medians, and the ratio of each pair."""

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def side_by_side(
    ours: Callable[[], object], peer: Callable[[], object], *, pairs: int = 7
) -> tuple[float, float, float]:
    """Median seconds of both, and the median ratio ours / peer over pairs run in turn, after one warm-up each."""
    ours(), peer()
    timed = [(seconds(ours), seconds(peer)) if k % 2 else (seconds(peer), seconds(ours))[::-1] for k in range(pairs)]
    return (
        statistics.median(a for a, _ in timed),
        statistics.median(b for _, b in timed),
        statistics.median(a / b for a, b in timed),
    )
