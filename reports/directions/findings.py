"""What a directions report can begin with: one function a finding, from the tables of its sections.

Each says a number with its interval and what it means for who reads or steers; `page.findings` chooses among them.
"""

import numpy as np
import pandas as pd

from scorescope.analysis.directions.steered import SteerCurve
from scorescope.reports.directions.phrases import beyond
from scorescope.reports.directions.study import site_name
from scorescope.reports.page.findings import Finding, strength_apart, strength_of
from scorescope.reports.page.numbers import told

LITTLE = 0.01  # of an effect: a site that carries less at most is no finding

_LATER = {
    "visible_from": "it can be seen in the estimate",
    "committed_at": "it is settled",
    "steerable_until": "it follows a switched condition no longer",
}


def readable(final: pd.DataFrame, *, right: str = "right") -> list[Finding]:
    """The attributes that are read better than chance, each at its best cell, on test images.

    Parameters
    ----------
    final : DataFrame
        The chosen cells.
    right : str
        What it means that a probe reads an image right, where labels are not what is to be seen.
    """
    rows = final.dropna(subset=["value", "low"])
    if rows.empty:
        return []
    beyond = [strength_of(row, "value", nothing=row["chance"]) for _, row in rows.iterrows()]
    shown = rows[np.array(beyond) > 1]
    texts = [
        f"{row['attribute']} with {told(row, 'value', form='.0%')} at {site_name(row['site'])}, σ = {row['sigma']:.2g}"
        for _, row in (shown if len(shown) else rows).iterrows()
    ]
    text = f"A linear probe reads {', '.join(texts)} of the test images"
    weakest = min(value for value in beyond if value > 1) if len(shown) else max(beyond)
    doubt = f"{text} {right}: not told from chance."
    return [Finding(f"{text} {right}.", weakest, "probe_map", n=rows["n"].min(), unit="test images", doubt=doubt)]


def steered(found: SteerCurve, label: str) -> list[Finding]:
    """Whether the direction moves its attribute by more than every control, on seeds that had no part in the choice."""
    row = found.verdicts.iloc[0]
    text = (
        f"Adding the direction of {label} moves the judge's score by {told(row, 'effect', of='effect', form='.2g')} "
        f"standard deviations, {beyond(row)}"
    )
    clear = strength_of(row, "margin") if row["margin"] > 0 else 0.0
    shown = row["verdict"] == "steerable"
    return [
        Finding(
            f"{text}: it can be steered there.", clear if shown else min(clear, 1.0), "dose_response",
            n=0 if row["verdict"] == "not steerable" else row["n"], unit="seeds", doubt=f"{text}: {row['verdict']}.",
        )
    ]  # fmt: skip


def earlier(gaps: pd.DataFrame) -> list[Finding]:
    """The landmark that an attribute is read before by most, for the width of its interval."""
    rows = gaps[(gaps["earlier"] == "readable_from") & (gaps["defined"] > 0.95) & np.isfinite(gaps["gap"])]
    found = [(strength_of(row, "gap", of_several=len(rows)), row) for _, row in rows[rows["gap"] > 0].iterrows()]
    if not found:
        return []
    clear, row = max(found, key=lambda one: one[0])
    where = f"{told(row, 'gap', form='.2g')} log-SNR before {_LATER[row['later']]}"
    text = f"{row['attribute']} is readable {where}: what a probe reads is not what one can still change or see."
    return [
        Finding(text, clear, "emergence", n=row["n"], unit="seeds", doubt="No attribute is shown to be readable before "
        f"it is visible, settled or steerable no longer; the clearest is {row['attribute']}, {where}.")
    ]  # fmt: skip


def lost_first(half: pd.DataFrame) -> list[Finding]:
    """Which attribute is lost first as noise grows, of those whose error reaches 1/4 in all draws."""
    rows = half[half["metric"] == "attribute score"].dropna(subset=["sigma", "low", "high"])
    ranked = rows[rows["reached"] > 0.975].sort_values("sigma")
    if len(ranked) < 2:
        return []
    first, second = ranked.iloc[0], ranked.iloc[1]
    levels = [f"at σ = {told(row, 'sigma', form='.2g')}" for row in (first, second)]
    texts = [f"{row['attribute']} {level}" for row, level in zip((first, second), levels, strict=True)]
    text = f"As noise grows, denoised images lose {first['attribute']} first, {levels[0]}, and {texts[1]}"
    logs = [pd.Series({end: np.log(row[end]) for end in ("sigma", "low", "high")}) for row in (first, second)]
    found = strength_apart(logs[0], logs[1], "sigma")
    doubt = f"Which attribute is lost first as noise grows: {', '.join(texts)}."
    return [Finding(f"{text}.", found, "attribute_loss", n=min(first["n"], second["n"]), unit="pairs", doubt=doubt)]


def contradiction(expected: pd.DataFrame) -> list[Finding]:
    """Attributes of which the condition tells more than there is to know: the two branches contradict each other."""
    rows = expected[(expected["estimator"] == "log_ratio")].dropna(subset=["nats", "low"])
    beyond = {
        name: strength_of(row, "nats", nothing=row["entropy_nats"], of_several=len(rows))
        for name, row in rows.set_index("attribute").iterrows()
        if row["nats"] > row["entropy_nats"]
    }
    shown = rows[[beyond.get(name, 0.0) > 1 for name in rows["attribute"]]]
    if shown.empty:
        return []
    parts = [
        f"{told(row, 'nats', form='.2g')} nats about {row['attribute']} where {row['entropy_nats']:.2g} is all there is"
        for _, row in shown.iterrows()
    ]
    text = f"The predictions with and without condition do not fit together: they differ by {', '.join(parts)}"
    least = min(beyond[name] for name in shown["attribute"])
    return [Finding(f"{text}. Amounts of information cannot be read off this network.", least, "information")]


def carried(recovery: pd.DataFrame) -> list[Finding]:
    """The site that alone carries most of the condition's effect, over all noise levels.

    Those that carry all of it in every seed, as the last one before the output must, are named beside it.
    """
    rows = recovery[(recovery["form"] == "sufficiency") & (recovery["sigma_low"] == 0)].dropna(subset="median_low")
    rows = rows[rows["sigma_high"] == rows["sigma_high"].max()]
    sure = rows[rows["median_low"] == rows["median_high"]]
    whole = [f"{site_name(row['site'])} ({row['median']:.0%})" for _, row in sure.iterrows()]
    rows = rows[(rows["median_low"] < rows["median_high"]) & (rows["median_high"] > LITTLE)]
    if rows.empty:
        return []
    row = rows.loc[rows["median"].idxmax()]
    share = told(row, "median", of="median", form=".0%")
    text = f"The block '{site_name(row['site'])}' alone carries {share} of the condition's effect"
    found = strength_of(row, "median", of="median", of_several=len(rows))
    doubt = f"No site is shown to carry the condition's effect; {text}."
    most = f"{text}, the most of {len(rows)} sites" if len(rows) > 1 else text
    most += f"; of {', '.join(whole)} all draws of seeds say the same" if whole else ""
    return [Finding(f"{most}.", found, "recovery", n=row["n"], unit="seeds", doubt=doubt)]


def told_apart(judged: pd.DataFrame) -> list[Finding]:
    """How often the judge tells the ends of its prompts apart, where it does so least."""
    if judged.empty:
        return []
    row = judged.iloc[int(judged["share"].to_numpy().argmin())]
    text = f"The judge tells the ends of {row['attribute']} apart in {told(row, 'share', form='.0%')} of the pairs"
    return [
        Finding(
            f"{text}; half is chance.", strength_of(row, "share", nothing=0.5), "prompt_images", n=row["pairs"],
            unit="pairs", doubt=f"{text}: not told from chance, so that what is said of it by scores means no more.",
        )
    ]  # fmt: skip
