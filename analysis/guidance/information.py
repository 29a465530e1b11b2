"""How much the condition is worth at each noise level, in nats, and where to guide because of it.

    curve = guidance_information(trace)          # an unguided run, w = 1, with both branches recorded
    suggest_interval(trace)

With p the conditional and q the unconditional law, d KL(p_sigma || q_sigma) / d sigma = -sigma E_p |s_p - s_q|^2, so
I(c; x_sigma) is the integral of E |D_c - D_u|^2 / s^3 over s from sigma upwards. It cannot exceed the entropy of the
condition; where a model's integral does, its two branches are no pair of one law.
"""

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units, percentile_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import path_applied
from scorescope.probes.guidance.base import UNCOND
from scorescope.probes.recording.trace import Trace

# |g - D_c| on an unguided path, relative to what the network put out: two roundings to the run's type, and no less
# than float32's own noise at a path of many operations. Guidance that small moves nothing.
ROUNDINGS, LEAST_APPLIED = 2, 1e-6

INFORMATION = Schema(
    "guidance_information",
    (
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples, of all runs of the trace"),
        Column("density", float, "nats per octave", "ln 2 E|D_c - D_u|^2 / sigma^2: gained per halving of sigma"),
        *ends("nats per octave", "bootstrap over samples"),
        Column("information", float, "nats", "I(c; x_sigma): integral of the density from the highest level down"),
        *ends("nats", "of drawing samples only", of="information"),
        Column("bound", float, "nats", "entropy of the condition, which the information cannot exceed; NaN if unknown"),
        Column("dropped", int, "", "levels of infinite noise (a flow's first step) that are left out"),
    ),
)

INTERVAL = Schema(
    "suggested_interval",
    (
        Column("share", float, "1", "share of the information inside the interval"),
        Column("information", float, "nats", "what it is a share of: the integral, or the condition's entropy if less"),
        Column("low", float, "data", "its lower noise level"),
        *ends("data", "of drawing samples, not of the path's steps", of="low"),
        Column("high", float, "data", "its upper noise level"),
        *ends("data", "of drawing samples only", of="high"),
    ),
)


@checked
def guidance_information(trace: Trace, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Information about the condition against the noise level, from an unguided run.

    The expectation is over x ~ p(x_sigma | c), which the path of w = 1 follows; a guided path would give something
    else, and is refused. Whether a path was guided is read from its predictions and not from the weight that a rule
    states: rules with two weights, schedules and CFG++ guide at "w = 1" too.

    Parameters
    ----------
    trace : Trace
        An unguided run with `Recording(all_branches=True)`, or a replay of one.
    resamples, seed : int
        Of the bootstrap over samples.

    Returns
    -------
    DataFrame
        Columns declared in `INFORMATION`, one row a noise level, from high to low. The integral is the trapezoid rule
        in ln sigma from the highest finite level; what lies above it is left out, and `dropped` counts the levels
        that had no finite noise.

    Raises
    ------
    InputError
        For a guided run, one without the unconditional branch, and one without a finite noise level.
    """
    sigma, values, dropped = _densities(trace)
    draws = draw_units(len(values), resamples=resamples, seed=seed)
    means = draws @ values / len(values)
    density, integral = values.mean(0), _integral(sigma, values.mean(0))
    integrals = np.stack([_integral(sigma, row) for row in means])
    table = {
        "sigma": sigma,
        "n": len(values),
        "density": np.log(2) * density,
        **_ends("low", "high", np.log(2) * means),
        "information": integral,
        **_ends("information_low", "information_high", integrals),
        "bound": _entropy(trace.samples["condition"]),
        "dropped": dropped,
    }
    return INFORMATION.check(pd.DataFrame(table))


@checked
def suggest_interval(trace: Trace, *, share: float = 0.9, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """The central noise levels that hold `share` of the information: a guidance interval with its uncertainty.

    Equal shares, (1 - share) / 2, are left out above and below. Where the integral exceeds the entropy of the
    condition, it is cut there: what a network adds below that noise level is no information about the condition.
    Levels of infinite noise are left out, as in `guidance_information`.

    The intervals are those of drawing samples alone. What the steps do to the path and to the trapezoid rule is not
    in them: on a mixture with a closed form Heun's 18 steps give an upper end 8 % too high, 60 steps one that is
    right to 1 %. Use at least that many.

    Parameters
    ----------
    trace : Trace
        As in `guidance_information`.
    share : float
        Of the information inside, between 0 and 1.
    resamples, seed : int
        Of the bootstrap over samples.

    Returns
    -------
    DataFrame
        One row, columns declared in `INTERVAL`.

    Raises
    ------
    InputError
        For what `guidance_information` refuses, and a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise InputError("share", found=str(share), expected="a number between 0 and 1")
    sigma, values, _ = _densities(trace)
    draws = draw_units(len(values), resamples=resamples, seed=seed)
    bound = _entropy(trace.samples["condition"])
    ends = np.array([_central(sigma, row, share, bound)[:2] for row in draws @ values / len(values)])
    low, high, total = _central(sigma, values.mean(0), share, bound)
    row = {"share": share, "information": total, "low": low, **_ends("low_low", "low_high", ends[:, :1]), "high": high}
    row |= _ends("high_low", "high_high", ends[:, 1:])
    return INTERVAL.check(pd.DataFrame(row))


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


def _integral(sigma: Floats, density: Floats) -> Floats:
    steps = -np.diff(np.log(sigma)) * (density[1:] + density[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(steps)])


def _central(sigma: Floats, density: Floats, share: float, bound: float) -> tuple[float, float, float]:
    """Ends of the central share, and the total that it is a share of."""
    integral = _integral(sigma, density)
    total = float(np.fmin(integral[-1], bound))  # an unknown bound is NaN
    tail = (1 - share) / 2 * total
    ends = np.interp([total - tail, tail], integral, np.log(sigma))
    return float(np.exp(ends[0])), float(np.exp(ends[1])), total


def _entropy(condition: pd.Series) -> float:
    """Entropy of the labels in nats; NaN where the samples have none."""
    if condition.isna().any():
        return float("nan")
    share = condition.value_counts(normalize=True).to_numpy()
    return float(-(share * np.log(share)).sum())


def _ends(low: str, high: str, draws: Floats) -> dict[str, Floats]:
    return dict(zip((low, high), percentile_interval(draws), strict=True))
