"""Sections of the FID report on where the distance comes from: features, images, groups and classes."""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageOps

from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid.influence_tables import CLASSES, class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, FirstOrderWarning
from scorescope.reports.fid import figures, findings, readings
from scorescope.reports.fid.study import ImageSet, View, pictures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.page.strips import strips
from scorescope.reports.page.texts import as_name

EXTREMES = 10
RANKS = 7  # groups of images that one steps through
SIDE = 160  # pixels of an image there
LEFT_OUT = 256  # images that are left out one by one where n <= d
Floats = NDArray[np.float64]


def features_section(view: View) -> Section:
    """Parts of the distance by feature and by principal direction."""
    features, spectrum = feature_contributions(view.plan), direction_spectrum(view.plan).table
    tables = [
        ReportTable("contributions", features, "Parts of FD by feature; they are not negative and add up to it."),
        ReportTable("spectrum", spectrum, "Principal directions of the discrepancy.", shown=False),
    ]
    weight = view.study.extractor.weight
    if weight is not None:
        share = visible_share(view.plan, weight)
        caption = "Part of FD inside the row space of the classifier's weight, and its chance level rank / d."
        tables.append(ReportTable("visible_share", pd.DataFrame([asdict(share)]), caption))
    reading = readings.read_contributions(features, spectrum, (view.plan.fake.n, view.plan.real.n))
    figure, how = figures.contributions(features, spectrum), "Exact parts: they sum to FD."
    return Section([ReportFigure("contributions", figure, reading, how, wide=True)], tables)


def images_section(view: View) -> Section:
    """What images, groups of them and classes do to the distance."""
    n, d = view.size
    if n <= d:
        return _few_images(view)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the page says so itself
        table = influence_table(view.plan, view.fake.first.features, names=view.fake.first.names)
    values = table.sort_values("image")["influence"].to_numpy(np.float64)
    chosen = _both_ends(table)
    exact = leave_one_out(view.fake.first.features, view.plan.real, rows=[int(row) for row in chosen])
    checked = exact.merge(table[["image", "influence", "removal_change"]], on="image")
    agreement = float(np.corrcoef(checked["change"], checked["removal_change"])[0, 1])
    note = f"Correlation with the first order, -influence / n: {agreement:.4f}."
    shown = [_extremes(view, chosen, exact, note, _ranks(view, table))]
    tables = [
        ReportTable("influence", table, "Influence of every image, largest first.", shown=False),
        ReportTable("left_out", checked, "The images shown, left out exactly, beside the first order.", shown=False),
    ]
    found = []
    for kind, labels in view.study.groups.items():
        groups = group_table(values, labels, distance=view.distance())
        caption = f"Mean influence by {kind}, with 95 % intervals; removal_change is that of one image of the group."
        tables.append(ReportTable(f"groups_{as_name(kind)}", groups, caption))
        found += findings.strongest_group(groups, kind)
    classes = _classes(view, values)
    rough = f"{n} images of {d} features are fewer than ten a feature: first order is rough."
    texts = [classes.text] if n >= FIRST_ORDER * d else [rough, classes.text]
    text, told = " ".join(texts).strip(), [*classes.findings, *found]
    return Section([*shown, *classes.figures], [*tables, *classes.tables], text=text, findings=told)


def _few_images(view: View) -> Section:
    """Exact leaving-out where n <= d and a first-order influence would be wrong in kind."""
    n, d = view.size
    rows = np.random.default_rng(0).permutation(n)[:LEFT_OUT]
    table = leave_one_out(view.fake.first.features, view.study.real.judged, rows=[int(row) for row in rows])
    table = table.sort_values("change", kind="stable").reset_index(drop=True)
    chosen = _both_ends(table)
    exact = table.set_index("image").loc[list(chosen)].reset_index()
    return Section(
        text=f"{n} images of {d} features: first-order influences are wrong in kind at n <= d, so {len(rows)} images, "
        "drawn at random, were left out one by one.",
        figures=[_extremes(view, chosen, exact)],
        tables=[ReportTable("left_out", table, "FD without each image, exact.", shown=False)],
    )


def _both_ends(table: pd.DataFrame) -> NDArray[np.int64]:
    """The images at the top of a sorted table, and those at its bottom, the last one first; none of them twice."""
    half = min(EXTREMES, len(table) // 2)
    ends: NDArray[np.int64] = np.r_[table["image"].head(half), table["image"].tail(half)[::-1]].astype(np.int64)
    return ends


def _ranks(view: View, table: pd.DataFrame) -> dict[str, Figure]:
    """Images from the one end to the other, ten at a time, each with its first-order change."""
    starts = np.unique(np.linspace(0, max(0, len(table) - EXTREMES), RANKS).round().astype(int))
    parts = [table.iloc[start : start + EXTREMES] for start in starts]
    rows = np.concatenate([part["image"].to_numpy() for part in parts])
    images = iter(pictures(view.fake.source, rows))
    return {
        f"rank {start + 1} to {start + len(part)} of {len(table)}": strips(
            {"image": _squares(list(itertools.islice(images, len(part))))},
            [f"{change:+.2g}" for change in part["removal_change"]],
        )
        for start, part in zip(starts, parts, strict=True)
    }


def _squares(images: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Images of any sizes as squares of one size."""
    size = min(SIDE, max(max(image.shape[:2]) for image in images))
    fitted = [ImageOps.pad(Image.fromarray(image), (size, size), Image.Resampling.NEAREST) for image in images]
    return np.stack([np.asarray(image) for image in fitted])


def _extremes(
    view: View,
    chosen: NDArray[np.int64],
    exact: pd.DataFrame,
    note: str = "",
    ranks: Mapping[str, Figure] = MappingProxyType({}),
) -> ReportFigure:
    """The images at both ends, each with what leaving it out does to the distance; `exact` in their order."""
    shown, half, values = pictures(view.fake.source, chosen), len(chosen) // 2, exact["change"].to_numpy(np.float64)
    up, down = values[:half].tolist(), values[half:].tolist()
    figure = figures.extremes(shown[:half], shown[half:], up, down, names=view.labels(chosen))
    reading = readings.read_extremes(values, float((exact["fd_without"] - exact["change"]).iloc[0]))
    slider = "By the slider images of all ranks, with the change in first order." if ranks else ""
    how = f"Numbers: change of FD when the image is left out, exactly. {note} {slider}".strip()
    return ReportFigure("extremes", figure, reading, how, wide=True, frames=ranks)


def _classes(view: View, values: Floats) -> Section:
    """Gaps of histograms and influence by class, where the feature network is a classifier."""
    if view.study.extractor.weight is None:
        return Section()
    if view.study.no_images:
        return Section(text=f"No gaps of classes: {view.study.no_images}")
    table = class_rows(view, values)
    how = "Top-1 classes of the feature network; 95 % intervals."
    meaning = "; ".join(f"{c.name}: {c.meaning}" for c in CLASSES.columns[5:10])
    return Section(
        [ReportFigure("classes", figures.class_gaps(table), readings.read_classes(table), how, wide=True)],
        [ReportTable("classes", table, meaning)],
        findings=findings.largest_gap(table),
    )


def class_rows(view: View, values: Floats) -> pd.DataFrame:
    """`CLASSES`, by influences of the images; needs a classifier's features and real images."""
    extractor, real, fake = view.study.extractor, view.study.real, view.fake.first.top1
    assert isinstance(real, ImageSet) and real.first.top1 is not None and fake is not None
    assert extractor.weight is not None
    return class_table(view.plan, values, fake, real.first.top1, extractor.weight, names=extractor.classes or None)
