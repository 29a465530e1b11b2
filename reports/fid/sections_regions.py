"""Sections of the FID report on regions: heatmaps of single images, shares inside a user's masks, and occlusion."""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.fid.heatmaps import (
    REGIONS,
    cell_cover,
    cell_means,
    gradient_maps,
    influence_maps,
    mask_share,
    mask_summary,
)
from scorescope.analysis.fid.optimal_transport import FirstOrderWarning, image_gradients, influence
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.probes.features.captum_maps import occlusion_maps
from scorescope.probes.features.extraction import extract_maps, stream_maps
from scorescope.probes.features.extractors import Extractor
from scorescope.reports.fid import figures, findings, readings
from scorescope.reports.fid.study import View, pictures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

MAPPED = 8
CELLS = 8  # cells a side of occlusion maps for networks without maps of their own
Floats = NDArray[np.float64]
ABOVE = "Above each image: the change of FD when it is left out, first order, and its top-1 class where there are any."

OCCLUSION = Schema(
    "occlusion",
    (
        Column("image", int, "", "row of the generated set"),
        Column("name", str, "", "its name"),
        Column("influence", float, "FD", "its influence"),
        Column("correlation", float, "1", "of its occlusion map with its closed-form map; missing without one"),
        Column("removal_change", float, "FD", "first-order change of FD when it is left out: -influence / n"),
    ),
)


def maps_section(view: View) -> Section:
    """Squared and signed maps in closed form, of the images with the largest and smallest influence."""
    if why := no_maps(view):
        return Section(text=f"No maps in closed form: {why}")
    features = view.fake.first.features
    rows, values = extreme_rows(view)
    activations = extract_maps(view.fake.source, view.study.extractor, rows=rows)
    squared = gradient_maps(activations, image_gradients(view.plan, features[rows]))
    signed = influence_maps(view.plan, activations)
    figure = figures.heatmaps(pictures(view.fake.source, rows), squared, signed, titles(view, rows, values))
    how = (
        f"Closed form, one colour scale a row, so that images can be compared. {ABOVE} It is minus the mean of the "
        "signed map over the image, divided by the number of images."
    )
    return Section(figures=[ReportFigure("heatmaps", figure, readings.read_heatmaps(squared), how, wide=True)])


def masks_section(view: View) -> Section:
    """Share of the sensitivity of all generated images inside the user's masks, beside the masks' share of area."""
    if why := no_maps(view):
        return Section(text=f"No shares inside masks: {why}")
    maps, covers = masked_maps(view)
    table = region_rows(maps, covers)
    bars = as_bars(table)
    names = view.fake.first.names
    single = pd.concat(
        [mask_share(maps, cover).assign(name=names, region=region) for region, cover in covers.items()],
        ignore_index=True,
    )
    plain = table[table["grown"] == 0].reset_index(drop=True)
    rows, values = extreme_rows(view)
    shown = pictures(view.fake.source, rows)
    outlines = [
        [masks.mask(names[r], p.shape[:2], row=int(r)) for r, p in zip(rows, shown, strict=True)]
        for masks in view.study.masks
    ]
    how = "Squared maps in closed form, one scale, with the outlines of the masks. " + ABOVE
    outlined = figures.outlined_maps(
        shown, outlines, [maps[rows]], [view.study.extractor.name], titles(view, rows, values)
    )
    return Section(
        figures=[
            ReportFigure(
                "mask_shares", figures.region_shares(bars), readings.read_mask_shares(plain),
                "Mean over images with 95 % intervals.",
            ),
            ReportFigure("mask_maps", outlined, readings.read_mask_maps(plain), how, wide=True),
        ],
        tables=[
            ReportTable("mask_shares", table, "; ".join(f"{c.name}: {c.meaning}" for c in REGIONS.columns)),
            ReportTable("mask_images", single, "Shares of every image.", shown=False),
        ],
        findings=findings.inside_mask(plain),
    )  # fmt: skip


def region_rows(maps: Floats, covers: Mapping[str, Floats]) -> pd.DataFrame:
    """`REGIONS` of every mask as it is, and grown by one cell."""
    grown = [(region, cover, cells) for region, cover in covers.items() for cells in (0, 1)]
    parts = [mask_summary(maps, cover, region=region, dilate=cells) for region, cover, cells in grown]
    return pd.concat(parts, ignore_index=True)


def as_bars(table: pd.DataFrame) -> pd.DataFrame:
    """The same with a column `series`, as the figure takes them."""
    return table.assign(series=table["grown"].map({0: "mask as given", 1: "grown by one cell"}))


def occlusion_section(view: View) -> Section:
    """Occlusion by captum of the same images: a check on the closed form, and maps for any other network."""
    n, d = view.size
    extractor = view.study.extractor
    if n <= d:
        return Section(text=f"No occlusion: {n} images of {d} features give no gradient to attribute.")
    rows, values = extreme_rows(view)
    shown = pictures(view.fake.source, rows)
    inputs = torch.cat([extractor.prepare(_one(picture, extractor)) for picture in shown])
    if inputs.ndim != 4:
        shape = tuple(inputs.shape[1:])
        return Section(text=f"No occlusion: the input of {extractor.name} is no image but of shape {shape}.")
    gradients = image_gradients(view.plan, view.fake.first.features[rows])
    gradients /= np.abs(gradients).max()  # captum works in float32
    signed = None
    if extractor.activations is not None:
        signed = gradient_maps(extract_maps(view.fake.source, extractor, rows=rows), gradients, signed=True)
    cells = CELLS if signed is None else signed.shape[1]
    step = max(1, -(-inputs.shape[2] // cells))
    window = min(2 * step, inputs.shape[2])
    directions = torch.from_numpy(gradients).float().to(inputs.device)
    background = inputs.flatten(2).median(dim=2).values[:, :, None, None].expand_as(inputs).contiguous()
    found = occlusion_maps(extractor, inputs, directions, window=window, stride=step, fill=background)
    occluded = found.double().cpu().numpy()
    agreement = np.full(len(rows), np.nan) if signed is None else _correlations(signed, occluded)
    names = [view.fake.first.names[row] for row in rows]
    columns = {"image": rows, "name": names, "influence": values, "correlation": agreement}
    table = pd.DataFrame({**columns, "removal_change": -values / n})
    how = (
        "Linear effect of the image on FD, red where a region raises it, each row on one scale. Covered pixels get "
        "the image's median colour. Occlusion also sees the new edges, and what other regions' features lose. " + ABOVE
    )
    drawn = {"occlusion": occluded} if signed is None else {"closed form": signed, "occlusion": occluded}
    figure = figures.occlusions(shown, drawn, titles(view, rows, values))
    reading = readings.read_occlusion(table, window)
    return Section(
        figures=[ReportFigure("occlusion", figure, reading, how, wide=True)],
        tables=[ReportTable("occlusion", OCCLUSION.check(table), "The images shown.", shown=False)],
    )


def titles(view: View, rows: NDArray[np.int64], influences: Floats) -> list[str]:
    """What leaving each image out does to FD, first order, and its top-1 class."""
    changes = [f"{-value / view.size[0]:+.3g}" for value in influences]
    names = view.labels(rows)
    return [f"{change}\n{name}" for change, name in zip(changes, names, strict=True)] if names else changes


def no_maps(view: View) -> str:
    """Why there are no maps in closed form; empty where there are."""
    n, d = view.size
    if n <= d:
        return f"{n} images of {d} features, and a gradient needs more images than features."
    if view.study.extractor.activations is None:
        return f"the features of {view.study.extractor.name} are no spatial mean. --occlusion works for any network."
    return ""


def extreme_rows(view: View) -> tuple[NDArray[np.int64], Floats]:
    """Images with the largest and the smallest influence, and those influences."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the page says so with the images
        values = influence(view.plan, view.fake.first.features)
    order = np.argsort(-values)
    half = min(MAPPED, len(order)) // 2
    rows = np.r_[order[:half], order[-half:]]
    return rows, values[rows]


def masked_maps(view: View) -> tuple[Floats, dict[str, Floats]]:
    """Squared maps of all generated images, and the cover of their cells by every region, in one pass."""
    features = view.fake.first.features
    maps: list[Floats] = []
    covers: dict[str, list[Floats]] = {masks.region: [] for masks in view.study.masks}
    first = 0
    for names, size, activations in stream_maps(view.fake.source, view.study.extractor, progress=view.progress):
        gradients = image_gradients(view.plan, features[first : first + len(names)])
        maps.append(gradient_maps(activations, gradients))
        for masks in view.study.masks:
            found = [masks.mask(name, size, row=first + k) for k, name in enumerate(names)]
            covers[masks.region] += [cell_cover(mask, activations.shape[2:]) for mask in found]
        first += len(names)
    return np.concatenate(maps), {region: np.stack(found) for region, found in covers.items()}


def _one(picture: NDArray[np.uint8], extractor: Extractor) -> Tensor:
    return torch.from_numpy(picture).movedim(2, 0)[None].to(extractor.device)


def _correlations(signed: Floats, occluded: Floats) -> Floats:
    """Correlation of both maps of each image over the cells of the first."""
    means = cell_means(occluded, signed.shape[1:])
    pairs = zip(signed.reshape(len(signed), -1), means.reshape(len(signed), -1), strict=True)
    return np.asarray([np.corrcoef(a, b)[0, 1] if a.std() > 0 and b.std() > 0 else np.nan for a, b in pairs])
