"""Which samples of two runs are made from the same seed, condition and whatever else was given for each of them."""

import json

import pandas as pd

from scorescope.probes.recording.trace import Trace

SHARED = ("shared", "number", "first")  # of a run's spec: not what a sample is made from


def pair_samples(first: Trace, second: Trace) -> pd.DataFrame:
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


def partners(pairing: pd.DataFrame) -> pd.DataFrame:
    """The rows of samples that are in both runs."""
    return pairing[(pairing["first"] >= 0) & (pairing["second"] >= 0)]


def _made_from(trace: Trace) -> dict[int, str]:
    """What each run was made from, but for its place and what all runs share, which are what may have changed."""
    own = {
        run: {name: value for name, value in spec.items() if name not in SHARED} for run, spec in trace.specs.items()
    }
    return {run: json.dumps(spec, sort_keys=True, default=str) for run, spec in own.items()}
