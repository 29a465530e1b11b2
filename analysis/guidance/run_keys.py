"""What the rows of a trace are known by in every table: run, sample, step, call, and the rule and weight there.

    keys = trace_keys(trace)                                     # one row a row of trace.scalars: ROW_KEYS
    summarise_runs(table, by=[*PATH, "step"], quantities=["update_norm"])

A table that averages over runs has a column `runs`, which counts them.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column
from scorescope.probes.recording.trace import Trace
from scorescope.probes.recording.weights import paths, row_rules, row_weights

ROW_KEYS = (
    Column("rule", str, "", "guidance rule of the run; all that it has, where they differ by step or sample"),
    Column(
        "weight", float, "1", "guidance weight w of this row; 1 is no guidance, NaN where none is known. Fitted ones "
        "that rounding does not tell apart are one, and one that differs by frame is the mean",
    ),
    Column("path_weight", float, "1", "w of the sample's guided steps; NaN where it differs or is unknown"),
    Column("run", int, "", "run of the pipeline, from 0"),
    Column("stream", int, "", "which scheduler of the run, from 0"),
    Column("sample", int, "", "sample, counted over all runs of the trace"),
    Column("step", int, "", "sampling step"),
    Column("call", int, "", "prediction within the step"),
    Column("sigma", float, "data", "noise level, variance exploding"),
)  # fmt: skip
KEYS = [column.name for column in ROW_KEYS]
PATH = ["rule", "path_weight", "stream"]  # what tells paths apart that may be averaged over samples and runs

SUMMARY_KEYS = (
    Column("rule", str, "", "guidance rule"),
    Column("weight", float, "1", "guidance weight of the samples' paths, see path_weight"),
    Column("stream", int, "", "which scheduler of the run"),
)
RUNS = Column("runs", int, "", "runs of a pipeline that are averaged here; 1: one run, or samples of our own sampler")


def trace_keys(trace: Trace) -> pd.DataFrame:
    """`ROW_KEYS` of every row of `trace.scalars`, with its index."""
    scalars, manifest = trace.scalars, trace.manifest
    keys = scalars[["sample", "step", "call", "sigma"]].assign(
        run=scalars.get("run", 0), stream=scalars.get("stream", 0)
    )
    if trace.of_pipeline:
        rules, weights = row_rules(scalars), row_weights(scalars)
        keys = keys.assign(weight=weights).join(paths(scalars, rules, weights))
    else:
        stated = float(manifest["weight"])
        weight = scalars.get("weight", stated)
        keys = keys.assign(rule=str(manifest["rule"]), weight=weight, path_weight=stated)
    return keys[KEYS]


def summarise_runs(
    table: pd.DataFrame, *, by: Sequence[str], quantities: Sequence[str], reasons: bool = False
) -> pd.DataFrame:
    """`summarise_by`, with the weight of the path as `weight`, and in `runs` how many runs each mean is of.

    With `reasons`, `missing` says why a mean is of fewer rows than its group has: what those of `table` say.
    """
    found = summarise_by(table, by=by, quantities=quantities)
    groups = table.groupby(list(by), sort=False, dropna=False)  # in the order of the summary, once a quantity
    place = list(found).index("n") + 1
    found.insert(place, "runs", list(groups["run"].nunique()) * len(quantities))
    if reasons:
        said = groups["missing"].agg(lambda texts: "; ".join(sorted(set(texts) - {""})))
        fewer = found["n"].to_numpy() < np.tile(groups.size(), len(quantities))
        found["missing"] = np.where(fewer, np.tile(said, len(quantities)), "")
    return found.rename(columns={"path_weight": "weight"})


def run_name(rule: str, weight: float, *, between: str = ", ") -> str:
    """Rule and weight as words, the rule alone where no weight is known."""
    return rule if math.isnan(weight) else f"{rule}{between}w = {weight:g}"
