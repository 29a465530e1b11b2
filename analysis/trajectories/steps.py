"""What denoiser calls buy: samples of every solver, grid and number of steps, against each other and a fine run.

settings = {("Heun", "rho 7", 18): setting, ...}              # of `sweep` from the same seeds, one solver and grid each
table = steps_table(settings, fine=fine.samples, reference=real, features=features)
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.guidance.sweeps import measure_sweep
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.experiments.sweep import Setting

Steps = tuple[str, str, int]
"""Names of a solver and of a grid, and its number of steps."""

STEPS = Schema(
    "steps",
    (
        Column("solver", str, "", "solver"),
        Column("grid", str, "", "how its noise levels are spaced"),
        Column("steps", int, "", "steps of the grid"),
        Column("calls", float, "", "denoiser evaluations a sample, mean over samples"),
        Column("metric", str, "", "of METRICS; end_error: root mean square over elements of (sample - fine sample)"),
        Column("n", int, "", "samples"),
        Column("value", float, "", "unit as in METRICS; of end_error that of the data"),
        *ends("", "over samples, as measure_sweep has them"),
    ),
)


@checked
def steps_table(settings: Mapping[Steps, Setting], *, fine: Tensor | None = None, **how: Any) -> pd.DataFrame:
    """Every metric of each solver, grid and number of steps, with the calls that it took.

    Parameters
    ----------
    settings : mapping of (solver, grid, steps) to Setting
        From `sweep`, from the same seeds, with a trace.
    fine : Tensor, shape (n, *shape), optional
        Samples of the same seeds by so many steps that their error does not count, for the error of the end samples. A
        stochastic solver ends elsewhere, however many steps it takes.
    **how
        As for `measure_sweep`: reference, features, labels, value_range, ...

    Returns
    -------
    DataFrame
        `STEPS`: one row a (solver, grid, steps, metric).

    Raises
    ------
    InputError
        Without settings, for fine samples of another shape, settings without a trace, and what `measure_sweep` refuses.
    """
    require_some("settings", settings)
    named = {str(place): key for place, key in enumerate(settings)}
    table = measure_sweep([replace(settings[key], name=name) for name, key in named.items()], **how)
    if fine is not None:
        ended = [_end_error(settings[key].run.samples, fine) | {"setting": name} for name, key in named.items()]
        table = pd.concat([table, pd.DataFrame(ended)], ignore_index=True)
    calls = table[table["metric"] == "calls"].set_index("setting")["value"]
    if len(calls) < len(named):
        raise InputError("settings", found="one without a trace", expected="settings of `sweep`, which count calls")
    keys = pd.DataFrame(table["setting"].map(named).tolist(), columns=["solver", "grid", "steps"])
    rows = table[["metric", "n", "value", "low", "high"]].reset_index(drop=True)
    found = pd.concat([keys, rows], axis=1).assign(calls=table["setting"].map(calls).to_numpy(np.float64))
    return STEPS.check(found[found["metric"] != "calls"].reset_index(drop=True))


def _end_error(samples: Tensor, fine: Tensor) -> dict[str, Any]:
    """Mean and interval of each sample's distance from the fine one."""
    if samples.shape != fine.shape:
        found = f"shape {tuple(fine.shape)}"
        raise InputError("fine", found=found, expected=f"{tuple(samples.shape)}, as the samples have it")
    error = (samples.double() - fine.double()).flatten(1).square().mean(1).sqrt().cpu().numpy()
    low, high = skewed_mean_interval(error)
    ends_of_mean = {"value": float(error.mean()), "low": float(low), "high": float(high)}
    return {"metric": "end_error", "n": len(error), **ends_of_mean}
