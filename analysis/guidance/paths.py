"""What a rule does along a whole path: gains that multiply up, clips that act, pictures that saturate.

gain_path(decompose(trace))
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.guidance.run_keys import (
    KEYS,
    ROW_KEYS,
    RUNS,
    SUMMARY_KEYS,
    path_keys,
    summarise_runs,
    trace_keys,
)
from scorescope.analysis.statistics.intervals import agreeing_interval, share_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import IMAGE_STATISTICS, image_statistics, projection_products
from scorescope.probes.experiments.replay import visits
from scorescope.probes.guidance import APG, GuidanceState
from scorescope.probes.models.decoding import Decoder, decode
from scorescope.probes.recording.trace import Trace, Visit

_STEP = (
    *SUMMARY_KEYS,
    Column("step", int, "", "sampling step"),
    Column("sigma", float, "data", "its noise level"),
)
_INTERVAL = (
    Column("n", int, "", "samples, of all runs of this rule and weight"),
    RUNS,
    Column("mean", float, "", "mean over samples, in the unit of the quantity"),
    *ends("", "over samples, corrected for skewness"),
)

GAIN_PATH = Schema(
    "gain_path",
    (
        *_STEP,
        Column(
            "quantity", str, "", "step_gain: weighted gain of the step; path_gain: product so far, if each is known"
        ),
        *_INTERVAL,
    ),
)

CLIP = Schema(
    "clip_activity",
    (
        *_STEP,
        Column("quantity", str, "", "active: share of samples whose update is clipped; relative_norm: r / norm of D_c"),
        *_INTERVAL,
    ),
)

CLIP_SHARE = Schema(
    "clip_share",
    (
        *SUMMARY_KEYS,
        Column("norm", float, "data", "the clip r"),
        Column("relative_norm", float, "1", "r / norm of D_c, mean over samples and steps"),
        Column("n", int, "", "samples, of all runs of this rule and weight"),
        RUNS,
        Column("mean", float, "1", "share of a sample's steps at which the clip is active, mean over samples"),
        *ends("1", "over samples, corrected for skewness; where all samples agree, by Clopper and Pearson"),
    ),
)

MOMENTUM_UPDATES = Schema(
    "momentum_updates",
    (
        *ROW_KEYS,
        Column("update_norm", float, "data", "norm of the update with the momentum of earlier steps"),
        Column("update_ratio", float, "1", "update_norm / norm of D_c"),
    ),
)

DECODED_PATH = Schema(
    "decoded_path",
    (
        *_STEP,
        Column("quantity", str, "", "of the decoded guided prediction; see image_statistics"),
        *_INTERVAL,
    ),
)


@checked
def gain_path(table: pd.DataFrame) -> pd.DataFrame:
    """Gain of each Euler step along D_c, and its product along the path.

    A step from sigma to sigma' replaces the share 1 - sigma'/sigma of the state by the guided prediction, so a gain g
    on D_c acts on the step as 1 + (1 - sigma'/sigma) (g - 1), with sigma' = `sigma_next` (missing where the end of a
    last step is unknown). The product over steps is what the parallel parts along a path would come to if each acted
    on the same direction and nothing answered: an account of where saturation enters, not a prediction of how much
    there will be (the network pulls back what leaves the data).

    Parameters
    ----------
    table : DataFrame
        From `decompose`; first calls are used.

    Returns
    -------
    DataFrame
        Columns declared in `GAIN_PATH`.

    Raises
    ------
    InputError
        Where a sample has two rows at one step: of two traces of the same rule and weight, which are two paths.
    """
    require_columns("table", table, [*KEYS, "sigma_next", "applied_gain"])
    of_path = [*path_keys(table), "run", "sample"]
    ends = table.groupby([*of_path, "step"], dropna=False)["sigma_next"].transform("min")  # of all stages of a step
    rows = table.assign(after=ends)[table["call"] == 0].sort_values([*of_path, "step"])
    if rows.duplicated([*of_path, "step"]).any():
        expected = "one row a (run, sample, step): traces of the same rule and weight one at a time"
        raise InputError("table", found="a sample with two rows at one step", expected=expected)
    # where a scheduler does not tell, the level of the next step
    after = rows["after"].fillna(rows.groupby(of_path, sort=False, dropna=False)["sigma"].shift(-1))
    rows = rows.assign(step_gain=1 + (1 - after / rows["sigma"]) * (rows["applied_gain"] - 1))
    steps = rows.assign(gap=rows["step_gain"].isna()).groupby(of_path, sort=False, dropna=False)
    rows["path_gain"] = steps["step_gain"].cumprod().where(steps["gap"].cumsum() == 0)  # unknown from a gap on
    found = summarise_runs(rows, by=[*path_keys(rows), "step", "sigma"], quantities=["step_gain", "path_gain"])
    return GAIN_PATH.check(found.drop(columns="median"))


@checked
def clip_activity(table: pd.DataFrame, *, norm: float) -> pd.DataFrame:
    """On which share of samples a norm clip r would act at each step, and r in units of the norm of D_c.

    At the recorded states of any rule: for APG without momentum from `decompose`, for APG with it from
    `momentum_updates`.

    Parameters
    ----------
    table : DataFrame
        From `decompose` or `momentum_updates`; first calls are used.
    norm : float
        r, in units of the data.

    Returns
    -------
    DataFrame
        Columns declared in `CLIP`.
    """
    rows = _clipped(table, norm)
    by = [*path_keys(rows), "step", "sigma"]
    found = summarise_runs(rows, by=by, quantities=["active", "relative_norm"]).drop(columns="median")
    # in the order of the groups, as the summary: an interval of samples that all agree has else no width
    exact = [share_interval(group) for _, group in rows.groupby(by, sort=False, dropna=False)["active"]]
    found.loc[found["quantity"] == "active", ["low", "high"]] = exact
    return CLIP.check(found)


@checked
def clip_share(table: pd.DataFrame, *, norms: Sequence[float]) -> pd.DataFrame:
    """Share of its steps at which a sample's update would be clipped, for several clips r.

    Parameters
    ----------
    table : DataFrame
        From `decompose` or `momentum_updates`; first calls are used.
    norms : sequence of float
        Values of r, in units of the data.

    Returns
    -------
    DataFrame
        Columns declared in `CLIP_SHARE`, one row a (rule, weight, stream, r).
    """
    parts, by = [], [*path_keys(table), "norm"]
    for norm in norms:
        rows = _clipped(table, norm).assign(norm=norm)
        of_path = [*by, "run", "sample"]
        path = rows.groupby(of_path, as_index=False, dropna=False)[["active", "relative_norm"]].mean()
        found = summarise_runs(path, by=by, quantities=["active"]).drop(columns=["median", "quantity"])
        found[["low", "high"]] = found[["low", "high"]].clip(0, 1)  # no share lies beyond
        alike = (found["low"] == found["high"]) & (found["n"] > 1)  # certainty from samples that agree there is none
        ends = [agreeing_interval(row["mean"], row["n"]) for _, row in found[alike].iterrows()]
        found.loc[alike, ["low", "high"]] = np.reshape(ends, (-1, 2))
        relative = path.groupby(by, dropna=False)["relative_norm"].mean().reset_index()
        relative = relative.rename(columns={"path_weight": "weight"})
        parts.append(found.merge(relative, on=[name for name in relative if name != "relative_norm"]))
    if not parts:
        raise InputError("norms", found="none", expected="at least one L2 norm")
    return CLIP_SHARE.check(pd.concat(parts, ignore_index=True))


@checked
def momentum_updates(trace: Trace, *, momentum: float) -> pd.DataFrame:
    """Size of APG's updates along a recorded run when each carries the momentum of the steps before.

    The clip acts on them, so `clip_activity` and `clip_share` of this table are those of APG with momentum.

    Parameters
    ----------
    trace : Trace
        A run whose states and both branches were kept, at every step; first calls are used, as by the rule.
    momentum : float
        beta, |beta| < 1.

    Returns
    -------
    DataFrame
        Columns declared in `MOMENTUM_UPDATES`, one row a (run, sample, step).

    Raises
    ------
    InputError
        For an impossible momentum, or a step without the unconditional branch of every sample: what the momentum
        would hold after it is not known.
    """
    apg, memories, frames = APG(2.0, momentum=momentum), dict[tuple[int, int], dict[str, Any]](), []
    for visit in visits(trace):
        if visit.call:
            continue
        if visit.uncond is None or not torch.isfinite(visit.uncond).all():
            found = f"step {visit.step} without the unconditional branch of every sample"
            raise InputError("trace", found=found, expected="a run with both branches (all_branches=True)")
        memory = memories.setdefault((visit.first, visit.stream), {})
        state = GuidanceState(visit.x, visit.sigma, visit.sigma_next, visit.step, visit.call, memory)
        update = apg.accumulate(visit.cond - visit.uncond, state)
        update_sq, _, cond_sq = (product.cpu().numpy() for product in projection_products(update, visit.cond))
        ratio = np.sqrt(update_sq / np.where(cond_sq == 0, np.nan, cond_sq))
        sizes = {"update_norm": np.sqrt(update_sq), "update_ratio": ratio}
        frames.append(_of_visit(visit, sizes))
    return MOMENTUM_UPDATES.check(_with_keys(trace, frames))


def _of_visit(visit: Visit, values: dict[str, Any]) -> pd.DataFrame:
    """Values of each sample of a visit, with what its rows are found by in the trace."""
    place = {"stream": visit.stream, "step": visit.step, "call": visit.call}
    return pd.DataFrame({"sample": visit.first + np.arange(len(visit.guided)), **place, **values})


def _with_keys(trace: Trace, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Tables of visits below each other, with the keys of their rows in the trace."""
    if not frames:
        raise InputError("trace", found="no state that was kept", expected="a run whose states were kept")
    return pd.concat(frames, ignore_index=True).merge(trace_keys(trace), on=["sample", "stream", "step", "call"])


def _clipped(table: pd.DataFrame, norm: float) -> pd.DataFrame:
    """First calls with both branches, and whether a clip r acts there."""
    if not norm > 0:
        raise InputError("norm", found=str(norm), expected="a positive L2 norm")
    require_columns("table", table, [*KEYS, "update_norm", "update_ratio"])
    rows = table[table["call"] == 0].dropna(subset=["update_norm"])
    return rows.assign(
        active=(rows["update_norm"] > norm).astype(float),
        relative_norm=norm * rows["update_ratio"] / rows["update_norm"],
    )


@checked
def decoded_path(trace: Trace, decoder: Decoder, *, value_range: tuple[float, float] = (-1.0, 1.0)) -> pd.DataFrame:
    """Saturation, contrast and overshoot of what a latent model's guided predictions decode to, step by step.

    The counterpart of `gain_path` in pictures: that says what the parallel parts account for in the latents.

    Parameters
    ----------
    trace : Trace
        A run whose states and branches were kept; first calls are used.
    decoder : callable
        Latents to images in `value_range`.
    value_range : (float, float)
        Range of the images.

    Returns
    -------
    DataFrame
        Columns declared in `DECODED_PATH`.
    """
    frames = []
    for visit in visits(trace):
        if visit.call == 0:
            statistics = image_statistics(decode(decoder, visit.guided), value_range)
            columns = {name: value.numpy() for name, value in statistics.items()}
            frames.append(_of_visit(visit, columns))
    rows = _with_keys(trace, frames)
    found = summarise_runs(rows, by=[*path_keys(rows), "step", "sigma"], quantities=list(IMAGE_STATISTICS))
    return DECODED_PATH.check(found.drop(columns="median").dropna(subset=["mean"]))
