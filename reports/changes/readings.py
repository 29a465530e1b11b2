"""Sentences of what changed: what is shown to differ, and what a difference that is not shown could have been."""

from typing import Any

import pandas as pd

from scorescope.probes.decomposition.products import IMAGE_STATISTICS
from scorescope.probes.recording.trace import Trace
from scorescope.reports.page.numbers import between

MOST = 3  # quantities that are named
SKEWED = 1.0  # skewness, beyond which an interval is doubted
DEFAULT = "the pipeline's default"


def in_words(quantity: str, of: str = "guided prediction") -> str:
    """A quantity, and what it is of where predictions at every step and the images at the end have it alike."""
    words = quantity.replace("_", " ")
    return f"{words} of the {of}" if quantity in IMAGE_STATISTICS else words


def read_runs(table: pd.DataFrame, ranges: pd.DataFrame) -> str:
    """The quantities that are shown to differ and where; else how small a difference could have been seen."""
    known = table.dropna(subset=["low"])
    if known.empty:
        return f"Nothing can be told: {'; '.join(sorted(set(table['missing'])))}."
    names = list(dict.fromkeys(table.loc[table["shown"], "quantity"]))
    steps = table[["stream", "schedule", "step"]].drop_duplicates()
    looked = f"{table['quantity'].nunique()} quantities at {len(steps)} steps"
    several = bool(steps[["stream", "schedule"]].any(axis=None))

    def of(row: Any) -> str:
        return f" of scheduler {row.stream}, schedule {row.schedule}," if several else ""

    if not names:
        least = (known["detectable"] / known["first"].abs()).median()
        return (
            f"None of {looked} is shown to differ; a difference of {least:.1%} of a quantity's mean, in the median "
            "over them, would have been shown 8 times in 10."
        )
    told = []
    for name in names[:MOST]:
        rows = ranges[ranges["quantity"] == name]
        where = " and ".join(
            f"σ = {between(row.from_sigma, row.to_sigma, digits=3)}{of(row)}" for row in rows.itertuples()
        )
        peak = table[(table["quantity"] == name) & table["shown"]].iloc[0]
        told.append(
            f"{in_words(name)} at {where} (clearest at σ = {peak['sigma']:.3g}, by {peak['value']:.3g}, "
            f"{peak['low']:.3g} to {peak['high']:.3g}, beside {peak['first']:.3g})"
        )
    others = [in_words(name) for name in names[MOST:]]
    more = f"; and {', '.join(others)}" if others else ""
    return f"Of {looked} these are shown to differ: {'; '.join(told)}{more}."


def read_pairing(pairing: pd.DataFrame) -> str:
    """Which samples were compared, and which were left out."""
    pairs = int(((pairing["first"] >= 0) & (pairing["second"] >= 0)).sum())
    alone = [int((pairing[name] < 0).sum()) for name in ("second", "first")]
    if pairs:
        rest = f"; {alone[0]} of the first and {alone[1]} of the second run have no partner and are left out"
        return f"{pairs} pairs of one seed and prompt are compared{rest if any(alone) else ''}."
    return "No seed and prompt is in both runs: two independent sets are compared, which shows less than pairs would."


def read_ends(ends: pd.DataFrame) -> str:
    """What is shown to differ of what the runs ended with."""
    known = ends.dropna(subset=["low"])
    known = known.assign(quantity=[in_words(*pair) for pair in zip(known["quantity"], known["of"], strict=True)])
    if known.empty:
        return ""
    shown = [
        f"{row.quantity} by {row.value:.3g} ({row.low:.3g} to {row.high:.3g}, beside {row.first:.3g})"
        for row in known[known["shown"]].itertuples()
    ]
    names = ", ".join(known["quantity"])
    least = (known["detectable"] / known["first"].abs()).median()
    none = (
        f"nothing is shown to differ; a difference of {least:.1%} of a mean, in the median over them, would have been "
        "shown 8 times in 10."
    )
    return f"Of what they ended with ({names}) " + (f"{'; '.join(shown)}." if shown else none)


def read_skewed(table: pd.DataFrame) -> str:
    """How many differences are so skewed that their intervals hold less often; empty where none is."""
    known = table.dropna(subset=["low"])
    count = int((known["skewness"].abs() > SKEWED).sum())
    if not count:
        return ""
    return (
        f"{count} of {len(known)} differences are skewed beyond ±{SKEWED:g}, where intervals hold less often than they "
        "say: of log-normal ones of spread 1, those of 40 rows all held in half of the runs."
    )


def read_arguments(first: Trace, second: Trace) -> str:
    """Arguments of the calls that all images of a run share, where the runs were given different ones."""
    given = [next((spec.get("shared") or {} for spec in trace.specs.values()), {}) for trace in (first, second)]
    names = [name for name in {**given[0], **given[1]} if given[0].get(name) != given[1].get(name)]
    told = ", ".join(f"{name} {given[0].get(name, DEFAULT)} and {given[1].get(name, DEFAULT)}" for name in names)
    return f"Their arguments differ: {told}." if told else ""


def read_losses(table: pd.DataFrame, best: pd.DataFrame) -> str:
    """Who is shown to be the best at how many levels, and the largest difference that is shown."""
    known = table.dropna(subset=["low"])
    if known.empty:
        return f"Nothing can be told: {'; '.join(sorted(set(table['missing'])))}."
    shown = table[table["shown"]]
    if shown.empty:
        least = (known["detectable"] / known["loss"]).median()
        return (
            f"No loss is shown to differ at any of {table['sigma'].nunique()} noise levels; one of {least:.1%}, in the "
            "median over them, would have been shown 8 times in 10."
        )
    alone = best[best["also"] == ""]["lowest"].value_counts()
    counts = ", ".join(f"{name} at {count}" for name, count in alone.items()) or "none at any"
    return f"Of {len(best)} noise levels the loss is shown to be the lowest of all: {counts}. {read_largest(table)}"


def read_largest(table: pd.DataFrame) -> str:
    """The largest difference of loss that is shown, relative to the first's; some is."""
    shown = table[table["shown"]]
    peak = shown.iloc[int((shown["value"] / shown["loss"]).abs().to_numpy().argmax())]
    share = 100 * peak["value"] / peak["loss"]
    low, high = 100 * peak["low"] / peak["loss"], 100 * peak["high"] / peak["loss"]
    return (
        f"The largest difference is at σ = {peak['sigma']:.3g}: the loss of {peak['second']} is {share:+.2g} % "
        f"({low:+.2g} to {high:+.2g}) beside {peak['first']}."
    )


def read_ema(above: pd.DataFrame, best: pd.DataFrame) -> str:
    """Which EMA length is lowest where that is shown, and which are shown to be worse than another, and where."""
    alone = best[best["also"] == ""]
    told = [f"{length} {_levels(rows['sigma'])}" for length, rows in alone.groupby("lowest", sort=False)]
    first = f"Of {len(best)} noise levels one EMA length is shown to be the best at {len(alone)}"
    first += f": {'; '.join(told)}; at the others two or more are not told apart." if told else "."
    worse = above[above["shown"]]
    names = sorted(above["denoiser"].unique(), key=float)
    where = [f"{name} {_levels(worse.loc[worse['denoiser'] == name, 'sigma'])}" for name in names]
    bad = "; ".join(text for name, text in zip(names, where, strict=True) if (worse["denoiser"] == name).any())
    never = ", ".join(name for name in names if not (worse["denoiser"] == name).any())
    return f"{first} Shown to be worse than the lowest: {bad}; at no level: {never or 'none'}."


def _levels(sigmas: "pd.Series[float]") -> str:
    """A few noise levels one by one, or how many and between which."""
    values = sorted(sigmas)
    if len(values) > 2:
        return f"at {len(values)} levels, σ = {values[0]:.2g} to {values[-1]:.2g}"
    return f"at σ = {' and '.join(f'{value:.2g}' for value in values)}"
