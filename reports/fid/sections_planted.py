"""Section of the FID report in which the answer is known: a planted fringe.

Scenes have a large subject and a small accessory in a corner. One feature network was trained to name only the
accessory, another only the subject. The generated scenes have damaged subjects and too many of one accessory: the
first network's distance is all about the accessory, and choosing scenes removes it without repairing a subject.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.gaming import FeaturePair, gaming_audit
from scorescope.analysis.fid.heatmaps import REGIONS, gradient_maps, mask_summary
from scorescope.analysis.fid.matching import match_histogram
from scorescope.analysis.fid.optimal_transport import image_gradients, transport
from scorescope.analysis.fid.verdicts import verdict
from scorescope.data.scenes import Scenes, render_scenes
from scorescope.probes.features.extraction import extract, extract_maps
from scorescope.probes.features.extractors import Extractor, classifier_extractor
from scorescope.probes.features.images import ImageSource, tensor_images
from scorescope.reports.fid import figures, findings, readings
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

SKEWED = (0.55, 0.15, 0.15, 0.15)  # accessories of the generated scenes; the real ones have 1/4 each
BITTEN = 0.8  # share of damaged subjects
NETWORKS = ("accessory", "subject")
SHOWN = 8


@dataclass(frozen=True, eq=False)
class _Network:
    """One feature space's view of the scenes."""

    extractor: Extractor
    fake: NDArray[np.float32]
    real: NDArray[np.float32]
    spare: NDArray[np.float32]
    maps: NDArray[np.float64]


def planted_section(count: int, *, progress: bool = True) -> Section:
    """Render, extract, map, match and audit.

    Parameters
    ----------
    count : int
        Generated scenes; two thirds of it real ones, twice.
    progress : bool
        Show progress bars.
    """
    some = 2 * count // 3
    fake = render_scenes(count, seed=101, accessory_shares=SKEWED, bitten=BITTEN)
    sources = [tensor_images(s.images) for s in (fake, render_scenes(some, seed=100), render_scenes(some, seed=102))]
    found = {name: _look(classifier_extractor(name), sources, progress) for name in NETWORKS}
    shares = _shares(found, fake)
    first, second = found["accessory"], found["subject"]
    top1 = [_top1(first.extractor, rows) for rows in (first.fake, first.real)]
    match = match_histogram(*top1)
    spaces = ("accessory network", "subject network")
    pairs = {name: FeaturePair(getattr(first, name), getattr(second, name)) for name in ("fake", "real", "spare")}
    arms = {"accessories matched": match}
    audit = gaming_audit(pairs["fake"], pairs["real"], arms, spare=pairs["spare"], spaces=spaces, draws=3)
    said = verdict(audit, "accessories matched")
    boxes = [list(mask[:SHOWN].double().numpy()) for mask in (fake.accessory_mask, fake.subject_mask)]
    views = [found[name].maps[:SHOWN] for name in NETWORKS]
    pictures = list(np.moveaxis(next(iter(sources[0].batches(SHOWN)))[1].numpy(), 1, 3))
    return Section(
        text="A test with a known answer. Every scene has a large subject in the middle and a small accessory in a "
        "corner. Of the generated scenes 80 % have a bitten subject, and 55 % a ring where real scenes have 25 %. One "
        "feature network learned to name only the accessory, the other only the subject.",
        figures=[
            ReportFigure(
                "planted_maps",
                figures.outlined_maps(pictures, boxes, views, [f"{name}\nnetwork" for name in NETWORKS]),
                readings.read_planted_maps(shares),
                "Squared maps in closed form, one scale a row. Blue: accessory; white: subject.",
                wide=True,
            ),
            ReportFigure(
                "planted_shares",
                figures.region_shares(shares.assign(series=shares["network"] + " network")),
                readings.read_planted_shares(shares),
                "Mean over scenes with 95 % intervals; the accessory's box is grown by one map cell.",
            ),
            ReportFigure(
                "planted_audit", figures.audit(audit, spaces), said.text,
                "Labels: change against the random choice. Draws of one size; 95 % intervals over three draws.",
                wide=True,
            ),
        ],
        tables=[
            ReportTable("planted_audit", audit, "The audit of the planted scenes.", shown=False),
            ReportTable("planted_shares", shares, "Sensitivity by region and network."),
        ],
        findings=[*findings.planted(shares), *findings.by_choice(audit, figure="planted_audit", own_data=False)],
    )  # fmt: skip


def _look(extractor: Extractor, sources: list[ImageSource], progress: bool) -> _Network:
    fake, real, spare = (extract(source, extractor, batch=256, progress=progress).features for source in sources)
    maps = gradient_maps(extract_maps(sources[0], extractor, batch=256), image_gradients(transport(fake, real), fake))
    return _Network(extractor, fake, real, spare, maps)


def _shares(found: dict[str, _Network], scenes: Scenes) -> pd.DataFrame:
    """Sensitivity inside the accessory (grown by one map cell) and inside the subject, beside their area."""
    regions = (("accessory", scenes.accessory_mask, 1), ("subject", scenes.subject_mask, 0))
    return pd.concat(
        [
            mask_summary(network.maps, mask.numpy(), region=region, dilate=grown).assign(network=name)
            for name, network in found.items()
            for region, mask, grown in regions
        ],
        ignore_index=True,
    )[["network", *REGIONS.names]]


def _top1(extractor: Extractor, features: NDArray[np.float32]) -> NDArray[np.int64]:
    assert extractor.head is not None and extractor.weight is not None  # shipped classifiers have one
    bias = extractor.head.bias.detach().double().numpy()
    top: NDArray[np.int64] = (features @ extractor.weight.T + bias).argmax(axis=1)
    return top
