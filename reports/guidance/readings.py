"""Sentences made from the numbers of a guidance report: one a figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.reports.guidance.figures import pick
from scorescope.reports.page.run_names import same_weight


def read_update(steps: pd.DataFrame, weight: float, *, rule: str = "CFG") -> str:
    """Where along the noise axis the update of a rule is largest, and what its parts are there."""
    whole = pick(steps, "update_norm", rule, weight)
    peak = _peak(whole)
    orthogonal = _at(pick(steps, "orthogonal_norm", rule, weight), peak["sigma"])
    parallel = _at(pick(steps, "parallel_norm", rule, weight), peak["sigma"])
    half = whole[whole["mean"] >= peak["mean"] / 2]["sigma"]
    return (
        f"The update is largest at σ = {peak['sigma']:.3g} (norm {peak['mean']:.3g}, {_interval(peak)}) and at least "
        f"half of that from σ = {half.min():.2g} to {half.max():.2g}; at its peak the orthogonal part has norm "
        f"{orthogonal['mean']:.3g}, the parallel part {parallel['mean']:.3g}."
    )


def read_share(steps: pd.DataFrame, centred: pd.DataFrame, weight: float) -> str:
    """The largest parallel share of the shown run, against chance and against the share without the mean."""
    peak = _peak(pick(steps, "parallel_share", "CFG", weight))
    chance = _at(pick(steps, "chance_share", "CFG", weight), peak["sigma"])["mean"]
    removed = _at(pick(centred, "centred_parallel_share", "CFG", weight), peak["sigma"])
    return (
        f"Under CFG at w = {weight:g} the parallel share peaks at {peak['mean']:.2g} ({_interval(peak)}) at "
        f"σ = {peak['sigma']:.3g}, {peak['mean'] / chance:.2g} times the chance level {chance:.2g}; "
        f"with the mean removed it is {removed['mean']:.2g} there."
    )


def read_cosine(steps: pd.DataFrame, weight: float, *, rule: str = "CFG") -> str:
    """Where the branches of a rule point apart most, in either space."""
    texts = []
    for space, quantity in (("denoised", "one_minus_cos_denoised"), ("eps", "one_minus_cos_eps")):
        peak = _peak(pick(steps, quantity, rule, weight))
        texts.append(f"{peak['mean']:.2g} at σ = {peak['sigma']:.3g} in {space} space")
    return f"The branches point apart most, by 1 − cosine, with {texts[0]} and {texts[1]}."


def read_gain(steps: pd.DataFrame, weight: float) -> str:
    """The largest mean gain of CFG, and that of APG at the same noise level."""
    peak = _peak(pick(steps, "applied_gain", "CFG", weight))
    other = _at(pick(steps, "applied_gain", "APG", weight), peak["sigma"])
    return (
        f"At w = {weight:g}, CFG scales D_c by up to {peak['mean']:.3g} ({_interval(peak)}, at "
        f"σ = {peak['sigma']:.3g}); APG scales it by {other['mean']:.3g} there."
    )


def read_overshoot(images: pd.DataFrame, low: float, high: float) -> str:
    """How the overshoot grows from the lowest to the highest weight under each rule."""
    texts = []
    for rule in ("CFG", "APG"):
        first, last = row_of(images, rule, low, "overshoot_share"), row_of(images, rule, high, "overshoot_share")
        if first is not None and last is not None:
            texts.append(
                f"under {rule} from {first['mean']:.1%} at w = {low:g} to {last['mean']:.1%} "
                f"({last['low']:.1%} to {last['high']:.1%}) at w = {high:g}"
            )
    return "Elements outside the range go " + ", and ".join(texts) + "."


def read_contrast(images: pd.DataFrame, weight: float) -> str:
    """Contrast under both rules, against real data where there are some."""
    found = {rule: row_of(images, rule, weight, "contrast") for rule in ("CFG", "APG")}
    parts = [f"{row['mean']:.3g} under {rule}" for rule, row in found.items() if row is not None]
    real = row_of(images, "data", np.nan, "contrast")
    against = "" if real is None else f", against {real['mean']:.3g} in real data"
    return f"At w = {weight:g} the contrast is " + " and ".join(parts) + against + "."


def read_density(images: pd.DataFrame, weight: float) -> str:
    """How far beyond the range the values lie on average."""
    found = {rule: row_of(images, rule, weight, "overshoot_mean") for rule in ("CFG", "APG")}
    known = {rule: row for rule, row in found.items() if row is not None and not np.isnan(row["mean"])}
    if not known:
        return "The data have no stated range, so nothing can be said to lie outside it."
    parts = [f"{row['mean']:.2g} under {rule}" for rule, row in known.items()]
    return f"At w = {weight:g} the mean distance of values from the range is " + " and ".join(parts) + "."


def read_samples(samples: Mapping[tuple[str, float], Tensor], low: float, high: float) -> str:
    """How far guidance moved the samples of the same seeds."""
    texts = []
    for rule in ("CFG", "APG"):
        if (rule, low) in samples and (rule, high) in samples:
            moved = (samples[rule, high] - samples[rule, low]).double().square().mean().sqrt().item()
            texts.append(f"{moved:.2g} under {rule}")
    return f"From w = {low:g} to w = {high:g} the same seeds move by an RMS of " + " and ".join(texts) + "."


def row_of(images: pd.DataFrame, rule: str, weight: float, quantity: str) -> "pd.Series[float] | None":
    """One row of a summary of `image_table`, or None; a NaN weight is that of real data."""
    rows = images[(images["rule"] == rule) & same_weight(images["weight"], weight) & (images["quantity"] == quantity)]
    return None if rows.empty else rows.iloc[0]


def _peak(rows: pd.DataFrame) -> "pd.Series[float]":
    if rows.empty:
        raise InputError("summary", found="no rows of the run that this reads", expected="a setting that was recorded")
    return rows.iloc[int(rows["mean"].to_numpy().argmax())]


def _at(rows: pd.DataFrame, sigma: float) -> "pd.Series[float]":
    return rows.iloc[int((rows["sigma"] - sigma).abs().to_numpy().argmin())]


def _interval(row: "pd.Series[float]") -> str:
    return f"95 % interval {row['low']:.3g} to {row['high']:.3g}"
