"""Work in chunks: two processes against one for sampling and for moments, and the growth of a study of 10^6 samples.

`python -m tests.benchmarks work` takes some minutes; QUICK=1 in the environment is a trial of seconds, which shows that
it runs and no more. Processes have one thread each, and so has the one that they are compared with.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from scorescope.analysis import decompose, summarise_by
from scorescope.probes.experiments import read_sweep
from scorescope.probes.work import plan_work, process_pool, sweeps
from scorescope.probes.work.execute import execute
from tests.benchmarks.made_up_chunks import RULES, STEPS, made_up, spec_of, template

QUICK = bool(os.environ.get("QUICK"))
BOUND = 0.85  # of ideal
MOST = 4.0  # GB
SETTING = 50_000  # samples of a setting of the simulated study


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        efficiency("sampling and its trace", sampling(), Path(folder) / "sampling")
        efficiency("moments of images", moments(Path(folder) / "images"), Path(folder) / "moments")
    growth()


# two processes against one


def sampling() -> dict:
    seeds = 64 if QUICK else 4096
    return {"kind": "sweep", "model": "digits", "rules": RULES, "weights": [3.0], "seeds": seeds, "size": seeds // 16}


def moments(folder: Path) -> dict:
    folder.mkdir()
    count, generator = (64, 4000)[not QUICK], np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(generator.integers(0, 256, (160, 160, 3), np.uint8)).save(folder / f"{number:05d}.png")
    return {"kind": "moments", "images": str(folder), "features": "subject", "size": count // 16}


def efficiency(what: str, spec: dict, folder: Path) -> None:
    """Seconds in process and with two processes that have done such a chunk before, in turn."""
    plan, rounds = plan_work(spec), 1 if QUICK else 3
    times = []
    with process_pool(2) as pool:
        cold = seconds(plan, folder / "cold", pool)
        for k in range(rounds):
            times.append((seconds(plan, folder / f"here{k}"), seconds(plan, folder / f"pool{k}", pool)))
    here, two = np.median(times, axis=0)
    share = np.median([one / (2 * both) for one, both in times])
    print(
        f"{what}, {len(plan.chunks)} chunks: {here:.2f} s in process, {two:.2f} s by two processes, {share:.2f} of "
        f"ideal (bound {BOUND:g}); {cold:.2f} s with their start"
    )


def seconds(plan, folder: Path, executor=None) -> float:
    start = time.perf_counter()
    done = execute(plan.chunks, folder, executor, progress=False)
    assert done.is_complete, done.failed
    return time.perf_counter() - start


# a simulated study


def growth() -> None:
    """Join and summary of made-up scalars, each size in a process of its own; making them up is not counted."""
    sizes = [2_000, 4_000, 8_000] if QUICK else [125_000, 250_000, 500_000, 1_000_000]
    found = [of_size(size) for size in sizes]
    exponent = np.polyfit(np.log(sizes), np.log([one["seconds"] for one in found]), 1)[0]
    for size, one in zip(sizes, found, strict=True):
        print(
            f"study of {size} samples x {STEPS} rows, {one['settings']} settings: joined and summarised in "
            f"{one['seconds']:.1f} s of a processor, {one['memory']:.2f} GB at most (bound {MOST:g})"
        )
    print(f"time grows with samples to the power {exponent:.2f} (bound 1.1)")


def of_size(samples: int) -> dict:
    command = [sys.executable, "-m", "tests.benchmarks.bench_work", str(samples)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def simulated(samples: int) -> dict:
    """One size: chunks of made-up scalars on disk, then what a study does with them, setting by setting."""
    sweeps.sample_chunk = made_up
    settings = max(2, samples // SETTING)
    spec = spec_of(samples, settings=settings)
    plan = plan_work(spec)
    with tempfile.TemporaryDirectory() as folder:
        assert execute(plan.chunks, folder, progress=False).is_complete
        start = time.process_time()
        plan.join(Path(folder))
        summaries = [summarised(path) for path in sorted(Path(folder).glob("*.json")) if path.name != "status.json"]
        took = time.process_time() - start
    assert len(summaries) == settings and all(summaries)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": took, "memory": memory, "settings": settings}


def summarised(path: Path) -> bool:
    """The parallel share of one setting at every noise level, with its interval."""
    ((_, run),) = read_sweep(path).items()
    table = decompose(run.trace)
    found = summarise_by(table, quantities=["parallel_share"], by=["sigma"])
    return bool(found["n"].sum())


if __name__ == "__main__":
    from scorescope.data.threads import threads

    with threads(1):
        template()
        print(json.dumps(simulated(int(sys.argv[1]))))
