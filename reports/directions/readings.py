"""Sentences made from the numbers of a directions report: one a figure, in the order of the report."""

import math
from typing import Any

import pandas as pd

from scorescope.analysis.directions.steering import SteerCurve
from scorescope.reports.directions.study import site_name
from scorescope.reports.directions.workbench import ALONE, READABLE

_BEST = {"reads_best": "auc", "moves_best": "purity"}
_STATES = {"visible_from": "visible", "steerable_until": "no longer steerable", "committed_at": "committed"}


def read_agreement(table: pd.DataFrame) -> str:
    """The attribute that samples show least often as asked."""
    if table.empty:
        return "Samples; the condition names none of the attributes."
    rows = table[(table["what"] == "samples") & (table["attribute"] != "all")].sort_values("agreement")
    worst = rows.iloc[0]
    return (
        f"Samples show every attribute as asked in at least {worst['agreement']:.1%} of cases "
        f"({worst['attribute']}, {worst['low']:.1%} to {worst['high']:.1%}, n = {worst['n']})."
    )


def read_probes(final: pd.DataFrame) -> str:
    """Where each attribute is read best, on test images."""
    parts = [
        f"{row['attribute']} {row['value']:.0%} ({row['low']:.0%} to {row['high']:.0%}) at "
        f"{site_name(row['site'])}, σ = {row['sigma']:.2g}"
        for _, row in final.iterrows()
    ]
    return "Best cells, on test images: " + "; ".join(parts) + "."


def read_control(table: pd.DataFrame) -> str:
    """How far the control task gets."""
    far = float((table["control"] - table["chance"]).abs().max())
    return (
        f"On validation images the control task stays within {far:.2f} of chance, above or below, "
        f"everywhere; on its training images it reaches {table['control_train'].max():.2f}: what a probe can learn by "
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
        return f"{text} None of these is shown to be readable without being steerable."
    row = confirmed.iloc[0]
    outcome = "Readable without being steerable" if row["finding"] == ALONE else "Not confirmed"
    return (
        f"{text} {outcome}, by test images and seeds that had no part in the choice: {row['attribute']} at "
        f"{site_name(row['site'])} is read with accuracy {row['accuracy']:.0%} "
        f"({row['accuracy_low']:.0%} to {row['accuracy_high']:.0%}, n = {row['images']}); the effect of its direction "
        f"is {row['effect']:.2g} ({row['effect_low']:.2g} to {row['effect_high']:.2g}) standard deviations, "
        f"{_beyond(row)}, n = {row['n']}: {row['verdict']}."
    )


def read_dose(found: SteerCurve, label: str) -> str:
    """The effect of a direction against its highest bar, and what it moves besides."""
    verdict = found.verdicts.iloc[0]
    arm = found.arms[(found.arms["arm"] == "direction")].set_index("quantity")
    own, rank = arm.loc["disentanglement"], arm.loc["spearman"]
    return (
        f"{label}: effect {verdict['effect']:.2g} ({verdict['effect_low']:.2g} to {verdict['effect_high']:.2g}) "
        f"standard deviations from {verdict['strength_low']:g} to {verdict['strength_high']:g}, {_beyond(verdict)}; "
        f"p = {verdict['p']:.2g} that a control does as much: {verdict['verdict']}. Rank correlation with the "
        f"strength {rank['value']:.2f}; {own['value']:.0%} of all change is the target's ({own['low']:.0%} to "
        f"{own['high']:.0%})."
    )


def read_windows(effects: pd.DataFrame, probes: pd.DataFrame) -> str:
    """At which noise levels each attribute is read, and what each window of them does."""
    texts = []
    for name, rows in effects.groupby("attribute", sort=False):
        cells = probes[probes["attribute"] == name]
        parts = []
        for verdict, found in rows.sort_values("sigma_high", ascending=False).groupby("verdict", sort=False):
            spans = ", ".join(f"{row['sigma_high']:.2g} to {row['sigma_low']:.2g}" for _, row in found.iterrows())
            parts.append(f"{verdict} within σ = {spans}")
        texts.append(
            f"{name} is read with at least {READABLE:.0%} at {_readable(cells)}; one window at a time, it is "
            + "; ".join(parts)
        )
    return ". ".join(texts) + "."


def read_landmarks(landmarks: pd.DataFrame) -> str:
    """The order in which attributes are decided."""
    committed = landmarks[landmarks["landmark"] == "steerable_until"].dropna(subset="sigma").sort_values("sigma")
    if committed.empty:
        return "No attribute follows a switched condition."
    parts = [
        f"{row['attribute']} until σ = {row['sigma']:.2g} ({_sigmas(row)})" for _, row in committed[::-1].iterrows()
    ]
    return "A switched condition is followed by half of the seeds: " + "; ".join(parts) + "."


def read_gaps(gaps: pd.DataFrame) -> str:
    """Attributes that are readable before they are steerable no longer, or before they can be seen."""
    known = gaps[gaps["earlier"] == "readable_from"]
    rows = known[(known["low"] > 1e-6) & (known["defined"] > 0.95)]
    if rows.empty:
        return "No attribute is readable before another landmark with an interval that excludes zero."
    parts = [
        f"{row['attribute']}: readable {row['gap']:.2g} log-SNR ({row['low']:.2g} to {row['high']:.2g}) before it is "
        f"{_STATES[row['later']]}"
        for _, row in rows.iterrows()
    ]
    return "; ".join(parts) + f". {len(known)} intervals of 95 % each were looked at, not corrected for their number."


def read_readers(readers: pd.DataFrame) -> str:
    """The best reader, the best mover, those not told apart from them, and the angle between the two."""
    reads, movers = (readers[readers[best]].sort_values(by, ascending=False) for best, by in _BEST.items())
    reader = reads.iloc[0]
    text = (
        f"{reader['method']} reads best (AUC {reader['auc']:.3f}, {reader['auc_low']:.3f} to {reader['auc_high']:.3f})"
        + _not_apart(reads)
    )
    if movers.empty:
        return (
            f"{text}; none of these directions is shown to move the attribute more than random ones and those of "
            "shuffled labels do."
        )
    mover = movers.iloc[0]
    angle = (
        "they are the same direction"
        if mover["method"] == reader["method"]
        else f"they are {reader['degrees_to_mover']:.0f} degrees apart"
    )
    return (
        f"{text}; {mover['method']} moves with the least effect on other scores (purity {mover['purity']:.2f}, "
        f"{mover['purity_low']:.2f} to {mover['purity_high']:.2f}; the reader's {reader['purity']:.2f})"
        f"{_not_apart(movers)}; {angle}."
    )


def read_cosines(cosines: pd.DataFrame) -> str:
    """How far the direction turns from one end of the noise axis to the other."""
    own = cosines[cosines["sigma_a"] == cosines["sigma_b"]].set_index("sigma_a")
    stable = own.index[own["low"] > own["null"]]  # levels at which halves of the images agree beyond chance
    rows = cosines[cosines["sigma_a"].isin(stable) & cosines["sigma_b"].isin(stable)]
    if len(stable) < 2:
        return "At fewer than two noise levels do halves of the images agree on the direction."
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
    own = matrix[matrix["score"] == matrix["token"]]
    low, high = own.sort_values("share").iloc[0], own.sort_values("share").iloc[-1]
    return (
        f"An attribute's own token carries from {low['share']:.0%} ({low['score']}, σ = {low['sigma']:g}) to "
        f"{high['share']:.0%} ({high['score']}, σ = {high['sigma']:g}) of its score's change; completeness residual "
        f"at most {matrix['residual'].max():.1%}."
    )


def read_gap(gaps: pd.DataFrame) -> str:
    """Where a whole shift misses most."""
    whole = gaps[gaps["multiple"] > 0.75]
    worst = whole.sort_values("gap").iloc[-1]
    half = gaps[gaps["multiple"] < 0.75]
    bent = half.sort_values("gap").iloc[-1]
    return (
        f"A whole shift misses at most {worst['gap']:.2g} ({worst['attribute']}, σ = {worst['sigma']:.2g}) of the "
        f"difference; half a shift is off half the change by up to {bent['gap']:.2g} ({bent['attribute']}, "
        f"σ = {bent['sigma']:.2g}, {bent['low']:.2g} to {bent['high']:.2g}): the network is not linear there."
    )


def read_recovery(recovery: pd.DataFrame) -> str:
    """The site that alone recovers most, over all noise levels."""
    rows = recovery[(recovery["form"] == "sufficiency") & (recovery["sigma_low"] == 0)]
    rows = rows[rows["sigma_high"] == rows["sigma_high"].max()].sort_values("median")
    best, least = rows.iloc[-1], rows.iloc[0]
    return (
        f"Patched at all noise levels, {site_name(best['site'])} alone recovers "
        f"{best['median']:.0%} ({best['median_low']:.0%} to {best['median_high']:.0%}) of the effect, "
        f"{site_name(least['site'])} {least['median']:.0%} ({least['median_low']:.0%} to "
        f"{least['median_high']:.0%})."
    )


def read_loss(half: pd.DataFrame) -> str:
    """The attributes that are lost first and last as noise grows."""
    pixels = half[half["metric"] == "pixels"].dropna(subset="sigma").sort_values("sigma")
    if pixels.empty:
        return "No attribute's error reaches 1/4 within these noise levels."
    first, last = pixels.iloc[0], pixels.iloc[-1]
    if len(pixels) == 1:
        return f"{first['attribute']} reaches an error of 1/4 at σ = {first['sigma']:.2g}."
    return (
        f"As noise grows, {first['attribute']} is lost first (Err = 1/4 at σ = {first['sigma']:.2g}, "
        f"{first['low']:.2g} to {first['high']:.2g}) and {last['attribute']} last (σ = {last['sigma']:.2g}, "
        f"{last['low']:.2g} to {last['high']:.2g})."
    )


def read_information(expected: pd.DataFrame, integrand: pd.DataFrame) -> str:
    """Which attributes' integrals exceed their entropy, and where, from high noise down, the estimates pass it."""
    rows = expected[expected["estimator"] == "log_ratio"]
    entropy = dict(zip(rows["attribute"], rows["entropy_nats"], strict=True))
    beyond = [
        f"{row['attribute']} ({row['nats']:.2g} nats, {row['low']:.2g} to {row['high']:.2g}, against "
        f"{row['entropy_nats']:.2g})"
        for _, row in rows[rows["low"] > rows["entropy_nats"]].iterrows()
    ]
    first = (
        "By the log ratio, no attribute's information exceeds its entropy with its interval."
        if not beyond
        else f"By the log ratio, information exceeds the attribute's entropy for {', '.join(beyond)}: no exact "
        "denoiser's does, so the branches contradict each other."
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
    pixelwise = table[table["aggregate"] == "pixelwise"].set_index("part")
    both, extra = pixelwise.loc["redundancy"], pixelwise.loc["synergy"]
    return (
        f"{both['first']} and {both['second']} influence the same pixels by {both['nats']:.2g} nats "
        f"({both['low']:.2g} to {both['high']:.2g}); together they have {extra['nats']:+.2g} nats "
        f"({extra['low']:+.2g} to {extra['high']:+.2g}) beyond the sum of their parts."
    )


def read_classes(summary: pd.DataFrame) -> str:
    """The best and the worst classified attribute, and what elimination saved."""
    rows = summary.sort_values("accuracy")
    low, high = rows.iloc[0], rows.iloc[-1]
    least = (
        ""
        if len(rows) == 1
        else (f" and {low['accuracy']:.0%} ({low['low']:.0%} to {low['high']:.0%}) for {low['attribute']}")
    )
    return (
        f"Classification by paired losses is right in {high['accuracy']:.0%} ({high['low']:.0%} to {high['high']:.0%}) "
        f"for {high['attribute']}{least}; eliminating losers early took {summary['share'].mean():.0%} of the "
        "evaluations."
    )


def _beyond(row: "pd.Series[Any]") -> str:
    """The margin with its interval, and the bar it is taken from."""
    ends = [row[f"margin_{end}" if f"margin_{end}" in row else end] for end in ("low", "high")]
    side = "beyond" if row["margin"] > 0 else "from"
    bar = f"the {row['bar']}" if row["bar"] == "relevant size" else f"the largest control ({row['bar']})"
    return f"{row['margin']:+.2g} ({ends[0]:+.2g} to {ends[1]:+.2g}) {side} {bar}"


def _readable(cells: pd.DataFrame) -> str:
    """Runs of neighbouring noise levels where the accuracy's interval lies above `READABLE`, from high noise down."""
    cells = cells.sort_values("sigma", ascending=False).reset_index(drop=True)
    above = cells["low"] > READABLE
    if not above.any():
        return "no noise level"
    runs = (above != above.shift()).cumsum()
    ends = [(part["sigma"].iloc[0], part["sigma"].iloc[-1]) for _, part in cells[above].groupby(runs[above])]
    return "σ = " + ", ".join(f"{high:.2g}" if high == low else f"{high:.2g} to {low:.2g}" for high, low in ends)


def _sigmas(row: "pd.Series[float]") -> str:
    low, high = sorted(math.exp(-float(row[end]) / 2) for end in ("low", "high"))
    return f"{low:.2g} to {high:.2g}"


def _not_apart(best: pd.DataFrame) -> str:
    others = ", ".join(best["method"].iloc[1:])
    return f", not told apart from {others}" if others else ""
