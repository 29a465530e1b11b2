"""Section of the directions report that follows attributes through sampling."""

import math
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.directions.emergence import Emergence, trace_direction
from scorescope.analysis.directions.probing import ProbeScan
from scorescope.data.errors import InputError
from scorescope.probes.sampling.condition_switch import SwitchingDenoiser
from scorescope.probes.sampling.solvers import Euler
from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.study import Contrast
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

UNDECIDED = ("observed", "condition, other")  # too few samples of one class, or that a condition decides


def emergence_section(bench: Workbench) -> Section:
    """Readable from, visible from, committed at and steerable until: one attribute along sampling at a time."""
    site = bench.subject.sites[len(bench.subject.sites) // 2]
    scan = bench.presence_scan(site)
    found, left_out = trace_all(bench, site, scan)
    if not found:
        return Section(text=f"No attribute can be followed here. {left_out}")
    curves = pd.concat([part.curves for part in found], ignore_index=True)
    landmarks = pd.concat([part.landmarks for part in found], ignore_index=True)
    gaps = pd.concat([part.gaps for part in found], ignore_index=True)
    strips = [_switch_figure(bench, bench.told[0])] if bench.told else []
    return Section(
        figures=[
            ReportFigure(
                "emergence", figures.emergence_curves(curves), readings.read_gaps(gaps),
                f"Probe at {site} and agreement of the estimate with the final image: a run that leaves the attribute "
                "open. Estimate: a classifier on the denoised estimate, under a condition that names the attribute. "
                "Switch: share of seeds that follow a condition that is changed from this noise level on. Bands are "
                "95 % intervals over seeds.", wide=True,
            ),
            ReportFigure(
                "landmarks", figures.landmark_ranges(landmarks), readings.read_landmarks(landmarks),
                "Noise levels with 95 % intervals, bootstrap over seeds; sampling runs right to left.", wide=True,
            ),
            *strips,
        ],
        tables=[
            ReportTable("landmarks", landmarks, "Where each attribute is readable, visible, committed, steerable."),
            ReportTable("gaps", gaps, "Distances between them in log-SNR, from the same bootstrap draws."),
            ReportTable("emergence", curves, shown=False),
        ],
        findings=findings.earlier(gaps),
        text=left_out,
    )  # fmt: skip


def _switch_figure(bench: Workbench, contrast: Contrast) -> ReportFigure:
    return ReportFigure(
        "switch_strip", switch_strip(bench, contrast),
        f"Final images when the condition is switched ({contrast}) at a noise level, same start throughout.",
        "Left: the second condition all along; right: the first all along.", wide=True,
    )  # fmt: skip


def trace_all(bench: Workbench, site: str, scan: ProbeScan) -> tuple[list[Emergence], str]:
    """What could be traced, and the sentence that says what could not: one rare attribute does not cost the others."""
    found, errors = [], {}
    for contrast in bench.contrasts:
        try:
            found.append(_trace(bench, contrast, site, scan))
        except InputError as error:
            errors[contrast.attribute] = error
    if not found and (other := [error for error in errors.values() if error.argument not in UNDECIDED]):
        raise other[0]
    return found, " ".join(f"Without {name}: {error}." for name, error in errors.items())


def _trace(bench: Workbench, contrast: Contrast, site: str, scan: ProbeScan) -> Emergence:
    count = bench.size(32, 16)
    ends = {}
    if bench.subject.is_told(contrast.attribute):
        labels = bench.subject.drawn(count, contrast)
        ends = dict(zip(("condition", "other"), bench.subject.ends(labels, contrast), strict=True))
    return trace_direction(
        bench.subject.denoiser, attribute=contrast.attribute, seeds=bench.seeds(count),
        scores=bench.subject.presence(contrast), scan=scan, site=site,
        observed=None, switches=bench.size(7, 6),
        sigmas=bench.steps(bench.size(18, 10)), resamples=bench.size(1000, 300), solver=Euler(),
        shape=tuple(bench.images.shape[1:]), device=bench.images.device, batch=bench.subject.batch, **ends,
    )  # fmt: skip


def switch_strip(bench: Workbench, contrast: Contrast) -> Figure:
    """Final images of three seeds for conditions switched at falling noise levels."""
    sigmas = bench.steps(bench.size(18, 10))
    labels = bench.subject.drawn(3, contrast)
    low, high = bench.subject.ends(labels, contrast)
    places = [math.inf, *[s for s in sigmas if 0.05 < s < 40][:: bench.size(2, 1)], 0.0]
    switching = SwitchingDenoiser(bench.subject.denoiser)
    options: dict[str, Any] = {"sigmas": sigmas, "solver": Euler(), "progress": False, "batch": bench.subject.batch}
    options |= {"shape": tuple(bench.images.shape[1:]), "device": bench.images.device}
    runs = [switching.sample(low, high, at=at, seeds=bench.seeds(3), **options).samples for at in places]
    stacked = torch.stack(runs, dim=1)
    names = ["all along", *[f"{at:.2g}" for at in places[1:-1]], "never"]
    rows = {f"seed {seed}": bench.subject.pictures(runs) for seed, runs in zip(bench.seeds(3), stacked, strict=True)}
    return figures.picture_rows(rows, names, xlabel="switched to the second condition from noise level σ on")
