"""`scorescope report` against its four reports one after the other: wall time and processor time.

What is between is that reports are made in processes of their own, with one thread each. Ten minutes.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("guidance", "directions", "gaussian", "fid")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        each = [timed(name, "--quick", "--out", str(out / name)) for name in NAMES]
        together = timed("--out", str(out / "all"), watched=out / "all")
    for name, (wall, cpu, _) in zip(NAMES, each, strict=True):
        print(f"{name}: wall {wall:.0f} s, processor {cpu:.0f} s")
    before = [sum(times) for times in zip(*(one[:2] for one in each), strict=True)]
    wall, cpu, first = together
    print(f"one after the other: wall {before[0]:.0f} s, processor {before[1]:.0f} s")
    print(
        f"scorescope report: wall {wall:.0f} s ({wall / before[0]:.2f}), processor {cpu:.0f} s ({cpu / before[1]:.2f})"
    )
    print(f"its first page after {first:.0f} s; {os.cpu_count()} cores")


def timed(*arguments: str, watched: Path | None = None) -> tuple[float, float, float]:
    """Wall time and processor time of a report command, and when the first page was there."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "scorescope.reports", "report", *arguments]
    first = float("nan")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None:
            time.sleep(0.2)
            if watched and first != first and any(watched.glob("*/index.html")):
                first = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu, first
