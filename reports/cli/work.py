"""What `scorescope work` does: a spec's chunks, made by this process, by others, or by this rank's share of them."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

from scorescope.data.errors import InputError
from scorescope.probes.work.execute import Done
from scorescope.probes.work.executors import dask_executor, process_pool
from scorescope.probes.work.plans import plan_work, read_spec, run_work

# by whom a process is told which of how many it is: torchrun and its like, arrays of SLURM
RANKS = (("RANK", "WORLD_SIZE", ""), ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"))
STEP = "SLURM_ARRAY_TASK_STEP"
KINDS = {"steering": "scorescope.analysis.work:plan_steering", "words": "scorescope.analysis.work:plan_words"}
"""Kinds that `probes.work` knows nothing of, by their functions."""


def work(
    spec: Path, out: Path, *, rank: int | None, world_size: int | None, workers: int | None, dask: str, attempts: int
) -> Done:
    """Make the share of this process and put together what is complete.

    Raises
    ------
    InputError
        For ranks beside workers, and what the spec's kind refuses.
    """
    share = share_of(rank, world_size, os.environ)
    if share[1] > 1 and (workers or dask):
        found = f"rank {share[0]} of {share[1]}, and workers"
        raise InputError("--workers, --dask", found=found, expected="one of them: ranks share the work by themselves")
    told = read_spec(spec)
    plan = plan_work(told | {"kind": KINDS.get(str(told.get("kind")), told.get("kind"))})
    with executor_of(workers, dask) as executor:
        return run_work(plan, out, executor, share=share, attempts=attempts)


def share_of(rank: int | None, world_size: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Rank and number of ranks: those given, else those that a launcher says, else all of the work."""
    if (rank is None) != (world_size is None):
        raise InputError("--rank, --world-size", found="one without the other", expected="both, or neither")
    if rank is not None and world_size is not None:
        return rank, world_size
    for own, count, first in RANKS:
        if own in environment and count in environment:
            place, total, start = (_number(environment, name) for name in (own, count, first))
            if environment.get(STEP, "1") != "1" and first:
                expected = "an array in steps of 1, or --rank and --world-size"
                raise InputError(STEP, found=environment[STEP], expected=expected)
            return place - start, total
    return 0, 1


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "0")
    if not value.isdecimal():
        raise InputError(name, found=repr(value), expected="a whole number, or --rank and --world-size")
    return int(value)


@contextmanager
def executor_of(workers: int | None, dask: str) -> Iterator[Executor | None]:
    """What --workers and --dask name; None for this process."""
    if workers is not None and dask:
        raise InputError("--workers, --dask", found="both", expected="one of them")
    if dask:
        with dask_executor(dask) as executor:
            yield executor
    elif workers is not None:
        with process_pool(workers) as executor:
            yield executor
    else:
        yield None
