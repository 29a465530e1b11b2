"""Sections of the directions report that intervene: where an attribute is steerable, how far, and when."""

import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.noise_intervals import windows
from scorescope.analysis.steering import SteerCurve
from scorescope.probes.arm_rows import RunArm
from scorescope.probes.arms import sample_arms
from scorescope.probes.direction import Direction
from scorescope.probes.interventions import Intervention
from scorescope.reports import directions_figures as figures
from scorescope.reports.directions_study import Contrast
from scorescope.reports.directions_workbench import DOSE, FOUND_AT, READABLE, Workbench
from scorescope.reports.page import ReportFigure, ReportTable, Section

DOSES = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)


def steering_section(bench: Workbench) -> Section:
    """Which sites read and which sites move, and the dose-response of the first contrast at its best site."""
    contrast = bench.strongest
    site = bench.best_site(contrast)
    direction = bench.direction(contrast, site, sigma=FOUND_AT)
    found = bench.steer(contrast, direction, strengths=DOSES, seeds=bench.size(24, 8))
    labels = f"{contrast} at {site}"
    return Section(
        figures=[
            ReportFigure(
                "steer_map", figures.read_and_steer(bench.steered), read_map(bench.steered),
                f"Left: validation accuracy of a linear probe at σ = {FOUND_AT:g}. Right: effect of adding the "
                f"difference of means found there, ±{DOSE:g} standard deviations of its projection at all noise levels "
                "and positions, on the log-odds of the attribute, in standard deviations over real images. A dot: "
                "beyond every control of the same norm (random directions, the direction of shuffled labels), the "
                "95 % interval of the margin excluding zero. A cross: so, but the dose changes the image by more than "
                "half the distance between samples of different seeds.", wide=True,
            ),
            ReportFigure(
                "dose_response", figures.dose_response(found.curve), read_dose(found, labels),
                f"{labels}; same start and noise in all arms; bands are 95 % intervals over seeds.", wide=True,
            ),
            ReportFigure(
                "strength_strip", strength_strip(bench, contrast, direction),
                f"Samples of three seeds with the direction of {labels} added.",
                "The condition leaves the attribute open; strengths are standard deviations of the projection.",
                wide=True,
            ),
        ],
        tables=[
            ReportTable("steer_map", bench.steered, "Readable and steerable, by attribute and site."),
            ReportTable("dose_response", found.curve, shown=False),
            ReportTable("dose_arms", found.arms, shown=False),
            ReportTable("dose_verdict", found.verdicts, "The direction against its controls."),
        ],
    )  # fmt: skip


def read_map(table: pd.DataFrame) -> str:
    """How many cells are readable and steerable, and the clearest that is readable without being steerable."""
    counts = table["finding"].value_counts()
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    only = table[table["finding"] == "readable, not steerable"]
    if only.empty:
        return f"Of {len(table)} pairs of attribute and site: {text}. None is readable without being steerable."
    row = only.sort_values(["accuracy_low", "margin_high"], ascending=[False, True]).iloc[0]
    return (
        f"Of {len(table)} pairs of attribute and site: {text}. Readable without being steerable: {row['attribute']} at "
        f"{str(row['site']).removeprefix('network.')} is read with accuracy {row['accuracy']:.0%} "
        f"({row['accuracy_low']:.0%} to {row['accuracy_high']:.0%}), yet its direction's effect exceeds its largest "
        f"control by {row['margin']:.2g} ({row['margin_low']:.2g} to {row['margin_high']:.2g}) standard deviations."
    )


def read_dose(found: SteerCurve, label: str) -> str:
    """The effect of a direction against its largest control, and what it moves besides."""
    verdict = found.verdicts.iloc[0]
    arm = found.arms[(found.arms["arm"] == "direction")].set_index("quantity")
    own, rank = arm.loc["disentanglement"], arm.loc["spearman"]
    return (
        f"{label}: effect {verdict['effect']:.2g} standard deviations from {verdict['strength_low']:g} to "
        f"{verdict['strength_high']:g}, {verdict['margin']:.2g} ({verdict['low']:.2g} to {verdict['high']:.2g}) beyond "
        f"the largest control ({verdict['largest_control']}): {verdict['verdict']}. Rank correlation with the strength "
        f"{rank['value']:.2f}; {own['value']:.0%} of all change is the target's ({own['low']:.0%} to "
        f"{own['high']:.0%})."
    )


def strength_strip(bench: Workbench, contrast: Contrast, direction: Direction) -> Figure:
    """Samples of three seeds over strengths."""
    doses = sorted({*DOSES, 0.0})
    arms = [RunArm(f"{dose:+g}", (Intervention.along(direction, dose),) if dose else ()) for dose in doses]
    condition = bench.open_condition(contrast, 3)
    found = sample_arms(
        bench.subject.denoiser, arms, seeds=range(3), condition=condition, sampling=bench.sampling, progress=False
    )
    rows = {f"seed {seed}": torch.stack([images[seed] for images in found.values()]) for seed in range(3)}
    return figures.picture_rows(rows, [f"{dose:+g}" for dose in doses], xlabel="strength (SD of the projection)")


def window_section(bench: Workbench) -> Section:
    """At which noise levels a direction acts, against where it is read."""
    tables, reads = [], []
    for contrast in bench.contrasts[:2]:
        site = bench.best_site(contrast)
        sigmas = [sigma for sigma in bench.sampling.sigmas or () if sigma > 0]
        direction = bench.direction(contrast, site, sigma=FOUND_AT)
        found = bench.steer(
            contrast, direction, strengths=(-DOSE, DOSE), seeds=bench.size(16, 8),
            intervals=windows(sigmas, bench.size(6, 4)),
        )  # fmt: skip
        tables.append(found.verdicts)
        table = bench.scan.table
        reads.append(table[(table["attribute"] == contrast.attribute) & (table["site"] == site)])
    effects, probes = pd.concat(tables, ignore_index=True), pd.concat(reads, ignore_index=True)
    return Section(
        figures=[
            ReportFigure(
                "windows", figures.windows_figure(effects, probes), read_windows(effects, probes),
                f"Each attribute at the site that moves it most. Top: probe accuracy there. Bottom: margin of the "
                f"direction (±{DOSE:g} SD, added only within the window) over its largest control, with its 95 % "
                "interval over seeds; above zero it steers.", wide=True,
            )
        ],
        tables=[ReportTable("windows", effects, "Effect of the direction within each window of noise levels.")],
    )  # fmt: skip


def read_windows(effects: pd.DataFrame, probes: pd.DataFrame) -> str:
    """From which noise level each attribute is read, and in which windows it can be steered."""
    texts = []
    for name, rows in effects.groupby("attribute", sort=False):
        cells = probes[probes["attribute"] == name]
        read = cells[cells["low"] > READABLE]["sigma"].max()
        acting = rows[rows["verdict"] == "steerable"]
        where = (
            "no single window steers it"
            if acting.empty
            else f"single windows steer it from σ = {acting['sigma_high'].max():.2g} to {acting['sigma_low'].min():.2g}"
        )
        from_level = f"from σ = {read:.2g} down" if read > 0 else "at no noise level"
        texts.append(f"{name} is read with at least {READABLE:.0%} {from_level}; {where}")
    return "; ".join(texts) + "."
