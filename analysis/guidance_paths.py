"""What rules do along whole paths: gains that multiply up, clips that act, calls that are saved, paths that part.

gain_path(decompose(trace))
separation(trace_a, trace_b)
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.tables import Column, Schema, require_columns
from scorescope.data.errors import InputError
from scorescope.probes.replay import visits
from scorescope.probes.sweep import Setting
from scorescope.probes.trace import Trace

Floats = NDArray[np.float64]

_INTERVAL = (
    Column("n", int, "", "samples"),
    Column("mean", float, "", "mean over samples, in the unit of the quantity"),
    Column("low", float, "", "lower end of its 95 % interval, bootstrap over samples"),
    Column("high", float, "", "upper end"),
)

GAIN_PATH = Schema(
    "gain_path",
    (
        Column("rule", str, "", "guidance rule"),
        Column("weight", float, "1", "guidance weight"),
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level"),
        Column("quantity", str, "", "step_gain: weighted gain of the step; path_gain: product of step_gain so far"),
        *_INTERVAL,
    ),
)

CLIP = Schema(
    "clip_activity",
    (
        Column("rule", str, "", "guidance rule"),
        Column("weight", float, "1", "guidance weight"),
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level"),
        Column("quantity", str, "", "active: share of samples whose update is clipped; relative_norm: r / norm of D_c"),
        *_INTERVAL,
    ),
)

SEPARATION = Schema(
    "separation",
    (
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level"),
        Column("n", int, "", "pairs of samples"),
        Column("mean", float, "1", "RMS distance of the two states, in units of sigma; mean over pairs"),
        Column("low", float, "1", "lower end of its 95 % interval, bootstrap over pairs"),
        Column("high", float, "1", "upper end"),
        Column("separated", bool, "", "the interval lies above the tolerance"),
    ),
)

SAVINGS = Schema(
    "savings",
    (
        Column("setting", str, "", "name of the setting"),
        Column("n", int, "", "samples"),
        Column("calls", float, "1", "denoiser evaluations a sample"),
        Column("calls_saved", float, "1", "share saved against the setting compared with"),
        Column("change", float, "data", "RMS change of the final sample, mean over samples"),
        Column("low", float, "data", "lower end of its 95 % interval, bootstrap over samples"),
        Column("high", float, "data", "upper end"),
    ),
)


def gain_path(table: pd.DataFrame) -> pd.DataFrame:
    """Gain of each Euler step along D_c, and its product along the path.

    A step from sigma to sigma' replaces the share 1 - sigma'/sigma of the state by the guided prediction, so a gain g
    on D_c acts on the step as 1 + (1 - sigma'/sigma) (g - 1). The product over steps says how much of the saturation of
    a sample the parallel parts along its path account for, if each acted on the same direction: an upper bound.

    Parameters
    ----------
    table : DataFrame
        From `decompose`; first calls are used.

    Returns
    -------
    DataFrame
        Columns declared in `GAIN_PATH`.
    """
    require_columns("table", table, ["rule", "weight", "sample", "step", "call", "sigma", "applied_gain"])
    rows = table[table["call"] == 0].sort_values(["rule", "weight", "sample", "step"])
    path = rows.groupby(["rule", "weight", "sample"], sort=False)
    after = path["sigma"].shift(-1).fillna(0.0)
    step_gain = 1 + (1 - after / rows["sigma"]) * (rows["applied_gain"] - 1)
    rows = rows.assign(step_gain=step_gain)
    rows["path_gain"] = rows.groupby(["rule", "weight", "sample"], sort=False)["step_gain"].cumprod()
    by = ["rule", "weight", "step", "sigma"]
    found = summarise_by(rows, by=by, quantities=["step_gain", "path_gain"])
    return GAIN_PATH.check(found.drop(columns="median"))


def clip_activity(table: pd.DataFrame, *, norm: float) -> pd.DataFrame:
    """On which share of samples a norm clip r would act at each step, and r in units of the norm of D_c.

    For APG without momentum at its own recorded states.

    Parameters
    ----------
    table : DataFrame
        From `decompose`.
    norm : float
        r, in units of the data.

    Returns
    -------
    DataFrame
        Columns declared in `CLIP`.
    """
    if not norm > 0:
        raise InputError("norm", found=str(norm), expected="a positive L2 norm")
    require_columns(
        "table", table, ["rule", "weight", "sample", "step", "call", "sigma", "update_norm", "update_ratio"]
    )
    rows = table[table["call"] == 0].dropna(subset=["update_norm"])
    rows = rows.assign(
        active=(rows["update_norm"] > norm).astype(float),
        relative_norm=norm * rows["update_ratio"] / rows["update_norm"],
    )
    by = ["rule", "weight", "step", "sigma"]
    return CLIP.check(summarise_by(rows, by=by, quantities=["active", "relative_norm"]).drop(columns="median"))


def separation(first: Trace, second: Trace, *, tolerance: float = 0.01) -> pd.DataFrame:
    """How far the states of two runs with the same seeds and noise levels lie apart, step by step.

    Parameters
    ----------
    first, second : Trace
        Runs whose states were kept.
    tolerance : float
        RMS distance, in units of sigma, above which two states are taken to have separated.

    Returns
    -------
    DataFrame
        Columns declared in `SEPARATION`; the first and last rows that are `separated` are where the paths part and,
        where they meet again, the last at which they differ.

    Raises
    ------
    InputError
        Where states were not kept, or the runs do not pair up.
    """
    states = [_states(trace) for trace in (first, second)]
    if states[0].keys() != states[1].keys() or list(first.samples["seed"]) != list(second.samples["seed"]):
        raise InputError(
            "second", found="other seeds, steps or noise levels", expected="a run that pairs with the first"
        )
    frames = []
    for (step, sigma), x in states[0].items():
        distance = np.sqrt(((x - states[1][step, sigma]) ** 2).mean(1)) / sigma
        frames.append(pd.DataFrame({"step": step, "sigma": sigma, "sample": np.arange(len(x)), "distance": distance}))
    table = summarise_by(pd.concat(frames, ignore_index=True), by=["step", "sigma"], quantities=["distance"])
    table = table.drop(columns=["median", "quantity"]).assign(separated=table["low"] > tolerance)
    return SEPARATION.check(table)


def savings(settings: Sequence[Setting], *, against: str) -> pd.DataFrame:
    """Calls that settings save and how much they change the final samples: a threshold curve for adaptive guidance.

    Parameters
    ----------
    settings : sequence of Setting
        Recorded runs of the same seeds.
    against : str
        Name of the setting that is compared with: the same rule at full cost.

    Returns
    -------
    DataFrame
        Columns declared in `SAVINGS`.
    """
    named = {setting.name: setting for setting in settings}
    if against not in named:
        raise InputError("against", found=repr(against), expected=f"one of {list(named)}")
    base = named[against]
    calls = {name: _calls(setting) for name, setting in named.items()}
    parts = []
    for name, setting in named.items():
        difference = (setting.run.samples - base.run.samples).double().flatten(1).square().mean(1).sqrt().cpu().numpy()
        rows = pd.DataFrame({"setting": name, "sample": np.arange(len(difference)), "change": difference})
        found = summarise_by(rows, by=["setting"], quantities=["change"]).rename(columns={"mean": "mean_change"})
        row = found.drop(columns=["quantity", "median"]).rename(columns={"mean_change": "change"})
        parts.append(row.assign(calls=calls[name], calls_saved=1 - calls[name] / calls[against]))
    return SAVINGS.check(pd.concat(parts, ignore_index=True))


def _calls(setting: Setting) -> float:
    trace = setting.run.trace
    if trace is None:
        raise InputError("settings", found=f"{setting.name} without a trace", expected="recorded runs")
    return float(trace.scalars.groupby("sample")["needed"].sum().mean())


def _states(trace: Trace) -> dict[tuple[int, float], Floats]:
    """First-call states by (step, sigma), samples in order."""
    found: dict[tuple[int, float], list[Floats]] = {}
    for visit in visits(trace):
        if visit.call == 0:
            found.setdefault((visit.step, visit.sigma), []).append(visit.x.double().flatten(1).cpu().numpy())
    return {key: np.concatenate(parts) for key, parts in found.items()}
