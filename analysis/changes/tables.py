"""What differs between the tables of two reports, as far as tables can tell.

    table_changes(first, second)             # means beside each other with their intervals: no test
    decomposition_changes(first, second)     # of single samples: paired by seed, as `run_changes` does

Most tables of a report hold means with intervals. Those of two reports may be of the same seeds, whose differences
scatter less than either mean, so that no interval of the difference follows from the two.
"""

import numpy as np
import pandas as pd

from scorescope.analysis.changes.runs import QUANTITIES, mean_of_known
from scorescope.analysis.statistics.simultaneous import COLUMNS, paired_means
from scorescope.analysis.statistics.tables import Column, Schema, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

MEANS = ("mean", "value")  # what the columns `low` and `high` are the interval of
RESULTS = ("n", "runs", "median", "missing")  # of a row, beside its means: what does not say which row it is

TABLE_CHANGES = Schema(
    "table_changes",
    (
        Column("row", str, "", "what the row is of: the columns that both tables name it by"),
        Column("column", str, "", "which of its numbers"),
        Column("first", float, "of the column", "in the first table"),
        Column("first_low", float, "of the column", "lower end of its own interval"),
        Column("first_high", float, "of the column", "upper end of it"),
        Column("second", float, "of the column", "in the second table"),
        Column("second_low", float, "of the column", "lower end of its own interval"),
        Column("second_high", float, "of the column", "upper end of it"),
        Column("difference", float, "of the column", "the second less the first; without an interval of its own"),
        Column("intervals", str, "", "overlap, apart, or unknown where one is missing; no test of the difference"),
    ),
)

DECOMPOSITION_CHANGES = Schema(
    "decomposition_changes",
    (
        Column("quantity", str, "", "column of the decomposition"),
        Column("row", str, "", "rule, its settings, scheduler, step, call and noise level"),
        Column("first", float, "of the quantity", "mean in the first table"),
        *COLUMNS,
        Column("shown", bool, "", "the interval leaves 0 out"),
    ),
)


@checked
def table_changes(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Numbers of two tables of one kind beside each other, each with its own interval.

    Rows belong together where all agree that is neither a number with an interval nor said of it (its count, median
    or reason); numbers among that to three digits. Rows that are in one table alone are left out.

    Parameters
    ----------
    first, second : DataFrame
        With `low` and `high` beside `mean` or `value`, or `<name>_low` and `<name>_high` beside `<name>`.

    Returns
    -------
    DataFrame
        Columns declared in `TABLE_CHANGES`; those whose intervals are apart first.

    Raises
    ------
    InputError
        For tables without such numbers or with other ones, rows that nothing tells apart, and no row in common.
    """
    numbers = _numbers(first)
    if not numbers or numbers != _numbers(second):
        expected = "means or values with their intervals, the same in both"
        raise InputError("first, second", found="none", expected=expected)
    sides = [_rows(name, table, numbers) for name, table in (("first", first), ("second", second))]
    rows = [row for row in sides[0].index if row in sides[1].index]
    if not rows:
        found = f"none of {len(first)} and {len(second)} rows"
        raise InputError("first, second", found=found, expected="rows that are in both")
    one, other = (side.loc[rows] for side in sides)
    parts = [_beside(rows, one, other, name, ends) for name, ends in numbers.items()]
    found_table = pd.concat(parts, ignore_index=True)
    order = np.argsort(found_table["intervals"] != "apart", kind="stable")
    return TABLE_CHANGES.check(found_table.iloc[order])


def _numbers(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Columns with an interval, and where its ends are."""
    ends = {name: (f"{name}_low", f"{name}_high") for name in map(str, table)}
    means = [name for name in MEANS if name in table]
    if {"low", "high"} <= set(table) and len(means) == 1:
        ends[means[0]] = ("low", "high")
    return {name: own for name, own in ends.items() if set(own) <= set(table)}


def _rows(argument: str, table: pd.DataFrame, numbers: dict[str, tuple[str, str]]) -> pd.DataFrame:
    """The table by what its rows are of."""
    taken = {*RESULTS, *numbers, *(end for ends in numbers.values() for end in ends)}
    keys = [name for name in table if name not in taken]
    texts = [table[name].map(lambda value, name=name: f"{name} {_key(value)}") for name in keys]
    index = [", ".join(row) for row in zip(*texts, strict=True)] or ["all"] * len(table)
    if len(set(index)) < len(index):
        raise InputError(argument, found="rows that nothing tells apart", expected="a table that names each row")
    return table.set_axis(pd.Index(index, dtype=object), axis=0)


def _key(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _beside(rows: list[str], one: pd.DataFrame, other: pd.DataFrame, name: str, ends: tuple[str, str]) -> pd.DataFrame:
    columns = {"first": name, "first_low": ends[0], "first_high": ends[1]}
    values = {key: one[column].to_numpy(np.float64) for key, column in columns.items()}
    values |= {key.replace("first", "second"): other[column].to_numpy(np.float64) for key, column in columns.items()}
    apart = (values["first_low"] > values["second_high"]) | (values["second_low"] > values["first_high"])
    known = np.isfinite([values[end] for end in values if end.endswith(("_low", "_high"))]).all(0)
    said = np.where(known, np.where(apart, "apart", "overlap"), "unknown")
    return pd.DataFrame({"row": rows, "column": name, **values}).assign(
        difference=values["second"] - values["first"], intervals=said
    )


@checked
def decomposition_changes(
    first: pd.DataFrame, second: pd.DataFrame, *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Paired differences of two tables of single samples, as a guidance report keeps them.

    Parameters
    ----------
    first, second : DataFrame
        From `decompose`, of the same seeds.
    draws, seed
        Of the drawings that the intervals rest on.

    Returns
    -------
    DataFrame
        Columns declared in `DECOMPOSITION_CHANGES`, those that are shown first; intervals hold together over all rows.

    Raises
    ------
    InputError
        For seeds that come several times, since which sample belongs to which cannot be told, and for tables without a
        common seed, rule and noise level.
    """
    wide = [_by_seed(name, table) for name, table in (("first", first), ("second", second))]
    seeds, both = (wide[0].index.intersection(wide[1].index), wide[0].columns.intersection(wide[1].columns))
    both = both[[all(one.loc[seeds, name].notna().any() for one in wide) for name in both]]
    if not len(seeds) or not len(both):
        found = f"{len(seeds)} common seeds, {len(both)} common rows"
        raise InputError("first, second", found=found, expected="the same seeds, rules and noise levels")
    one, other = (table.loc[seeds, both].to_numpy(np.float64) for table in wide)
    means = paired_means(other - one, draws=draws, seed=seed)
    keys = pd.DataFrame(list(both), columns=["quantity", "row"])
    table = pd.concat([keys, means], axis=1).assign(first=mean_of_known(np.where(np.isfinite(other), one, np.nan)))
    table["shown"] = (table["low"] > 0) | (table["high"] < 0)
    return DECOMPOSITION_CHANGES.check(table.sort_values("shown", ascending=False, kind="stable"))


def _by_seed(argument: str, table: pd.DataFrame) -> pd.DataFrame:
    """One row a seed, one column a (quantity, what else the row is of)."""
    require_columns(argument, table, ["seed", "rule", "path_weight", "stream", "step", "call", "sigma"])
    swept = [str(name) for name in table if str(name).startswith("rule_")]
    names = ["rule", "path_weight", *swept, "stream", "step", "call", "sigma"]
    texts = [table[name].map(lambda value, name=name: f"{name} {_key(value)}") for name in names]
    rows = [", ".join(row) for row in zip(*texts, strict=True)]
    long = table.assign(row=rows)[["seed", "row", *(name for name in QUANTITIES if name in table)]]
    if long.duplicated(["seed", "row"]).any():
        raise InputError(argument, found="a seed several times", expected="each seed once")
    wide: pd.DataFrame = long.pivot(index="seed", columns="row").replace([np.inf, -np.inf], np.nan)
    return wide
