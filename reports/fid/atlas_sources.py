"""Atlas: figures of where a Frechet distance comes from: features, classes, places in the image, regions."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions
from scorescope.analysis.fid.heatmaps import gradient_maps, influence_maps
from scorescope.analysis.fid.influence_tables import influence_table
from scorescope.analysis.fid.optimal_transport import FirstOrderWarning, image_gradients
from scorescope.probes.features.extraction import extract_maps
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.fid import figures
from scorescope.reports.fid.atlas_distances import looked_into, set_facts
from scorescope.reports.fid.sections_regions import as_bars, extreme_rows, masked_maps, no_maps, region_rows, titles
from scorescope.reports.fid.sections_sources import class_rows
from scorescope.reports.fid.study import View, pictures


def source_numbers(material: Material) -> Numbers:
    """Parts of the distance by feature and by principal direction."""
    view = looked_into(material)
    spectrum = direction_spectrum(view.plan).table
    half = int((spectrum["cumulative"] < 0.5).sum()) + 1
    tables = {"features": feature_contributions(view.plan), "directions": spectrum}
    facts = {"distance": float(spectrum["contribution"].sum()), "half": half, "width": view.size[1]}
    return Numbers(tables, facts=set_facts(view.study) | facts)


def draw_sources(numbers: Numbers, **how: Any) -> Figure:
    """The largest features, and how directions add up."""
    return figures.contributions(numbers.tables["features"], numbers.tables["directions"], **how)


def influences(view: View) -> pd.DataFrame:
    """Influence of every image, in the order of the set; for more images than features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # captions say that it is first order
        table = influence_table(view.plan, view.fake.first.features, names=view.fake.first.names)
    return table.sort_values("image").reset_index(drop=True)


def gap_numbers(material: Material) -> Numbers:
    """Gaps of the histograms of classes, and what images of each do."""
    view = looked_into(material)
    facts, why = set_facts(view.study), _no_gaps(view)
    if why:
        return Numbers({}, facts=facts, why=why)
    table = class_rows(view, influences(view)["influence"].to_numpy(np.float64))
    return Numbers({"classes": table}, facts=facts)


def _no_gaps(view: View) -> str:
    n, d = view.size
    if view.study.extractor.weight is None:
        return f"{view.study.extractor.name} is no classifier, and so there are no classes"
    if n <= d:
        return f"{n} images of {d} features have no influences: it takes more images than features"
    return view.study.no_images.rstrip(".")


def draw_gaps(numbers: Numbers, **how: Any) -> Figure:
    """The classes with the largest gaps."""
    return figures.class_gaps(numbers.tables["classes"], **how)


def map_numbers(material: Material) -> Numbers:
    """Maps of the images that raise the distance most and least."""
    view = looked_into(material)
    facts, why = set_facts(view.study), no_maps(view).rstrip(".")
    if why:
        return Numbers({}, facts=facts, why=why)
    rows, values = extreme_rows(view)
    activations = extract_maps(view.fake.source, view.study.extractor, rows=rows)
    squared = gradient_maps(activations, image_gradients(view.plan, view.fake.first.features[rows]))
    shown = {f"image {k}": _picture(image) for k, image in enumerate(pictures(view.fake.source, rows))}
    maps = {"squared": _maps(squared), "signed": _maps(influence_maps(view.plan, activations))}
    table = influences(view).iloc[rows].reset_index(drop=True)
    facts |= {"titles": titles(view, rows, values), "half": len(rows) // 2}
    return Numbers({"images": table}, pictures={**shown, **maps}, facts=facts)


def _picture(image: NDArray[np.uint8]) -> torch.Tensor:
    """One image as a batch: others may have other sizes."""
    return torch.from_numpy(image).movedim(2, 0)[None]


def _maps(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(values)[:, None]


def draw_maps(numbers: Numbers, **how: Any) -> Figure:
    """Images above their squared and signed maps."""
    found, heads = numbers.pictures, numbers.facts["titles"]
    shown = [found[f"image {k}"][0].movedim(0, 2).numpy() for k in range(len(heads))]
    return figures.heatmaps(shown, found["squared"][:, 0].numpy(), found["signed"][:, 0].numpy(), heads, **how)


def region_numbers(material: Material) -> Numbers:
    """Shares of the sensitivity inside masks."""
    view = looked_into(material)
    facts, why = set_facts(view.study), "" if view.study.masks else "the images come without masks (--masks)"
    if why := why or no_maps(view).rstrip("."):
        return Numbers({}, facts=facts, why=why)
    return Numbers({"regions": region_rows(*masked_maps(view))}, facts=facts)


def draw_regions(numbers: Numbers, **how: Any) -> Figure:
    """Bars of the shares beside those of the area."""
    return figures.region_shares(as_bars(numbers.tables["regions"]), **how)


ENTRIES = (
    Entry(
        "fid-class-gaps", "gap of the histograms of top classes, and the distance's change without an image of each",
        ("images",), gap_numbers, draw_gaps,
        "Top-1 classes by {judged} of {fake} against {real}, those with the largest gaps: the gap of the shares, and "
        "the first-order change of the Frechet distance when one image of the class is left out. 95 % intervals.",
        "gaps are those of the counts and sum to 0; for two sets of one law the intervals hold 0",
        cites=("kynkaanniemi2023role",), place="sections 2 and 3",
        differs="influences of images in place of matching alone, with intervals",
    ),
    Entry(
        "fid-region-shares", "share of the distance's sensitivity inside masks beside their share of the area",
        ("images",), region_numbers, draw_regions,
        "Share of the squared gradient map of the Frechet distance inside masks of {fake}, against {real}, in the "
        "space of {judged}: mean over images with 95 % intervals, for each mask as given and grown by one cell of "
        "the map. Dotted: its share of the area.",
        "maps that are flat have their share of the area in every mask",
        cites=("kynkaanniemi2023role",), place="section 2", differs="shares of all images with intervals",
    ),
    Entry(
        "fid-heatmaps", "where the distance is sensitive to an image, and where the image raises or lowers it",
        ("images",), map_numbers, draw_maps,
        "{fake}, the {half} that raise the Frechet distance to {real} most and the {half} that lower it most, in the "
        "space of {judged}: the squared gradient map, and the signed map whose mean is the image's influence, one "
        "scale a row. Above each image: the first-order change of the distance when it is left out, and its top class "
        "where there are any. Of single images there are no intervals.",
        "the mean of a signed map is the image's influence, and a map equals the gradient through the pooling",
        cites=("kynkaanniemi2023role",), place="section 2",
        differs="one scale for all images, where each was stretched to its own, and a signed map too",
    ),
    Entry(
        "fid-sources", "features that carry most of the distance, and how principal directions add up to it",
        ("images",), source_numbers, draw_sources,
        "Parts of the Frechet distance {distance:.3g} of {fake} to {real}, in the space of {judged}: the features that "
        "carry most, by gaps of means and of covariances, and the principal directions, of which {half} of {width} "
        "make up half. The parts are exact for these images and sum to the distance: there is no interval.",
        "parts are not negative and sum to the distance; a shift of all features is one direction",
    ),
)  # fmt: skip
