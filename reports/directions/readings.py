"""Sentences made from the numbers of a directions report: one a figure, in the order of the report."""

import math
from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.directions.steered import SteerCurve
from scorescope.reports.directions.phrases import alike, beyond, not_apart, number, span, with_ends
from scorescope.reports.directions.study import site_name
from scorescope.reports.directions.workbench import ALONE, READABLE, RELEVANT

VAGUE = 0.4  # most of the way from chance to perfect: an interval that ends beyond says next to nothing of chance
LINEAR = 0.05  # share of a change up to which a prediction counts as linear

_BEST = {"reads_best": "auc", "moves_best": "moved"}
_STATES = {"visible_from": "visible", "steerable_until": "no longer steerable", "committed_at": "committed"}


def read_judge(table: pd.DataFrame) -> str:
    """In how many pairs of images the judge tells the ends of each attribute apart."""
    parts = [
        f"{row['attribute']} in {with_ends(row, 'share', '.0%', note=str(row['pairs']) + ' pairs of images')}"
        for row in table.to_dict("records")
    ]
    return f"The judge scores the high end above the low end of {', of '.join(parts)}; half is chance."


def read_agreement(table: pd.DataFrame) -> str:
    """The attribute that samples show least often as asked, and those not told apart from it."""
    if table.empty:
        return "Samples; the condition names none of the attributes."
    rows = table[(table["what"] == "samples") & (table["attribute"] != "all")].sort_values("agreement")
    worst = rows.iloc[0]
    least = "" if len(rows) == 1 else f" least often of {len(rows)} attributes"
    share = with_ends(worst, "agreement", ".1%", note=f"n = {worst['n']}")
    return f"These samples show {worst['attribute']} as asked{least}: {share}{not_apart(alike(rows, 'attribute'))}."


def read_probes(final: pd.DataFrame) -> str:
    """Where each attribute is read best, on test images."""
    parts = [
        f"{row['attribute']} {row['value']:.0%} ({row['low']:.0%} to {row['high']:.0%}) at "
        f"{site_name(row['site'])}, σ = {row['sigma']:.2g}"
        for _, row in final.iterrows()
    ]
    return "Best cells, on test images: " + "; ".join(parts) + "."


def read_control(table: pd.DataFrame) -> str:
    """How far from chance the control task may be, by the ends of its intervals."""
    far = float((table["control"] - table["chance"]).abs().max())
    ends = table[["control_low", "control_high"]].sub(table["chance"], axis=0).abs()
    reach = float(ends.max().max())
    what = "On validation images the control task is"
    text = (
        f"{what} within {reach:.2f} of chance, above or below, in all {len(table)} cells by the ends of their "
        f"intervals of 95 %, within {far:.2f} by its values"
        if reach < VAGUE
        else f"{what} not shown to be near chance: of {len(table)} cells, ends of intervals of 95 % are up to "
        f"{reach:.2f} from it, values up to {far:.2f}"
    )
    return (
        f"{text}; on its training images it reaches {table['control_train'].max():.2f}: what a probe can learn by "
        "heart."
    )


def read_map(table: pd.DataFrame, confirmed: pd.DataFrame, looked_at: str) -> str:
    """How many cells are readable and steerable, and whether one that is read and not steered holds on other data."""
    counts = table["finding"].value_counts()
    text = (
        f"Of {len(table)} pairs of attribute and site, from {looked_at}: "
        f"{', '.join(f'{n} {name}' for name, n in counts.items())}."
    )
    if confirmed.empty:
        reach = float((table["margin_high"] - table["margin_low"]).median() / 2)
        return (
            f"{text} None of these is shown to be readable without being steerable: that takes an accuracy whose "
            f"interval is above {READABLE:.0%}, and an effect that is shown to be below {RELEVANT:g} standard "
            f"deviations or a control; the intervals of that difference reach {reach:.2g} to either side (median)."
        )
    row = confirmed.iloc[0]
    outcome = "Readable without being steerable" if row["finding"] == ALONE else "Not confirmed"
    return (
        f"{text} {outcome}, by test images and seeds that had no part in the choice: {row['attribute']} at "
        f"{site_name(row['site'])} is read with accuracy {row['accuracy']:.0%} "
        f"({row['accuracy_low']:.0%} to {row['accuracy_high']:.0%}, n = {row['images']}); the effect of its direction "
        f"is {with_ends(row, 'effect', '.2g', of='effect')} standard deviations, "
        f"{beyond(row)}, n = {row['n']}: {row['verdict']}."
    )


def read_dose(found: SteerCurve, label: str) -> str:
    """The effect of a direction against its highest bar, and what it moves besides."""
    verdict = found.verdicts.iloc[0]
    arm = found.arms[(found.arms["arm"] == "direction")].set_index("quantity").to_dict("index")
    tested = f"p = {verdict['p']:.2g} that a control does as much: " if verdict["p"] == verdict["p"] else ""
    pure = arm["disentanglement"]
    share = f"share of all change that is the target's {with_ends(pure, 'value', '.0%')}"
    return (
        f"{label}: effect {with_ends(verdict, 'effect', '.2g', of='effect')} "
        f"standard deviations from {verdict['strength_low']:g} to {verdict['strength_high']:g}, {beyond(verdict)}; "
        f"{tested}{verdict['verdict']}. Rank correlation with the "
        f"strength {number(arm['spearman']['value'], '.2f')}; "
        f"{'no other score was judged' if np.isnan(pure['value']) else share}."
    )


def read_windows(effects: pd.DataFrame, probes: pd.DataFrame) -> str:
    """At which noise levels each attribute is read, and what each window of them does."""
    texts = []
    for name, rows in effects.groupby("attribute", sort=False):
        cells = probes[probes["attribute"] == name]
        parts = []
        for verdict, found in rows.sort_values("sigma_high", ascending=False).groupby("verdict", sort=False):
            spans = ", ".join(span(row["sigma_high"], row["sigma_low"]) for _, row in found.iterrows())
            parts.append(f"{verdict} within σ = {spans}")
        sites = list(cells["site"].unique()) if "site" in cells else []
        where = f" at {site_name(sites[0])}" if len(sites) == 1 else ""
        texts.append(
            f"{name}{where} is shown to be read with at least {READABLE:.0%} at {_readable(cells)}; one window at a "
            f"time, it is {'; '.join(parts)}"
        )
    return ". ".join(texts) + "."


def read_landmarks(landmarks: pd.DataFrame) -> str:
    """Down to which noise level each attribute follows a condition that is switched there."""
    asked = landmarks[landmarks["landmark"] == "steerable_until"]
    if asked.empty:
        return "No condition was switched: it names none of these attributes."
    committed = asked.dropna(subset="sigma").sort_values("sigma", ascending=False)
    never = ", ".join(asked.loc[asked["sigma"].isna(), "attribute"])
    parts = [f"{row['attribute']} until σ = {row['sigma']:.2g} ({_sigmas(row)})" for _, row in committed.iterrows()]
    text = "A switched condition is followed by half of the seeds or more: " + "; ".join(parts) + "." if parts else ""
    less = f"Fewer than half of the {asked['n'].min()} seeds follow a switched condition, wherever it is switched"
    return " ".join(part for part in (text, f"{less}: {never}." if never else "") if part)


def read_gaps(gaps: pd.DataFrame) -> str:
    """Attributes that are readable before they are steerable no longer, or before they can be seen."""
    known = gaps[gaps["earlier"] == "readable_from"]
    rows = known[(known["low"] > 1e-6) & (known["defined"] > 0.95) & np.isfinite(known["gap"])]
    looked = f"{len(known)} intervals of 95 % each were looked at, not corrected for their number."
    if rows.empty:
        names = ", ".join(known["attribute"].unique())
        return f"No attribute is shown to be readable before another landmark, of {names or 'none'}. {looked}"
    parts = [
        f"{row['attribute']}: readable {row['gap']:.2g} log-SNR ({row['low']:.2g} to {_or_more(row['high'])}) before "
        f"it is {_STATES[row['later']]}"
        for _, row in rows.iterrows()
    ]
    return "; ".join(parts) + f". {looked}"


def read_readers(readers: pd.DataFrame) -> str:
    """The best reader, the best mover, those not told apart from them, and the angle between the two."""
    ranked = readers.assign(moved=readers["effect" if readers["purity"].isna().all() else "purity"])
    reads, movers = (ranked[ranked[best]].sort_values(by, ascending=False) for best, by in _BEST.items())
    reader = reads.iloc[0]
    text = (
        f"{reader['method']} reads best (AUC {reader['auc']:.3f}, {reader['auc_low']:.3f} to {reader['auc_high']:.3f})"
        + not_apart(reads["method"].iloc[1:])
    )
    if movers.empty:
        return (
            f"{text}; none of the directions by {', '.join(readers['method'])} is shown to move the attribute more "
            "than random ones and those of shuffled labels do."
        )
    mover = movers.iloc[0]
    angle = (
        "they are the same direction"
        if mover["method"] == reader["method"]
        else f"they are {reader['degrees_to_mover']:.0f} degrees apart"
    )
    if np.isnan(mover["purity"]):
        moves = f"moves the score most, the only one judged ({with_ends(mover, 'effect', '.2g', of='effect')} a unit)"
    else:
        moves = (
            f"moves with the least effect on other scores (purity {mover['purity']:.2f}, {mover['purity_low']:.2f} to "
            f"{mover['purity_high']:.2f}; the reader's {number(reader['purity'], '.2f')})"
        )
    return f"{text}; {mover['method']} {moves}{not_apart(movers['method'].iloc[1:])}; {angle}."


def read_cosines(cosines: pd.DataFrame) -> str:
    """How far the direction turns from one end of the noise axis to the other."""
    own = cosines[cosines["sigma_a"] == cosines["sigma_b"]].set_index("sigma_a")
    stable = own.index[own["low"] > own["null"]]  # levels at which halves of the images agree beyond chance
    rows = cosines[cosines["sigma_a"].isin(stable) & cosines["sigma_b"].isin(stable)]
    if len(stable) < 2:
        return (
            f"At fewer than two of {len(own)} noise levels are halves of the images shown to agree on the direction "
            "more than by chance."
        )
    far = rows[rows["sigma_a"] != rows["sigma_b"]].sort_values("crossed").iloc[0]
    own = own.loc[[far["sigma_a"], far["sigma_b"]]]  # what halves of the images agree to at one level
    turned = "" if far["high"] < own["low"].min() else ", not told apart from halves at one level"
    return (
        "Among levels where halves of the images agree, the lowest cosine between two levels is that of "
        f"σ = {far['sigma_a']:.3g} and {far['sigma_b']:.3g}: {far['crossed']:.2f} "
        f"({far['low']:.2f} to {far['high']:.2f}); halves at one of them have {own['crossed'].min():.2f} or more"
        f"{turned}; chance is within ±{far['null']:.2f}."
    )


def read_tokens(matrix: pd.DataFrame) -> str:
    """How much of a score's change is its own token's, and how exact the attribution is."""
    own = matrix[matrix["score"] == matrix["token"]].sort_values("share")
    parts = [with_ends(row, "share", ".0%", note=f"{row['score']}, σ = {row['sigma']:g}") for _, row in own.iterrows()]
    range_ = parts[0] if len(parts) == 1 else f"from {parts[0]} to {parts[-1]}"
    apart = "" if len(own) == 1 or own["low"].iloc[-1] > own["high"].iloc[0] else "; the two are not told apart"
    return (
        f"An attribute's own token carries {range_} of its score's change, by {own['n'].min()} images{apart}; "
        f"completeness residual at most {matrix['residual'].max():.1%}."
    )


def read_gap(gaps: pd.DataFrame) -> str:
    """How much a whole shift may miss, and whether half a shift shows that the network is not linear."""
    reach = gaps.assign(reach=gaps["high"].fillna(gaps["gap"])).sort_values("reach")
    whole, half = reach[reach["multiple"] > 0.75], reach[reach["multiple"] < 0.75]
    worst, bent = (rows.iloc[-1] for rows in (whole, half.sort_values("low", na_position="first")))
    parts = [with_ends(row, "gap", ".2g", note=f"{row['attribute']}, σ = {row['sigma']:.2g}") for row in (worst, bent)]
    return (
        f"A whole shift misses {parts[0]} of the difference where most may be missing; half a shift is off half the "
        f"change by {parts[1]} where most is shown: {_linearity(whole, half, bent)}."
    )


def _linearity(whole: pd.DataFrame, half: pd.DataFrame, bent: "pd.Series[Any]") -> str:
    """What the gaps show of a network: one that is linear misses as much of half a shift as of a whole one."""
    there = whole[(whole["attribute"] == bent["attribute"]) & (whole["sigma"] == bent["sigma"])]
    if bent["low"] > LINEAR and len(there) and (there["high"] < bent["low"]).all():
        return "the network is not linear there"
    if (pd.concat([whole, half])["high"] <= LINEAR).all():
        return f"no interval reaches beyond {LINEAR:.0%} of what a linear network would do"
    return f"neither shown to be linear within {LINEAR:.0%} nor not to be"


def read_recovery(recovery: pd.DataFrame) -> str:
    """The sites that alone recover most and least, over all noise levels."""
    rows = recovery[(recovery["form"] == "sufficiency") & (recovery["sigma_low"] == 0)]
    rows = rows[rows["sigma_high"] == rows["sigma_high"].max()].assign(site=rows["site"].map(site_name))
    known = rows.dropna(subset="median").sort_values("median", ascending=False)
    if known.empty:
        return f"At none of {len(rows)} sites do two seeds have an effect that could be recovered."
    parts = [with_ends(row, "median", ".0%", of="median", note=f"n = {row['n']}") for _, row in known.iterrows()]
    text = (
        f"Patched at all noise levels, one of {len(rows)} sites at a time, {known['site'].iloc[0]} recovers {parts[0]}"
    )
    if len(known) == 1:
        return f"{text} of the effect."
    most = not_apart(alike(known, "site", of="median"))
    return f"{text} of the effect{most or ', the most'}; the lowest value is {known['site'].iloc[-1]}'s {parts[-1]}."


def read_loss(half: pd.DataFrame) -> str:
    """Where the error of each attribute reaches 1/4 as noise grows, and which is shown to be lost first."""
    pixels = half[half["metric"] == "pixels"]
    known, others = pixels.dropna(subset="sigma").sort_values("sigma"), pixels[pixels["sigma"].isna()]
    unknown = f"does not cross 1/4 within these noise levels, or lies above it from the lowest on: {_names(others)}"
    if known.empty:
        return f"No attribute's error is shown to reach 1/4: it {unknown}."
    parts = [f"{row['attribute']} at σ = {_crossing(row)}" for _, row in known.iterrows()]
    text = f"As noise grows, the error reaches 1/4 for {', '.join(parts)}"
    if len(others):
        return f"{text}; it {unknown}."
    if len(known) == 1:
        return f"{text}."
    sure = known["reached"].min() > 0.95
    same = alike(known, "attribute") if sure else list(known["attribute"].iloc[1:])
    first = known["attribute"].iloc[0]
    if same:
        return f"{text}; which of {', '.join([first, *same])} is lost first is not shown."
    return f"{text}; {first} is lost first."


def read_information(expected: pd.DataFrame, integrand: pd.DataFrame) -> str:
    """Which attributes' integrals exceed their entropy, and where, from high noise down, the estimates pass it."""
    rows = expected[expected["estimator"] == "log_ratio"]
    entropy = dict(zip(rows["attribute"], rows["entropy_nats"], strict=True))
    beyond = [
        f"{row['attribute']} ({row['nats']:.2g} nats, {row['low']:.2g} to {row['high']:.2g}, against "
        f"{row['entropy_nats']:.2g})"
        for _, row in rows[rows["low"] > rows["entropy_nats"]].iterrows()
    ]
    furthest = number((rows["high"] - rows["entropy_nats"]).max(), "+.2g")
    first = (
        f"By the log ratio, the information of none of {_names(rows)} is shown to exceed its entropy: the intervals of "
        f"95 % end at {furthest} nats from it or lower."
        if not beyond
        else f"By the log ratio, information exceeds the attribute's entropy for {', '.join(beyond)}: no exact "
        f"denoiser's does, so the branches contradict each other ({len(rows)} intervals of 95 % each were looked at)."
    )
    texts = []
    for name, part in integrand[integrand["estimator"] == "log_ratio"].groupby("attribute", sort=False):
        reached = part[part["cumulative"] >= entropy[name]]["sigma"]
        where = f"at σ = {reached.max():.2g}" if len(reached) else f"nowhere ({part['cumulative'].max():.2f} nats)"
        texts.append(f"{name} {where}")
    return f"{first} The estimated curves pass it, from high noise down (no intervals): {', '.join(texts)}."


def read_overlap(table: pd.DataFrame) -> str:
    """How much two attributes influence the same pixels, and what they have together beyond their parts."""
    if table.empty:
        return "Where the condition changes the prediction, image by image."
    pixelwise = table[table["aggregate"] == "pixelwise"].set_index("part").to_dict("index")
    both, extra = pixelwise["redundancy"], pixelwise["synergy"]
    side = "beyond" if extra["low"] > 0 else "short of" if extra["high"] < 0 else "not shown to differ from"
    return (
        f"{both['first']} and {both['second']} influence the same pixels by {with_ends(both, 'nats', '.2g')} nats (the "
        f"smaller of the two at each pixel); together they are {side} the sum of their parts: "
        f"{with_ends(extra, 'nats', '+.2g')} nats."
    )


def read_classes(summary: pd.DataFrame) -> str:
    """The attributes that are classified best and worst, as far as they are told apart, and what elimination saved."""
    rows = summary.sort_values("accuracy", ascending=False)
    best, *others = (f"{with_ends(row, 'accuracy', '.0%')} for {row['attribute']}" for _, row in rows.iterrows())
    least = f" and {others[-1]}, the most and the least of {len(rows)}" if others else ""
    same = alike(rows, "attribute")
    apart = f"; {rows['attribute'].iloc[0]} is not told apart from {', '.join(same)}" if same else ""
    return (
        f"Classification by paired losses is right in {best}{least}{apart}; eliminating losers early took "
        f"{summary['share'].mean():.0%} of the evaluations."
    )


def _readable(cells: pd.DataFrame) -> str:
    """Runs of neighbouring noise levels where the accuracy's interval lies above `READABLE`, from high noise down."""
    cells = cells.sort_values("sigma", ascending=False).reset_index(drop=True)
    above = cells["low"] > READABLE
    if not above.any():
        return f"none of {len(cells)} noise levels"
    runs = (above != above.shift()).cumsum()
    ends = [(part["sigma"].iloc[0], part["sigma"].iloc[-1]) for _, part in cells[above].groupby(runs[above])]
    return "σ = " + ", ".join(span(high, low) for high, low in ends)


def _sigmas(row: "pd.Series[float]") -> str:
    """The interval of a landmark as noise levels; at minus infinity there is none."""
    low, high = sorted(math.exp(-float(row[end]) / 2) for end in ("low", "high"))
    return f"{low:.2g} to {high:.2g}" if math.isfinite(high) else f"{low:.2g} or above, or at no level"


def _or_more(high: float) -> str:
    return f"{high:.2g}" if math.isfinite(high) else "more than the levels hold"


def _crossing(row: "pd.Series[Any]") -> str:
    """Noise level with its interval, and of which share of the bootstrap draws that is."""
    part = "" if row["reached"] > 0.95 else f"of the {row['reached']:.0%} of draws that cross"
    return with_ends(row, "sigma", ".2g", note=part)


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(rows["attribute"])
