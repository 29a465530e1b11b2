"""Sentences made from the numbers of a guidance report: one a figure, in the order of `figures`."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.guidance.effects import conclusions
from scorescope.analysis.guidance.run_keys import run_name
from scorescope.analysis.statistics.intervals import pairs_needed
from scorescope.data.errors import InputError
from scorescope.reports.guidance.runs import of_run, pick, row_of
from scorescope.reports.guidance.study import KEPT, PAPER_THRESHOLD, SAVED


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


def read_gain_path(path: pd.DataFrame, runs: Sequence[tuple[str, float]]) -> str:
    """What the gains of each run come to along the whole path."""
    ends = path[path["quantity"] == "path_gain"].sort_values("step").groupby(["rule", "weight"], dropna=False).tail(1)
    texts = []
    for rule, weight in runs:
        name = run_name(rule, weight, between=" at ")
        texts += [
            f"{row['mean']:.3g} ({row['low']:.3g} to {row['high']:.3g}) under {name}"
            for _, row in of_run(ends, rule, weight).iterrows()
        ]
    return "Along the whole path the gains multiply up to " + ", ".join(texts) + "."


def read_clip(shares: pd.DataFrame) -> str:
    """At which share of its steps a sample would be clipped, for each clip."""
    texts = [
        f"r = {row['norm']:g} ({row['relative_norm']:.0%} of ‖D_c‖) at {_share(row)}" for _, row in shares.iterrows()
    ]
    return "APG's norm clip would act at this share of the steps of a sample: " + ", ".join(texts) + "."


def read_momentum(shares: pd.DataFrame, norm: float) -> str:
    """At which share of its steps a sample would be clipped at one norm, for each momentum."""
    rows = shares[shares["norm"] == norm]
    told = ", ".join(f"{_share(row)} at β = {row['momentum']:g}" for _, row in rows.iterrows())
    return f"With the momentum of earlier steps a clip at r = {norm:g} would act at this share of the steps: {told}."


def read_parting(ends: pd.DataFrame, tables: Mapping[str, pd.DataFrame], base: str, tolerance: float) -> str:
    """By which step each path has parted from that of `base`, and how far they come apart."""
    texts = []
    for name, table in tables.items():
        rows = ends[ends["setting"] == name].set_index("which")
        if rows.empty:
            texts.append(f"{name} does not by more than {tolerance:g} σ")
            continue
        first, most = rows.loc["first"], table.sort_values("mean").iloc[-1]
        texts.append(
            f"{name} by step {first['step']:d} (σ = {first['sigma']:.3g}), at most {most['mean']:.3g} σ "
            f"({most['low']:.3g} to {most['high']:.3g}), at step {most['step']:.0f} (σ = {most['sigma']:.2g})"
        )
    return f"From the path of {base} the others part: " + "; ".join(texts) + "."


def read_information(curve: pd.DataFrame, interval: pd.DataFrame) -> str:
    """Where the information is gained, its total, and the bound."""
    row, last = interval.iloc[0], curve[curve["sigma"] > 0].iloc[-1]
    bound = "" if np.isnan(last["bound"]) else f", against {last['bound']:.3g} that the condition has"
    if last["information_low"] > last["bound"]:
        least = last["information_low"] - last["bound"]
        bound += f": at least {least:.2g} nats are no information, but the network's own inconsistency"
    total = f"{last['information']:.3g} nats ({last['information_low']:.3g} to {last['information_high']:.3g}){bound}."
    if row["missing"]:
        return f"No interval is suggested ({row['missing']}); in all {total}"
    return (
        f"{row['share']:.0%} of what the condition tells is told between σ = {row['high']:.3g} "
        f"({row['high_low']:.3g} to {row['high_high']:.3g}) and {row['low']:.3g} ({row['low_low']:.3g} to "
        f"{row['low_high']:.3g}); in all {total}"
    )


def read_bands(bands: pd.DataFrame) -> str:
    """The band with the largest update at the highest and the lowest noise level."""
    rows = bands[(bands["quantity"] == "update_norm") & (bands["call"] == 0)]
    texts = []
    for sigma in (rows["sigma"].max(), rows["sigma"].min()):
        here = rows[rows["sigma"] == sigma]
        top = here.loc[here["mean"] == here["mean"].max()].iloc[0]
        texts.append(f"from {top['low_frequency']:.2g} cycles a pixel up at σ = {sigma:.2g}")
    return f"The update is strongest in the band {texts[0]}, and {texts[1]}."


def read_metric(table: pd.DataFrame, metric: str, name: str) -> str:
    """A metric at the lowest and highest weight under both rules."""
    texts = []
    for rule in ("CFG", "APG"):
        rows = table[(table["metric"] == metric) & (table["rule"] == rule)].sort_values("weight")
        if len(rows) > 1:
            first, last = rows.iloc[0], rows.iloc[-1]
            texts.append(
                f"from {first['value']:.3g} at w = {first['weight']:g} to {last['value']:.3g} "
                f"({last['low']:.3g} to {last['high']:.3g}) at w = {last['weight']:g} under {rule}"
            )
    return f"{name} goes " + ", ".join(texts) + "."


def read_front(front: pd.DataFrame) -> str:
    """How many settings are not dominated by values, and the cheapest of them."""
    best = front[front["pareto"]]
    cheapest = best.loc[best["calls"] == best["calls"].min()].iloc[0]
    return (
        f"{len(best)} of {len(front)} settings are not dominated by the values; the cheapest of them is "
        f"{cheapest['setting']} with {cheapest['calls']:.3g} calls a sample."
    )


def read_effects(found: pd.DataFrame, untested: Collection[str] = ()) -> str:
    """Which effects are shown and which not, with what speaks against those."""
    texts = []
    for _, row in conclusions(found).iterrows():
        against = found[(found["effect"] == row["effect"]) & (found["verdict"] != "shown")]
        why = "; ".join(_read_part(part) for _, part in against.iterrows())
        texts.append(f"{row['effect']}: " + (f"not shown ({why})" if why else "shown"))
    texts += [f"{text}: not tested, for a metric or a setting of it is missing" for text in sorted(untested)]
    return "Known effects on this model, each shown only if all its parts are. " + ". ".join(texts) + "."


def read_savings(saved: pd.DataFrame) -> str:
    """The largest saving with its interval, the paper's, and whether any threshold saves the share claimed."""
    rows = saved[saved["setting"].str.contains("threshold")]
    most = rows.sort_values("calls_saved").iloc[-1]
    text = (
        f"Adaptive guidance saves up to {_saved(most)} of the calls, at {most['setting']}, where the samples change by "
        f"{most['change']:.2g} RMS ({most['low']:.2g} to {most['high']:.2g})"
    )
    name = f"adaptive, threshold {PAPER_THRESHOLD:g}"
    paper = rows[rows["setting"] == name]
    if len(paper) and most["setting"] != name:
        text += f", and {_saved(paper.iloc[0])} at the paper's {PAPER_THRESHOLD:g}"
    enough = [str(name).split()[-1] for name in rows.loc[rows["saved_low"] >= SAVED, "setting"]]
    text += f". {SAVED:.0%} or more: " + (f"at {', '.join(enough)}." if enough else "at none of the thresholds.")
    once = [str(name).split()[-1] for name in rows.loc[rows["first_look"] == 1, "setting"]]
    if once:
        text += (
            f" At {', '.join(once)} every sample stops at the first look: where one looks decides, not the threshold."
        )
    return text


def _peak(rows: pd.DataFrame) -> "pd.Series[float]":
    if rows.empty:
        raise InputError("summary", found="no rows of the run that this reads", expected="a setting that was recorded")
    return rows.iloc[int(rows["mean"].to_numpy().argmax())]


def _at(rows: pd.DataFrame, sigma: float) -> "pd.Series[float]":
    return rows.iloc[int((rows["sigma"] - sigma).abs().to_numpy().argmin())]


def _interval(row: "pd.Series[float]") -> str:
    return f"95 % interval {row['low']:.3g} to {row['high']:.3g}"


def _share(row: "pd.Series[float]") -> str:
    return f"{row['mean']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def _read_part(row: pd.Series) -> str:
    name = {"score": "class agreement", "overshoot_share": "overshoot"}.get(row["metric"], row["metric"])
    text = (
        f"{name} of {row['setting']} less {row['against']} is {row['value']:.3g} "
        f"({row['low']:.3g} to {row['high']:.3g}), claimed {row['claimed']}: {row['verdict']}"
    )
    if row["verdict"] != "too few pairs":
        return text
    return f"{text}, {row['n']} where even without a single difference it takes {pairs_needed(KEPT)}"


def _saved(row: pd.Series) -> str:
    return f"{row['calls_saved']:.1%} ({row['saved_low']:.1%} to {row['saved_high']:.1%})"
