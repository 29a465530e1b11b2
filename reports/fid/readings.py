"""Sentences made from the numbers of a FID report: one a figure, in the order of `figures`.

Those of an audit are `analysis.fid.verdict`'s.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def read_planted_maps(shares: pd.DataFrame) -> str:
    """What the network of the accessory is sensitive to."""
    values = shares.set_index(["network", "region"])["sensitivity_share"]
    return (
        f"For the accessory network {values['accessory', 'accessory']:.0%} of the distance's sensitivity lies "
        f"on the accessory and {values['accessory', 'subject']:.1%} on the subject."
    )


def read_planted_shares(shares: pd.DataFrame) -> str:
    """What the network of the subject is sensitive to."""
    values = shares.set_index(["network", "region"])["sensitivity_share"]
    return (
        f"The same scenes under the subject network: {values['subject', 'accessory']:.0%} on the accessory, "
        f"{values['subject', 'subject']:.0%} on the subject."
    )


def read_distances(frechet: pd.DataFrame, spaces: tuple[str, str]) -> str:
    """The distance without bias and its interval, against the floor; of several the smallest, as far as it is told.

    Parameters
    ----------
    frechet : DataFrame
        Rows of companion tables of the metrics FD and FD without bias, with a column `set`.
    spaces : (str, str)
        Names of the judged and the second space.
    """
    ranked, why = _ranked(frechet[frechet["space"] == spaces[0]])
    if why:
        return f"{why}."
    best = ranked.iloc[0]
    what = "distance" + (" without bias" if best["metric"].endswith("without bias") else " as measured")
    text = f"{best['set']} has the {'smallest ' if len(ranked) > 1 else ''}{what}, {best['value']:.3g}{_interval(best)}"
    if len(ranked) > 1:
        text += f", {_apart(ranked)}"
    measured = frechet[(frechet["space"] == spaces[0]) & (frechet["set"] == best["set"]) & (frechet["metric"] == "FD")]
    text += _against_floor(measured.iloc[0], said=len(ranked) == 1 and best["metric"] == "FD")
    if len(ranked) > 1:
        text += f"; {_second_says(frechet[frechet['space'] == spaces[1]], best['set'])}"
    return text + "."


def is_told(ranked: pd.DataFrame) -> bool:
    """Whether the interval of the first row of `ranked`, a table sorted by value, lies below all others."""
    known = len(ranked) > 1 and ranked[["low", "high"]].notna().to_numpy().all()
    return bool(known and ranked["high"].iloc[0] < ranked["low"].iloc[1:].min())


def _ranked(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The sets by distance: without bias where all have it, else as measured at one size; or why they have no order."""
    measured = rows["metric"].isin(["FD", "sFID"])
    without = rows[~measured]
    if len(without) == measured.sum() and without["value"].notna().all():
        return without.sort_values("value"), ""
    raw = rows[measured]
    if raw["n_fake"].nunique() > 1:
        parts = [f"{row['set']} {row['value']:.3g} (n = {row['n_fake']})" for row in raw.to_dict("records")]
        return raw, f"As measured: {', '.join(parts)}; at different numbers of images these have no order"
    return raw.sort_values("value"), ""


def _apart(ranked: pd.DataFrame) -> str:
    second = ranked.iloc[1]
    beside = f"{second['set']} ({second['value']:.3g}{_interval(second, brackets=False)})"
    if ranked[["low", "high"]].isna().to_numpy().any():
        return f"before {beside}, without intervals that could tell them apart"
    return f"clear of the next, {beside}" if is_told(ranked) else f"not told apart from all others; next {beside}"


def _against_floor(row: "pd.Series[Any]", *, said: bool) -> str:
    """The measured distance, unless it was said, as a multiple of what real images would measure at these numbers."""
    real = "an unknown number of" if pd.isna(row["n_real"]) else row["n_real"]
    sizes = f"{row['n_fake']} against {real} images"
    measured = "" if said else f"; as measured {row['value']:.3g}"
    if math.isnan(row["floor"]):
        return f"{measured} at {sizes} ({row['floor_kind']})"
    times = f"{row['value'] / row['floor']:.2g} times what real images would at {sizes}"
    return f"{measured}, {times} ({row['floor_kind']})"


def _second_says(rows: pd.DataFrame, best: str) -> str:
    ranked, why = _ranked(rows)
    if why or not is_told(ranked):
        return "the second space tells no set apart as the smallest"
    return "the second space agrees" if ranked["set"].iloc[0] == best else "the second space prefers another set"


def read_spatial(generated: pd.DataFrame, other: pd.DataFrame) -> str:
    """The set with the smallest sFID by each reading, and that of as many other real images where there are some."""
    texts = []
    for reading, rows in generated.groupby("space", sort=False):
        ranked, why = _ranked(rows)
        row = ranked.iloc[0]
        named = f"{row['metric']} ({reading})"
        smallest = f", the smallest, {_apart(ranked)}" if len(ranked) > 1 else ""
        texts.append(why or f"{named} is {row['value']:.3g}{_interval(row)} for {row['set']}{smallest}")
        same = other[(other["space"] == reading) & (other["metric"] == row["metric"])]
        if len(same) and set(ranked["n_fake"]) == set(same["n_fake"]):
            texts.append(f"as many other real images ({same['n_fake'].iloc[0]}) have {same['value'].iloc[0]:.3g}")
    return "; ".join(texts) + "."


def read_contributions(features: pd.DataFrame, spectrum: pd.DataFrame) -> str:
    """How concentrated the distance is, and how much of it is a gap of means."""
    half = int((spectrum["cumulative"] < 0.5).sum()) + 1
    mean_share = features["mean_part"].sum() / features["contribution"].sum()
    return (
        f"The {min(5, len(features))} largest features hold {features['share'].head(5).sum():.0%} of the distance and "
        f"{half} principal direction{'s' if half > 1 else ''} half of it; {mean_share:.0%} is a gap of means."
    )


def read_extremes(values: Floats, distance: float) -> str:
    """What leaving out each of the images shown does, exactly."""
    return (
        f"FD is {distance:.3g}; leaving out one of the {len(values)} images shown changes it by {values.min():+.3g} to "
        f"{values.max():+.3g}."
    )


def read_classes(table: pd.DataFrame) -> str:
    """The class with the largest gap of histograms, and whether chance leaves so large a one among so many classes."""
    first = table.iloc[0]
    pair = [[int(first[n]), int(table[n].sum() - first[n])] for n in ("n_fake", "n_real")]
    # a class that no image has could not be told, whatever the sets: it is no comparison that was made
    seen = int((table["n_fake"] + table["n_real"] > 0).sum())
    told = scipy.stats.fisher_exact(pair).pvalue * seen < 0.05
    return (
        f"The largest histogram gap is that of class {first['class_name']}: {first['gap']:+.1%} "
        f"({first['gap_low']:+.1%} to {first['gap_high']:+.1%} by itself), {'' if told else 'not '}clear of what "
        f"chance leaves as the largest of the {seen} classes that either set has (Fisher's exact test, Bonferroni)."
    )


def read_class_shares(table: pd.DataFrame) -> str:
    """How far apart the histograms are, before and after choosing, and the largest class of the real images."""
    wide = table.pivot(index="class_index", columns="series", values="share")
    apart = {str(kind): float((wide[kind] - wide["real"]).abs().sum() / 2) for kind in wide.columns if kind != "real"}
    first = table[table["series"] == "real"].sort_values("share", ascending=False, kind="stable").iloc[0]
    worth = dict(zip(table["series"], table["images"], strict=True))
    after = [f"{apart[kind]:.0%} {kind} (worth {worth[kind]:.0f} images)" for kind in apart if kind != "generated"]
    return (
        f"Real images are most often called {first['class_name']} ({first['share']:.1%}, {first['low']:.1%} to "
        f"{first['high']:.1%}). The histograms differ by {apart['generated']:.0%} of the images as generated"
        + "".join(f", {text}" for text in after) + "."
    )  # fmt: skip


def read_optimisation(row: "pd.Series[Any]") -> str:
    """What optimised weights take off, how many images they are worth, and what real images would score."""
    text = (
        f"Weights alone take FD from {row['start']:.4g} to {row['value']:.4g}; they are worth "
        f"{row['effective_size']:.0f} of {row['images']} images"
    )
    sizes = ((f"{row['images']}", "floor"), (f"{row['effective_size']:.0f}", "floor_effective"))
    said = [f"{count} real images would score {row[name]:.4g} ({row[f'{name}_kind']})" for count, name in sizes
            if not math.isnan(row[name])]  # fmt: skip
    return f"{text}; {' and '.join(said) or row['floor_kind']}."


def read_heatmaps(squared: Floats) -> str:
    """How much of the sensitivity the most sensitive tenth of each image holds."""
    each = np.sort(squared.reshape(len(squared), -1), axis=1)
    top = float(each[:, -squared[0].size // 10 :].sum() / squared.sum())
    return f"In the images shown the most sensitive tenth of the area holds {top:.0%} of the sensitivity."


def read_mask_shares(table: pd.DataFrame) -> str:
    """The share of the sensitivity inside the first region, against its share of the area."""
    row = table.iloc[0]
    return (
        f"{row['sensitivity_share']:.0%} ({row['low']:.0%} to {row['high']:.0%}) of the sensitivity lies inside "
        f"{row['region']}, which covers {row['area_share']:.0%} of the area: {row['ratio']:.2g} times an even share."
    )


def read_mask_maps(table: pd.DataFrame) -> str:
    """The share of the sensitivity inside every region."""
    parts = [
        f"{row['region']} {row['sensitivity_share']:.1%} of the sensitivity in {row['area_share']:.1%} of the area "
        f"({row['n']} images)"
        for row in table.to_dict("records")
    ]
    return "; ".join(parts) + "."


def read_occlusion(table: pd.DataFrame, window: int) -> str:
    """What is covered, and how far occlusion agrees with the closed form where there is one."""
    text = f"Occlusion covers {window} x {window} pixels of the network's input at a time"
    if table["correlation"].notna().any():
        median = np.median(table["correlation"])
        text += f"; its median correlation with the closed form, cell by cell, is {median:.2f}"
    return text + "."


def _interval(row: "pd.Series[Any]", *, brackets: bool = True) -> str:
    if math.isnan(row["low"]):
        return ""
    text = f"{row['low']:.3g} to {row['high']:.3g}"
    return f" ({text})" if brackets else f", {text}"
