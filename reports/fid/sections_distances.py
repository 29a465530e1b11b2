"""Sections of the FID report on the distances themselves: companions, floors, sFID, and what was read for them."""

import math

import numpy as np
import pandas as pd

from scorescope.analysis.fid.companions import COMPANIONS, companion_table
from scorescope.analysis.fid.kernels import cmmd
from scorescope.probes.features.extraction import extract_spatial
from scorescope.probes.features.extractors import spatial_readings
from scorescope.reports.fid import figures, readings
from scorescope.reports.fid.study import ImageSet, Study, View, reading_table
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

OTHER_REAL = "other real"


def distances_section(view: View) -> Section:
    """Every metric of every set in both spaces, with intervals and floors."""
    study = view.study
    parts = [_companions(item, study).assign(set=item.name) for item in study.fakes]
    table = pd.concat(parts, ignore_index=True)[["set", *COMPANIONS.names]]
    frechet = table[table["metric"] == "FD"].reset_index(drop=True)
    figure, reading = figures.distances(frechet), readings.read_distances(frechet, study.spaces)
    note = "Bars: 95 % intervals from influences. The floor is that of Gaussian features with the real covariance."
    return Section(
        figures=[ReportFigure("distances", figure, reading, note, wide=True)],
        tables=[
            ReportTable("companions", table, "Every metric of every set, with 95 % intervals."),
            ReportTable("companion_columns", COMPANIONS.describe(), "Columns of the table above.", shown=False),
        ],
    )


def _companions(item: ImageSet, study: Study) -> pd.DataFrame:
    bias = None if study.extractor.head is None else study.extractor.head.bias.detach().cpu().numpy()
    first = companion_table(
        item.first.features, study.real.first.features, space=study.spaces[0], logits=item.first.logits, bias=bias
    )
    second = companion_table(item.second.features, study.real.second.features, space=study.spaces[1])
    parts = [first, second, *([_cmmd_row(second, item, study)] if study.second.name == "CLIP" else [])]
    return pd.concat(parts, ignore_index=True)


def _cmmd_row(table: pd.DataFrame, item: ImageSet, study: Study) -> pd.DataFrame:
    value = cmmd(item.second.features, study.real.second.features)
    note = "RBF of width 10 on unit vectors, times 1000, biased as published"
    return table.head(1).assign(metric="CMMD", value=value, low=math.nan, high=math.nan, floor=math.nan, note=note)


def spatial_section(view: View) -> Section:
    """sFID of every set by each reading of the network, beside that of other real images."""
    study = view.study
    kinds = spatial_readings(study.extractor)
    sets = [study.real, *study.fakes, *([study.spare] if study.spare else [])]
    found = {  # what cannot be read was an error, or left out, before
        item.name: extract_spatial(item.source, study.extractor, skip_bad=True, progress=view.progress) for item in sets
    }
    real = found.pop(study.real.name)
    if study.spare is not None:  # a floor that is measured, at the size of the generated sets
        count, size = len(study.spare.first.names), len(study.fakes[-1].first.names)
        chosen = np.random.default_rng(0).permutation(count)[:size]  # a source may be sorted by class
        found[OTHER_REAL] = {kind: rows[chosen] for kind, rows in found.pop(study.spare.name).items()}
    parts = [
        companion_table(rows[kind], real[kind], space=kind, companions=False).assign(metric="sFID", set=name)
        for kind in kinds
        for name, rows in found.items()
    ]
    table = pd.concat(parts, ignore_index=True)[["set", *COMPANIONS.names]]
    other = table["set"] == OTHER_REAL
    meaning = "; ".join(f"{name}: {what}" for name, what in kinds.items())
    note = f"{meaning}. Values of different readings, and of different networks, cannot be compared."
    figure, reading = figures.distances(table, "sFID"), readings.read_spatial(table[~other], table[other])
    return Section(
        text="FD on features that keep their place in the image, where FID averages over places.",
        figures=[ReportFigure("sfid", figure, reading, note, wide=len(kinds) > 1)],
        tables=[ReportTable("sfid", table, "sFID by reading.")],
    )


def reading_section(view: View) -> Section:
    """The feature spaces, and which images were read."""
    study = view.study
    return Section(
        text=f"Feature space: {study.spaces[0]}, preprocessing {study.extractor.preprocessing}; second: "
        f"{study.spaces[1]}, {study.second.preprocessing}. Images are 8-bit before any of it.",
        tables=[ReportTable("reading", reading_table(study), "Images read, left out and converted, by set.")],
    )
