"""Sentences made from the numbers of a guidance report: one a figure, in the order of `figures`."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.guidance.effects import conclusions
from scorescope.analysis.guidance.run_keys import run_name
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS
from scorescope.analysis.statistics.intervals import pairs_needed
from scorescope.reports.guidance.peaks import above_rounding, elsewhere, half_of_peak, peak_of, row_at, why_none
from scorescope.reports.guidance.runs import of_run, pick, row_of
from scorescope.reports.guidance.study import KEPT, PAPER_THRESHOLD, SAVED
from scorescope.reports.page.numbers import told

INTERVAL = "95 % interval "
_UNPAIRED = "No rule has both weights, so that nothing is compared"


def read_update(steps: pd.DataFrame, weight: float, *, rule: str = "CFG") -> str:
    """Where along the noise axis the mean update of a rule is largest, and what its parts are there."""
    whole = pick(steps, "update_norm", rule, weight)
    peak = peak_of(whole)
    floor = row_at(pick(steps, "norm_floor", rule, weight), peak["sigma"])["mean"]
    if not peak["mean"] > floor:
        return f"No update is shown: the mean norm is at most {told(peak)}, where rounding alone gives {floor:.2g}."
    parts = (row_at(pick(steps, f"{part}_norm", rule, weight), peak["sigma"]) for part in ("orthogonal", "parallel"))
    orthogonal, parallel = (told(part) for part in parts)
    norm = told(peak, what=INTERVAL, brackets=False)
    return (
        f"In the mean the update is largest at σ = {peak['sigma']:.3g} (norm {norm})"
        f"{elsewhere(whole)}, and {half_of_peak(whole)}; at its peak the orthogonal part has norm {orthogonal}, the "
        f"parallel part {parallel}."
    )


def read_share(steps: pd.DataFrame, centred: pd.DataFrame, weight: float) -> str:
    """The largest parallel share of the shown run, against chance and against the share without the mean.

    Levels where there is no share, or the update is no more than rounding, are named and left out.
    """
    rows = pick(steps, "parallel_share", "CFG", weight)
    known = above_rounding(steps, "parallel_share", "CFG", weight, judged="update_norm", floor="norm_floor")
    rounding = "no update beyond rounding" if rows["mean"].notna().sum() > len(known) else ""
    why = "; ".join(filter(None, [why_none(rows), rounding]))
    if known.empty:
        return f"Under CFG at w = {weight:g} no parallel share is known at any noise level: {why}."
    peak, none = peak_of(known), len(rows) - len(known)
    chance = row_at(pick(steps, "chance_share", "CFG", weight), peak["sigma"])["mean"]
    clear = "" if peak["low"] > chance or peak["high"] < chance else ", from which its interval does not tell it"
    left = f"; at {none} of {len(rows)} levels none is known ({why})" if none else ""
    return (
        f"Under CFG at w = {weight:g} the mean parallel share peaks at {told(peak, what=INTERVAL)} at "
        f"σ = {peak['sigma']:.3g}{elsewhere(known)}, {peak['mean'] / chance:.2g} times the chance level "
        f"{chance:.2g}{clear}; with the mean removed {_centred(steps, centred, weight, peak['sigma'])} there{left}."
    )


def read_cosine(steps: pd.DataFrame, weight: float, *, rule: str = "CFG") -> str:
    """Where the branches of a rule point apart most in the mean, in either space, as far as it is beyond rounding."""
    texts = []
    for space, floor in (("denoised", "cos_floor"), ("eps", "cos_eps_floor")):
        name = f"one_minus_cos_{space}"
        known = above_rounding(steps, name, rule, weight, judged=name, floor=floor)
        where = "nowhere beyond rounding"
        if len(known):
            peak = peak_of(known)
            where = f"with {told(peak)} at σ = {peak['sigma']:.3g}{elsewhere(known)},"
        texts.append(f"{where} in {space} space")
    return f"In the mean the branches point apart most, by 1 − cosine, {texts[0]}, and {texts[1]}."


def read_gain(steps: pd.DataFrame, weight: float) -> str:
    """The largest mean gain of CFG, and that of APG at the same noise level."""
    rows = pick(steps, "applied_gain", "CFG", weight)
    peak, other = peak_of(rows), ""
    if len(of_run(steps, "APG", weight)):
        beside = row_at(pick(steps, "applied_gain", "APG", weight), peak["sigma"])
        other = f"; APG scales it by {told(beside)} there"
    return (
        f"At w = {weight:g}, CFG scales D_c in the mean by up to {told(peak, what=INTERVAL)}, at "
        f"σ = {peak['sigma']:.3g}{elsewhere(rows)}{other}."
    )


def read_overshoot(images: pd.DataFrame, low: float, high: float) -> str:
    """How the overshoot grows from the lowest to the highest weight under each rule."""
    texts = []
    for rule in ("CFG", "APG"):
        first, last = row_of(images, rule, low, "overshoot_share"), row_of(images, rule, high, "overshoot_share")
        if first is not None and last is not None:
            start, end = (told(row, form=".1%") for row in (first, last))
            texts.append(f"under {rule} from {start} at w = {low:g} to {end} at w = {high:g}")
    return f"Elements outside the range go {', and '.join(texts)}." if texts else f"{_UNPAIRED}."


def read_contrast(images: pd.DataFrame, weight: float) -> str:
    """Contrast under both rules, against real data where there are some."""
    found = {rule: row_of(images, rule, weight, "contrast") for rule in ("CFG", "APG")}
    parts = [f"{told(row)} under {rule}" for rule, row in found.items() if row is not None]
    real = row_of(images, "data", np.nan, "contrast")
    against = "" if real is None else f", against {told(real)} in real data"
    return f"At w = {weight:g} the mean contrast is {' and '.join(parts) or 'not known'}{against}."


def read_density(images: pd.DataFrame, weight: float) -> str:
    """How far beyond the range the values lie on average."""
    found = {rule: row_of(images, rule, weight, "overshoot_mean") for rule in ("CFG", "APG")}
    known = {rule: row for rule, row in found.items() if row is not None and not np.isnan(row["mean"])}
    if not known:
        return "The data have no stated range, so nothing can be said to lie outside it."
    parts = [f"{told(row, form='.2g')} under {rule}" for rule, row in known.items()]
    return f"At w = {weight:g} the mean distance of values from the range is " + " and ".join(parts) + "."


def read_samples(samples: Mapping[tuple[str, float], Tensor], low: float, high: float) -> str:
    """How far guidance moved the samples of the same seeds."""
    texts = []
    for rule in ("CFG", "APG"):
        if (rule, low) in samples and (rule, high) in samples:
            moved = (samples[rule, high] - samples[rule, low]).double().square().mean().sqrt().item()
            texts.append(f"{moved:.2g} under {rule}")
    if not texts:
        return f"{_UNPAIRED}."
    return f"From w = {low:g} to w = {high:g} the same seeds move by an RMS of {' and '.join(texts)}."


def read_gain_path(path: pd.DataFrame, runs: Sequence[tuple[str, float]]) -> str:
    """What the gains of each run come to along the whole path, or as far as they are known."""
    products = path[path["quantity"] == "path_gain"].sort_values("step")
    texts = []
    for rule, weight in runs:
        rows = of_run(products, rule, weight)
        known = rows.dropna(subset="mean")
        if len(known):
            short = "" if len(known) == len(rows) else f" (known down to σ = {known['sigma'].iloc[-1]:.3g})"
            texts.append(f"{told(known.iloc[-1])} under {run_name(rule, weight, between=' at ')}{short}")
    return f"Along the path the mean product of the gains comes to {', '.join(texts) or 'nothing that is known'}."


def read_clip(shares: pd.DataFrame) -> str:
    """At which share of its steps a sample would be clipped, for each clip."""
    texts = [
        f"r = {row['norm']:g} ({row['relative_norm']:.0%} of ‖D_c‖) at {_share(row)}" for _, row in shares.iterrows()
    ]
    return "APG's norm clip would act at this share of the steps of a sample: " + ", ".join(texts) + "."


def _share(row: pd.Series) -> str:
    """A share with its interval; few samples that agree have one of no width, which says nothing of others."""
    return told(row, form=".0%") if row["n"] >= LEAST_SEEDS else f"{row['mean']:.0%} (of {row['n']} samples)"


def read_momentum(shares: pd.DataFrame, norm: float) -> str:
    """At which share of its steps a sample would be clipped at one norm, for each momentum."""
    rows = shares[shares["norm"] == norm]
    texts = ", ".join(f"{_share(row)} at β = {row['momentum']:g}" for _, row in rows.iterrows())
    return f"With the momentum of earlier steps a clip at r = {norm:g} would act at this share of the steps: {texts}."


def read_parting(ends: pd.DataFrame, tables: Mapping[str, pd.DataFrame], base: str, tolerance: float) -> str:
    """By which step each path is shown to have parted from that of `base`, and how far they come apart in the mean."""
    texts = []
    for name, table in tables.items():
        rows, most = ends[ends["setting"] == name].set_index("which"), peak_of(table)
        if len(rows):
            first = rows.loc["first"]
            start = f"by step {first['step']:d} (σ = {first['sigma']:.3g})"
        elif (table["high"] <= tolerance).all():
            start = f"by no more than {tolerance:g} σ at any step"
        else:
            start = f"not shown by more than {tolerance:g} σ"
        texts.append(
            f"{name} {start}, in the mean up to {told(most)} σ, at step {most['step']:.0f} (σ = {most['sigma']:.2g})"
        )
    return f"From the path of {base} the others part: " + "; ".join(texts) + "."


def read_information(curve: pd.DataFrame, interval: pd.DataFrame) -> str:
    """Where the information is gained, its total, and the bound."""
    row, last = interval.iloc[0], curve[curve["sigma"] > 0].iloc[-1]
    bound = "" if np.isnan(last["bound"]) else f", against {last['bound']:.3g} that the sampled labels have"
    if last["information_low"] > last["bound"]:
        least = last["information_low"] - last["bound"]
        bound += (
            f": by its interval at least {least:.2g} nats more than labels in these shares can tell, so that the "
            "unconditional branch is of other labels or shares, the two branches are not of one law, or the steps are "
            "too few"
        )
    total = f"{told(last, 'information', of='information')} nats{bound}."
    if row["missing"]:
        return f"No interval is suggested ({row['missing']}); in all {total}"
    high, low = (told(row, end, of=end) for end in ("high", "low"))
    whole = "what the condition tells"
    if last["information"] > last["bound"]:  # the interval is of the information up to there, from high noise on
        whole = f"the first {row['information']:.3g} nats, which are all that the sampled labels have,"
    return f"{row['share']:.0%} of {whole} is told between σ = {high} and {low}; in all {total}"


def read_bands(bands: pd.DataFrame) -> str:
    """The band with the largest mean update at the highest and the lowest noise level, and whether that is told."""
    rows = bands[(bands["quantity"] == "update_norm") & (bands["call"] == 0)]
    texts = []
    for sigma in (rows["sigma"].max(), rows["sigma"].min()):
        here = rows[rows["sigma"] == sigma].sort_values("mean", ascending=False)
        top, others = here.iloc[0], here.iloc[1:]
        clear = "" if (others["high"] < top["low"]).all() else " (not told from all others)"
        where = (
            f"in the band from {top['low_frequency']:.2g} cycles a pixel up{clear}" if top["mean"] > 0 else "in none"
        )
        texts.append(f"at σ = {sigma:.2g} {where}")
    return f"By bands of frequency the mean update is strongest {', and '.join(texts)}."


def read_metric(table: pd.DataFrame, metric: str, name: str) -> str:
    """A metric at the lowest and highest weight under both rules."""
    texts = []
    for rule in ("CFG", "APG"):
        rows = table[(table["metric"] == metric) & (table["rule"] == rule)].sort_values("weight")
        if len(rows) > 1:
            first, last = (f"{told(row, 'value')} at w = {row['weight']:g}" for _, row in rows.iloc[[0, -1]].iterrows())
            texts.append(f"from {first} to {last} under {rule}")
    return f"{name} goes {', '.join(texts)}." if texts else f"{_UNPAIRED}."


def read_front(front: pd.DataFrame) -> str:
    """How many settings are not dominated by values, and the cheapest of them."""
    best = front[front["pareto"]]
    if best.empty:
        return "No setting has all of the values that are compared."
    cheapest = best[best["calls"] == best["calls"].min()]
    return (
        f"{len(best)} of {len(front)} settings are not dominated by the values; with the fewest calls of them, "
        f"{cheapest['calls'].iloc[0]:.3g} a sample: {'; '.join(cheapest['setting'])}."
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
        f"{told(most, 'change', form='.2g')} RMS in the mean"
    )
    name = f"adaptive, threshold {PAPER_THRESHOLD:g}"
    paper = rows[rows["setting"] == name]
    if len(paper) and most["setting"] != name:
        text += f", and {_saved(paper.iloc[0])} at the paper's {PAPER_THRESHOLD:g}"
    shown = (rows["saved_low"] >= SAVED) & (rows["n"] >= LEAST_SEEDS)
    enough = [str(name).split()[-1] for name in rows.loc[shown, "setting"]]
    text += f". {SAVED:.0%} or more is shown at {', '.join(enough) or 'none of the thresholds'}."
    once = [str(name).split()[-1] for name in rows.loc[rows["first_look"] == 1, "setting"]]
    if once:
        text += f" At {', '.join(once)} every sample stops at the first look: a threshold below would save no more."
    return text


def _centred(steps: pd.DataFrame, centred: pd.DataFrame, weight: float, sigma: float) -> str:
    """The share at one level with channel means removed, or why there is none."""
    share, left = (
        row_at(pick(centred, f"centred_{name}", "CFG", weight), sigma) for name in ("parallel_share", "update_norm")
    )
    if np.isnan(share["mean"]):
        return f"it has no value ({share['missing']})"
    if not left["mean"] > row_at(pick(steps, "norm_floor", "CFG", weight), sigma)["mean"]:
        return "no update is left beyond rounding"
    return f"it is {told(share)}"


def _read_part(row: pd.Series) -> str:
    name = {"score": "class agreement", "overshoot_share": "overshoot"}.get(row["metric"], row["metric"])
    text = (
        f"{name} of {row['setting']} less {row['against']} is {told(row, 'value')}, claimed {row['claimed']}: "
        f"{row['verdict']}"
    )
    if row["verdict"] != "too few pairs":
        return text
    if not row["claimed"].startswith("within"):
        return f"{text}, {row['n']} where an interval takes {LEAST_SEEDS}"
    return f"{text}, {row['n']} where even without a single difference it takes {pairs_needed(KEPT)}"


def _saved(row: "pd.Series[float]") -> str:
    return told(row, "calls_saved", of="saved", form=".1%")
