"""Run every benchmark, or those named, with their options: `python -m tests.benchmarks [guidance ...]`."""

import importlib
import itertools
import platform
import sys
from pathlib import Path

import torch


def main() -> None:
    here = Path(__file__).parent
    given = list(itertools.takewhile(lambda word: not word.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(given) :]  # only of a benchmark that is named and takes some
    names = given or sorted(path.stem.removeprefix("bench_") for path in here.glob("bench_*.py"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.platform()}")
    for name in names:
        print(f"\n## {name}")
        importlib.import_module(f"tests.benchmarks.bench_{name}").main(*options)


if __name__ == "__main__":
    main()
