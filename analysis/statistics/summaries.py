"""Means, medians and bootstrap intervals of many quantities over samples.

    summarise_by(table, by=["rule", "weight", "step", "call"])

Samples, not rows, are what is drawn again: rows that share a sample stay together. The same draws serve all
groups that hold the same samples, so that paired runs (same seeds) are drawn as pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import TAILS, draw_units
from scorescope.analysis.statistics.tables import require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError


@checked
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
        Columns to summarise; by default every float column that is neither in `by` nor `cluster`.
    cluster : str
        Column of the unit that the bootstrap draws.
    resamples : int
        Bootstrap draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    DataFrame
        One row a (group, quantity): the columns of `by`, `quantity`, `n` (rows that are finite), `mean`,
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
    keys = table[list(by)].iloc[np.unique(code, return_index=True)[1]].reset_index(drop=True)
    unit, units = pd.factorize(table[cluster])
    draws = _Draws(unit, code, (len(units), len(keys)), resamples, seed)
    frames = []
    for name in quantities:
        values = table[name].to_numpy(np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        low, high = draws.interval(values)
        found = pd.Series(values).groupby(code).agg(["count", "mean", "median"]).reset_index(drop=True)
        found.columns = pd.Index(["n", "mean", "median"])
        frames.append(pd.concat([keys.assign(quantity=name), found.assign(low=low, high=high)], axis=1))
    return pd.concat(frames, ignore_index=True)


class _Draws:
    """Bootstrap draws of units, the same for all groups that hold the same units."""

    def __init__(
        self,
        unit: NDArray[np.integer[Any]],
        code: NDArray[np.integer[Any]],
        size: tuple[int, int],
        resamples: int,
        seed: int,
    ) -> None:
        self.unit, self.code, self.size = unit, code, size
        held = np.zeros(size, dtype=bool)
        held[unit, code] = True
        patterns, self.pattern = np.unique(held, axis=1, return_inverse=True)
        self.weights: list[Floats] = []
        for members in patterns.T:
            weights = np.zeros((resamples, size[0]))
            weights[:, members] = draw_units(int(members.sum()), resamples=resamples, seed=seed)
            self.weights.append(weights)

    def interval(self, values: Floats) -> tuple[Floats, Floats]:
        """Percentile interval of each group's mean, from sums and counts of each (unit, group)."""
        units, groups = self.size
        known = np.isfinite(values)
        cell = self.unit[known] * groups + self.code[known]
        sums = np.bincount(cell, values[known], minlength=units * groups).reshape(self.size)
        counts = np.bincount(cell, minlength=units * groups).reshape(self.size).astype(np.float64)
        low, high = np.full(groups, np.nan), np.full(groups, np.nan)
        for number, weights in enumerate(self.weights):
            # a group with one known unit has no interval
            chosen = (self.pattern == number) & ((counts > 0).sum(0) >= 2)
            if chosen.any():
                with np.errstate(invalid="ignore", divide="ignore"):
                    means = (weights @ sums[:, chosen]) / (weights @ counts[:, chosen])
                low[chosen], high[chosen] = np.nanquantile(means, TAILS, axis=0)
        return low, high
