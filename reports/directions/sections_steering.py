"""Sections of the directions report that intervene: where an attribute is steerable, how far, and when."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.directions.noise_intervals import windows
from scorescope.analysis.directions.verdicts import judge_together
from scorescope.analysis.statistics.splits import Part, balanced_accuracy, recall_interval
from scorescope.probes.sampling.arm_rows import RunArm
from scorescope.probes.sampling.arms import sample_arms
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.reports.directions import figures, findings, readings
from scorescope.reports.directions.study import Contrast
from scorescope.reports.directions.workbench import (
    ALONE,
    DOSE,
    FOUND_AT,
    RELEVANT,
    Workbench,
    finding_of,
    verdict_columns,
)
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

EFFECT = ("effect", "effect_low", "effect_high")
DOSES = (-6.0, -4.0, -2.0, 2.0, 4.0, 6.0)
CONFIRMED = (
    "The pair that the map shows most clearly as readable and not steerable, once more on test images and on other "
    "seeds and controls."
)
BEYOND = (
    "Intervals are those of one row, 95 %. Beyond the controls means: beyond each of them over seeds (paired t), and "
    "beyond what random directions of the same norm and what directions of shuffled labels do (t on the root mean "
    "square effect of either)."
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
    found = bench.steer(contrast, direction, strengths=DOSES[:: bench.size(1, 2)], seeds=bench.fresh(bench.size(24, 8)))
    labels, confirmed = f"{contrast} at {site}", confirm(bench)
    return Section(
        figures=[
            ReportFigure(
                "steer_map", figures.read_and_steer(bench.steered),
                readings.read_map(bench.steered, confirmed, bench.looked_at),
                f"Panel 'readable': validation accuracy of a linear probe at σ = {FOUND_AT:g}. 'Steerable': effect of "
                "adding the "
                f"difference of means found there, ±{DOSE:g} standard deviations of its projection at all noise levels "
                f"and positions, on the log-odds of the attribute, in standard deviations over "
                f"{bench.subject.images_are}. Steerable: "
                f"beyond {RELEVANT:g}, every random direction of the same norm, and what directions of shuffled labels "
                "do, each as long as it was found. Not steerable: shown to be below a random one or that size. "
                "Undecided, and pale: neither is shown, or the dose "
                "changes the image by more than half the distance between samples of different seeds. The colours are "
                f"scaled to the largest effect that is shown to move the attribute. {SCREENING}",
                wide=True,
            ),
            ReportFigure(
                "dose_response", figures.dose_response(found.curve), readings.read_dose(found, labels),
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
            ReportTable(
                "steer_map", bench.steered, f"Readable and steerable, by attribute and site. {SCREENING}",
                first=("attribute", "site", "finding", "accuracy", "accuracy_low", "accuracy_high", *EFFECT),
            ),
            *([] if confirmed.empty else [ReportTable("confirmed", confirmed, CONFIRMED)]),
            ReportTable("dose_response", found.curve, shown=False),
            ReportTable("dose_arms", found.arms, shown=False),
            ReportTable(
                "dose_verdict", found.verdicts, "The direction against its controls.",
                first=("attribute", "site", "verdict", *EFFECT, "margin", "low", "high"),
            ),
        ],
        findings=findings.steered(found, labels),
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
    found = bench.steer(contrast, direction, strengths=(-DOSE, DOSE), seeds=bench.fresh(bench.size(24, 8)))
    tested = pd.DataFrame([{"attribute": contrast.attribute, "site": site, **test_accuracy(bench, contrast, site)}])
    table = pd.concat([tested, verdict_columns(found.verdicts)], axis=1)
    return table.assign(finding=[finding_of(row) for row in table.to_dict("records")])


def test_accuracy(bench: Workbench, contrast: Contrast, site: str) -> dict[str, float]:
    """Balanced accuracy of a cell's probe on test images, with its interval; of a cell that validation has chosen."""
    scan, level = bench.scan, bench.activations.nearest_level(FOUND_AT)
    images = bench.activations.images.numpy()
    known = np.intersect1d(scan.split.test, bench.known(contrast).numpy())
    part = Part.of(known, images, bench.groups.numpy(), resamples=1, seed=0)
    truth = bench.labels[:, bench.subject.column(contrast.attribute)].numpy()[part.images]
    probe = scan.probe(contrast.attribute, site, sigma=bench.activations.sigmas[level])
    predicted = probe.predict(bench.activations.at(site, level)[part.rows])
    accuracy = balanced_accuracy(predicted[None], truth, part, draws=False)
    low, high = recall_interval(predicted[None], truth, part)
    return {
        "images": part.count, "accuracy": float(accuracy[0, 0]), "accuracy_low": float(low[0]),
        "accuracy_high": float(high[0]),
    }  # fmt: skip


def strength_strip(bench: Workbench, contrast: Contrast, direction: Direction) -> Figure:
    """Samples of three seeds over strengths."""
    doses = sorted({*DOSES, 0.0})
    arms = [RunArm(f"{dose:+g}", (Intervention.along(direction, dose),) if dose else ()) for dose in doses]
    condition = bench.open_condition(contrast, 3)
    found = sample_arms(
        bench.subject.denoiser, arms, seeds=bench.fresh(3), condition=condition, sampling=bench.sampling, progress=False
    )
    stacked = torch.stack(list(found.values()), dim=1)
    rows = {f"seed {seed}": bench.subject.pictures(runs) for seed, runs in zip(bench.fresh(3), stacked, strict=True)}
    return figures.picture_rows(rows, [f"{dose:+g}" for dose in doses], xlabel="strength (SD of the projection)")


def window_section(bench: Workbench) -> Section:
    """At which noise levels a direction acts, against where it is read."""
    tables, reads = [], []
    for contrast in bench.contrasts[:2]:
        site = bench.best_site(contrast)
        sigmas = [sigma for sigma in bench.sampling.sigmas or () if sigma > 0]
        direction = bench.direction(contrast, site, sigma=FOUND_AT)
        found = bench.steer(
            contrast, direction, strengths=(-DOSE, DOSE), seeds=bench.fresh(bench.size(12, 8)),
            intervals=windows(sigmas, bench.size(5, 3)),
        )  # fmt: skip
        tables.append(found.verdicts)
        table = bench.scan.table
        reads.append(table[(table["attribute"] == contrast.attribute) & (table["site"] == site)])
    effects, probes = judge_together(tables), pd.concat(reads, ignore_index=True)
    return Section(
        figures=[
            ReportFigure(
                "windows", figures.windows_figure(effects, probes), readings.read_windows(effects, probes),
                "Each attribute at the site where its direction outdoes its controls most. "
                f"Top: probe accuracy there. Bottom: margin of the "
                f"direction (±{DOSE:g} SD, added only within the window) over its largest random control or "
                f"{RELEVANT:g} SD, with its interval over seeds, on other seeds than the site was chosen by. {RESULTS}",
                wide=True,
            )
        ],
        tables=[
            ReportTable(
                "windows", effects, "Effect of the direction within each window of noise levels.",
                first=("attribute", "site", "sigma_low", "sigma_high", "verdict", *EFFECT, "margin", "low", "high"),
            )
        ],
    )  # fmt: skip
