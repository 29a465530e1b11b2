"""What the guidance update did at every noise level.

    table = decompose(trace)                     # one row a (run, sample, step, call)
    summary = summarise(table)                   # one row a (step, call, quantity), with intervals
    compare([trace_cfg, trace_apg])              # the same for several runs, side by side

The update is d = D_c - D_u, in denoised space. Its part along D_c acts as a gain on the prediction and shows as
saturation, the rest as quality (Sadat, Hilliges & Weber 2025, arXiv 2410.02416). Everything is derived from the
inner products that a trace holds.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.guidance.run_keys import (
    KEYS,
    PATH,
    ROW_KEYS,
    one_kind,
    path_keys,
    run_name,
    summarise_runs,
    trace_keys,
)
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.tables import Column, Schema, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import BRANCH_PRODUCTS, IMAGE_STATISTICS, OUTPUT_PRODUCTS
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling.sample import Run

# root mean square error of rounding once to a type, relative to the value and in units of the type's eps: errors
# are uniform within half a last digit, values are uniform in the logarithm of their mantissa
ROUNDING = float(np.sqrt(1 / 12) * np.sqrt(3 / (8 * np.log(2))))

DECOMPOSITION = Schema(
    "decomposition",
    (
        *ROW_KEYS,
        Column(
            "sigma_next", float, "data", "noise level of the state that the step, or stage, returns; NaN if unknown"
        ),
        Column("seed", int, "", "the sample's seed"),
        Column("log_snr", float, "nats", "-2 ln sigma"),
        Column("update_norm", float, "data", "L2 norm of d = D_c - D_u, denoised space"),
        Column("update_rms", float, "data", "update_norm / sqrt(N)"),
        Column("update_ratio", float, "1", "update_norm / norm of D_c, denoised space"),
        Column("parallel_coefficient", float, "1", "a = <d, D_c> / <D_c, D_c>, signed, denoised space"),
        Column("parallel_norm", float, "data", "norm of the part of d along D_c, denoised space"),
        Column("orthogonal_norm", float, "data", "norm of the rest of d, denoised space"),
        Column("parallel_share", float, "1", "parallel_norm^2 / update_norm^2, denoised space"),
        Column("chance_share", float, "1", "what a random direction would have: 1 / N"),
        Column("cos_denoised", float, "1", "cosine of D_c and D_u"),
        Column("one_minus_cos_denoised", float, "1", "1 - cosine of D_c and D_u, without cancellation"),
        Column("cos_eps", float, "1", "cosine of the eps predictions of the two branches"),
        Column("one_minus_cos_eps", float, "1", "1 - cosine of the eps predictions, without cancellation"),
        Column("gain", float, "1", "1 + (w - 1) a, with the row's w: factor by which plain CFG scales D_c"),
        Column("applied_gain", float, "1", "<guided, D_c> / <D_c, D_c>: factor that the rule really applied"),
        Column("applied_norm", float, "data", "L2 norm of guided - D_c, denoised space"),
        Column("norm_floor", float, "data", "update_norm that rounding the network's two outputs would give by itself"),
        Column("cos_floor", float, "1", "one_minus_cos_denoised that the same rounding would give"),
        Column("cos_eps_floor", float, "1", "one_minus_cos_eps that the same rounding would give"),
        Column("overshoot_share", float, "1", "share of guided's elements outside the range, see image_statistics"),
        Column("overshoot_mean", float, "data", "mean distance of its elements from the range"),
        Column("contrast", float, "data", "standard deviation over the guided prediction (luma for colour)"),
        Column("saturation", float, "1", "mean HSV saturation of the guided prediction, colour only"),
        Column("needed", int, "", "denoiser evaluations that the rule needed"),
        Column("observed", int, "", "denoiser evaluations made for the recording only"),
        Column("reference", str, "", "branch that stands for D_u: uncond, weak, perturbed or independent (ICG)"),
        Column(
            "missing",
            str,
            "",
            "why numbers of the row are missing: a branch is, or a ratio is 0 / 0; else empty",
        ),
    ),
)

CENTRED = Schema(
    "centred",
    (
        *ROW_KEYS,
        Column("centred_update_norm", float, "data", "norm of d without channel means, denoised space"),
        Column(
            "centred_parallel_coefficient", float, "1", "signed coefficient of d along D_c, both without channel means"
        ),
        Column("centred_parallel_share", float, "1", "parallel share of d's energy, both without channel means"),
        Column("missing", str, "", "why numbers of the row are missing, as in the decomposition"),
    ),
)

BANDS = Schema(
    "bands",
    (
        *ROW_KEYS,
        Column("band", int, "", "radial frequency band; 0 holds the mean"),
        Column("low_frequency", float, "cycles/sample", "lower edge"),
        Column("high_frequency", float, "cycles/sample", "upper edge; the last band holds all above its lower edge"),
        Column("update_norm", float, "data", "norm of the band of d = D_c - D_u, denoised space"),
        Column("cond_norm", float, "data", "norm of the band of D_c"),
    ),
)

_STEP_KEYS = ["step", "call", "sigma", "log_snr"]
_LABELS = [*KEYS, "sigma_next", "seed", "log_snr", "needed", "observed", "reference", "missing"]
_QUANTITIES = [name for name in DECOMPOSITION.names if name not in _LABELS]

SAME = "both branches are the same"  # 0 / 0 is what a share of no update comes to


@checked
def decompose(trace: Trace | Run | str | Path) -> pd.DataFrame:
    """Split the guidance update of every (run, sample, step, call).

    Parameters
    ----------
    trace : Trace, Run, str or Path
        A run with recorded scalars: its trace, what `sample` returned, or the folder of a trace.

    Returns
    -------
    DataFrame
        Columns declared in `DECOMPOSITION`. The weight of a row is that row's. Where the unconditional branch is
        missing, what depends on it is NaN and `missing` says why; so it does where a ratio has no value, as the
        parallel share of branches that are the same. Frequency bands and channel-centred products, where recorded,
        are given by `decompose_bands` and `decompose_centred`.

    Raises
    ------
    InputError
        If the trace holds no branch products.
    """
    trace = _opened(trace)
    scalars, manifest = trace.scalars, trace.manifest
    require_columns("trace.scalars", scalars, [*BRANCH_PRODUCTS, "applied_sq", "applied_cond"])
    cc, uu, dd, dc, ee, de = (scalars[name].to_numpy(np.float64) for name in BRANCH_PRODUCTS)
    keys, size = trace_keys(trace), int(np.prod(manifest["shape"]))
    missing = _why_missing(scalars["missing"], {SAME: dd, "D_c is zero": cc, "D_u is zero": uu, "eps_c is zero": ee})
    cc, uu, ee = (_divisor(squares) for squares in (cc, uu, ee))
    coefficient = dc / cc
    parallel = dc**2 / cc
    orthogonal = np.clip(dd - parallel, 0, None)
    one_minus_cos = _one_minus_cos(cc, uu, dd, dc)
    # eps_c - eps_u = -d / sigma; the factor 1 / sigma cancels in the cosine
    one_minus_cos_eps = _one_minus_cos(ee, _divisor(np.clip(ee + 2 * de + dd, 0, None)), dd, -de)
    unit = ROUNDING * _precision(trace)
    put_out, put_out_uncond = (scalars.get(name, known) for name, known in zip(OUTPUT_PRODUCTS, (cc, uu), strict=True))
    columns = {
        "seed": scalars["sample"].map(trace.samples.set_index("sample")["seed"]).astype(np.int64),
        "log_snr": -2 * np.log(scalars["sigma"]),
        "update_norm": np.sqrt(dd),
        "update_rms": np.sqrt(dd / size),
        "update_ratio": np.sqrt(dd / cc),
        "parallel_coefficient": coefficient,
        "parallel_norm": np.sqrt(parallel),
        "orthogonal_norm": np.sqrt(orthogonal),
        "parallel_share": parallel / _divisor(dd),
        "chance_share": 1 / size,
        "cos_denoised": 1 - one_minus_cos,
        "one_minus_cos_denoised": one_minus_cos,
        "cos_eps": 1 - one_minus_cos_eps,
        "one_minus_cos_eps": one_minus_cos_eps,
        # along an update that has nothing of D_c every weight is the same gain
        "gain": np.where(coefficient == 0, 1.0, 1 + (keys["weight"] - 1) * coefficient),
        "applied_gain": 1 + scalars["applied_cond"] / cc,
        "applied_norm": np.sqrt(scalars["applied_sq"]),
        "norm_floor": unit * np.sqrt(put_out + put_out_uncond),
        "cos_floor": unit**2 * (put_out / cc + put_out_uncond / uu) / 2,
        "cos_eps_floor": unit**2 * (put_out + put_out_uncond) / (2 * ee),
        "reference": scalars.get("reference", "uncond"),
        "missing": missing,
    }
    kept = ["sigma_next", "needed", "observed", *IMAGE_STATISTICS]
    return DECOMPOSITION.check(keys.join(scalars[kept]).assign(**columns))


@checked
def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a decomposition over samples: one row a (rule, weight, stream, step, call, quantity).

    Runs of the same rule and weight are averaged together, and `runs` counts them; select rows of a `run` before, to
    have it alone. Settings of a sweep over other fields of a rule (`rule_eta`, ...) stay apart.

    Parameters
    ----------
    table : DataFrame
        From `decompose`; several runs may stand below each other.

    Returns
    -------
    DataFrame
        `rule`, `weight` (of the samples' paths, `path_weight`), `stream`, `step`, `call`, `sigma`, `log_snr`,
        `quantity`, `n`, `runs`, `mean`, `median`, `low`, `high`, `missing`; see `summarise_by`. `parallel_share` is
        the mean over samples of each sample's ratio, not a ratio of means; of `n` of them, where `missing` says why
        others have none.
    """
    require_columns("table", table, [*PATH, "run", *_STEP_KEYS, *_QUANTITIES, "missing"])
    by = [*path_keys(table), *_STEP_KEYS]
    found = summarise_runs(table, by=by, quantities=_QUANTITIES, reasons=True)
    # what an image looks like is known without branches
    return found.assign(missing=found["missing"].mask(found["quantity"].isin(IMAGE_STATISTICS), ""))


@checked
def decompose_centred(trace: Trace | Run | str | Path) -> pd.DataFrame:
    """The parallel part with each channel's mean removed from both branches.

    The mean of a channel is brightness or colour; what stays parallel without it is structure.

    Parameters
    ----------
    trace : Trace
        A run that recorded the centred products.

    Returns
    -------
    DataFrame
        Columns declared in `CENTRED`.

    Raises
    ------
    InputError
        If the trace was not recorded with `Recording(centred=True)`.
    """
    trace = _opened(trace)
    names = ["centred_cond_sq", "centred_update_sq", "centred_update_cond"]
    _require(trace, names, "Recording(centred=True)")
    cc, dd, dc, whole = (trace.scalars[name].to_numpy(np.float64) for name in [*names, "update_sq"])
    nothing = {SAME: whole, "the update is its channel means alone": dd, "D_c is its channel means alone": cc}
    columns = {
        "centred_update_norm": np.sqrt(dd),
        "centred_parallel_coefficient": dc / _divisor(cc),
        "centred_parallel_share": dc**2 / _divisor(cc * dd),
        "missing": _why_missing(trace.scalars["missing"], nothing),
    }
    return CENTRED.check(trace_keys(trace).assign(**columns))


@checked
def decompose_bands(trace: Trace | Run | str | Path) -> pd.DataFrame:
    """Norms of the update and of D_c in radial frequency bands, one row a (sample, step, call, band).

    Parameters
    ----------
    trace : Trace
        A run that recorded the products of bands.

    Returns
    -------
    DataFrame
        Columns declared in `BANDS`.

    Raises
    ------
    InputError
        If the trace was not recorded with `Recording(band_edges=...)`.
    """
    trace = _opened(trace)
    edges = list(trace.manifest["recording"]["band_edges"])
    count = len(edges) + 1 if edges else 0
    _require(trace, [f"update_sq_band{max(count - 1, 0)}"], "Recording(band_edges=...)")
    tables = []
    for band, (low, high) in enumerate(zip([0.0, *edges], [*edges, np.inf], strict=True)):
        columns = {
            "band": band,
            "low_frequency": low,
            "high_frequency": high,
            "update_norm": np.sqrt(trace.scalars[f"update_sq_band{band}"]),
            "cond_norm": np.sqrt(trace.scalars[f"cond_sq_band{band}"]),
        }
        tables.append(trace_keys(trace).assign(**columns))
    return BANDS.check(pd.concat(tables, ignore_index=True))


@checked
def compare(traces: Mapping[str, Trace] | Iterable[Trace]) -> pd.DataFrame:
    """Summaries of several runs side by side, told apart by `run`.

    Parameters
    ----------
    traces : mapping of str to Trace, or iterable of Trace
        Runs by name; without names they are called by rule and weight.

    Returns
    -------
    DataFrame
        As from `summarise`, with a first column `run`, the name; a trace of several runs is one of them.

    Raises
    ------
    InputError
        If there is no trace, or two unnamed ones have the same rule and weight.
    """
    if not isinstance(traces, Mapping):
        listed = list(traces)
        manifests = [trace.manifest for trace in listed]
        names = [run_name(str(found["rule"]), float(found["weight"])) for found in manifests]
        traces = dict(zip(names, listed, strict=True))
        if len(traces) < len(listed):
            expected = "a name for each: a mapping of str to Trace"
            raise InputError("traces", found=f"{len(listed)} traces of rules {list(traces)}", expected=expected)
    if not traces:
        raise InputError("traces", found="0 traces", expected="at least one")
    tables = [summarise(decompose(trace)).assign(run=name) for name, trace in traces.items()]
    table = one_kind(pd.concat(tables, ignore_index=True))
    return table[["run", *table.columns.drop("run")]]


def _opened(source: Trace | Run | str | Path) -> Trace:
    """The trace of a run, or that in a folder."""
    trace = source.trace if isinstance(source, Run) else source
    if trace is None:
        raise InputError("trace", found="a run without one", expected="sample(..., record=Recording())")
    return Trace.open(trace) if isinstance(trace, str | Path) else trace


def _require(trace: Trace, names: list[str], how: str) -> None:
    if absent := [name for name in names if name not in trace.scalars]:
        raise InputError("trace", found=f"scalars without {absent}", expected=f"a run recorded with {how}")


def _why_missing(said: pd.Series, nothing: Mapping[str, Floats]) -> pd.Series:
    """What a trace says, and else the first reason whose squared norm is zero."""
    zero = [(squares == 0).astype(bool) for squares in nothing.values()]
    return said.where(said != "", pd.Series(np.select(zero, list(nothing), ""), said.index))


def _divisor(squares: Floats) -> Floats:
    """Squared norms to divide by: where there is nothing, a ratio is missing."""
    found: Floats = np.where(squares == 0, np.nan, squares)
    return found


def _one_minus_cos(aa: Floats, bb: Floats, dd: Floats, da: Floats) -> Floats:
    """1 - cos(a, b) from <a,a>, <b,b>, <d,d>, <d,a> with d = a - b.

    |a/|a| - b/|b||^2 / 2 = (|d|^2 - (|a| - |b|)^2) / (2 |a| |b|), where the difference of the norms comes from
    (|a|^2 - |b|^2) / (|a| + |b|): digits do not get lost however close a and b are. They do where d is all but
    parallel to a (orthogonal part below 1e-7 of d), which rounding of float32 predictions does not let happen.
    """
    a, b = np.sqrt(aa), np.sqrt(bb)
    gap = (2 * da - dd) / (a + b)
    found: Floats = np.clip(dd - gap**2, 0, None) / (2 * a * b)
    return found


def _precision(trace: Trace) -> Floats | float:
    """Machine epsilon of the coarsest type that the predictions of each row passed through."""
    if "precision" in trace.scalars:
        return trace.scalars["precision"].to_numpy(np.float64)
    stated = trace.manifest.get("recording", {}).get("compute_dtype") or trace.manifest["dtype"]
    return float(torch.finfo(getattr(torch, str(stated))).eps)
