"""Sentences made from the numbers of a FID report: one a figure, in the order of `figures`.

Those of an audit are `analysis.fid.verdict`'s.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
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
    """The set with the smallest distance, against its floor, and whether the second space agrees."""
    first, second = (frechet[frechet["space"] == space].sort_values("value") for space in spaces)
    best, several = first.iloc[0], len(first) > 1
    says = "has the smallest distance" if several else "has the distance"
    text = f"{best['set']} {says} {best['value']:.3g}{_interval(best)}"
    if not math.isnan(best["floor"]):
        text += f", {best['value'] / best['floor']:.1f} times the floor of two Gaussian sets"
    if several:
        agreed = second.iloc[0]["set"] == best["set"]
        text += f"; the second space {'agrees' if agreed else 'prefers another set'}"
    return text + "."


def read_spatial(generated: pd.DataFrame, other: pd.DataFrame) -> str:
    """The set with the smallest sFID by each reading, and that of other real images where there are some."""
    smallest = ", the smallest" if generated["set"].nunique() > 1 else ""
    texts = []
    for reading, rows in generated.groupby("space", sort=False):
        row = rows.sort_values("value").iloc[0]
        texts.append(f"sFID ({reading}) is {row['value']:.3g}{_interval(row)} for {row['set']}{smallest}")
    if len(other):
        texts.append(f"other real images of that number have {other['value'].iloc[0]:.3g}")
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
    """What leaving out the images at the two ends does; those of the first half of the values raise the distance."""
    return (
        f"FD is {distance:.3g}; without the image that raises it most it changes by {values[0]:+.3g}, without the one "
        f"that lowers it most by {values[len(values) // 2]:+.3g}."
    )


def read_classes(table: pd.DataFrame) -> str:
    """The class with the largest gap of histograms."""
    first = table.iloc[0]
    clear = "clear of zero" if first["gap_low"] * first["gap_high"] > 0 else "not clear of zero"
    return (
        f"The largest histogram gap is that of class {first['class_name']}: {first['gap']:+.1%} "
        f"({first['gap_low']:+.1%} to {first['gap_high']:+.1%}), {clear}."
    )


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


def _interval(row: "pd.Series[Any]") -> str:
    return "" if math.isnan(row["low"]) else f" ({row['low']:.3g} to {row['high']:.3g})"
