"""What the rows of a trace are known by in every table: run, sample, step, call, and the rule and weight there.

    keys = trace_keys(trace)                                     # one row a row of trace.scalars: ROW_KEYS
    summarise_runs(table, by=[*path_keys(table), "step"], quantities=["update_norm"])

A table that averages over runs has a column `runs`, which counts them. Fields of rules that a sweep varied are columns
`rule_eta`, `rule_low`, ... beside the weight, and tell its settings apart as the weight does.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column
from scorescope.probes.recording.trace import Trace
from scorescope.probes.recording.weights import paths, row_rules, row_weights

# what a mean of a quantity can be, by the last word of its name
LIMITS = {  # what quantities can be, by patterns of their whole names
    "(.*_)?share|saturation": (0.0, 1.0), "(.*_)?(norm|ratio|rms|floor)|contrast|overshoot_mean": (0.0, np.inf),
    "one_minus_cos_(denoised|eps)": (0.0, 2.0), "cos_(denoised|eps)": (-1.0, 1.0),
}  # fmt: skip
SWEPT = Column(
    "rule_*", object, "", "value of the field of the rule that is named behind rule_, where a sweep varied it, in the "
    "unit that the rule's class says; NaN, or an empty text, where the setting's sweep did not",
)  # fmt: skip

ROW_KEYS = (
    Column("rule", str, "", "guidance rule of the run; all that it has, where they differ by step or sample"),
    Column(
        "weight", float, "1", "guidance weight w of this row; 1 is no guidance, NaN where none is known. Fitted ones "
        "that rounding does not tell apart are one, and one that differs by frame is the mean",
    ),
    Column("path_weight", float, "1", "w of the sample's guided steps; NaN where it differs or is unknown"),
    SWEPT,
    Column("run", int, "", "run of the pipeline, from 0"),
    Column("stream", int, "", "which scheduler of the run, from 0"),
    Column("sample", int, "", "sample, counted over all runs of the trace"),
    Column("step", int, "", "sampling step"),
    Column("call", int, "", "prediction within the step"),
    Column("sigma", float, "data", "noise level, variance exploding"),
)  # fmt: skip
KEYS = [column.name for column in ROW_KEYS if column is not SWEPT]
PATH = ["rule", "path_weight", "stream"]  # what tells paths apart, with what a sweep varied: see path_keys

SUMMARY_KEYS = (
    Column("rule", str, "", "guidance rule"),
    Column("weight", float, "1", "guidance weight of the samples' paths, see path_weight"),
    SWEPT,
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
    return keys[KEYS].assign(**swept_values(manifest.get("swept", {})))


def swept_values(swept: Mapping[str, float | str]) -> dict[str, float | str]:
    """What a sweep varied, by column; the weight has one of its own."""
    return {f"rule_{name}": value for name, value in swept.items() if name != "weight"}


def swept_columns(table: pd.DataFrame) -> list[str]:
    """The columns of what a sweep varied."""
    return [str(name) for name in table if str(name).startswith("rule_")]


def one_kind(table: pd.DataFrame) -> pd.DataFrame:
    """The table of settings of several sweeps with numbers or texts in each column of what they varied."""
    texts = {name: table[name].map(_as_text) for name in swept_columns(table) if not is_numeric_dtype(table[name])}
    return table.assign(**texts)


def _as_text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:g}"


def path_keys(table: pd.DataFrame) -> list[str]:
    """Columns that tell apart the paths of a table that may be averaged over samples and runs."""
    return [*PATH, *swept_columns(table)]


def summarise_runs(
    table: pd.DataFrame, *, by: Sequence[str], quantities: Sequence[str], reasons: bool = False
) -> pd.DataFrame:
    """`summarise_by`, with the weight of the path as `weight`, and in `runs` how many runs each mean is of.

    With `reasons`, `missing` says why a mean is of fewer rows than its group has: what those of `table` say. Intervals
    are cut at the ends of what a quantity can be, and hold as they did; differences are not summarised here.
    """
    found = summarise_by(table, by=by, quantities=quantities)
    for pattern, (least, most) in LIMITS.items():
        named = found["quantity"].str.fullmatch(pattern)
        found.loc[named, ["low", "high"]] = found.loc[named, ["low", "high"]].clip(least, most)
    groups = table.groupby(list(by), sort=False, dropna=False)  # in the order of the summary, once a quantity
    place = list(found).index("n") + 1
    found.insert(place, "runs", list(groups["run"].nunique()) * len(quantities))
    if reasons:
        said = groups["missing"].agg(lambda texts: "; ".join(sorted(set(texts) - {""})))
        fewer = found["n"].to_numpy() < np.tile(groups.size(), len(quantities))
        found["missing"] = np.where(fewer, np.tile(said, len(quantities)), "")
    return one_kind(found.rename(columns={"path_weight": "weight"}))


def run_name(rule: str, weight: float, *, between: str = ", ") -> str:
    """Rule and weight as words, the rule alone where no weight is known."""
    return rule if math.isnan(weight) else f"{rule}{between}w = {weight:g}"
