"""Settings of a sweep against each other: paired differences from one of them, and which ones no other dominates.

changes(sample_metrics(settings), against="CFG, w = 4")
pareto(measure_sweep(settings), better={"class_agreement": "high", "diversity": "high", "calls": "low"})
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.run_keys import SWEPT, swept_columns
from scorescope.analysis.guidance.sweeps import METRICS
from scorescope.analysis.statistics.intervals import is_binary, paired_share_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

CHANGES = Schema(
    "changes",
    (
        Column("setting", str, "", "name of the setting"),
        SWEPT,
        Column("against", str, "", "setting that it is compared with, sample by sample (same seeds)"),
        Column("metric", str, "", "a metric that each sample has"),
        Column("n", int, "", "pairs"),
        Column("value", float, "", "mean difference"),
        *ends("", "over pairs, corrected for skewness; Tango's for shares"),
    ),
)


@checked
def changes(rows: pd.DataFrame, *, against: str, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Paired differences of every setting from one of them, over the same seeds.

    Parameters
    ----------
    rows : DataFrame
        From `sample_metrics`.
    against : str
        Name of the setting that is subtracted.
    metrics : sequence of str, optional
        Which; by default all that are there.

    Returns
    -------
    DataFrame
        Columns declared in `CHANGES`.
    """
    require_columns("rows", rows, ["setting", "sample"])
    if against not in set(rows["setting"]):
        raise InputError("against", found=repr(against), expected=f"one of {sorted(set(rows['setting']))}")
    names = [name for name in (metrics or METRICS) if name in rows]
    base = rows[rows["setting"] == against].set_index("sample")[names]
    parts, by = [], ["setting", *swept_columns(rows)]
    for setting, group in rows.groupby("setting", sort=False):
        if setting == against:
            continue
        values = group.set_index("sample")[names]
        difference = (values - base).reset_index().assign(**group[by].iloc[0])
        found = summarise_by(difference, by=by, quantities=names)
        if "score" in names and is_binary(base["score"]) and is_binary(values["score"]):
            found.loc[found["quantity"] == "score", ["low", "high"]] = paired_share_interval(difference["score"])
        parts.append(found)
    if not parts:
        raise InputError("rows", found="one setting", expected="at least one other to compare with")
    table = pd.concat(parts, ignore_index=True).dropna(subset=["mean"]).assign(against=against)
    return CHANGES.check(table.rename(columns={"quantity": "metric", "mean": "value"}).drop(columns="median"))


@checked
def pareto(table: pd.DataFrame, *, better: Mapping[str, Literal["high", "low"]]) -> pd.DataFrame:
    """Mark the settings that no other dominates.

    One setting dominates another if it is at least as good in every named metric and better in one, by their
    values; intervals are not looked at.

    Parameters
    ----------
    table : DataFrame
        From `measure_sweep`.
    better : mapping
        Metric to "high" or "low".

    Returns
    -------
    DataFrame
        One row a setting: `setting`, what the sweep varied (`rule_eta`, ...), the metrics, `pareto` (bool) and
        `dominated_by` (first one that does, or "").
    """
    require_columns("table", table, ["setting", "metric", "value"])
    wide = table.pivot(index="setting", columns="metric", values="value").reindex(table["setting"].unique())
    if absent := [name for name in better if name not in wide]:
        raise InputError(
            "better", found=f"metrics {absent}", expected=f"metrics of the table: {sorted(map(str, wide))}"
        )
    wide = wide[list(better)].dropna()
    signs = np.array([1.0 if way == "high" else -1.0 for way in better.values()])
    values = wide.to_numpy(np.float64) * signs
    dominated_by = []
    for row in values:
        dominates = (values >= row).all(1) & (values > row).any(1)
        dominated_by.append(str(wide.index[dominates.argmax()]) if dominates.any() else "")
    found = wide.assign(pareto=[not name for name in dominated_by], dominated_by=dominated_by)
    found.columns.name = None
    swept = table.drop_duplicates("setting").set_index("setting")[swept_columns(table)]
    return swept.join(found, how="right").reset_index()
