"""Read damaged files of every kind, or of those named: `python -m tests.fuzz [--count 10000] [--seconds S] [KIND ...]`.

A line a kind, each in a process of its own, so that its memory is told apart.
"""

import argparse
import multiprocessing
import os
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from tests.fuzz.harness import Result, run
from tests.fuzz.kinds import KINDS

COLUMNS = "| kind | inputs | refused | faults | processor | slowest | memory |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read damaged files of every kind.")
    parser.add_argument("kinds", nargs="*", help="Names, or beginnings of names; all by default.")
    parser.add_argument("--count", type=int, default=10_000, help="Damaged files a kind.")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="Of the clock, after which a kind ends.")
    given = parser.parse_args()
    chosen = [kind.name for kind in KINDS if not given.kinds or kind.name.startswith(tuple(given.kinds))]
    print(COLUMNS, "|---" * 7 + "|", sep="\n", flush=True)
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        jobs = [(name, given.count, given.seconds) for name in chosen]
        for name, found in pool.imap(_job, jobs):
            print(_line(name, found), flush=True)
            for fault, number in found.faults.most_common():
                print(f"    {number} times, {fault}", flush=True)


def _job(told: tuple[str, int, float]) -> tuple[str, Result]:
    name, count, seconds = told
    warnings.simplefilter("ignore")
    os.chdir("/")  # nothing is read from where it is started
    kind = next(one for one in KINDS if one.name == name)
    with tempfile.TemporaryDirectory(prefix="scorescope-fuzz-") as folder:
        try:
            return name, run(kind, Path(folder), count, seconds=seconds)
        except Exception as error:  # not all errors can be sent from one process to another
            return name, Result(faults=Counter({f"{type(error).__name__} of the sound one: {error}": 1}))


def _line(name: str, found: Result) -> str:
    return (
        f"| {name} | {found.inputs} | {found.refused} | {len(found.faults)} | {found.seconds:.0f} s "
        f"| {found.slowest:.2f} s | {found.grown / 2**20:.0f} MiB |"
    )


if __name__ == "__main__":
    main()
