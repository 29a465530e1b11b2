"""What `scorescope trace show` says of a recorded trace."""

import pandas as pd

from scorescope.analysis.guidance.run_keys import run_name, trace_keys
from scorescope.probes.recording.trace import Trace

_ONE_RULE = 10  # lines that say which runs had which rule


def describe(trace: Trace) -> list[str]:
    """What a trace holds, in a few lines."""
    scalars, manifest = trace.scalars, trace.manifest
    schedulers = ", ".join(part["class"] for part in manifest["schedulers"].values())
    lines = [
        f"{manifest['pipeline']} with {schedulers}: {trace.status}",
        f"{scalars['run'].nunique()} runs, {len(trace.samples)} samples, {_steps(scalars)} steps",
        f"arrays: {', '.join(trace.arrays.names()) or 'none (scalars only)'}",
    ]
    if "error" in manifest:
        lines.append(f"ended by {manifest['error']}")
    missing = sorted(set(scalars.loc[scalars["rule"] != "equal", "missing"]) - {""})
    lines += [*_guidance(trace), *(f"missing: {reason}" for reason in missing)]
    return [*lines, *trace.unfinished, *trace.problems]


def _guidance(trace: Trace) -> list[str]:
    """Which rule and weight each run had, who made or replaced its predictions, and where branches were the same."""
    scalars = trace.scalars
    if scalars.empty:
        return []
    keys = trace_keys(trace)
    found = [
        f"{run_name(str(rows['rule'].iloc[0]), float(rows['path_weight'].iloc[0]))}: {_listed(rows['run'])}"
        for _, rows in keys.groupby(["rule", "path_weight"], sort=False, dropna=False)
    ]
    more = [f"... {len(found) - _ONE_RULE} more rules and weights"] if len(found) > _ONE_RULE else []
    lines = [f"guided by {line}" for line in found[:_ONE_RULE]] + more
    for column, words in (("made_by", "prediction made by"), ("replaced_by", "the scheduler received those of")):
        lines += [f"{words} {rule} under guide()" for rule in sorted(set(scalars[column]) - {""})]
    same = scalars[scalars["rule"] == "equal"]
    if len(same):
        lines.append(
            f"both branches are the same in {_steps(same)} of {_steps(scalars)} steps: the condition changes nothing "
            "there (a lost prompt looks like this), and no weight can be told"
        )
    return lines


def _listed(runs: pd.Series) -> str:
    found = sorted(set(runs))
    return f"run {found[0]}" if len(found) == 1 else f"runs {', '.join(str(run) for run in found)}"


def _steps(scalars: pd.DataFrame) -> int:
    return len(scalars.drop_duplicates(["run", "event"]))
