"""Run every benchmark, or those named: `python -m tests.benchmarks [guidance ...]`."""

import importlib
import platform
import sys
from pathlib import Path

import torch


def main() -> None:
    here = Path(__file__).parent
    names = sys.argv[1:] or sorted(path.stem.removeprefix("bench_") for path in here.glob("bench_*.py"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.platform()}")
    for name in names:
        print(f"\n## {name}")
        importlib.import_module(f"tests.benchmarks.bench_{name}").main()


if __name__ == "__main__":
    main()
