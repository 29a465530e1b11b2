"""How much the condition is worth at each noise level, in nats, and where to guide because of it.

    curve = guidance_information(trace)          # an unguided run, w = 1, with both branches recorded
    suggest_interval(trace)

With p the conditional and q the unconditional law, d KL(p_sigma || q_sigma) / d sigma = -sigma E_p |s_p - s_q|^2, so
I(c; x_sigma) is the integral of E |D_c - D_u|^2 / s^3 over s from sigma upwards. It cannot exceed the entropy of the
condition; where a model's integral does, its two branches are no pair of one law, or the labels were sampled in other
shares than those of the unconditional law.
"""

import numpy as np
import pandas as pd
import scipy
import torch

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import LEVEL, skewed_mean_interval, skewed_t
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import path_applied
from scorescope.probes.guidance.base import UNCOND
from scorescope.probes.recording.trace import Trace

# |g - D_c| on an unguided path, relative to what the network put out: two roundings to the run's type, and no less
# than float32's own noise at a path of many operations. Guidance that small moves nothing.
ROUNDINGS, LEAST_APPLIED = 2, 1e-6

# noise levels inside a suggested interval: on mixtures with a closed form the path and the integral over 12 of them
# move its ends by at most 2 %, over 6 of them by 3 to 10 %
LEAST_LEVELS = 12
# samples that hold the tail beyond an end (squared sum over sum of squares): of fewer, rare ones that were not drawn
# decide, and no interval made from those that were covers
LEAST_HOLDERS = 12
FINE = 4000  # places between the levels at which the integral is looked up

INFORMATION = Schema(
    "guidance_information",
    (
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples, of all runs of the trace"),
        Column("density", float, "nats per octave", "ln 2 E|D_c - D_u|^2 / sigma^2: gained per halving of sigma"),
        *ends("nats per octave", "of drawing samples only"),
        Column("information", float, "nats", "I(c; x_sigma): integral of the density from the highest level down"),
        *ends("nats", "of drawing samples only", of="information"),
        Column(
            "bound",
            float,
            "nats",
            "entropy of the sampled labels, which the information cannot exceed if the "
            "unconditional branch is of the same labels in the same shares; NaN if there are none, or one",
        ),
        Column("dropped", int, "", "levels of infinite noise (a flow's first step) that are left out"),
    ),
)

INTERVAL = Schema(
    "suggested_interval",
    (
        Column("share", float, "1", "share of the information inside the interval"),
        Column("information", float, "nats", "what it is a share of: the integral, or the condition's entropy if less"),
        Column("low", float, "data", "its lower noise level"),
        *ends("data", "of drawing samples; the path's lowest level where they leave it open", of="low"),
        Column("high", float, "data", "its upper noise level"),
        *ends("data", "of drawing samples; the path's highest level where they leave it open", of="high"),
        Column("levels", int, "", "noise levels of the path inside it"),
        Column("missing", str, "", "why there is no interval; empty where there is one"),
    ),
)


@checked
def guidance_information(trace: Trace) -> pd.DataFrame:
    """Information about the condition against the noise level, from an unguided run.

    The expectation is over x ~ p(x_sigma | c), which the path of w = 1 follows; a guided path would give something
    else, and is refused. Whether a path was guided is read from its predictions and not from the weight that a rule
    states: rules with two weights, schedules and CFG++ guide at "w = 1" too.

    Parameters
    ----------
    trace : Trace
        An unguided run with `Recording(all_branches=True)`, or a replay of one.

    Returns
    -------
    DataFrame
        Columns declared in `INFORMATION`, one row a noise level, from high to low. The integral is that of a
        cubic spline through the levels in ln sigma, from the highest finite one; what lies above it is left out, and
        `dropped` counts the levels that had no finite noise.

    Raises
    ------
    InputError
        For a guided run, one without the unconditional branch, and one without a finite noise level.
    """
    sigma, values, dropped = _densities(trace)
    integrals = _integrals(sigma, values, -np.log(sigma))
    table = {
        "sigma": sigma,
        "n": len(values),
        "density": np.log(2) * values.mean(0),
        **_ends("low", "high", np.log(2) * values),
        "information": integrals.mean(0),
        **_ends("information_low", "information_high", integrals),
        "bound": _entropy(trace.samples["condition"]),
        "dropped": dropped,
    }
    return INFORMATION.check(pd.DataFrame(table))


@checked
def suggest_interval(trace: Trace, *, share: float = 0.9) -> pd.DataFrame:
    """The central noise levels that hold `share` of the information: a guidance interval with its uncertainty.

    Equal shares, (1 - share) / 2, are left out above and below. Where the integral is shown to exceed the entropy of
    the sampled labels (by its own interval), the entropy takes its place: what a network adds below that noise level
    is no information about the condition. This supposes labels in the shares of the data; samples of a single label
    say nothing of the others, and their integral is taken whole. Levels of infinite noise are left out, as in
    `guidance_information`.

    There is no interval, and `missing` says why, where the branches differ by no more than rounding, and where fewer
    than 12 noise levels lie inside: then the steps move its ends more than the samples do. `sample`'s default of 18
    steps is too few for most models: take `edm_sigmas(60)`.

    The intervals of the ends are those of drawing samples: the levels at which Hall's corrected t does not tell the
    integral from its share (as Fieller's interval of a ratio; see `skewed_mean_interval`). On four mixtures with a
    closed form those of the upper end cover 92 to 98 % from 16 samples up. Where fewer than 12 samples hold what lies
    beyond an end, the interval is open on that side: the lower end's in nearly all runs of 16 and 24 samples, and of
    classes that hardly overlap, where few samples ever come near another class, in 98 % of those of 96. Once it is
    closed in most runs, the lower end's covers 93 to 96 % where classes overlap, 91 % of ten that hardly do; the few
    that close before cover less (13 of 18 of 48 samples).

    Parameters
    ----------
    trace : Trace
        As in `guidance_information`.
    share : float
        Of the information inside, between 0 and 1.

    Returns
    -------
    DataFrame
        One row, columns declared in `INTERVAL`.

    Raises
    ------
    InputError
        For what `guidance_information` refuses, a share outside (0, 1), and fewer than two samples.
    """
    if not 0 < share < 1:
        raise InputError("share", found=str(share), expected="a number between 0 and 1")
    sigma, values, _ = _densities(trace)
    if len(values) < 2:
        raise InputError("trace", found=f"{len(values)} sample", expected="at least 2: the interval is over samples")
    fine = np.linspace(-np.log(sigma[0]), -np.log(sigma[-1]), FINE)
    integrals = _integrals(sigma, values, fine)
    totals = _totals(integrals, _entropy(trace.samples["condition"]))
    row = {"share": share, "information": totals.mean(), "levels": 0, "missing": ""}
    row |= dict.fromkeys(("low", "low_low", "low_high", "high", "high_low", "high_high"), np.nan)
    if totals.mean() <= _rounding(trace, sigma):
        return INTERVAL.check(pd.DataFrame([row | {"missing": "no information: the branches differ by rounding only"}]))
    tail = (1 - share) / 2
    high, low = (_level(fine, integrals, totals, part) for part in (tail, 1 - tail))
    row["levels"] = int(((sigma >= low[0]) & (sigma <= high[0])).sum())
    if row["levels"] < LEAST_LEVELS:
        row["missing"] = f"{row['levels']} noise levels inside, {LEAST_LEVELS} needed: record more steps"
    else:
        row |= dict(zip(("low", "low_low", "low_high", "high", "high_low", "high_high"), (*low, *high), strict=True))
    return INTERVAL.check(pd.DataFrame([row]))


def _densities(trace: Trace) -> tuple[Floats, Floats, int]:
    """Finite noise levels from high to low, |D_c - D_u|^2 / sigma^2 of each (sample, level), how many were infinite.

    The values are nats per d ln sigma.
    """
    scalars = trace.scalars
    require_columns("trace.scalars", scalars, ["sample", "call", "sigma", "update_sq"])
    _check_unguided(trace)
    first = scalars[scalars["call"] == 0]
    finite = first[(first["sigma"] > 0) & np.isfinite(first["sigma"])]
    if finite.empty:
        raise InputError("trace", found="no finite noise level", expected="a run with steps at 0 < sigma < inf")
    levels = finite.groupby(finite.get("run", finite["call"]))["sigma"].agg(lambda found: tuple(sorted(set(found))))
    if levels.nunique() > 1:
        raise InputError(
            "trace", found="runs at different noise levels", expected="one run, or runs at the same levels"
        )
    wide = finite.pivot(index="sample", columns="sigma", values="update_sq").sort_index(axis=1, ascending=False)
    sigma = wide.columns.to_numpy(np.float64)
    values = wide.to_numpy(np.float64) / sigma**2
    if not np.isfinite(values).all():
        raise InputError(
            "trace", found="missing updates", expected="both branches at every step: Recording(all_branches=True)"
        )
    return sigma, values, int(np.isinf(first["sigma"].unique()).sum())


def _check_unguided(trace: Trace) -> None:
    """Refuse a path that guidance bent, whatever the rule calls its weight, and another branch in place of D_u."""
    applied, manifest = path_applied(trace), trace.manifest
    if applied > max(ROUNDINGS * torch.finfo(getattr(torch, str(manifest["dtype"]))).eps, LEAST_APPLIED):
        source = manifest.get("replayed_from", manifest.get("rule", "unknown"))
        found = f"a path guided by {source}, |guided - D_c| up to {applied:.2g} of a prediction"
        raise InputError("trace", found=found, expected="an unguided run, w = 1: guidance changes where the path goes")
    others = set(trace.scalars.get("reference", pd.Series(dtype=str))) - {UNCOND}
    if others:
        expected = "the unconditional branch: no other tells what the condition is worth"
        raise InputError("trace", found=f"the {sorted(others)[0]} branch in place of D_u", expected=expected)


def _integrals(sigma: Floats, values: Floats, places: Floats) -> Floats:
    """Integral of each sample's density from the highest level down to places in -ln sigma, (samples, places)."""
    if len(sigma) < 2:
        return np.zeros((len(values), len(places)))
    found: Floats = scipy.interpolate.CubicSpline(-np.log(sigma), values, axis=1).antiderivative()(places)
    return found


def _totals(integrals: Floats, bound: float) -> Floats:
    """What each sample's integral is a share of, shape (samples,): all of it, or the bound where it is exceeded."""
    whole = integrals[:, -1]
    exceeded = float(skewed_mean_interval(whole)[0]) > bound  # an unknown bound is NaN
    return np.full_like(whole, bound) if exceeded else whole


def _level(fine: Floats, integrals: Floats, totals: Floats, part: float) -> tuple[float, float, float]:
    """Noise level above which `part` of the information lies, and the ends of its 95 % interval."""
    gap = integrals - part * totals[:, None]
    place = float(np.interp(0, np.maximum.accumulate(gap.mean(0)), fine))
    reach = scipy.stats.t.ppf((1 + LEVEL) / 2, len(gap) - 1)
    t = np.maximum.accumulate(np.nan_to_num(skewed_t(gap), nan=-np.inf, neginf=-1e300, posinf=1e300))
    first, last = np.interp([-reach, reach], t, fine)
    beyond = np.clip(integrals if part < 0.5 else integrals[:, -1:] - integrals, 0, None)
    held = beyond[:, np.searchsorted(fine, place)]
    if held.sum() ** 2 < LEAST_HOLDERS * (held**2).sum():
        first, last = (fine[0], last) if part < 0.5 else (first, fine[-1])
    return float(np.exp(-place)), float(np.exp(-last)), float(np.exp(-first))


def _rounding(trace: Trace, sigma: Floats) -> float:
    """What rounding of the two branches would integrate to, in nats."""
    rows = decompose(trace)
    floor = rows[rows["call"] == 0].groupby("sigma")["norm_floor"].apply(lambda floors: (floors**2).mean())
    density = floor.reindex(sigma).to_numpy(np.float64) / sigma**2
    return float(_integrals(sigma, density[None], -np.log(sigma[-1:]))[0, 0])


def _entropy(condition: pd.Series) -> float:
    """Entropy of the labels in nats; NaN where the samples have none, or one: that tells nothing of the others."""
    if condition.isna().any() or condition.nunique() == 1:
        return float("nan")
    share = condition.value_counts(normalize=True).to_numpy()
    return float(-(share * np.log(share)).sum())


def _ends(low: str, high: str, values: Floats) -> dict[str, Floats]:
    return dict(zip((low, high), skewed_mean_interval(values), strict=True))
