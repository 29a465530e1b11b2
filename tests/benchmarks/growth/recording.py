"""Recording, reading a trace back, and joining the parts of a sweep."""

import tempfile
from pathlib import Path
from typing import Any

from scorescope.probes.experiments import read_sweep
from scorescope.probes.recording import Trace, record
from scorescope.probes.work import Plan, plan_work, sweeps
from scorescope.probes.work.execute import execute
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import call, pipeline, run
from tests.benchmarks.made_up_chunks import made_up, spec_of


def recorded(made: Any) -> None:
    with record(made.pipe, progress=False) as trace:
        call(made)
    len(trace.scalars)


def written(samples: int, steps: int) -> Path:
    folder = Path(tempfile.mkdtemp()) / "trace"
    made = pipeline(samples, steps)
    with record(made.pipe, keep="branches", path=folder, progress=False):
        call(made)
    return folder


def opened(folder: Path) -> None:
    trace = Trace.open(folder)
    len(trace.scalars)
    trace.to_xarray()["x"].load()


def chunks(samples: int) -> tuple[Plan, Path]:
    """A sweep's chunks on disk, with the columns of real ones."""
    sweeps.sample_chunk = made_up
    plan, folder = plan_work(spec_of(samples, settings=2)), Path(tempfile.mkdtemp())
    assert execute(plan.chunks, folder, progress=False).is_complete
    return plan, folder


def joined(made: tuple[Plan, Path]) -> None:
    plan, folder = made
    plan.join(folder)
    for path in folder.glob("*.json"):
        if path.name != "status.json":
            read_sweep(path)


STEPS = "samples x steps"
SAMPLES, LEVELS, DIM = (250, 500, 1000, 2000, 4000), (32, 64, 128, 256, 512), (4096, 8192, 16384, 32768, 65536)
CASES = (
    Case("recording: plain denoiser", "samples", SAMPLES, lambda n: (n, 9, 64), lambda a: run(*a), STEPS, 1, 1),
    Case("recording: plain denoiser", "steps", LEVELS, lambda n: (32, n, 64), lambda a: run(*a), STEPS, 1, 1),
    Case("recording: plain denoiser", "dimension", DIM, lambda n: (32, 9, n), lambda a: run(*a), "elements", 1, 1),
    Case("recording: pipeline and its table", "samples", (64, 128, 256, 512, 1024), lambda n: pipeline(n, 9), recorded,
         STEPS, 1, 1),
    Case("recording: pipeline and its table", "steps", LEVELS, lambda n: pipeline(8, n), recorded, STEPS, 1, 1),
    Case("recording: pipeline and its table", "side", (32, 64, 128, 256), lambda n: pipeline(8, 9, n), recorded,
         "elements", 2, 2),
    Case("recording: trace read from disk", "samples", (64, 128, 256, 512, 1024), lambda n: written(n, 9), opened,
         STEPS, 1, 1),
    Case("recording: trace read from disk", "steps", LEVELS, lambda n: written(4, n), opened, STEPS, 1, 1),
    Case("recording: parts of a sweep joined", "samples", (4000, 8000, 16000, 32000), chunks, joined, "samples", 1, 1),
)  # fmt: skip
