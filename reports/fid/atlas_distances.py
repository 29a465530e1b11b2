"""Atlas: figures of Frechet distances and what stands beside them: a table, two spaces, error bars, no bias of few."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.analysis.fid.companion_rows import INFINITY_FROM, WITHOUT_BIAS
from scorescope.analysis.fid.extrapolation import fid_infinity
from scorescope.analysis.fid.floors import fourth_moment_floor
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.fid import figures
from scorescope.reports.fid.sections_distances import MARKS, companions, frechet_rows
from scorescope.reports.fid.study import ImageSet, Study, View

LESS = ("FD", WITHOUT_BIAS, "KID x 1000", "CMMD")  # metrics that are better where they are lower
MORE = ("precision", "recall")
TWICE = ("FD", WITHOUT_BIAS)  # of the metrics of a results table those that are shown in the second space too
FITS = Schema(
    "infinity_fits",
    (
        Column("set", str, "", "which generated images"),
        Column("value", float, "", "FID_infinity: FD at infinitely many generated images; the real set's bias stays"),
        *ends("", "of the generated population's distance to this real set"),
        Column("slope", float, "", "bias of few generated images, for each 1/n"),
        Column("slope_one_law", float, "", "what it is, to second order, for two sets of these images' law"),
    ),
)
POINTS = Schema(
    "infinity_points",
    (
        Column("set", str, "", "which generated images"),
        Column("n", int, "", "of these, drawn at random, how many"),
        Column("value", float, "", "their FD"),
    ),
)


def study_of(material: Material) -> Study:
    """The sets of images, made at the first call."""
    assert material.images is not None  # an entry that asks for it has "images" among its needs
    study: Study = material.once("images", material.images)
    return study


def looked_into(material: Material) -> View:
    """The last generated set."""
    return material.once("looked into", lambda: View(study_of(material), material.progress))


def set_facts(study: Study) -> dict[str, Any]:
    """What captions say of the sets of images."""
    real, last = study.real, study.fakes[-1]
    count = len(real.first.names) if isinstance(real, ImageSet) else real.moments.n
    sets = {item.name: len(item.first.names) for item in study.fakes}
    seeds = f" (seeds {study.facts['seeds']})" if "seeds" in study.facts else ""
    return {
        "real": f"{count or 'an unknown number of'} real images ({real.name})",
        "sets": ", ".join(f"{n} images of {name}" for name, n in sets.items()) + seeds,
        "fake": f"{len(last.first.names)} images of {last.name}",
        "judged": study.spaces[0], "second": study.spaces[1] or "no second space",
    }  # fmt: skip


def distance_rows(material: Material) -> pd.DataFrame:
    """Every metric of every set in both spaces."""
    return material.once("companions", lambda: companions(study_of(material)))


def table_numbers(material: Material) -> Numbers:
    """Metrics of a results section by set, long, and as a table for a paper."""
    study, rows = study_of(material), distance_rows(material)
    first = rows["metric"].isin([*LESS, *MORE]) & (rows["space"] == study.spaces[0])
    again = rows["metric"].isin([*TWICE, "CMMD"]) & (rows["space"] == study.spaces[1])
    shown = rows[first | again].reset_index(drop=True)
    marked = shown.assign(best=best_rows(shown))
    return Numbers({"metrics": marked, "paper": paper_table(marked)}, facts=set_facts(study))


def best_rows(table: pd.DataFrame) -> pd.Series:
    """Where a set is better than all others in a metric: where its 95 % interval lies beyond all of theirs."""
    best = np.zeros(len(table), bool)
    places = np.arange(len(table))
    for (metric, _), rows in table.groupby(["metric", "space"], sort=False):
        if len(rows) < 2 or rows[["low", "high"]].isna().any(axis=None):
            continue
        low, high = (rows[end].to_numpy(np.float64) for end in ("low", "high"))
        near, far = (high, low) if metric in LESS else (-low, -high)
        first = int(near.argmin())
        best[places[table.index.isin(rows.index)][first]] = near[first] < np.delete(far, first).min()
    return pd.Series(best, index=table.index)


def paper_table(table: pd.DataFrame) -> pd.DataFrame:
    """A row a set, a column a metric and space, with its interval and whether it is best."""
    sets = list(dict.fromkeys(table["set"]))
    columns: dict[str, Any] = {"set": sets}
    for (metric, space), rows in table.groupby(["metric", "space"], sort=False):
        rows = rows.set_index("set").loc[sets]
        name = f"{metric} {'↓' if metric in LESS else '↑'}, {space}"
        columns |= {
            name: rows["value"].tolist(), f"{name}_low": rows["low"].tolist(), f"{name}_high": rows["high"].tolist(),
            f"{name}_best": rows["best"].tolist(),
        }  # fmt: skip
    numbers = table.drop_duplicates("set").set_index("set").loc[sets]
    return pd.DataFrame(columns | {"n": numbers["n_fake"].tolist(), "n_real": numbers["n_real"].tolist()})


def draw_table(numbers: Numbers, **how: Any) -> Figure:
    """A panel a metric."""
    return figures.metric_dots(numbers.tables["metrics"], less=LESS, **how)


def distance_numbers(material: Material) -> Numbers:
    """Frechet distances of all sets in both spaces."""
    return Numbers({"distances": frechet_rows(distance_rows(material))}, facts=set_facts(study_of(material)))


def draw_distances(numbers: Numbers, **how: Any) -> Figure:
    """A panel a space."""
    return figures.distances(numbers.tables["distances"], **how)


def space_numbers(material: Material) -> Numbers:
    """The same, of two spaces."""
    study, found = study_of(material), distance_numbers(material)
    why = "" if study.second else f"there is one feature space: {study.no_images.rstrip('.')}"
    return Numbers(found.tables, facts=found.facts, why=why)


def draw_spaces(numbers: Numbers, **how: Any) -> Figure:
    """One space against the other."""
    return figures.two_spaces(numbers.tables["distances"], **how)


def infinity_numbers(material: Material) -> Numbers:
    """FD of growing numbers of generated images, and the lines through it."""
    study = study_of(material)
    width = study.fakes[0].first.features.shape[1]
    enough = [item for item in study.fakes if len(item.first.features) > INFINITY_FROM * width]
    parts = [_extrapolated(item, study) for item in enough]
    tables = {
        "points": POINTS.check(pd.concat([points for points, _ in parts], ignore_index=True)) if parts else _empty(),
        "fits": FITS.check(pd.DataFrame([fit for _, fit in parts], columns=FITS.names)),
    }
    few = f"no set has more than {INFINITY_FROM * width} images, {INFINITY_FROM} a feature, from which FD = a + b/n"
    return Numbers(tables, facts=set_facts(study), why="" if parts else few)


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=POINTS.names)


def _extrapolated(item: ImageSet, study: Study) -> tuple[pd.DataFrame, dict[str, Any]]:
    classes = item.classes if item.classes is not None and suspiciously_even(item.classes) else None
    found = fid_infinity(item.first.features, study.real.judged, classes=classes)
    one_law = fourth_moment_floor(item.first.features.astype(np.float64), 1.0, math.inf)
    fit = {"set": item.name, "value": found.value, "low": found.low, "high": found.high, "slope": found.slope}
    return found.table.assign(set=item.name)[POINTS.names], fit | {"slope_one_law": one_law}


def draw_infinity(numbers: Numbers, **how: Any) -> Figure:
    """FD against 1/n."""
    return figures.infinity(numbers.tables["points"], numbers.tables["fits"], **how)


ENTRIES = (
    Entry(
        "fid-table", "Frechet distances, KID, precision and recall of every set, with intervals: a results section",
        ("images",), table_numbers, draw_table,
        "{sets} against {real}: Frechet distance, KID, precision and recall in the space of "
        "{judged}, and the distance again in that of {second}. Bars: 95 % intervals; a hollow mark has none: FD as "
        "measured is biased by few images. The best of a metric is marked, and bold in the table, only where its "
        "interval lies beyond those of all other sets.",
        "brightness moves every feature by δ: FD is d δ²; sets of which no interval lies beyond all others mark none",
        cites=("heusel2017gans", "binkowski2018demystifying", "kynkaanniemi2019improved"),
        differs="intervals beside every number, and what is not told apart is not marked as best",
    ),
    Entry(
        "fid-two-spaces", "Frechet distance in the judged space against that in a second one, a mark a generated set",
        ("images",), space_numbers, draw_spaces,
        "Frechet distance to {real} in the space of {judged} against that in the space of {second}, for {sets}. "
        "Filled: without the bias of few images, with 95 % intervals; hollow: as measured; dotted: what real images "
        "would measure at these numbers. A set that is better in one space alone is suspect.",
        "a shift δ of all features is at (d₁ δ₁², d₂ δ₂²), two sets of one law at the origin",
        cites=("kynkaanniemi2023role",), place="section 4",
    ),
    Entry(
        "fid-infinity", "Frechet distance against 1/n, and its value at infinitely many generated images",
        ("images",), infinity_numbers, draw_infinity,
        "Frechet distance of n generated images to {real} against 1/n, in the space of {judged} ({sets}): random "
        "subsets, the line through them, and at 1/n = 0 its value with the 95 % interval of the generated population's "
        "distance; the bias of the real set stays. Dotted: the slope, to second order, of two sets of one law.",
        "for two sets of one law the slope is that of the floor, from the moments in closed form",
        cites=("chong2020effectively",), differs="the interval is that of drawing the images, not of the line alone",
    ),
    Entry(
        "fid-error-bars", "Frechet distance of every set with its interval and its floor, in two feature spaces",
        ("images",), distance_numbers, draw_distances,
        f"Frechet distance to {{real}} of {{sets}}, in the spaces of {{judged}} and {{second}}. {MARKS}",
        "of two laws that differ by a shift δ of every feature the interval holds d δ²",
        cites=("heusel2017gans",),
    ),
)  # fmt: skip
