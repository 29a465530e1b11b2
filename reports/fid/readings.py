"""Sentences made from the numbers of a FID report: one a figure, in the order of `figures`.

Those of an audit are `analysis.fid.verdict`'s.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from scorescope.reports.page.numbers import told

Floats = NDArray[np.float64]


def read_planted_maps(shares: pd.DataFrame) -> str:
    """What the network of the accessory is sensitive to."""
    return (
        f"For the accessory network, in the mean over scenes, {_planted(shares, 'accessory', 'accessory')} of the "
        f"distance's sensitivity lies on the accessory and {_planted(shares, 'accessory', 'subject')} on the subject."
    )


def read_planted_shares(shares: pd.DataFrame) -> str:
    """What the network of the subject is sensitive to."""
    return (
        f"The same scenes under the subject network: {_planted(shares, 'subject', 'accessory')} on the accessory, "
        f"{_planted(shares, 'subject', 'subject')} on the subject."
    )


def _planted(shares: pd.DataFrame, network: str, region: str) -> str:
    rows = shares[(shares["network"] == network) & (shares["region"] == region)]
    return told(rows.iloc[0], "sensitivity_share", form=".1%")


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
    text = f"{best['set']} has the {'smallest ' if len(ranked) > 1 else ''}{what}, {told(best, 'value')}"
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
    beside = f"{second['set']} ({told(second, 'value', brackets=False)})"
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
        texts.append(why or f"{named} is {told(row, 'value')} for {row['set']}{smallest}")
        same = other[(other["space"] == reading) & (other["metric"] == row["metric"])]
        if len(same) and set(ranked["n_fake"]) == set(same["n_fake"]):
            texts.append(f"as many other real images ({same['n_fake'].iloc[0]}) have {same['value'].iloc[0]:.3g}")
    return "; ".join(texts) + "."


def read_contributions(features: pd.DataFrame, spectrum: pd.DataFrame, sizes: tuple[int | None, int | None]) -> str:
    """How concentrated the distance as measured is, and how much of it is a gap of means, against chance.

    Parameters
    ----------
    features, spectrum : DataFrame
        Of `feature_contributions` and `direction_spectrum`.
    sizes : (int or None, int or None)
        Numbers of generated and real images; None where a reference does not say.
    """
    total, variances = features["contribution"].sum(), features[["sd_fake", "sd_real"]].pow(2).sum().to_numpy()
    if not total > len(features) * np.finfo(float).eps * variances.sum():
        return "There is no distance beyond rounding, and so none of its parts."
    half = int((spectrum["cumulative"] < 0.5).sum()) + 1
    text = (
        f"As measured, the {min(5, len(features))} largest of {len(features)} features hold "
        f"{features['share'].head(5).sum():.0%} of the distance and {half} of {len(spectrum)} principal directions "
        f"half of it; {features['mean_part'].sum() / total:.0%} is a gap of means"
    )
    if None in sizes:
        return f"{text}."
    chance = (variances / np.array(sizes, float)).sum() / total
    return f"{text}, where independent draws of one law would leave {chance:.1%} in the mean."


def read_extremes(values: Floats, distance: float) -> str:
    """What leaving out each of the images shown does, exactly."""
    return (
        f"FD is {distance:.3g}; leaving out one of the {len(values)} images shown changes it by {values.min():+.3g} to "
        f"{values.max():+.3g}."
    )


def read_classes(table: pd.DataFrame) -> str:
    """The class with the largest gap of histograms, and whether chance leaves so large a one among so many classes."""
    first = table.iloc[0]
    p, seen = largest_gap_by_chance(table)
    clear = p * seen < 0.05
    return (
        f"The largest histogram gap is that of class {first['class_name']}: {first['gap']:+.1%} "
        f"({first['gap_low']:+.1%} to {first['gap_high']:+.1%} by itself), {'' if clear else 'not '}clear of what "
        f"chance leaves as the largest of the {seen} classes that either set has (Fisher's exact test, Bonferroni)."
    )


def largest_gap_by_chance(table: pd.DataFrame) -> tuple[float, int]:
    """Exact p value of the first class's gap by itself (Fisher), and of how many classes it is the largest."""
    first = table.iloc[0]
    pair = [[int(first[n]), int(table[n].sum() - first[n])] for n in ("n_fake", "n_real")]
    # a class that no image has could not be told, whatever the sets: it is no comparison that was made
    seen = int((table["n_fake"] + table["n_real"] > 0).sum())
    return float(scipy.stats.fisher_exact(pair).pvalue), seen


def read_class_shares(table: pd.DataFrame) -> str:
    """The largest class of the real images, and how far apart the histograms are, before and after choosing."""
    wide = table.pivot(index="class_index", columns="series", values="share")
    apart = {str(kind): float((wide[kind] - wide["real"]).abs().sum() / 2) for kind in wide.columns if kind != "real"}
    real = table[table["series"] == "real"].sort_values("share", ascending=False, kind="stable")
    first = real.iloc[0]
    alone = "" if (real["high"].iloc[1:] < first["low"]).all() else ", not told apart from all others"
    worth = dict(zip(table["series"], table["images"], strict=True))
    after = [f"; {apart[kind]:.0%} {kind} (worth {worth[kind]:.0f} images)" for kind in apart if kind != "generated"]
    chance = _apart_by_chance(*(np.rint(wide[kind] * worth[kind]).to_numpy(int) for kind in ("generated", "real")))
    return (
        f"Real images are most often called {first['class_name']}: {told(first, 'share', form='.1%')}{alone}. "
        f"The histograms differ by {apart['generated']:.1%} of the images as generated, "
        f"{'' if apart['generated'] > chance else 'not '}clear of what chance leaves ({chance:.1%} at most in 95 % of "
        f"random divisions of these images){''.join(after)}."
    )


def _apart_by_chance(fake: NDArray[np.int64], real: NDArray[np.int64]) -> float:
    """How far apart the histograms of sets of these sizes are by chance at most: in 95 % of random divisions."""
    both, n = fake + real, int(fake.sum())
    drawn = np.random.default_rng(0).multivariate_hypergeometric(both, n, size=1000, method="marginals")
    apart = np.abs(drawn / n - (both - drawn) / real.sum()).sum(axis=1) / 2
    return float(np.quantile(apart, 0.95))


def read_optimisation(row: "pd.Series[Any]") -> str:
    """What optimised weights take off, how many images they are worth, and what real images would score, or why not."""
    said = [
        row[f"{name}_kind"]
        if math.isnan(row[name])
        else f"{count:.0f} real images would score {row[name]:.4g} in the mean ({row[f'{name}_kind']})"
        for count, name in ((row["images"], "floor"), (row["effective_size"], "floor_effective"))
    ]
    return (
        f"Weights alone take FD from {row['start']:.4g} to {row['value']:.4g}; they are worth "
        f"{row['effective_size']:.0f} of {row['images']} images; {'; '.join(dict.fromkeys(said))}."
    )


def read_heatmaps(squared: Floats) -> str:
    """How much of the sensitivity of all images together lies in the most sensitive tenth of the cells of each."""
    each = np.sort(squared.reshape(len(squared), -1), axis=1)
    cells, whole = each.shape[1], float(squared.sum())
    if not whole > 0:
        return "The distance is not sensitive to any of the images shown."
    some = math.ceil(cells / 10)
    return (
        f"In the images shown together, the most sensitive {some} of {cells} cells of each ({some / cells:.0%} of its "
        f"area) hold {each[:, -some:].sum() / whole:.0%} of the sensitivity."
    )


def read_mask_shares(table: pd.DataFrame) -> str:
    """The share of the sensitivity inside the first region, and whether it is told from that of the area."""
    row = table.iloc[0]
    even = "" if row["low"] > row["area_share"] or row["high"] < row["area_share"] else ", not told apart from it"
    return (
        f"In the mean over images (n = {row['n']}) {told(row, 'sensitivity_share', form='.1%')} of the sensitivity "
        f"lies inside {row['region']}, which covers {row['area_share']:.1%} of the area: {row['ratio']:.2g} times an "
        f"even share{even}."
    )


def read_mask_maps(table: pd.DataFrame) -> str:
    """The share of the sensitivity inside every region."""
    parts = [
        f"{row['region']} {told(row, 'sensitivity_share', form='.1%')} of the sensitivity in {row['area_share']:.1%} "
        f"of the area (n = {row['n']})"
        for _, row in table.iterrows()
    ]
    return f"In the mean over images: {'; '.join(parts)}."


def read_occlusion(table: pd.DataFrame, window: int) -> str:
    """What is covered, and how far occlusion goes with the closed form in the images that have one."""
    text = f"Occlusion covers {window} x {window} pixels of the network's input at a time"
    known = table["correlation"].dropna()
    if known.empty:
        return f"{text}."
    return (
        f"{text}; its correlation with the closed form, cell by cell, is {known.median():.2f} ({known.min():.2f} to "
        f"{known.max():.2f}) in the median of the {len(known)} of {len(table)} images shown that have one."
    )
