"""Sections of the directions report that read: what the model makes, and where attributes are readable."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.quality import attribute_agreement
from scorescope.probes.guidance.base import GuidanceState
from scorescope.probes.sampling.guided_denoiser import GUIDED
from scorescope.probes.sampling.sample import sample
from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.study import Subject
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.page.strips import strips

STEPPED = 8  # samples that one steps through, and at how many noise levels at most
FRAMES = 8


def model_section(bench: Workbench) -> Section:
    """Samples, and how often they show what was asked for."""
    subject, count = bench.subject, bench.size(256, 64)
    labels = subject.draw_labels(count)
    estimates: dict[float, list[Tensor]] = {}
    run = sample(
        subject.denoiser, seeds=bench.seeds(count), sigmas=bench.steps(18), condition=subject.conditions(labels),
        shape=tuple(subject.images.shape[1:]), device=subject.images.device, batch=subject.batch,
        progress=bench.progress, watch=partial(_keep, estimates),
    )  # fmt: skip
    table = _agreement(subject, run.samples, labels)
    shares = ReportTable("agreement", table, "Share of images that show what was asked for.")
    shown = subject.pictures(run.samples[:24]).unflatten(0, (2, 12))
    return Section(
        figures=[
            ReportFigure(
                "samples", figures.picture_rows({"": shown[0], " ": shown[1]}, [""] * 12),
                readings.read_agreement(table),
                "Samples at guidance weight 1, Heun with 18 steps; conditions in a mixed order. By the slider what the "
                f"denoiser estimates of the first {STEPPED} at falling noise levels, above the samples.",
                wide=True, frames=_frames(subject, estimates, run.samples),
            )
        ],
        tables=[] if table.empty else [shares],
    )  # fmt: skip


def _keep(
    estimates: dict[float, list[Tensor]], branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor
) -> None:
    """Keep what is predicted of the first samples at the first call of each step."""
    if branch == GUIDED and state.call == 0 and int(rows[0]) < STEPPED:
        estimates.setdefault(state.sigma, []).append(prediction[rows.to(prediction.device) < STEPPED].clone())


def _frames(subject: Subject, estimates: Mapping[float, list[Tensor]], samples: Tensor) -> dict[str, Figure]:
    """Estimates of the first samples above what they became, at noise levels spread over the path."""
    levels = list(estimates)
    chosen = np.unique(np.linspace(0, len(levels) - 1, FRAMES).round().astype(int))
    ends = _pictures(subject, samples[:STEPPED])
    shown = {levels[place]: _pictures(subject, torch.cat(estimates[levels[place]])) for place in chosen}
    return {f"σ = {sigma:.3g}": strips({"estimate": now, "sample": ends}) for sigma, now in shown.items()}


def _pictures(subject: Subject, images: Tensor) -> NDArray[Any]:
    pictures: NDArray[Any] = ((subject.pictures(images).float().clamp(-1, 1) + 1) / 2).movedim(1, -1).cpu().numpy()
    return pictures


def _agreement(subject: Subject, samples: Tensor, labels: Tensor) -> pd.DataFrame:
    """How often samples and labelled images show what the condition names; empty where it names no attribute."""
    told = [name for name in subject.attributes if subject.is_told(name)]
    if not told:
        return pd.DataFrame()
    sets = {"samples": (samples, labels), subject.images_are: (subject.images[:1000], subject.labels[:1000])}
    if all((given >= 0).all() for _, given in sets.values()):
        return _agree(subject, sets, told)
    apart = []  # no label names all attributes
    for name in told:
        part = {what: _known(*given, subject.column(name)) for what, given in sets.items()}
        table = _agree(subject, part, [name])
        apart.append(table[table["attribute"] == name])
    return pd.concat(apart, ignore_index=True)


def _known(images: Tensor, labels: Tensor, column: int) -> tuple[Tensor, Tensor]:
    """Those of which one attribute is known."""
    rows = (labels[:, column] >= 0).nonzero()[:, 0]
    return images[rows.to(images.device)], labels[rows]


def _agree(subject: Subject, sets: Mapping[str, tuple[Tensor, Tensor]], told: list[str]) -> pd.DataFrame:
    columns = [subject.column(name) for name in told]
    asked = {what: (images, labels[:, columns].to(images.device)) for what, (images, labels) in sets.items()}
    return attribute_agreement(lambda images: _only(subject.scorer(images), told), asked)


def _only(found: Mapping[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    return {name: found[name] for name in names}


def probe_section(bench: Workbench) -> Section:
    """Linear probes at every site and noise level, against their control task."""
    scan = bench.scan
    return Section(
        figures=[
            ReportFigure(
                "probe_map", figures.probe_maps(scan.table), readings.read_probes(scan.final),
                "Ridge probes on activations averaged over space, unconditional branch, scored on validation images; "
                "no image is in two parts of the split.", wide=True,
            ),
            ReportFigure(
                "probe_selectivity", figures.probe_maps(scan.table, quantity="selectivity"),
                readings.read_control(scan.table),
                "The control task has one random label an image, the same at every noise level.", wide=True,
            ),
        ],
        tables=[
            ReportTable("probes_final", scan.final, "The best cell on validation, scored once on test images."),
            ReportTable("probes", scan.table, shown=False),
        ],
        findings=findings.readable(scan.final, right=bench.subject.labels_are),
    )  # fmt: skip
