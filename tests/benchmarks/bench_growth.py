"""Time and memory of the instruments against samples, steps, dimension, features, classes and sites.

    OMP_NUM_THREADS=1 python -m tests.benchmarks growth                 # every case, some five minutes of one core
    OMP_NUM_THREADS=1 python -m tests.benchmarks growth --only fid      # cases whose name begins so
    OMP_NUM_THREADS=1 python -m tests.benchmarks growth --quick         # two sizes each: shows that it runs

An exponent is that of what grows: constant + a size^exponent, least squares over all sizes, with its standard error.
Time is processor time, the least of several runs; memory is the peak of resident memory of a forked child beyond its
input, without an exponent where it grows by less than 32 MB. Marked are exponents above that of the cost formula by
more than 0.3: ABOVE, or undecided where their error allows both.
"""

import argparse

import torch
from threadpoolctl import threadpool_limits

from tests.benchmarks.growth import CASES
from tests.benchmarks.growth.case import PAGES, SMALL, Case, fit_power, measure


def main(*options: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(options)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print("| what | against | sizes | time | memory | cost formula | |\n|---|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for case in CASES:
            if case.name.startswith(asked.only):
                print(line(case, case.quick() if asked.quick else case.sizes), flush=True)
    torch.set_num_threads(threads)


def line(case: Case, sizes: tuple[int, ...]) -> str:
    """A row of the table."""
    times, peaks = zip(*measure(case, sizes), strict=True)
    marks, grown = [], max(peaks) - min(peaks)
    cells = [f"{times[-1]:.2g} s", f"{peaks[-1]:.0f} MB"]
    fits = {"time": (fit_power(sizes, times), case.time)} if len(sizes) > 3 else {}
    if grown >= SMALL and len(sizes) > 3:
        fits["memory"] = fit_power(sizes, [max(peak, PAGES) for peak in peaks], off=PAGES), case.memory
    for place, (what, (found, expected)) in enumerate(fits.items()):
        cells[place] = f"{found.exponent:.2f} ± {found.error:.2f} of {expected:g}; {cells[place]}"
        if found.verdict(expected):
            marks.append(f"{what} {found.verdict(expected)}")
    span = f"{sizes[0]} to {sizes[-1]}"
    return f"| {case.name} | {case.axis} | {span} | {' | '.join(cells)} | {case.cost} | {', '.join(marks)} |"
