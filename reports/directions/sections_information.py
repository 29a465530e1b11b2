"""Sections of the directions report that need no intervention: attribute loss, information, classification."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from scorescope.analysis.information.attributes import AttributeLoss, attribute_loss
from scorescope.analysis.information.classify import Classification, paired_classify
from scorescope.analysis.information.log_snr import LogSNRLevels, grid_levels
from scorescope.analysis.information.loss_tables import EVERY
from scorescope.analysis.information.pairwise import PairwiseInformation, pairwise_information
from scorescope.analysis.information.partial_information import overlap
from scorescope.probes.bank.points import Bank
from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.study import Contrast
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

SHOWN = 8  # images in the maps
UNTOLD = "The condition names none of these attributes, so that this part is left out."


def attribute_loss_section(bench: Workbench) -> Section:
    """Where a reconstruction is no longer nearer to its own image than to the changed one."""
    if bench.subject.pairs is None:
        return Section(text="No counterfactual pairs were given with the model, so that this part is left out.")
    count = bench.size(96, 40)
    found = {contrast.attribute: contrast_loss(bench, contrast, count) for contrast in bench.contrasts}
    curve, half = joined(found, "curve"), joined(found, "half")
    return Section(
        figures=[
            ReportFigure(
                "attribute_loss", figures.attribute_losses(curve, metric="attribute score"), readings.read_loss(half),
                f"{count} counterfactual pairs an attribute, unconditional branch. Dotted: what the ideal denoiser of "
                "the two images alone would err; it depends on their pixel distance only. A curve below its floor is "
                "impossible, one above it shows that the network uses its prior over all images. Bands are 95 % "
                "intervals over pairs.", wide=True,
            )
        ],
        tables=[
            ReportTable("half_loss", half, "Noise level at which Err reaches 1/4."),
            ReportTable("attribute_loss", curve, shown=False),
        ],
        findings=findings.lost_first(half),
    )  # fmt: skip


def contrast_loss(bench: Workbench, contrast: Contrast, count: int) -> AttributeLoss:
    """How often a reconstruction is nearer to the other of two images that differ in the contrast."""
    subject, score = bench.subject, bench.subject.scores([contrast])
    assert subject.pairs is not None  # asked before
    labels = subject.drawn(count, contrast)
    low, high = (subject.pairs(subject.set_to(labels, contrast, high=high)) for high in (False, True))
    judge = {"attribute score": lambda images: score(images)[contrast.attribute][:, None]}
    return attribute_loss(
        bench.denoiser, low, high, sigmas=bench.levels(bench.size(14, 9)), features=judge, batch=bench.subject.batch,
        progress=bench.progress,
    )  # fmt: skip


def information_section(bench: Workbench) -> Section:
    """What each attribute's condition says about the images, in nats, and where in the picture."""
    if not bench.told:
        return Section(text=UNTOLD)
    subject, count = bench.subject, bench.size(80, 40)
    rows = bench.known(*bench.told, count=count)
    if not len(rows):
        return Section(text="No image has labels of all of these attributes, so that this part is left out.")
    images, labels = bench.images[rows], bench.labels[rows]
    found = {contrast.attribute: _information(bench, contrast, images, labels) for contrast in bench.told}
    expected, integrand = joined(found, "expected"), joined(found, "integrand")
    maps = {name: part.influence_map[:SHOWN] for name, part in found.items() if part.influence_map is not None}
    shared = _overlap(bench, images[: len(rows) // 2], labels[: len(rows) // 2])
    expected["entropy_nats"] = [math.log(len(subject.attributes[name])) for name in expected["attribute"]]
    entropies = dict(zip(expected["attribute"], expected["entropy_nats"], strict=True))
    return Section(
        figures=[
            ReportFigure(
                "information", figures.information_curves(integrand, entropies),
                readings.read_information(expected, integrand),
                f"{len(rows)} images; the condition names every attribute, against the same with this one left open; "
                "guidance weight 1. Integrated from high noise down: for an exact denoiser both estimates end at the "
                "information that the image holds beyond the other attributes, which cannot exceed the entropy "
                "ln(values). Where the whole integral is beyond that with its interval, the two branches of the "
                "network contradict each other: their errors count more the lower the noise. Curves are estimates "
                "without intervals.", wide=True,
            ),
            ReportFigure(
                "influence_maps", figures.influence_maps(subject.pictures(images[:SHOWN]).cpu(), maps),
                readings.read_overlap(shared),
                "Squared distance of the two predictions, integrated over noise levels, summed over channels. This is "
                "influence of the condition, not evidence that it is true.", wide=True,
            ),
        ],
        tables=[
            ReportTable("information", expected.drop(columns=["reading"]), "Information about each attribute."),
            *([] if shared.empty else [ReportTable("overlap", shared, "Overlap of influence of two attributes.")]),
            ReportTable("information_density", integrand, shown=False),
        ],
        findings=findings.contradiction(expected),
    )  # fmt: skip


def _grid(bench: Workbench, count: int) -> LogSNRLevels:
    """Levels of an integral over log-SNR, as far as the denoiser has them."""
    least, largest = bench.levels(2, low=math.exp(-1.5), high=math.exp(4.5))[::-1]
    return grid_levels(-2 * math.log(largest), -2 * math.log(least), count=count)


def _information(bench: Workbench, contrast: Contrast, images: Tensor, labels: Tensor) -> PairwiseInformation:
    subject = bench.subject
    condition, others = subject.conditions(labels), subject.conditions(subject.opened(labels, contrast))
    return pairwise_information(
        bench.denoiser, images, condition, given=others, maps=True,
        levels=_grid(bench, bench.size(25, 13)),
        entropy=math.log(len(subject.attributes[contrast.attribute])), batch=subject.batch,
        progress=bench.progress,
    )  # fmt: skip


def _overlap(bench: Workbench, images: Tensor, labels: Tensor) -> pd.DataFrame:
    """Overlap of influence of the first and the last attribute that the condition names; empty where it names one."""
    subject = bench.subject
    if len(bench.told) < 2:
        return pd.DataFrame()
    first, second = bench.told[0], bench.told[-1]
    rows = [subject.opened(labels, second), subject.opened(labels, first), labels]
    neither = subject.opened(rows[0], first)
    found = overlap(
        bench.denoiser, images, *(subject.conditions(part) for part in rows), baseline=subject.conditions(neither),
        levels=_grid(bench, bench.size(19, 11)), batch=bench.subject.batch, progress=bench.progress,
    )  # fmt: skip
    return found.summary.assign(first=first.attribute, second=second.attribute)


def classification_section(bench: Workbench) -> Section:
    """The denoiser as a classifier of each attribute, noise level by noise level."""
    if not bench.told:
        return Section(text=UNTOLD)
    count = bench.size(120, 48)
    rows = {contrast.attribute: bench.known(contrast, count=count) for contrast in bench.told}
    fit = {name: bench.halves(part, bench.labels[part, bench.subject.column(name)])[0] for name, part in rows.items()}
    found = {name: _classify(bench, name, rows[name], fit[name]) for name in rows}
    summary, rate = joined(found, "summary"), joined(found, "win_rates")
    return Section(
        figures=[
            ReportFigure(
                "win_rates", figures.win_rate_curves(rate[rate["foil"] == EVERY]), readings.read_classes(summary),
                f"Share of the images of one half ({_lengths(fit)}), drawn within each value, whose true value, all "
                "other attributes given, has the lowest denoising loss of all values at this noise level alone; same "
                "noise for all values. Bands are 95 % Wilson intervals.",
            )
        ],
        tables=[
            ReportTable("classification", summary, "Accuracy on the images that the weights were not fitted on."),
            ReportTable("win_rates", rate, shown=False),
        ],
    )  # fmt: skip


def _lengths(rows: Mapping[str, Tensor]) -> str:
    """How many rows each has, from fewest to most."""
    return " to ".join(str(count) for count in sorted({min(map(len, rows.values())), max(map(len, rows.values()))}))


def _classify(bench: Workbench, attribute: str, rows: Tensor, fit: Tensor) -> Classification:
    """Which value of an attribute denoises best, all other attributes given; weights are fitted on some rows."""
    subject, labels = bench.subject, bench.labels[rows]
    bank = Bank(bench.images[rows], bench.levels(bench.size(12, 8), low=0.1, high=30.0), seed=bench.seed + 2)
    candidates = {
        name: subject.conditions(subject.with_value(labels, attribute, value))
        for value, name in enumerate(subject.attributes[attribute])
    }
    return paired_classify(
        bench.denoiser, bank, candidates, labels[:, subject.column(attribute)], weights="fitted", fit_rows=fit,
        batch=bench.subject.batch, progress=bench.progress,
    )  # fmt: skip


def joined(found: Mapping[str, Any], table: str) -> pd.DataFrame:
    """A table of each attribute's results, with a column that names the attribute."""
    parts: dict[str, pd.DataFrame] = {name: getattr(part, table) for name, part in found.items()}
    return pd.concat([part.assign(attribute=name) for name, part in parts.items()], ignore_index=True)
