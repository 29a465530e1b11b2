"""Means, medians and bootstrap intervals of many quantities over samples.

    summarise_by(table, by=["rule", "weight", "step", "call"])

Samples, not rows, are what is drawn again: rows that share a sample stay together. The same draws serve every
group, so that rows of paired runs (same seeds) are drawn as pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.tables import require_columns
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]
LEVEL = 0.95


def summarise_by(
    table: pd.DataFrame,
    *,
    by: Sequence[str],
    quantities: Sequence[str] | None = None,
    cluster: str = "sample",
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Summarise quantities over samples, group by group.

    Parameters
    ----------
    table : DataFrame
        Tidy rows.
    by : sequence of str
        Columns that make the groups.
    quantities : sequence of str, optional
        Columns to summarise_by; by default every float column that is neither in `by` nor `cluster`.
    cluster : str
        Column of the unit that the bootstrap draws.
    resamples : int
        Bootstrap draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    DataFrame
        One row a (group, quantity): the columns of `by`, `quantity`, `n` (rows that are not missing), `mean`,
        `median`, and `low`, `high`: the 95 % percentile-bootstrap interval of the mean. With fewer than two
        samples the interval is missing.

    Raises
    ------
    InputError
        For an empty table or columns that it lacks.
    """
    require_columns("table", table, [*by, cluster, *(quantities or [])])
    if table.empty or resamples < 1:
        raise InputError("table, resamples", found=f"{len(table)} rows, {resamples}", expected="at least one of each")
    if quantities is None:
        floats = table.select_dtypes("float").columns
        quantities = [name for name in floats if name not in {*by, cluster}]
    groups = table.groupby(list(by), sort=False, dropna=False)
    code = groups.ngroup().to_numpy()
    keys = groups.size().index.to_frame(index=False).drop(columns="size", errors="ignore")
    unit, units = pd.factorize(table[cluster])
    draws = np.random.default_rng(seed).multinomial(len(units), np.full(len(units), 1 / len(units)), size=resamples)
    frames = []
    for name in quantities:
        values = table[name].to_numpy(np.float64)
        low, high = _interval(values, unit, code, (len(units), len(keys)), draws.astype(np.float64))
        found = groups[name].agg(["count", "mean", "median"]).reset_index(drop=True)
        found.columns = pd.Index(["n", "mean", "median"])
        frames.append(pd.concat([keys.assign(quantity=name), found.assign(low=low, high=high)], axis=1))
    return pd.concat(frames, ignore_index=True)


def _interval(
    values: Floats, unit: NDArray[np.integer[Any]], code: NDArray[np.integer[Any]], size: tuple[int, int], draws: Floats
) -> tuple[Floats, Floats]:
    """Percentile interval of each group's mean, from sums and counts of each (unit, group)."""
    units, groups = size
    known = np.isfinite(values)
    cell = unit[known] * groups + code[known]
    sums = np.bincount(cell, values[known], minlength=units * groups).reshape(size)
    counts = np.bincount(cell, minlength=units * groups).reshape(size).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (draws @ sums) / (draws @ counts)
    # a group that a draw missed altogether has no mean in that draw; a group of one unit has no interval
    lone = (counts > 0).sum(0) < 2
    means[:, lone] = np.nan
    low, high = np.full(groups, np.nan), np.full(groups, np.nan)
    if (~lone).any():
        low[~lone], high[~lone] = np.nanquantile(means[:, ~lone], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
