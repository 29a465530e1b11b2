"""Runs of the same seeds under two rules: where their paths part, and what a cheaper rule changes.

parting(separation(trace_a, trace_b))
savings(settings, against="CFG, w = 4")
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.guidance.run_keys import SWEPT, one_kind, summarise_runs, swept_values
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import agreeing_interval, skewed_ratio_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import visits
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.guidance.base import RowRule
from scorescope.probes.models.decoding import Decoder, decode
from scorescope.probes.recording.trace import Trace

SEPARATION = Schema(
    "separation",
    (
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level"),
        Column("n", int, "", "pairs of samples, of all runs"),
        Column("runs", int, "", "pairs of runs that are averaged here"),
        Column("mean", float, "1", "RMS distance, of states in units of sigma, of decoded images in theirs; mean"),
        *ends("1", "over pairs, corrected for skewness"),
        Column("separated", bool, "", "the interval lies above the tolerance"),
    ),
)

PARTING = Schema(
    "parting",
    (
        Column("which", str, "", "first or last separated step"),
        Column("step", int, "", "sampling step"),
        Column("sigma", float, "data", "its noise level"),
        Column("mean", float, "1", "distance there, as in the table of separation"),
        *ends("1"),
    ),
)

SAVINGS = Schema(
    "savings",
    (
        Column("setting", str, "", "name of the setting"),
        SWEPT,
        Column("n", int, "", "samples"),
        Column("calls", float, "1", "denoiser evaluations a sample"),
        Column("calls_saved", float, "1", "share saved against the setting compared with"),
        *ends("1", "over samples, corrected for skewness; where all agree, by Clopper and Pearson", of="saved"),
        Column(
            "first_look",
            float,
            "1",
            "share of samples without a second branch after the first step at or below the "
            "rule's `below`: stopped at their first look, without `below` unguided",
        ),
        Column("change", float, "data", "RMS change of the final sample, mean over samples"),
        *ends("data", "over samples, corrected for skewness"),
    ),
)


@checked
def separation(first: Trace, second: Trace, *, tolerance: float = 0.01, decoder: Decoder | None = None) -> pd.DataFrame:
    """How far two runs with the same seeds and noise levels lie apart, step by step.

    What is compared are the states, in units of sigma; with a decoder the decoded predictions of the two rules,
    which are what each path has settled on so far (a state is mostly noise, which decodes to nothing).

    Parameters
    ----------
    first, second : Trace
        Runs whose states were kept. Where their seeds are not known, as those of recorded pipelines, they pair if
        they start from the same states.
    tolerance : float
        RMS distance above which two runs are taken to have separated: in units of sigma, or of the images.
    decoder : callable, optional
        Latents to images in [-1, 1], for latent models.

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
    states = [_states(trace, decoder) for trace in (first, second)]
    if states[0].keys() != states[1].keys() or list(first.samples["seed"]) != list(second.samples["seed"]):
        raise InputError(
            "second", found="other seeds, steps or noise levels", expected="a run that pairs with the first"
        )
    starts = {key[0]: key for key in reversed(states[0])}.values()  # the first of each run
    unknown = bool((first.samples["seed"] < 0).any())
    if unknown and not all(_alike(states[0][key][1], states[1][key][1]) for key in starts):
        expected = "a run that starts where the first does, from the same seeds"
        raise InputError("second", found="other states at the first step", expected=expected)
    frames = []
    for (run, stream, step, sigma), (sample, x) in states[0].items():
        unit = sigma if decoder is None else 1.0
        distance = np.sqrt(((x - states[1][run, stream, step, sigma][1]) ** 2).mean(1)) / unit
        keys = {"run": run, "step": step, "sigma": sigma, "sample": sample + np.arange(len(x))}
        frames.append(pd.DataFrame(keys | {"distance": distance}))
    table = summarise_runs(pd.concat(frames, ignore_index=True), by=["step", "sigma"], quantities=["distance"])
    table = table.drop(columns=["median", "quantity"]).assign(separated=table["low"] > tolerance)
    return SEPARATION.check(table)


@checked
def parting(table: pd.DataFrame) -> pd.DataFrame:
    """The first and the last step at which two paths are separated.

    Parameters
    ----------
    table : DataFrame
        From `separation`.

    Returns
    -------
    DataFrame
        Columns declared in `PARTING`: two rows, `first` and `last`, or none where the paths never separate. The last
        is the end of the path unless they meet again.
    """
    require_columns("table", table, ["step", "sigma", "mean", "low", "high", "separated"])
    rows = table[table["separated"]].sort_values("step").iloc[[0, -1] if table["separated"].any() else []]
    found = rows[["step", "sigma", "mean", "low", "high"]].assign(which=["first", "last"][: len(rows)])
    return PARTING.check(found.reset_index(drop=True))


@checked
def savings(settings: Sequence[Setting], *, against: str, decoder: Decoder | None = None) -> pd.DataFrame:
    """Calls that settings save and how much they change the final samples: a threshold curve for adaptive guidance.

    Parameters
    ----------
    settings : sequence of Setting
        Recorded runs of the same seeds.
    against : str
        Name of the setting that is compared with: the same rule at full cost.
    decoder : callable, optional
        Latents to images in [-1, 1], for latent models: `change` is then that of the images.

    Returns
    -------
    DataFrame
        Columns declared in `SAVINGS`.
    """
    named = {setting.name: setting for setting in settings}
    if against not in named:
        raise InputError("against", found=repr(against), expected=f"one of {list(named)}")
    base, base_calls = _flat(named[against].run.samples, decoder), _calls(named[against])
    parts = []
    for name, setting in named.items():
        change = np.sqrt(((_flat(setting.run.samples, decoder) - base) ** 2).mean(1))
        calls = _calls(setting)
        saved = 1 - float(calls.sum() / base_calls.sum())
        ends = [1 - float(end) for end in skewed_ratio_interval(calls, base_calls)[::-1]]
        # each sample has calls of its own under such a rule, so that samples that agree are no certainty
        if isinstance(setting.rule, RowRule) and len(calls) > 1 and (calls == calls[0]).all():
            ends = list(agreeing_interval(saved, len(calls)))
        rows = pd.DataFrame({"setting": name, "sample": np.arange(len(change)), "change": change})
        found = summarise_by(rows, by=["setting"], quantities=["change"]).drop(columns=["quantity", "median"])
        part = found.rename(columns={"mean": "change"}).assign(calls=calls.mean(), calls_saved=saved)
        part = part.assign(saved_low=ends[0], saved_high=ends[1], first_look=_stopped_at_once(setting))
        parts.append(part.assign(**swept_values(setting.swept)))
    return SAVINGS.check(one_kind(pd.concat(parts, ignore_index=True)))


def _needed(setting: Setting) -> pd.Series:
    """Denoiser evaluations that the rule needed, by (sample, step, call)."""
    trace = setting.run.trace
    if trace is None:
        raise InputError("settings", found=f"{setting.name} without a trace", expected="recorded runs")
    return trace.scalars.set_index(["sample", "step", "call"])["needed"].sort_index()


def _calls(setting: Setting) -> Floats:
    """Denoiser evaluations of each sample."""
    calls: Floats = _needed(setting).groupby("sample").sum().to_numpy(np.float64)
    return calls


def _stopped_at_once(setting: Setting) -> float:
    """Share of samples that no step after the first look at the cosine gave a second branch."""
    assert setting.run.trace is not None  # the calls were counted
    rows = setting.run.trace.scalars
    look = rows.loc[rows["sigma"] <= getattr(setting.rule, "below", np.inf), "step"].min()
    return float((rows[rows["step"] > look].groupby("sample")["needed"].max() == 1).mean())


def _states(trace: Trace, decoder: Decoder | None) -> dict[tuple[int, int, int, float], tuple[int, Floats]]:
    """First-call states, or decoded predictions, by (run, stream, step, sigma): the first sample's number, and all."""
    found: dict[tuple[int, int, int, float], list[tuple[int, Floats]]] = {}
    for visit in visits(trace):
        if visit.call == 0:
            shown = visit.x if decoder is None else visit.guided
            key = visit.run, visit.stream, visit.step, visit.sigma
            found.setdefault(key, []).append((visit.first, _flat(shown, decoder)))
    return {key: (parts[0][0], np.concatenate([part for _, part in parts])) for key, parts in found.items()}


def _alike(a: Floats, b: Floats) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4)


def _flat(tensor: Tensor, decoder: Decoder | None) -> Floats:
    shown = tensor if decoder is None else decode(decoder, tensor)
    values: Floats = shown.double().flatten(1).cpu().numpy()
    return values
