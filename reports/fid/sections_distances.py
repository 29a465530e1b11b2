"""Sections of the FID report on the distances themselves: companions, floors, sFID, and what was read for them."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.analysis.fid.companion_rows import WITHOUT_BIAS
from scorescope.analysis.fid.companions import COMPANIONS, companion_table
from scorescope.analysis.fid.kernels import cmmd
from scorescope.probes.features.extraction import extract_spatial
from scorescope.probes.features.extractors import spatial_readings
from scorescope.reports.fid import figures, findings, readings
from scorescope.reports.fid.comparisons import OTHER_REAL
from scorescope.reports.fid.study import ImageSet, Reference, Study, View, reading_table
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

Floats = NDArray[np.floating[Any]]
Classes = Sequence[Any] | None
MARKS = (
    "Diamonds: without bias, with the 95 % interval of the populations' distance. Bars: as measured, with the scatter "
    "of such measurements. Dotted: what real images would measure at these numbers; floor_kind says how it was found."
)


def distances_section(view: View) -> Section:
    """Every metric of every set in both spaces, with intervals and floors."""
    study = view.study
    table = companions(study)
    frechet = frechet_rows(table)
    figure, reading = figures.distances(frechet), readings.read_distances(frechet, study.spaces)
    known = [text for item in study.image_sets if item is not study.spare and (text := _drawn_by_class(item))]
    said = [f"No KID, neighbours and no distance without bias: {study.no_images}"] if study.no_images else []
    return Section(
        text=" ".join([*said, *known, *_repeated(study)]),
        figures=[ReportFigure("distances", figure, reading, MARKS, wide=True)],
        tables=[
            ReportTable("companions", table, "Every metric of every set, with 95 % intervals."),
            ReportTable("companion_columns", COMPANIONS.describe(), "Columns of the table above.", shown=False),
        ],
        findings=findings.distances(frechet, study.spaces[0], view.fake.name),
    )


def companions(study: Study) -> pd.DataFrame:
    """`COMPANIONS` of every generated set, with a column `set`."""
    parts = [_companions(item, study).assign(set=item.name) for item in study.fakes]
    return pd.concat(parts, ignore_index=True)[["set", *COMPANIONS.names]]


def frechet_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Of companions the Frechet distances, as measured and without bias."""
    return table[table["metric"].isin(["FD", WITHOUT_BIAS])].reset_index(drop=True)


def _drawn_by_class(item: ImageSet) -> str:
    """What is known, or must be feared, of the classes of a set's images; empty for independent draws."""
    if item.classes is not None and suspiciously_even(item.classes):
        return (
            f"The numbers a class of {item.name} are too even for independent draws: its floor, its distance without "
            "bias and KID are those of a set drawn by class."
        )
    if item.classes is None and item.first.top1 is not None and suspiciously_even(item.first.top1):
        return (
            f"The numbers a top-1 class of {item.name} are suspiciously even. If it was drawn with a fixed number a "
            "class, its floor is too high, and KID and the distance without bias are too low: give its classes as "
            "labels, or as a folder a class."
        )
    return ""


def _repeated(study: Study) -> list[str]:
    """Whether other real images are among the real ones, by their features."""
    if study.spare is None or not isinstance(study.real, ImageSet):
        return []
    rounded = [item.first.features.round(3) + 0.0 for item in (study.real, study.spare)]  # batches differ by rounding
    real = {row.tobytes() for row in rounded[0]}
    count = sum(row.tobytes() in real for row in rounded[1])
    if not count:
        return []
    return [f"{count} of the other real images have the features of a real one, to three decimals: a floor too low."]


def _companions(item: ImageSet, study: Study) -> pd.DataFrame:
    bias = None if study.extractor.head is None else study.extractor.head.bias.detach().cpu().numpy()
    real, spare = study.real, study.spare
    first = partial(
        companion_table, item.first.features, space=study.spaces[0], logits=item.first.logits, bias=bias,
        spare=None if spare is None else spare.first.features,
    )  # fmt: skip
    if not isinstance(real, ImageSet):
        return first(real.moments)
    drawn = partial(companion_table, fake_classes=item.classes, real_classes=real.classes)
    fakes, reals = item.pair.second, real.pair.second
    others = None if spare is None else spare.pair.second
    second = drawn(fakes, reals, space=study.spaces[1], spare=others)
    parts = [first(real.first.features, fake_classes=item.classes, real_classes=real.classes), second]
    if study.spaces[1] == "CLIP":
        parts.append(_cmmd_row(second, cmmd(fakes, reals)))
    return pd.concat(parts, ignore_index=True)


def _cmmd_row(table: pd.DataFrame, value: float) -> pd.DataFrame:
    note = "RBF of width 10 on unit vectors, times 1000, biased as published"
    missing = dict.fromkeys(("low", "high", "scatter_low", "scatter_high", "floor"), math.nan)
    return table.head(1).assign(metric="CMMD", value=value, **missing, floor_kind="", note=note)


def spatial_section(view: View) -> Section:
    """sFID of every set by each reading of the network, beside that of other real images."""
    study = view.study
    if not isinstance(study.real, ImageSet):
        return Section(text=f"No sFID: {study.no_images}")
    kinds, sets = spatial_readings(study.extractor), study.image_sets
    found = {  # what cannot be read was an error, or left out, before
        item.name: extract_spatial(item.source, study.extractor, skip_bad=True, progress=view.progress) for item in sets
    }
    real = found.pop(study.real.name)
    if study.spare is not None:  # a floor that is measured, at the size of the generated sets
        count, size = len(study.spare.first.names), len(study.fakes[-1].first.names)
        chosen = np.random.default_rng(0).permutation(count)[:size]  # a source may be sorted by class
        found[OTHER_REAL] = {kind: rows[chosen] for kind, rows in found.pop(study.spare.name).items()}
    classes = {item.name: item.classes for item in sets}
    parts = [
        _spatial_rows(rows[kind], real[kind], kind, classes.get(name), study.real.classes).assign(set=name)
        for kind in kinds
        for name, rows in found.items()
    ]
    table = pd.concat(parts, ignore_index=True)[["set", *COMPANIONS.names]]
    other = table["set"] == OTHER_REAL
    meaning = "; ".join(f"{name}: {what}" for name, what in kinds.items())
    note = f"{meaning}. Values of different readings, and of different networks, cannot be compared. {MARKS}"
    figure, reading = figures.distances(table, "sFID"), readings.read_spatial(table[~other], table[other])
    return Section(
        text="FD on features that keep their place in the image, where FID averages over places.",
        figures=[ReportFigure("sfid", figure, reading, note, wide=len(kinds) > 1)],
        tables=[ReportTable("sfid", table, "sFID by reading.")],
    )


def _spatial_rows(fake: Floats, real: Floats, kind: str, fakes: Classes, reals: Classes) -> pd.DataFrame:
    """sFID, and sFID without bias where there are images enough; where not, the row of sFID says so."""
    table = companion_table(fake, real, space=kind, companions=False, fake_classes=fakes, real_classes=reals)
    table["metric"] = table["metric"].str.replace("FD", "sFID")
    if table["value"].isna().iloc[1]:
        why = f"; no value without bias: {table['note'].iloc[1]}"
        return table.head(1).assign(note=table["note"].iloc[0] + why)
    return table


def reading_section(view: View) -> Section:
    """The feature spaces, and which images were read."""
    study = view.study
    spaces = [f"Feature space: {study.spaces[0]}, preprocessing {study.extractor.preprocessing}"]
    if study.second is not None:
        spaces.append(f"second: {study.spaces[1]}, {study.second.preprocessing}")
    text = f"{'; '.join(spaces)}. Images are 8-bit before any of it."
    if isinstance(study.real, Reference):
        count = "an unknown number" if study.real.moments.n is None else str(study.real.moments.n)
        text += (
            f" Real: {study.real.source}, sha256 {study.real.sha256}, statistics of {count} images. It does not say by "
            "which network and preprocessing they were made; the numbers of features agree."
        )
    return Section(
        text=text,
        tables=[ReportTable("reading", reading_table(study), "Images read, left out and converted, by set.")],
    )
