"""Sections of the directions report on the condition: its tokens, their linearity, and where they enter."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from scorescope.analysis.directions.patching import patch_trace
from scorescope.analysis.directions.recovery import PatchTrace
from scorescope.analysis.directions.token_directions import label_pairs, linearity_gap, token_direction
from scorescope.analysis.statistics.bootstrap import draw_units
from scorescope.analysis.statistics.studentised import LEAST_UNITS, studentised
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank
from scorescope.probes.gradients.heads import attribute_score
from scorescope.probes.gradients.step import make_step
from scorescope.probes.gradients.step_attribution import attribute_step
from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.study import Contrast, Subject
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

PATCHED = ((0.0, math.inf), (2.0, math.inf), (0.0, 2.0))  # noise levels at which activations are patched
SEEN_AT = (10.0, 3.0, 1.0)  # noise levels of attributed steps, in units of the data


def token_section(bench: Workbench) -> Section:
    """Directions between condition tokens, and which token moves which attribute in one step."""
    if not hasattr(bench.subject.denoiser, "embed"):
        return Section(text="The denoiser has no `embed`, so that its condition has no tokens to look at.")
    if not bench.told or len(bench.subject.token_names) < 2:
        return Section(text="The condition names fewer than two attributes, so that there are no tokens to compare.")
    gaps = pd.concat([token_gap(bench, contrast) for contrast in bench.told], ignore_index=True)
    matrix = pd.concat([_tokens(bench, contrast) for contrast in bench.told], ignore_index=True)
    return Section(
        figures=[
            ReportFigure(
                "token_attribution", figures.token_matrix(matrix), readings.read_tokens(matrix),
                "Integrated gradients of the log-odds of each attribute on the denoised estimate, from the null "
                "tokens to the condition's, summed over each token; absolute values averaged over images, divided by "
                f"the row's sum. Intervals are studentised, over images; none below {LEAST_UNITS} images.", wide=True,
            ),
            ReportFigure(
                "linearity", figures.gap_curves(gaps), readings.read_gap(gaps),
                "Difference of the two values' tokens, added to the low end's: 0 means that the shift changes the "
                "prediction as the other value does, 1 is what no shift would miss. Bands are 95 % intervals.",
            ),
        ],
        tables=[
            ReportTable("token_attribution", matrix, "Share of each token in one step's change of each score."),
            ReportTable("linearity", gaps, shown=False),
        ],
    )  # fmt: skip


def token_gap(bench: Workbench, contrast: Contrast) -> pd.DataFrame:
    """Linearity gap of half and of one whole difference between the two values' tokens of a contrast."""
    subject, count = bench.subject, bench.size(48, 16)
    rows = bench.known(contrast, count=count)
    place, (low, high) = subject.column(contrast.attribute), subject.values(contrast)
    pair = label_pairs(bench.labels[rows], place, high, low)
    plus, minus = (subject.conditions(labels) for labels in pair)
    token = subject.token_names.index(contrast.attribute)
    bank = Bank(bench.images[rows], bench.levels(bench.size(8, 5), low=0.1, high=30.0), seed=bench.seed + 3)
    found = token_direction(subject.denoiser, plus, minus, tokens=[token], attribute=contrast.attribute)
    table = linearity_gap(
        subject.denoiser, {"difference": found.direction}, bank, plus, minus, tokens=[token],
        strengths=_strengths(found.direction.scale, float(found.direction.vector.norm())),
    )  # fmt: skip
    return table.assign(attribute=contrast.attribute)


def _strengths(scale: float, length: float) -> tuple[float, ...]:
    """Strengths of a half and of one whole difference."""
    return 0.5 * length / scale, length / scale


def _tokens(bench: Workbench, contrast: Contrast) -> pd.DataFrame:
    """Share of each token in the change of a contrast's score, by noise level."""
    subject, count = bench.subject, bench.size(16, 8)
    known = bench.known(contrast, count=count)
    count, images, labels = len(known), bench.images[known], subject.set_to(bench.labels[known], contrast, high=True)
    rows = []
    sigmas = SEEN_AT[:: bench.size(1, 2)]
    for level, sigma in enumerate(sigmas):
        point = Bank(images, sigmas, seed=bench.seed + 4).point(torch.arange(count), level)
        head = attribute_score(subject.scores([contrast]), contrast.attribute)
        step = make_step(subject.denoiser, point.x, sigma, subject.conditions(labels), head=head)
        found = attribute_step(step, "IntegratedGradients", n_steps=bench.size(64, 48))
        changes = found.by_token.abs().T.double().cpu().numpy()
        draws = draw_units(count, resamples=1000, seed=0)
        shares = studentised(changes, np.broadcast_to(changes.sum(0), changes.shape), draws)
        names = _name_tokens(subject, len(changes))
        part = pd.DataFrame({"token": names, "share": shares.value, "low": shares.low, "high": shares.high})
        where: dict[str, Any] = {
            "score": contrast.attribute,
            "sigma": sigma,
            "n": count,
            "residual": found.total_residual,
        }
        rows.append(part.assign(**where, low=part["low"].clip(0, 1), high=part["high"].clip(0, 1)))
    return pd.concat(rows, ignore_index=True)[["score", "sigma", "token", "n", "share", "low", "high", "residual"]]


def _name_tokens(subject: Subject, count: int) -> list[str]:
    """The attributes that a condition names, in the order of its tokens; further tokens by their number."""
    names = subject.token_names
    if count < len(names):
        found, expected = f"{count} tokens", f"at least {len(names)}, one for each of {', '.join(names)}"
        raise InputError("conditions", found=found, expected=expected)
    return [*names, *(f"token {place}" for place in range(len(names), count))]


def patch_section(bench: Workbench) -> Section:
    """Which sites carry the condition to the image, at which noise levels."""
    if not bench.told:
        return Section(text="The condition names none of these attributes, so that there is nothing to patch.")
    contrast, count = bench.told[0], bench.size(24, 20)
    found = patch_told(bench, contrast, count=count)
    return Section(
        figures=[
            ReportFigure(
                "recovery", figures.recovery_map(found.recovery), readings.read_recovery(found.recovery),
                f"{contrast}: recovery of the log-odds of {contrast.high} when the activation of a run under that "
                "condition is put into a run under the other (sufficiency), and its loss the other way round "
                f"(necessity); {_seeds(found.recovery, count)}, same start.", wide=True,
            )
        ],
        tables=[ReportTable("recovery", found.recovery, "Normalised recovery by site and noise levels.")],
        findings=findings.carried(found.recovery),
    )  # fmt: skip


def patch_told(bench: Workbench, contrast: Contrast, *, count: int) -> PatchTrace:
    """Recovery of a contrast that the condition names, site by site of the steering map."""
    subject, score = bench.subject, bench.subject.scores([contrast])
    corrupted, clean = subject.ends(subject.drawn(count, contrast), contrast)
    return patch_trace(
        subject.denoiser, clean=clean, corrupted=corrupted, sites=bench.sites, seeds=bench.seeds(count),
        metric=lambda images: score(images)[contrast.attribute], intervals=PATCHED[: bench.size(3, 2)],
        sampling=bench.sampling, progress=False,
    )  # fmt: skip


def _seeds(recovery: pd.DataFrame, count: int) -> str:
    """What the figure shows, over how many seeds."""
    fewest = int(recovery["n"].min())
    if fewest == count:
        return f"median over {count} seeds"
    return f"median over the seeds whose two conditions differ in effect, from {fewest} of {count} on"
