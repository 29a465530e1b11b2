"""What changed between two recorded runs: every quantity of the decomposition, step by step, paired by seed and prompt.

found = run_changes(Trace.open("runs/before"), Trace.open("runs/after"))
found.table                                    # largest first, corrected for all rows
found.pairing                                  # which samples pair, and why others do not
shown_ranges(found.table)                      # between which noise levels each quantity differs
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.simultaneous import COLUMNS, paired_means, unpaired_means
from scorescope.analysis.statistics.tables import Column, Schema, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace

QUANTITIES = (
    "update_norm", "update_ratio", "parallel_share", "one_minus_cos_denoised", "one_minus_cos_eps", "applied_gain",
    "applied_norm", "contrast", "overshoot_share", "saturation",
)  # fmt: skip
SHARED = ("shared", "number", "first")  # of a run's spec: not what a sample is made from
SAME_LEVEL = 0.01  # relative difference of two noise levels that are one
ROUNDING = 64  # eps of the dtype, relative to a quantity's size, that two runs of one model may differ by

RUN_CHANGES = Schema(
    "run_changes",
    (
        Column("quantity", str, "", "column of the decomposition"),
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level, in the first run"),
        Column("sigma_second", float, "data", "its noise level in the second run"),
        Column("first", float, "of the quantity", "mean in the first run"),
        *COLUMNS,
        Column("shown", bool, "", "the interval leaves 0 out, by more than rounding"),
    ),
)


@checked
@dataclass(frozen=True, eq=False)
class RunChanges:
    """What changed between two runs.

    Attributes
    ----------
    table : DataFrame
        Columns declared in `RUN_CHANGES`, those that are shown first, then by the size of the difference in units of
        what would be detected.
    pairing : DataFrame
        One row a sample of either run: seed, condition, its places in both runs (-1 where it is in one alone).
    paired : bool
        Whether pairs were compared; else two independent sets, where no seed and condition is in both.
    """

    table: pd.DataFrame
    pairing: pd.DataFrame
    paired: bool


@checked
def run_changes(
    first: Trace, second: Trace, *, quantities: Sequence[str] = QUANTITIES, draws: int = 2000, seed: int = 0
) -> RunChanges:
    """Differences of the second run from the first, step by step.

    Samples pair by seed, condition and what else their runs were made from (see `Trace.runs`); where none does, two
    independent sets are compared, which shows less.

    Parameters
    ----------
    first, second : Trace
        Two runs with the same number of steps.
    quantities : sequence of str
        Columns of the decomposition; those that a run has not are left out.
    draws, seed
        Of the drawings that the intervals rest on.

    Raises
    ------
    InputError
        For runs of another number of steps or other noise levels, and those without a common quantity.
    """
    tables = [decompose(trace) for trace in (first, second)]
    tables = [table[table["call"] == 0] for table in tables]
    steps = [sorted(table["step"].unique()) for table in tables]
    if steps[0] != steps[1]:
        other = f"{len(steps[1])} steps beside {len(steps[0])}"
        raise InputError("second", found=other, expected="a run of as many steps as the first")
    sigmas = [table.groupby("step")["sigma"].mean() for table in tables]
    apart = ~np.isclose(sigmas[1], sigmas[0], rtol=SAME_LEVEL, atol=0, equal_nan=True)
    if apart.any():
        place = int(apart.argmax())
        other = f"sigma {sigmas[1].iloc[place]:.4g} beside {sigmas[0].iloc[place]:.4g} at step {steps[0][place]}"
        raise InputError("second", found=other, expected="a run at the noise levels of the first")
    unknown = [name for name in quantities if name not in tables[0]]
    if unknown:
        raise InputError("quantities", found=", ".join(unknown), expected="columns of the decomposition")
    pairing = _pairing(first, second)
    pairs = pairing[(pairing["first"] >= 0) & (pairing["second"] >= 0)]
    wide = [_wide(table, quantities) for table in tables]
    both = [name for name in wide[0] if wide[0][name].notna().any() and wide[1][name].notna().any()]
    if not both:
        raise InputError("first, second", found="no quantity that is known in both", expected="runs that are guided")
    values = [one[both] for one in wide]
    if len(pairs):
        aligned = [
            one.reindex(pairs[name]).to_numpy(np.float64) for one, name in zip(values, ("first", "second"), strict=True)
        ]
        found = paired_means(aligned[1] - aligned[0], draws=draws, seed=seed)
    else:
        aligned = [one.to_numpy(np.float64) for one in values]
        found = unpaired_means(aligned[1], aligned[0], draws=draws, seed=seed)
    keys = pd.DataFrame(both, columns=["quantity", "step"])
    size = np.nanmean(np.abs(aligned[0]), axis=0)
    table = pd.concat([keys, found], axis=1).assign(
        sigma=keys["step"].map(sigmas[0]), sigma_second=keys["step"].map(sigmas[1]),
        first=np.nanmean(aligned[0], axis=0),
    )  # fmt: skip
    rounding = ROUNDING * max(_eps(first), _eps(second)) * size
    table["detectable"] = np.maximum(table["detectable"], rounding).where(table["detectable"].notna())
    table["shown"] = ((table["low"] > 0) | (table["high"] < 0)) & (table["value"].abs() > rounding)
    return RunChanges(RUN_CHANGES.check(_largest_first(table)), pairing, bool(len(pairs)))


@checked
def shown_ranges(table: pd.DataFrame) -> pd.DataFrame:
    """Between which noise levels each quantity is shown to differ: one row a stretch of steps that follow each other.

    Parameters
    ----------
    table : DataFrame
        From `run_changes`.

    Returns
    -------
    DataFrame
        `quantity`, `from_sigma`, `to_sigma` (highest and lowest noise level), `steps`, `largest` (the difference of the
        largest size in it) and `sigma` (where that is).
    """
    require_columns("table", table, ["quantity", "step", "sigma", "value", "shown"])
    rows = []
    for quantity, group in table[table["shown"]].sort_values("step").groupby("quantity", sort=False):
        stretch = (group["step"].diff() != 1).cumsum()
        for _, steps in group.groupby(stretch):
            peak = steps.iloc[int(steps["value"].abs().to_numpy().argmax())]
            rows.append(
                (quantity, steps["sigma"].max(), steps["sigma"].min(), len(steps), peak["value"], peak["sigma"])
            )
    return pd.DataFrame(rows, columns=["quantity", "from_sigma", "to_sigma", "steps", "largest", "sigma"])


def _pairing(first: Trace, second: Trace) -> pd.DataFrame:
    """Samples of both runs, by seed and condition; the k-th of one key pairs with the k-th."""
    samples = []
    for name, trace in (("first", first), ("second", second)):
        table = trace.samples[["sample", "seed", "condition"]].copy()
        table["condition"] = table["condition"].map(lambda value: "" if value is None else str(value))
        runs = trace.samples["run"] if "run" in trace.samples else pd.Series(0, index=table.index)
        made_from = _made_from(trace)
        table["made_from"] = [made_from.get(run, "") for run in runs]
        table["turn"] = table.groupby(["seed", "condition", "made_from"]).cumcount()
        known = table[table["seed"] >= 0]  # -1: not known
        samples.append(known.rename(columns={"sample": name}))
    keys = ["seed", "condition", "made_from", "turn"]
    joined = samples[0].merge(samples[1], on=keys, how="outer").drop(columns=["made_from", "turn"])
    return joined.fillna({"first": -1, "second": -1}).astype({"first": "int64", "second": "int64"})


def _made_from(trace: Trace) -> dict[int, str]:
    """What each run was made from, but for its place and what all runs share, which are what may have changed."""
    own = {
        run: {name: value for name, value in spec.items() if name not in SHARED} for run, spec in trace.specs.items()
    }
    return {run: json.dumps(spec, sort_keys=True, default=str) for run, spec in own.items()}


def _wide(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """One row a sample, one column a (quantity, step)."""
    wide: pd.DataFrame = table.pivot_table(
        index="sample", columns="step", values=list(quantities), aggfunc="mean", dropna=False
    )
    return wide.replace([np.inf, -np.inf], np.nan)


def _eps(trace: Trace) -> float:
    """Of the coarsest type that the run's numbers went through."""
    dtype = str(trace.manifest.get("dtype", "float32"))
    return {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float64": 2.0**-52}.get(dtype, 2.0**-23)


def _largest_first(table: pd.DataFrame) -> pd.DataFrame:
    size: Floats = (table["value"].abs() / table["detectable"]).fillna(0).to_numpy(np.float64)
    order = np.lexsort((-size, ~table["shown"].to_numpy(bool)))
    return table.iloc[order].reset_index(drop=True)
