"""Coverage of every interval that the tables show: `python -m tests.benchmarks coverage [--repeats 500 ...]`.

A case that is finished is kept in a file, so that a run that was cut off goes on where it was. With the same seed and
repeats a case gives the same counts, whichever others are run.
"""

import argparse
import fnmatch
import json
import time
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from tests.benchmarks.coverage import CASES, Case
from tests.benchmarks.coverage.case import LEAST, Covered, simulate

KEPT = Path("build/coverage.json")


def main(*options: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks coverage", description=__doc__)
    parser.add_argument("--repeats", type=int, default=500, help="samples drawn of each population")
    parser.add_argument("--only", default="", help="cases whose name holds this, or matches it as a pattern")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, default=KEPT, help="where finished cases are kept")
    parser.add_argument("--fresh", action="store_true", help="do not use what is kept there")
    asked = parser.parse_args(options)
    cases = [case for case in CASES if asked.only in case.name or fnmatch.fnmatch(case.name, asked.only)]
    run_all(cases, repeats=asked.repeats, seed=asked.seed, kept=asked.kept, fresh=asked.fresh)


def run_all(cases: Iterable[Case], *, repeats: int, seed: int, kept: Path, fresh: bool = False) -> None:
    """Run cases, keep each that is finished, and print the table of all of them."""
    cases, found = list(cases), {}
    known = json.loads(kept.read_text()) if kept.exists() and not fresh else {}
    kept.parent.mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=repeats * len(cases), unit="sample")
    for case in cases:
        key = f"{case.name}, {repeats} repeats, seed {seed}"
        if key not in known:
            bar.set_description(case.name)
            start = time.process_time()
            counts: dict[str, Covered] = {}
            for so_far in simulate(case, repeats=repeats, seed=seed):
                counts = so_far
                bar.update()
            kept_counts = {name: (one.held, one.given) for name, one in counts.items()}
            known[key] = {"seconds": round(time.process_time() - start, 1), "counts": kept_counts}
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(known, indent=1))
            part.replace(kept)
        else:
            bar.update(repeats)
        found[case.name] = {name: Covered(*one, repeats) for name, one in known[key]["counts"].items()}
    bar.close()
    print(table(cases, found))
    seconds = sum(known[f"{case.name}, {repeats} repeats, seed {seed}"]["seconds"] for case in cases)
    print(f"\n{repeats} repeats, seed {seed}; {seconds:.0f} s of processor time")


def table(cases: Iterable[Case], found: dict[str, dict[str, Covered]]) -> str:
    """Markdown: one row a quantity; shares below 92 % are bold."""
    rows = ["| quantity | estimator | n | population | covers (its 95 % interval) | remark |", "|" + "---|" * 6]
    for case in cases:
        for quantity, one in found[case.name].items():
            rows.append(
                f"| {quantity} | {case.estimator} | {case.n} | {case.population} | {_share(one)} | "
                f"{_remark(case, quantity, one)} |"
            )
    return "\n".join(rows)


def _share(one: Covered) -> str:
    if not one.given:
        return "-"
    low, high = one.interval
    share = f"{one.share:.3f}"
    return f"{f'**{share}**' if one.share < LEAST else share} ({low:.3f} to {high:.3f})"


def _remark(case: Case, quantity: str, one: Covered) -> str:
    given = f"given in {one.given / one.repeats:.0%}" if one.given < one.repeats else ""
    why = {"short": case.short.get(quantity, "**short**"), "wide": "**wide**"}.get(one.verdict(case), one.verdict(case))
    if one.share > 0.98 and case.wide:
        why = case.wide
    return "; ".join(filter(None, [given, why]))
