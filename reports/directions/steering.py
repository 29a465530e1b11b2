"""Sections of the directions report that intervene: where an attribute is steerable, how far, and when."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.directions.noise_intervals import windows
from scorescope.analysis.directions.steering import SteerCurve
from scorescope.analysis.directions.verdicts import judge_together
from scorescope.analysis.statistics.splits import Part, balanced_accuracy
from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import sample_arms
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.reports.directions import figures
from scorescope.reports.directions.study import Contrast
from scorescope.reports.directions.workbench import (
    DOSE,
    FOUND_AT,
    FRESH,
    READABLE,
    RELEVANT,
    Workbench,
    finding_of,
    verdict_columns,
)
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

DOSES = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
ALONE = "readable, not steerable"
CONFIRMED = (
    "The pair that the map shows most clearly as readable and not steerable, once more on test images and on other "
    "seeds and controls."
)
BEYOND = (
    "Intervals are those of one row, 95 %. Beyond the controls means: beyond each of them over seeds (paired t), and "
    "beyond what random directions of the same norm do (t on their root mean square effect)."
)
SCREENING = (
    "The map is a screening: of its verdicts of a kind one in twenty is expected to be wrong (false discovery rate "
    f"5 %, Benjamini and Hochberg). {BEYOND}"
)
RESULTS = f"Verdicts at the 5 % level, corrected for the number of windows (Holm). {BEYOND}"


def steering_section(bench: Workbench) -> Section:
    """Which sites read and which sites move, and the dose-response of the first contrast at its best site."""
    contrast = bench.strongest
    site = bench.best_site(contrast)
    direction = bench.direction(contrast, site, sigma=FOUND_AT)
    found = bench.steer(contrast, direction, strengths=DOSES[:: bench.size(1, 2)], seeds=_fresh(bench.size(24, 8)))
    labels, confirmed = f"{contrast} at {site}", confirm(bench)
    return Section(
        figures=[
            ReportFigure(
                "steer_map", figures.read_and_steer(bench.steered), read_map(bench.steered, confirmed),
                f"Left: validation accuracy of a linear probe at σ = {FOUND_AT:g}. Right: effect of adding the "
                f"difference of means found there, ±{DOSE:g} standard deviations of its projection at all noise levels "
                f"and positions, on the log-odds of the attribute, in standard deviations over real images. Steerable: "
                f"beyond {RELEVANT:g} and every control of the same norm (random directions, the direction of shuffled "
                "labels). Not steerable: shown to be below one of these. Undecided: neither is shown, or the dose "
                f"changes the image by more than half the distance between samples of different seeds. {SCREENING}",
                wide=True,
            ),
            ReportFigure(
                "dose_response", figures.dose_response(found.curve), read_dose(found, labels),
                f"{labels}, chosen by the map, here on other seeds and controls; same start and noise in all arms; "
                "bands are 95 % intervals over seeds.", wide=True,
            ),
            ReportFigure(
                "strength_strip", strength_strip(bench, contrast, direction),
                f"Samples of three seeds with the direction of {labels} added.",
                "The condition leaves the attribute open; strengths are standard deviations of the projection.",
                wide=True,
            ),
        ],
        tables=[
            ReportTable("steer_map", bench.steered, f"Readable and steerable, by attribute and site. {SCREENING}"),
            *([] if confirmed.empty else [ReportTable("confirmed", confirmed, CONFIRMED)]),
            ReportTable("dose_response", found.curve, shown=False),
            ReportTable("dose_arms", found.arms, shown=False),
            ReportTable("dose_verdict", found.verdicts, "The direction against its controls."),
        ],
    )  # fmt: skip


def confirm(bench: Workbench) -> pd.DataFrame:
    """The cell of the map that is most clearly readable and not steerable, on other images and seeds.

    The map is scored on the images and seeds by which the cell is chosen. Empty where there is no such cell.
    """
    cells = bench.steered[bench.steered["finding"] == ALONE]
    if cells.empty:
        return pd.DataFrame()
    cell = cells.sort_values(["margin_high", "accuracy_low"], ascending=[True, False]).iloc[0]
    contrast, site = bench.contrast_of(cell["attribute"]), str(cell["site"])
    direction = bench.direction(contrast, site, sigma=FOUND_AT)
    found = bench.steer(contrast, direction, strengths=(-DOSE, DOSE), seeds=_fresh(bench.size(24, 8)))
    tested = pd.DataFrame([{"attribute": contrast.attribute, "site": site, **test_accuracy(bench, contrast, site)}])
    table = pd.concat([tested, verdict_columns(found.verdicts)], axis=1)
    return table.assign(finding=[finding_of(row) for row in table.to_dict("records")])


def test_accuracy(bench: Workbench, contrast: Contrast, site: str) -> dict[str, float]:
    """Balanced accuracy of a cell's probe on test images, with its interval; of a cell that validation has chosen."""
    scan, level = bench.scan, bench.activations.nearest_level(FOUND_AT)
    images = bench.activations.images.numpy()
    part = Part.of(scan.split.test, images, np.arange(1 + images.max()), resamples=bench.size(500, 200), seed=0)
    truth = bench.labels[:, bench.subject.column(contrast.attribute)].numpy()[part.images]
    probe = scan.probe(contrast.attribute, site, sigma=bench.activations.sigmas[level])
    predicted = probe.predict(bench.activations.at(site, level)[part.rows])
    draws = balanced_accuracy(predicted[None], truth, part)[:, 0]
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    return {
        "images": part.count, "accuracy": float(draws[0]), "accuracy_low": float(low), "accuracy_high": float(high),
    }  # fmt: skip


def _fresh(count: int) -> range:
    return range(FRESH, FRESH + count)


def read_map(table: pd.DataFrame, confirmed: pd.DataFrame) -> str:
    """How many cells are readable and steerable, and whether one that is read and not steered holds on other data."""
    counts = table["finding"].value_counts()
    text = f"Of {len(table)} pairs of attribute and site: {', '.join(f'{n} {name}' for name, n in counts.items())}."
    if confirmed.empty:
        return f"{text} None is shown to be readable without being steerable."
    row = confirmed.iloc[0]
    outcome = "Readable without being steerable" if row["finding"] == ALONE else "Not confirmed"
    return (
        f"{text} {outcome}, by test images and seeds that had no part in the choice: {row['attribute']} at "
        f"{str(row['site']).removeprefix('network.')} is read with accuracy {row['accuracy']:.0%} "
        f"({row['accuracy_low']:.0%} to {row['accuracy_high']:.0%}, n = {row['images']}); the effect of its direction "
        f"is {row['effect']:.2g} ({row['effect_low']:.2g} to {row['effect_high']:.2g}) standard deviations, "
        f"{_beyond(row)}, n = {row['n']}: {row['verdict']}."
    )


def _beyond(row: "pd.Series[Any]") -> str:
    """The margin with its interval, and the bar it is taken from."""
    ends = [row[f"margin_{end}" if f"margin_{end}" in row else end] for end in ("low", "high")]
    side = "beyond" if row["margin"] > 0 else "from"
    bar = f"the {row['bar']}" if row["bar"] == "relevant size" else f"the largest control ({row['bar']})"
    return f"{row['margin']:+.2g} ({ends[0]:+.2g} to {ends[1]:+.2g}) {side} {bar}"


def read_dose(found: SteerCurve, label: str) -> str:
    """The effect of a direction against its highest bar, and what it moves besides."""
    verdict = found.verdicts.iloc[0]
    arm = found.arms[(found.arms["arm"] == "direction")].set_index("quantity")
    own, rank = arm.loc["disentanglement"], arm.loc["spearman"]
    return (
        f"{label}: effect {verdict['effect']:.2g} ({verdict['effect_low']:.2g} to {verdict['effect_high']:.2g}) "
        f"standard deviations from {verdict['strength_low']:g} to {verdict['strength_high']:g}, {_beyond(verdict)}; "
        f"p = {verdict['p']:.2g} that a control does as much: {verdict['verdict']}. Rank correlation with the "
        f"strength {rank['value']:.2f}; {own['value']:.0%} of all change is the target's ({own['low']:.0%} to "
        f"{own['high']:.0%})."
    )


def strength_strip(bench: Workbench, contrast: Contrast, direction: Direction) -> Figure:
    """Samples of three seeds over strengths."""
    doses = sorted({*DOSES, 0.0})
    arms = [RunArm(f"{dose:+g}", (Intervention.along(direction, dose),) if dose else ()) for dose in doses]
    condition = bench.open_condition(contrast, 3)
    found = sample_arms(
        bench.subject.denoiser, arms, seeds=_fresh(3), condition=condition, sampling=bench.sampling, progress=False
    )
    rows = {f"seed {seed}": torch.stack([images[i] for images in found.values()]) for i, seed in enumerate(_fresh(3))}
    return figures.picture_rows(rows, [f"{dose:+g}" for dose in doses], xlabel="strength (SD of the projection)")


def window_section(bench: Workbench) -> Section:
    """At which noise levels a direction acts, against where it is read."""
    tables, reads = [], []
    for contrast in bench.contrasts[:2]:
        site = bench.best_site(contrast)
        sigmas = [sigma for sigma in bench.sampling.sigmas or () if sigma > 0]
        direction = bench.direction(contrast, site, sigma=FOUND_AT)
        found = bench.steer(
            contrast, direction, strengths=(-DOSE, DOSE), seeds=_fresh(bench.size(12, 8)),
            intervals=windows(sigmas, bench.size(5, 3)),
        )  # fmt: skip
        tables.append(found.verdicts)
        table = bench.scan.table
        reads.append(table[(table["attribute"] == contrast.attribute) & (table["site"] == site)])
    effects, probes = judge_together(tables), pd.concat(reads, ignore_index=True)
    return Section(
        figures=[
            ReportFigure(
                "windows", figures.windows_figure(effects, probes), read_windows(effects, probes),
                f"Each attribute at the site that moves it most. Top: probe accuracy there. Bottom: margin of the "
                f"direction (±{DOSE:g} SD, added only within the window) over its largest control or {RELEVANT:g} SD, "
                f"with its interval over seeds, on other seeds than the site was chosen by. {RESULTS}", wide=True,
            )
        ],
        tables=[ReportTable("windows", effects, "Effect of the direction within each window of noise levels.")],
    )  # fmt: skip


def read_windows(effects: pd.DataFrame, probes: pd.DataFrame) -> str:
    """At which noise levels each attribute is read, and what each window of them does."""
    texts = []
    for name, rows in effects.groupby("attribute", sort=False):
        cells = probes[probes["attribute"] == name]
        parts = []
        for verdict, found in rows.sort_values("sigma_high", ascending=False).groupby("verdict", sort=False):
            spans = ", ".join(f"{row['sigma_high']:.2g} to {row['sigma_low']:.2g}" for _, row in found.iterrows())
            parts.append(f"{verdict} within σ = {spans}")
        texts.append(
            f"{name} is read with at least {READABLE:.0%} at {_readable(cells)}; one window at a time, it is "
            + "; ".join(parts)
        )
    return ". ".join(texts) + "."


def _readable(cells: pd.DataFrame) -> str:
    """Runs of neighbouring noise levels where the accuracy's interval lies above `READABLE`, from high noise down."""
    cells = cells.sort_values("sigma", ascending=False).reset_index(drop=True)
    above = cells["low"] > READABLE
    if not above.any():
        return "no noise level"
    runs = (above != above.shift()).cumsum()
    ends = [(part["sigma"].iloc[0], part["sigma"].iloc[-1]) for _, part in cells[above].groupby(runs[above])]
    return "σ = " + ", ".join(f"{high:.2g}" if high == low else f"{high:.2g} to {low:.2g}" for high, low in ends)
